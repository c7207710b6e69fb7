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
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from socket import AF_INET, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket

import msgspec

from cni.agent import AgentConfig
from cni.follow import run_agent
from cni.plan import Wiring
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
from labs.daemons import Daemons, NamesDaemon, Starter
from labs.images.catalogue import IMAGES
from labs.ledger import LabDirectory
from labs.report import GO, Report, decode_spec
from labs.switchboard import switchboard
from labs.topology import API_SERVER, API_SERVER_PORT, UNDERLAY_IFNAME, LabNode, LabSpec, topology
from proxy.auto_mode import best_mode
from proxy.backend import ProxyMode
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
            daemons = Daemons(group)
            control = await stack.enter_async_context(_client(underlay.wire))
            daemons.add("controllers", at_once(partial(run_controllers, control, self._manager_config())))
            daemons.add("scheduler", at_once(partial(run_scheduler, control)))
            for node in self._lab.nodes:
                client = await stack.enter_async_context(_client(underlay.nodes[node.name]))
                for name, starter in self._daemons(node, underlay.nodes[node.name], client).items():
                    daemons.add(f"{node.name}/{name}", starter)
            for resource, body in base_objects(self._spec, self._lab.nodes):
                await control.create(resource, _namespace(body), body)
            await self._until_ready(control, daemons)
            await stack.enter_async_context(switchboard(self._directory.switchboard, daemons))
            self._ledger = msgspec.structs.replace(self._ledger, phase="ready", server=server)
            ledger.write(self._directory, self._ledger)
            gc.freeze()  # what lives now lives as long as the lab: no need to look at it in each collection
            ready(Report(server=server))

    def _manager_config(self) -> ManagerConfig:
        return ManagerConfig(pod_cidr=self._spec.cluster_cidr)

    def _daemons(self, node: LabNode, netns: NetNs, client: ApiClient) -> dict[str, Starter]:
        """Return what runs on one node."""
        agent, kubelet = self._agent(node, netns), self._kubelet(node, netns)
        proxy, dns = self._proxy(node, netns), self._dns(node, netns)
        return {
            "agent": lambda ready: run_agent(agent, client, ready),
            "kubelet": lambda ready: run_node_agent(replace(kubelet, ready=ready), client),
            "proxy": lambda ready: run_proxy(replace(proxy, ready=ready), client),
            "dns": lambda ready: run_dns(replace(dns, ready=ready), client),
        }

    def _agent(self, node: LabNode, netns: NetNs) -> AgentConfig:
        state = self._directory.node(node.name)
        return AgentConfig(
            node_name=node.name,
            netns=netns,
            socket_path=state / "cni.sock",
            state_dir=state / "agent",
            bin_dir=_cni_bin(state),
            conf_dir=_cni_conf(state),
            cluster_cidrs=(self._spec.cluster_cidr,),
            service_cidrs=(self._spec.service_cidr,),
            underlay_ifname=UNDERLAY_IFNAME,
            cache_dir=self._directory.path / "cache",
            wiring=Wiring(self._spec.wiring),
        )

    def _kubelet(self, node: LabNode, netns: NetNs) -> NodeConfig:
        state = self._directory.node(node.name)
        return NodeConfig(
            name=node.name,
            netns=netns,
            node_ip=node.ip,
            state_dir=state,
            cni_bin_dir=_cni_bin(state),
            cni_conf_dir=_cni_conf(state),
            cluster_dns=self._spec.cluster_dns,
            cluster_domain=self._spec.cluster_domain,
            images={**IMAGES, **self._spec.images},
        )

    def _proxy(self, node: LabNode, netns: NetNs) -> ProxyConfig:
        return ProxyConfig(
            node_name=node.name,
            netns=netns,
            default_balance=Balance(self._spec.balance),
            cluster_cidr=self._spec.cluster_cidr,
            service_cidrs=(self._spec.service_cidr,),
            mode=ProxyMode(self._spec.proxy_mode) if self._spec.proxy_mode else best_mode()[0],
        )

    def _dns(self, node: LabNode, netns: NetNs) -> DnsConfig:
        return DnsConfig(netns=netns, addresses=(node.ip,), cluster_domain=self._spec.cluster_domain)

    async def _until_ready(self, client: ApiClient, daemons: Daemons) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await daemons.ready()
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
    _speak_by_name()

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


def _speak_by_name() -> None:
    speaker = logging.StreamHandler()
    speaker.addFilter(NamesDaemon())
    speaker.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(daemon)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[speaker])


def first_of(group: BaseExceptionGroup[KubenetError]) -> KubenetError:
    """Return the first error of a group, however deep."""
    for error in group.exceptions:
        return first_of(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")


def at_once(run: Callable[[], Coroutine[None, None, None]]) -> Starter:
    """Return a starter of something that serves as soon as it runs."""

    def starter(ready: asyncio.Event) -> Coroutine[None, None, None]:
        ready.set()
        return run()

    return starter


def _cni_bin(state: Path) -> Path:
    return state / "cni" / "bin"


def _cni_conf(state: Path) -> Path:
    return state / "cni" / "net.d"


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
