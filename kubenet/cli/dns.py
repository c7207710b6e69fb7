"""``kubenet dns``: ask a DNS server."""

import click


@click.group()
def dns() -> None:
    """Ask a DNS server."""


@dns.command()
@click.argument("name")
@click.argument("type_", metavar="[TYPE]", default="A")
@click.option("-s", "--server", help="IP, IP:PORT or [IPv6]:PORT; default: the system's first name server.")
@click.option("--tcp", is_flag=True, help="Ask over TCP at once.")
@click.option(
    "--timeout", "timeout_s", default=2.0, show_default=True, help="Seconds to wait for one answer."
)
@click.option("--in", "target", metavar="NODE", help="Ask from this node of a lab (or from the wire).")
@click.option("-n", "--name", "lab", envvar="KUBENET_LAB", help="The lab of --in. [env: KUBENET_LAB]")
def query(
    name: str,
    type_: str,
    server: str | None,
    tcp: bool,
    timeout_s: float,
    target: str | None,
    lab: str | None,
) -> None:
    """Ask for the records of NAME and print the answer as dig does.

    NAME is taken as it stands, without a search path. The exit code is 1 unless the answer is NOERROR.

        kubenet dns query web.demo.svc.cluster.local SRV --server 10.96.0.10 --in node-1
    """
    import socket
    import sys
    from contextlib import ExitStack

    from dns.client import parse_server, query

    with ExitStack() as stack:
        open_socket = socket.socket
        if target is not None:
            from labs.control import node_netns, only_lab

            netns = stack.enter_context(node_netns(lab or only_lab(), target))
            open_socket = netns.socket  # type: ignore[assignment]  # a function in the place of a class
        result = query(
            name,
            type_,
            server=parse_server(server) if server else None,
            tcp=tcp,
            timeout_s=timeout_s,
            open_socket=open_socket,
        )
    print(result)
    sys.exit(0 if result.status == "NOERROR" else 1)
