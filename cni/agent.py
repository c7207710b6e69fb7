"""The CNI agent of one node: everything of the pod network that outlives a request.

It starts by listening, so that shims wait instead of failing, takes over what an earlier agent has left,
does the DELs that came meanwhile, and answers. Pods can be added once the node's own Node object says which
addresses it has; only then, and after overlay and packet filter stand, is the runtime told of the network.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from cni.attach import Attachments, PodWiring
from cni.deferred import deferred, directory_for
from cni.install import CACHE, install_conflist, install_plugin
from cni.network import BRIDGE_IFNAME, NetworkConfig, NodeNetwork
from cni.overlay import NodeNet, Skipped, node_net, peers_of
from cni.plan import Wiring
from cni.server import Server
from cni.spec import CniError
from cni.verbs import Plugin
from cni.wires import KernelWires
from ipam.store import RecordStore
from kubenet.client.cache import Change
from kubenet.client.informer import Informer
from kubenet.client.transport import ApiClient
from kubenet.errors import KubenetError
from kubenet.kernel.events import Changed, Subscription
from kubenet.kernel.netns import NetNs
from kubenet.model.links import IPNetwork
from kubenet.model.objects import Node
from kubenet.model.resources import NODES
from kubenet.reconcile import Pace, Reconciler

log = logging.getLogger(__name__)


MIN_INTERVAL_S = 0.1  # a cluster that starts brings its nodes one after the other
RESYNC_S = 60.0
TEND_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What the agent of one node is told at its start."""

    node_name: str
    netns: NetNs
    socket_path: Path
    state_dir: Path  # on a tmpfs
    bin_dir: Path
    conf_dir: Path
    cluster_cidrs: tuple[IPNetwork, ...]
    service_cidrs: tuple[IPNetwork, ...] = ()
    underlay_ifname: str = "eth0"
    wiring: Wiring = Wiring.ROUTED
    vni: int = 1
    vxlan_port: int = 8472
    strict_delete: bool = False  # answer a DEL only when the link is gone
    workers: int = 8
    cache_dir: Path = CACHE

    @property
    def network(self) -> NetworkConfig:
        return NetworkConfig(
            self.netns,
            self.underlay_ifname,
            self.vni,
            self.vxlan_port,
            self.cluster_cidrs,
            self.service_cidrs,
            self.wiring,
        )


class NodeAgent:
    """The agent without its view of the cluster: it is told of the nodes. Its calls block."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        with ExitStack() as undo:
            store = RecordStore.open(config.state_dir / "attachments")
            self.attachments = Attachments(
                store, lambda: KernelWires(config.netns), strict_delete=config.strict_delete
            )
            undo.callback(self.attachments.close)
            self.plugin = Plugin(self.attachments, config.netns)
            self.server = Server(config.socket_path, self.plugin.serve, config.workers)
            undo.callback(self.server.stop)
            self._network = NodeNetwork(config.network)
            undo.callback(self._network.close)
            self._reaper = ThreadPoolExecutor(1, thread_name_prefix="cni-reaper")
            self._pod_cidrs: tuple[IPNetwork, ...] = ()
            self._acting = Lock()  # a thread whose task was cancelled goes on; ``stop`` waits for it
            self._stopped = False
            undo.pop_all()

    def start(self) -> "list[Future[None]]":
        """Take over what an earlier agent left, and answer from now on.

        The futures end with ``stop``; one that ends with an exception tells of a bug.

        Raises StateLost, StoreFailed, NetlinkError.
        """
        self.attachments.recover()
        self._do_deferred()
        return [self._reaper.submit(self.attachments.reaper.run), *self.server.start()]

    def sync(self, own: NodeNet, peers: Sequence[NodeNet]) -> None:
        """Make the node's network as it shall be; after the first time, pods can be added.

        Raises KubenetError; what could be written, is.
        """
        with self._acting:
            if self._stopped:
                return
            try:
                wiring = self._network.sync(own, peers)
            except KubenetError as error:
                self.plugin.limited = str(error)
                raise
            self.plugin.limited = ""
            self._wire(own, wiring)

    def _wire(self, own: NodeNet, wiring: PodWiring) -> None:
        if own.pod_cidrs == self._pod_cidrs:
            self.attachments.rewire(wiring)
            return
        self.attachments.open(own.pod_cidrs, wiring)
        self._pod_cidrs = own.pod_cidrs
        log.info("cni: %s adds pods of %s", own.name, ", ".join(str(cidr) for cidr in own.pod_cidrs))

    @property
    def ifnames(self) -> frozenset[str]:
        """The node's links whose changes are ours to repair, and the one that carries the overlay."""
        names = {self.config.underlay_ifname, f"kubenet.{self.config.vni}"}
        return frozenset(names | ({BRIDGE_IFNAME} if self.config.wiring is Wiring.BRIDGE else set()))

    def install(self) -> None:
        """Tell the runtime of the network. Raises KubenetError."""
        kind = install_plugin(self.config.bin_dir, self.config.socket_path, cache=self.config.cache_dir)
        path = install_conflist(self.config.conf_dir)
        log.info("cni: %s plugin in %s, network in %s", kind.value, self.config.bin_dir, path)

    def tend(self) -> None:
        """Let go of what is dead, and do what could not be done when it was asked. Raises KubenetError."""
        with self._acting:
            if not self._stopped:
                self._do_deferred()
                self.attachments.sweep(time.time_ns())

    def stop(self) -> None:
        """Finish what is under way and end all threads. Pods and rules stay."""
        self.server.stop()
        with self._acting:
            self._stopped = True
        self.attachments.reaper.close()
        self._reaper.shutdown()
        self.attachments.close()
        self._network.close()

    def _do_deferred(self) -> None:
        for request in deferred(directory_for(self.config.socket_path)):
            try:
                self.plugin.replay(request.environment, request.written_ns)
            except CniError as error:
                log.warning("cni: %s: forgotten, it is no DEL: %s", request.path, error)
            except KubenetError as error:
                log.warning("cni: %s: cannot be done yet: %s", request.path, error)
                continue
            request.done()


