"""``kubenet dns``: serve as a Corefile says, or ask a DNS server."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dns.daemon import ServeConfig
    from dns.explain import Asker, Objects
    from dns.nodelocal import NodeLocal
    from dns.site import Site
    from kubenet.client.kubeconfig import ClusterConfig


@click.group(invoke_without_command=True)
@click.option("--conf", type=click.Path(path_type=Path), help="The Corefile: serve what it describes.")
@click.option(
    "--dns.port", "port", default=53, show_default=True, help="The port of server blocks that name none."
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="How to reach the API server; default: what the Corefile, the pod or KUBECONFIG says.",
)
@click.option(
    "--handover",
    type=click.Path(path_type=Path),
    metavar="SOCKET",
    help="Take the sockets of the server that offers them here, and offer ours: a restart loses no query.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Processes that answer; they share one watch. 0: one for each core.",
)
@click.option(
    "--node-local",
    "node_local",
    multiple=True,
    metavar="ADDRESS",
    help="A link-local address for this node's pods, such as 169.254.20.10: put on lo and kept out of"
    " connection tracking while the server runs. May be given twice.",
)
@click.option("--worker", type=int, default=0, hidden=True)
@click.option("--worker-fd", type=int, default=-1, hidden=True)
@click.option("--check", is_flag=True, help="Read the Corefile, say what is wrong with it, and end.")
@click.pass_context
def dns(
    context: click.Context,
    conf: Path | None,
    port: int,
    kubeconfig: Path | None,
    handover: Path | None,
    workers: int,
    node_local: tuple[str, ...],
    worker: int,
    worker_fd: int,
    check: bool,
) -> None:
    """Serve the cluster's names, or ask a DNS server.

    Serve as a Corefile says, until SIGTERM; SIGUSR1 reads it again at once:

        kubenet dns --conf /etc/coredns/Corefile
    """
    if context.invoked_subcommand is not None:
        if conf is not None:
            raise click.UsageError(
                f"--conf serves; it does not go with {context.invoked_subcommand}", context
            )
        return
    if conf is None:
        raise click.UsageError("nothing to do: give --conf to serve, or a command such as query", context)
    import asyncio
    import os

    from dns.daemon import ServeConfig, read_configuration

    config = ServeConfig(
        conf,
        port,
        kubeconfig,
        environment=dict(os.environ),
        handover=handover,
        workers=0 if worker else workers or len(os.sched_getaffinity(0)),
        command=_worker_command(conf, port, kubeconfig, handover),
        worker=worker,
        worker_fd=worker_fd,
        node_local=_node_local(node_local, port) if node_local else None,
    )
    if check:
        blocks, _ = read_configuration(config)
        print(f"{conf}: {len(blocks)} server block{'s' if len(blocks) > 1 else ''}, nothing wrong")
        return
    _print_queries()
    asyncio.run(_serve(config))


def _node_local(texts: tuple[str, ...], port: int) -> "NodeLocal":
    from ipaddress import ip_address

    from dns.nodelocal import NodeLocal
    from kubenet.errors import InvalidInput

    try:
        return NodeLocal(tuple(map(ip_address, texts)), port)
    except ValueError as error:
        raise InvalidInput(f"--node-local: {error}", "give an address such as 169.254.20.10") from error


def _worker_command(conf: Path, port: int, kubeconfig: Path | None, handover: Path | None) -> tuple[str, ...]:
    import sys

    given = (("--conf", conf), ("--dns.port", port), ("--kubeconfig", kubeconfig), ("--handover", handover))
    options = [word for name, value in given if value is not None for word in (name, str(value))]
    return sys.executable, "-m", "kubenet", "dns", *options


async def _serve(config: "ServeConfig") -> None:
    import asyncio
    import gc
    import signal

    from dns.daemon import serve

    # What is kept lives long and makes no cycles: to look through it often would be a tenth of all work.
    gc.set_threshold(50_000, 20, 100)
    loop = asyncio.get_running_loop()
    stop, again = asyncio.Event(), asyncio.Event()
    serving = loop.create_task(serve(config, stop, again))

    def end() -> None:
        """End in good order; told twice, at once."""
        if stop.is_set():
            serving.cancel()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGUSR1, again.set)

    def count_bug(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        config.panics.count += isinstance(context.get("exception"), Exception)
        loop.default_exception_handler(context)

    loop.set_exception_handler(count_bug)
    with suppress(asyncio.CancelledError):
        await serving


def _print_queries() -> None:
    """Have the plugin ``log`` write to stdout, whatever else is said."""
    import logging
    import sys

    queries = logging.getLogger("dns.queries")
    queries.setLevel(logging.INFO)
    queries.propagate = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("[INFO] %(message)s"))
    queries.handlers = [handler]


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


@dns.command()
@click.argument("name")
@click.option("--from", "pod", required=True, metavar="[NAMESPACE/]POD", help="Who asks.")
@click.option("--type", "type_", default="A", show_default=True, help="A, AAAA, SRV, PTR, ...")
@click.option(
    "--conf", type=click.Path(path_type=Path), help="The server's Corefile; default: what kubeadm sets up."
)
@click.option("--domain", default="cluster.local", show_default=True, help="Without --conf: the cluster's.")
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path), help="Of the cluster; default: the lab of --name."
)
@click.option("-n", "--name", "lab", envvar="KUBENET_LAB", help="The lab. [env: KUBENET_LAB]")
def explain(
    name: str,
    pod: str,
    type_: str,
    conf: Path | None,
    domain: str,
    kubeconfig: Path | None,
    lab: str | None,
) -> None:
    """Say which name of the search path, plugin and objects give POD its answer for NAME.

    It asks the API server, not the DNS server: what is said here and what a pod gets differ only if a DNS
    server is behind. The exit code is 1 if no name that was tried exists.

        kubenet dns explain web --from demo/client
    """
    import asyncio
    import os
    import sys

    from dns.daemon import ServeConfig, read_configuration
    from dns.explain import explain as explain_name
    from dns.explain import site_of, usual_blocks
    from dns.wire import RType
    from kubenet.client.kubeconfig import ClusterConfig, load
    from kubenet.errors import InvalidInput

    if type_.upper() not in RType.__members__:
        raise InvalidInput(f"type {type_!r}: unknown", "give a type such as A, AAAA, SRV or PTR")
    if kubeconfig is not None:
        config = load(kubeconfig)
    else:
        from labs.control import client_of, only_lab

        config = ClusterConfig(server=client_of(lab or only_lab()).server)
    namespace, slash, pod_name = pod.rpartition("/")
    namespace = namespace if slash else "default"
    blocks = usual_blocks(domain)
    if conf is not None:
        blocks, _ = read_configuration(ServeConfig(conf, environment=dict(os.environ)))
    objects, asker, policy = asyncio.run(_cluster_objects(config, namespace, pod_name))
    if policy not in ("ClusterFirst", "ClusterFirstWithHostNet"):
        raise InvalidInput(f"pod {pod}: dnsPolicy {policy}: it does not ask the cluster's DNS server")
    site = site_of(blocks, objects)
    _read_files(site)
    attempts = explain_name(name, RType[type_.upper()], asker, site, objects)
    print("\n".join(map(str, attempts)))
    sys.exit(0 if attempts[-1].records or attempts[-1].plugin == "forward" else 1)


def _read_files(site: "Site") -> None:
    from dns.watched import WatchedFiles, host_lines, read_zone_files

    zones = read_zone_files(part.block for part in site.parts)
    for part in site.parts:
        WatchedFiles(part, zones)
        if part.hosts:
            part.hosts.renew(host_lines(part.hosts.config))


async def _cluster_objects(config: "ClusterConfig", namespace: str, pod: str) -> "tuple[Objects, Asker, str]":
    from dns.explain import Asker, Objects
    from kubenet.client.transport import ApiClient
    from kubenet.model.objects import EndpointSlice, Namespace, Pod, Service
    from kubenet.model.resources import ENDPOINTSLICES, NAMESPACES, PODS, SERVICES

    async with ApiClient(config) as client:
        asker = await client.get(PODS, namespace, pod, Pod)
        objects = Objects(
            await client.list(SERVICES, "", Service),
            await client.list(ENDPOINTSLICES, "", EndpointSlice),
            await client.list(NAMESPACES, "", Namespace),
            await client.list(PODS, "", Pod),
        )
    return objects, Asker(namespace, asker.status.pod_ip or "0.0.0.0"), asker.spec.dns_policy
