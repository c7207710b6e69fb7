"""``kubenet watch``: what happens, one line an event."""

from pathlib import Path

import click

from kubenet.cli.sites import open_site, site_options


@click.command()
@site_options
@click.argument("subject", type=click.Choice(["drops", "conntrack", "rules", "links", "dns"]))
@click.option("--seconds", type=float, help="End after so long; else at Ctrl-C.")
def watch(lab: str | None, node: bool, kubeconfig: Path | None, subject: str, seconds: float | None) -> None:
    """Print what happens on all nodes and in all pods, as it happens, with the names of pods and Services.

    \b
    drops      packets that the kernel gives up, with its reason
    conntrack  connections that appear, change and end, and how they are translated
    rules      changes of nftables and of iptables over nftables
    links      interfaces, addresses, routes, neighbours, forwarding entries
    dns        what is asked, and what is answered
    """
    import time

    from kubenet.observe.watching import Watcher, lines

    with open_site(lab, node, kubeconfig) as site:
        watcher = Watcher(site, subject)
        deadline = time.monotonic() + (seconds if seconds is not None else float("inf"))
        try:
            while (left_s := deadline - time.monotonic()) > 0:
                for line in lines(watcher, min(1.0, left_s)):
                    print(line, flush=True)
        finally:
            watcher.close()
