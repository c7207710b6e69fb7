"""``kubenet trace``: one flow's whole way as one story."""

import sys
from pathlib import Path

import click

from kubenet.cli.sites import open_site, site_options


@click.command()
@site_options
@click.argument("source")
@click.argument("destination")
@click.option(
    "--proto",
    type=click.Choice(["tcp", "udp", "icmp", "dns"]),
    help="Default: the Service's; else tcp with a port, icmp without. dns: DESTINATION is a name to look up.",
)
@click.option("--server", default="", help="With --proto dns: whom to ask; default the cluster's DNS.")
@click.option("--timeout", "timeout_s", default=1.0, show_default=True, help="Seconds to wait for an answer.")
@click.option("--both-ways", is_flag=True, help="Tell the way of the answer too.")
@click.option("-a", "--all", "everything", is_flag=True, help="Show chains that let it pass by policy, too.")
@click.option("--follow", is_flag=True, help="Go on, one packet a second, until Ctrl-C.")
@click.option("--no-bpf", is_flag=True, help="Look with packet sockets only, as where BPF is not allowed.")
@click.option("--diagram", is_flag=True, help="Print a Mermaid sequence diagram.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-w", "--write", "path", type=Path, help="Write the packets for Wireshark (pcapng).")
def trace(
    lab: str | None,
    node: bool,
    kubeconfig: Path | None,
    source: str,
    destination: str,
    proto: str | None,
    server: str,
    timeout_s: float,
    both_ways: bool,
    everything: bool,
    follow: bool,
    no_bpf: bool,
    diagram: bool,
    output: str,
    path: Path | None,
) -> None:
    """Send one packet from SOURCE to DESTINATION and tell all that happens to it.

    SOURCE is a pod ([NAMESPACE/]POD) or a node. DESTINATION is svc/[NAMESPACE/]NAME, a pod, a node or an
    address, with :PORT where there is a choice. Every line says how it is known: seen, reported by netfilter,
    or inferred from tables. The exit code is 1 if the packet was not answered.

    \b
        kubenet trace demo/client svc/demo/web
        kubenet trace client node-2:30080 --both-ways
        kubenet trace client web.demo.svc.cluster.local --proto dns
    """
    from kubenet.cli.output import print_json
    from kubenet.cli.tracing import follow_up, target_of
    from kubenet.observe.render import story_json, story_mermaid, story_text
    from kubenet.observe.trace import trace as traced

    well = True
    with open_site(lab, node, kubeconfig) as site:
        target = target_of(destination, proto, server, site.cluster)
        for _ in follow_up(follow):
            told = traced(site, source, target, timeout_s=timeout_s, bpf=not no_bpf)
            well = told.story.well
            if path is not None:
                from kubenet.cli.tracing import write_packets

                write_packets(path, told)
            if diagram:
                print(story_mermaid(told.story))
            elif output == "json":
                print_json("Story", story_json(told.story))
            else:
                print(story_text(told.story, both_ways=both_ways, everything=everything), flush=True)
    sys.exit(0 if well else 1)
