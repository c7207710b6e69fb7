"""The process of a lab: builds the namespaces and runs every daemon of every node in one event loop.

A socket belongs for ever to the namespace it was opened in, so one process can be three nodes at once: each
node's agent, proxy and DNS server talk to the API server across the wire from the node's own address, with
the very code that runs on a real node.

The starter reads one line of JSON from a pipe: that the lab is ready, or why it is not.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from pathlib import Path
from socket import AF_INET, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket

import msgspec

from cni.agent import AgentConfig, run_agent
from dns.server import DnsConfig, run_dns
from kubenet.apiserver.http import ApiServer, ServerConfig
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.errors import KubenetError, TimedOut
from kubenet.kernel.netns import NetNs
from kubenet.manager import ManagerConfig, run_controllers, run_scheduler
from kubenet.model.objects import Json, Node
from kubenet.model.resources import NODES
from kubenet.node import NodeConfig, run_node_agent
from kubenet.store.sqlite import SqliteStore
from labs import ledger
from labs.base import base_objects
from labs.build import Underlay, build_underlay
from labs.images.catalogue import IMAGES
from labs.ledger import LabDirectory
from labs.report import GO, Report, decode_spec
from labs.topology import API_SERVER, API_SERVER_PORT, UNDERLAY_IFNAME, LabNode, LabSpec, topology
from proxy.daemon import run_proxy
from proxy.node_config import ProxyConfig
from proxy.ports import Balance

log = logging.getLogger(__name__)

READY_TIMEOUT_S = 30.0
LISTEN_BACKLOG = 512


class Keeper:
    """One lab, from its first namespace to the signal to stop."""

    def __init__(self, spec: LabSpec, directory: LabDirectory) -> None:
        self._spec = spec
        self._lab = topology(spec)
        self._directory = directory
        self._ledger = ledger.read(directory)

    async def run(self, ready: Callable[[Report], None]) -> None:
        """Run the lab until cancelled; calls ``ready`` when every node is."""
        with build_underlay(self._lab, self._directory) as underlay:
            async with AsyncExitStack() as stack:
                server = await self._serve_api(underlay, stack)
                await self._run_daemons(underlay, server, ready)

    async def _serve_api(self, underlay: Underlay, stack: AsyncExitStack) -> str:
        """Start the API server, for the machine on loopback and for the nodes on the wire; return its URL."""
        store = await SqliteStore.open(self._directory.store)
        stack.push_async_callback(store.close)
        api = ApiServer(store, ServerConfig(service_cidr=self._spec.service_cidr))
        with NetNs.current() as own:
            local = _listen(own, IPv4Address("127.0.0.1"), 0)
        wire = _listen(underlay.wire, API_SERVER, API_SERVER_PORT)
        await api.start([local, wire])
        stack.push_async_callback(api.stop)
        return f"http://127.0.0.1:{local.getsockname()[1]}"

    async def _run_daemons(self, underlay: Underlay, server: str, ready: Callable[[Report], None]) -> None:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            events: list[asyncio.Event] = []
            control = await stack.enter_async_context(_client(underlay.wire))
            group.create_task(run_controllers(control, self._manager_config()), name="controllers")
            group.create_task(run_scheduler(control), name="scheduler")
            for node in self._lab.nodes:
                client = await stack.enter_async_context(_client(underlay.nodes[node.name]))
                for name, daemon, event in self._daemons(node, underlay.nodes[node.name], client):
                    group.create_task(daemon, name=f"{node.name}/{name}")
                    events.append(event)
            for resource, body in base_objects(self._spec, self._lab.nodes):
                await control.create(resource, _namespace(body), body)
            await self._until_ready(control, events)
            self._ledger = msgspec.structs.replace(self._ledger, phase="ready", server=server)
            ledger.write(self._directory, self._ledger)
            gc.freeze()  # what lives now lives as long as the lab: no need to look at it in each collection
            ready(Report(server=server))

    def _manager_config(self) -> ManagerConfig:
        return ManagerConfig(pod_cidr=self._spec.cluster_cidr)

    def _daemons(
        self, node: LabNode, netns: NetNs, client: ApiClient
    ) -> list[tuple[str, Coroutine[None, None, None], asyncio.Event]]:
        """Return what runs on one node, each with the event it sets when it serves."""
        spec, state = self._spec, self._directory.node(node.name)
        bin_dir, conf_dir = state / "cni" / "bin", state / "cni" / "net.d"
        events = [asyncio.Event() for _ in range(4)]
        agent = AgentConfig(
            node_name=node.name,
            netns=netns,
            socket_path=state / "cni.sock",
            state_dir=state / "agent",
            bin_dir=bin_dir,
            conf_dir=conf_dir,
            cluster_cidrs=(spec.cluster_cidr,),
            service_cidrs=(spec.service_cidr,),
            underlay_ifname=UNDERLAY_IFNAME,
            cache_dir=self._directory.path / "cache",
        )
        kubelet = NodeConfig(
            name=node.name,
            netns=netns,
            node_ip=node.ip,
            state_dir=state,
            cni_bin_dir=bin_dir,
            cni_conf_dir=conf_dir,
            cluster_dns=spec.cluster_dns,
            cluster_domain=spec.cluster_domain,
            images=IMAGES,
            ready=events[1],
        )
        proxy = ProxyConfig(
            node_name=node.name,
            netns=netns,
            default_balance=Balance(spec.balance),
            cluster_cidr=spec.cluster_cidr,
            service_cidrs=(spec.service_cidr,),
            ready=events[2],
        )
        dns = DnsConfig(
            netns=netns, addresses=(node.ip,), cluster_domain=spec.cluster_domain, ready=events[3]
        )
        return [
            ("agent", run_agent(agent, client, events[0]), events[0]),
            ("kubelet", run_node_agent(kubelet, client), events[1]),
            ("proxy", run_proxy(proxy, client), events[2]),
            ("dns", run_dns(dns, client), events[3]),
        ]

    async def _until_ready(self, client: ApiClient, events: list[asyncio.Event]) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                for event in events:
                    await event.wait()
                while not await self._nodes_ready(client):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise TimedOut(
                f"lab {self._spec.name!r}: not ready after {READY_TIMEOUT_S:g} s",
                f"look at {self._directory.log}",
            ) from None

    async def _nodes_ready(self, client: ApiClient) -> bool:
        nodes = [await client.get(NODES, "", node.name, Node) for node in self._lab.nodes]
        return all(
            any(c.type == "Ready" and c.status == "True" for c in node.status.conditions) for node in nodes
        )


def main(argv: list[str]) -> int:
    """Run a lab: ``SPEC-AS-JSON LABS-DIRECTORY PIPE-DESCRIPTOR``, once the word comes on standard input.

    The lab's directory and ledger are there already.
    """
    if os.read(0, 1) != GO:
        return 1  # the starter has ended: nobody would know of what we make
    spec = decode_spec(argv[0])
    report_fd = int(argv[2])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")

    def report(message: Report) -> None:
        try:
            os.write(report_fd, msgspec.json.encode(message) + b"\n")
        except BrokenPipeError:
            log.warning("nobody waits for the report any more")

    directory = LabDirectory(spec.name, Path(argv[1]))
    try:
        asyncio.run(_until_stopped(Keeper(spec, directory), report))
    except KubenetError as error:
        report(Report(error=error.message, next_step=error.next_step, exit_code=error.exit_code))
        return error.exit_code
    return 0


async def _until_stopped(keeper: Keeper, report: Callable[[Report], None]) -> None:
    loop = asyncio.get_running_loop()
    lab = asyncio.ensure_future(keeper.run(report))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lab.cancel)
    try:
        await lab
    except asyncio.CancelledError:
        log.info("stopped")
    except BaseExceptionGroup as group:
        expected, bugs = group.split(KubenetError)
        if expected is None or bugs is not None:
            raise
        raise first_of(expected) from group


def first_of(group: BaseExceptionGroup[KubenetError]) -> KubenetError:
    """Return the first error of a group, however deep."""
    for error in group.exceptions:
        return first_of(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")


def _client(netns: NetNs) -> ApiClient:
    config = ClusterConfig(server=f"http://{API_SERVER}:{API_SERVER_PORT}")
    return ApiClient(config, socket_factory=netns.socket)


def _listen(netns: NetNs, address: IPv4Address, port: int) -> socket:
    listener = netns.socket(AF_INET, SOCK_STREAM)
    listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    listener.bind((str(address), port))
    listener.listen(LISTEN_BACKLOG)
    return listener


def _namespace(body: Json) -> str:
    metadata = body["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["namespace"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