async def run_agent(config: AgentConfig, client: ApiClient, ready: asyncio.Event | None = None) -> None:
    """Serve the pods of one node until cancelled; ``ready`` is set when pods can be added.

    Raises AlreadyExists when another agent serves this node, StateLost, InvalidInput for wrong settings.
    """
    agent = await asyncio.to_thread(NodeAgent, config)
    try:
        workers = await asyncio.to_thread(agent.start)
        informer = Informer(client, NODES, Node)
        async with asyncio.TaskGroup() as tasks:
            for worker in workers:
                tasks.create_task(_watch(worker))
            tasks.create_task(informer.run())
            tasks.create_task(_tend(agent))
            tasks.create_task(_Follower(agent, informer, ready).run())
    finally:
        await asyncio.to_thread(agent.stop)


async def _watch(worker: "Future[None]") -> None:
    """End with the thread; an exception in it is a bug, and ends the agent."""
    await asyncio.wrap_future(worker)


async def _tend(agent: NodeAgent) -> None:
    while True:
        await asyncio.sleep(TEND_EVERY_S)
        try:
            await asyncio.to_thread(agent.tend)
        except KubenetError as error:
            log.warning("cni: %s: looking after pods failed: %s", agent.config.node_name, error)


class _Follower:
    """Keeps the node's network as the Node objects want it, whoever changes the one or the other."""

    def __init__(self, agent: NodeAgent, informer: Informer[Node], ready: asyncio.Event | None) -> None:
        self._agent = agent
        self._name = agent.config.node_name
        self._informer = informer
        self._ready = ready
        self._installed = False
        self._skipped: Sequence[Skipped] = ()
        self._reconciler = Reconciler(
            f"cni {self._name}", self._sync, Pace(min_interval_s=MIN_INTERVAL_S, resync_s=RESYNC_S)
        )

    async def run(self) -> None:
        self._informer.on_change(self._on_change)
        await self._informer.wait_synced()
        self._reconciler.poke()
        loop = asyncio.get_running_loop()
        with Subscription(self._agent.config.netns) as events:
            loop.add_reader(events.fileno(), self._on_events, events)
            try:
                await self._reconciler.run()
            finally:
                loop.remove_reader(events.fileno())

    def _on_change(self, change: Change[Node]) -> None:
        # Nodes tell of their health all the time, and seldom that they have moved.
        before, after = (node_net(node) if node else None for node in (change.old, change.new))
        if before != after:
            self._reconciler.poke()

    def _on_events(self, events: Subscription) -> None:
        ours = self._agent.ifnames
        if any(not isinstance(event, Changed) or event.ifname in ours for event in events.read()):
            self._reconciler.poke()

    async def _sync(self) -> None:
        node = self._informer.cache.get(self._name)
        own = node_net(node) if node else Skipped(self._name, "it has no Node object yet")
        if isinstance(own, Skipped):
            self._tell([own])
            return
        peers, skipped = peers_of(own, self._informer.cache.objects().values())
        self._tell(skipped)
        await asyncio.to_thread(self._agent.sync, own, peers)
        if not self._installed:
            await asyncio.to_thread(self._agent.install)
            self._installed = True
        if self._ready is not None:
            self._ready.set()

    def _tell(self, skipped: Sequence[Skipped]) -> None:
        for entry in skipped:
            if entry not in self._skipped:
                log.warning("cni %s: node %s is left out: %s", self._name, entry.name, entry.reason)
        self._skipped = skipped
