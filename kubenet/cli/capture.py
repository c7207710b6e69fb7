"""``kubenet capture``: packets at every interface that they pass."""

import sys
from pathlib import Path

import click

from kubenet.cli.sites import open_site, site_options


@click.command()
@site_options
@click.argument("target", required=False)
@click.option("--seconds", type=float, help="End after so long; else at Ctrl-C.")
@click.option("--count", type=int, help="End after so many packets.")
@click.option("-w", "--write", "path", type=Path, help="Write pcapng; - is standard output.")
def capture(
    lab: str | None,
    node: bool,
    kubeconfig: Path | None,
    target: str | None,
    seconds: float | None,
    count: int | None,
    path: Path | None,
) -> None:
    """Show the packets of TARGET at every interface of every node and pod, also while they are translated.

    TARGET is a pod, a node, an address, or svc/[NAMESPACE/]NAME; without it, every packet.

    \b
        kubenet capture demo/client
        kubenet capture svc/demo/web -w web.pcapng
        kubenet capture demo/client -w - | wireshark -k -i -
    """
    from kubenet.cli.capturing import print_packets, write_stream
    from kubenet.observe.capturing import Capture
    from kubenet.observe.target import addresses_of

    with open_site(lab, node, kubeconfig) as site:
        addresses = addresses_of(target, site.cluster) if target else ()
        with Capture(site, addresses) as taken:
            if path is None:
                print_packets(taken, seconds, count)
            else:
                number = write_stream(taken, seconds, count, path)
                print(f"{number} packets", file=sys.stderr)
