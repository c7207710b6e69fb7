"""``kubenet agent``: the pod network of a node."""

import contextlib
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kubenet.errors import InvalidInput

if TYPE_CHECKING:
    from cni.agent import AgentConfig
    from kubenet.client.kubeconfig import ClusterConfig
    from kubenet.model.links import IPAddress

T = TypeVar("T")

RUN = Path("/run/kubenet")
STICKY = Path("/var/lib/kubenet/sticky.json")


@click.command()
@click.option("--kubeconfig", type=Path, help="How to reach the API server; default: as a pod does.")
@click.option("--node-name", required=True, envvar="NODE_NAME", help="The Node object. [env: NODE_NAME]")
@click.option("--socket", "socket_path", type=Path, default=RUN / "cni.sock", show_default=True)
@click.option("--state-dir", type=Path, default=RUN, show_default=True, help="Must be on a tmpfs.")
@click.option(
    "--sticky-file", "sticky_path", type=Path, default=STICKY, show_default=True,
    help="The addresses that pods keep by annotation; on a disk.",
)  # fmt: skip
@click.option(
    "--wiring", type=click.Choice(["routed", "bridge"]), default="routed", show_default=True,
    help="How pods hang on the node.",
)  # fmt: skip
@click.option("--cluster-cidr", "cluster_cidrs", multiple=True, help="Of all pods; one a family. Repeat.")
@click.option("--service-cidr", "service_cidrs", multiple=True, help="Of all Services. Repeat.")
@click.option(
    "--underlay", default="", metavar="LINK",
    help="The link to the other nodes. [default: the one that has the node's InternalIP]",
)  # fmt: skip
@click.option("--vni", type=click.IntRange(1, 2**24 - 1), default=1, show_default=True)
@click.option("--vxlan-port", type=click.IntRange(1, 65535), default=8472, show_default=True)
@click.option("--bin-dir", type=Path, default=Path("/opt/cni/bin"), show_default=True)
@click.option("--conf-dir", type=Path, default=Path("/etc/cni/net.d"), show_default=True)
@click.option(
    "--conflist", default="10-kubenet.conflist", show_default=True, metavar="NAME",
    help="The file in --conf-dir; runtimes take the first by name.",
)  # fmt: skip
@click.option("--config", "settings_path", type=Path, help="Settings that may change at run time (YAML).")
@click.option("--listen", default="127.0.0.1:9871", show_default=True, help="For /healthz and /metrics.")
@click.option("--cleanup", is_flag=True, help="Take the overlay and the packet filter away, and end.")
def agent(
    kubeconfig: Path | None,
    node_name: str,
    socket_path: Path,
    state_dir: Path,
    sticky_path: Path,
    wiring: str,
    cluster_cidrs: tuple[str, ...],
    service_cidrs: tuple[str, ...],
    underlay: str,
    vni: int,
    vxlan_port: int,
    bin_dir: Path,
    conf_dir: Path,
    conflist: str,
    settings_path: Path | None,
    listen: str,
    cleanup: bool,
) -> None:
    """Attach pods to the network, and keep this node's overlay to all others.

    It waits for the ranges of its Node object, installs the CNI plugin, and serves until SIGTERM. Pods, links
    and rules stay then; --cleanup removes what is not a pod's.

        kubenet agent --kubeconfig FILE --node-name node-1 --cluster-cidr 10.244.0.0/16
    """
    from cni.agent import AgentConfig
    from cni.install import ShimKind
    from cni.plan import Wiring
    from kubenet.kernel.netns import NetNs

    address = _parsed(_endpoint, listen, "--listen")
    with NetNs.current() as netns:
        config = AgentConfig(
            node_name=node_name,
            netns=netns,
            socket_path=socket_path,
            state_dir=state_dir,
            sticky_path=sticky_path,
            bin_dir=bin_dir,
            conf_dir=conf_dir,
            cluster_cidrs=tuple(_parsed(ip_network, cidr, "--cluster-cidr") for cidr in cluster_cidrs),
            service_cidrs=tuple(_parsed(ip_network, cidr, "--service-cidr") for cidr in service_cidrs),
            underlay_ifname=underlay,
            wiring=Wiring(wiring),
            vni=vni,
            vxlan_port=vxlan_port,
            conflist=_conflist(conflist),
            # In a container: a plugin in Python would need its interpreter on the node.
            shim=ShimKind.NATIVE if _in_pod(kubeconfig) else None,
            settings_path=settings_path,
        )
        if cleanup:
            _clean_up(config)
            return
        if not cluster_cidrs:
            raise InvalidInput("--cluster-cidr is needed: what is not the cluster's is masqueraded")
        _serve(config, _cluster(kubeconfig), address)


def _clean_up(config: "AgentConfig") -> None:
    from cni.network import NodeNetwork
    from cni.publish import remove_tables
    from ipam.store import RecordStore

    # First of all the runtime must not take this node for one that can have pods.
    (config.conf_dir / config.conflist).unlink(missing_ok=True)
    with contextlib.closing(NodeNetwork(config.network)) as network:
        network.remove()
    directory = config.state_dir / "attachments"
    if not directory.is_dir() or not any(RecordStore(directory).load()):
        remove_tables(config.netns)


def _serve(config: "AgentConfig", cluster: "ClusterConfig", address: "tuple[IPAddress, int]") -> None:
    import asyncio

    try:
        asyncio.run(_until_signal(config, cluster, address))
    except BaseExceptionGroup as group:
        raise _first(group) from group


async def _until_signal(
    config: "AgentConfig", cluster: "ClusterConfig", address: "tuple[IPAddress, int]"
) -> None:
    import asyncio
    import signal

    from cni.follow import run_agent
    from cni.vitals import Vitals, serving_vitals
    from kubenet.client.transport import ApiClient

    async def serve() -> None:
        vitals = Vitals()
        async with (
            ApiClient(cluster, user_agent="kubenet-agent") as client,
            serving_vitals(vitals, config.netns, *address),
        ):
            await run_agent(config, client, vitals=vitals)

    task = asyncio.create_task(serve())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _cluster(path: Path | None) -> "ClusterConfig":
    from kubenet.client import kubeconfig

    return kubeconfig.in_cluster() if _in_pod(path) else kubeconfig.load(path)


def _in_pod(path: Path | None) -> bool:
    """Whether the agent is a pod itself, and is told of the cluster as such."""
    from kubenet.client import kubeconfig

    return path is None and kubeconfig.SERVICE_ACCOUNT.exists()


def _conflist(name: str) -> str:
    if "/" in name or not name.endswith(".conflist"):
        raise InvalidInput(f"--conflist {name}: not the name of a .conflist file")
    return name


def _endpoint(text: str) -> "tuple[IPAddress, int]":
    host, _, port = text.rpartition(":")
    return ip_address(host.strip("[]")), int(port)


def _parsed(read: Callable[[str], T], text: str, option: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise InvalidInput(f"{option} {text}: {error}") from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first of the errors that a task group holds: what ended the agent."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
