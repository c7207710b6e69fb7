"""The CNI agent of one node: everything of the pod network that outlives a request.

It starts by listening, so that shims wait instead of failing, takes over what an earlier agent has left,
does the DELs that came meanwhile, and answers. Pods can be added once the node's own Node object says which
addresses it has; only then, and after overlay and packet filter stand, is the runtime told of the network.
"""

import asyncio
import logging
import time
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from cni.attach import Attachments
from cni.checksums import Proof, prove
from cni.deferred import deferred, directory_for
from cni.flannel import annotations_of
from cni.install import CACHE, CONFLIST, install_conflist, install_plugin, rival_of
from cni.network import BRIDGE_IFNAME, NetworkConfig, NodeNetwork
from cni.overlay import NodeNet, Skipped, node_net, own_net, peers_of
from cni.plan import PodWiring, Wiring
from cni.publish import KernelPublisher
from cni.server import Server
from cni.spec import CniError
from cni.verbs import Plugin
from cni.vitals import Vitals
from cni.wires import KernelWires
from ipam.pool import NO_RULES
from ipam.sticky import StickyFile
from ipam.store import RecordStore
from kubenet.client.cache import Change
from kubenet.client.informer import Informer
from kubenet.client.transport import STRATEGIC_PATCH, ApiClient
from kubenet.clock import rfc3339
from kubenet.errors import KubenetError
from kubenet.kernel.events import Changed, Event, Subject, Subscription
from kubenet.kernel.netns import NetNs
from kubenet.model.links import IPNetwork
from kubenet.model.objects import Json, Node
from kubenet.model.resources import NODES
from kubenet.reconcile import Pace, Reconciler

log = logging.getLogger(__name__)


MIN_INTERVAL_S = 0.1  # a cluster that starts brings its nodes one after the other
RESYNC_S = 60.0
RETRY_MOST_S = 2.0  # an underlay that comes back shall not wait long
PACE = Pace(min_interval_s=MIN_INTERVAL_S, resync_s=RESYNC_S, retry_most_s=RETRY_MOST_S)
TEND_EVERY_S = 30.0
LOOK_EVERY_S = 2.0  # for what no event tells of
PROVE_EVERY_S, PROVE_BY = 30.0, 3  # as long as no peer answers: how often, and by how many
NETWORK_UNAVAILABLE = "NetworkUnavailable"


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
    underlay_ifname: str = ""  # empty: the link that has the node's address
    conflist: str = CONFLIST  # the file's name: runtimes take the first in the order of names
    wiring: Wiring = Wiring.ROUTED
    vni: int = 1
    vxlan_port: int = 8472
    strict_delete: bool = False  # answer a DEL only when the link is gone
    workers: int = 8
    cache_dir: Path = CACHE
    sticky_path: Path | None = None  # on a disk: the addresses that pods keep; None keeps them in memory
    settings_path: Path | None = None  # may change while the agent runs: see cni.settings
    publish: bool = True  # tell of the tunnel end, and that there is a network, in the Node object

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
            self.settings_path,
            self.state_dir / "made.json",
        )


class NodeAgent:
    """The agent without its view of the cluster: it is told of the nodes. Its calls block."""

    def __init__(self, config: AgentConfig, vitals: Vitals | None = None) -> None:
        self.config = config
        self.vitals = vitals or Vitals()
        with ExitStack() as undo:
            store = RecordStore.open(config.state_dir / "attachments")
            publisher = KernelPublisher(config.netns, bridged=config.wiring is Wiring.BRIDGE)
            undo.callback(publisher.close)
            self.attachments = Attachments(
                store,
                lambda: KernelWires(config.netns),
                publisher,
                strict_delete=config.strict_delete,
                sticky=StickyFile(config.sticky_path),
            )
            undo.callback(self.attachments.close)
            self.vitals.attachments = lambda: len(self.attachments.records)
            self.plugin = Plugin(self.attachments, config.netns)
            self.server = Server(config.socket_path, self.plugin.serve, config.workers)
            undo.callback(self.server.stop)
            self._network = NodeNetwork(config.network)
            undo.callback(self._network.close)
            self._reaper = ThreadPoolExecutor(1, thread_name_prefix="cni-reaper")
            self._pod_cidrs: tuple[IPNetwork, ...] = ()
            self._rules = NO_RULES
            self._proved = 0  # the number of the tunnel device whose checksums are known
            self._prove_due_s, self._prove_turn = 0.0, 0
            self._mtu = 0  # that the pods have
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
            began_s = time.monotonic()
            self.vitals.began()
            try:
                wiring = self._network.sync(own, peers)
            except KubenetError as error:
                self.plugin.limited = str(error)
                self.vitals.failed(str(error))
                raise
            self.plugin.limited = ""
            now_s = time.monotonic()
            self.vitals.ended(now_s - began_s, now_s, len(peers))
            self._wire(own, wiring)

    def _wire(self, own: NodeNet, wiring: PodWiring) -> None:
        rules = self._network.pool_rules
        if (own.pod_cidrs, rules) == (self._pod_cidrs, self._rules):
            self.attachments.rewire(wiring)
        else:
            self.attachments.open(own.pod_cidrs, wiring, rules)
            self._pod_cidrs, self._rules = own.pod_cidrs, rules
            log.info("cni: %s adds pods of %s", own.name, ", ".join(str(cidr) for cidr in own.pod_cidrs))
        if wiring.mtu != self._mtu:
            self.attachments.follow_mtu()
            self._mtu = wiring.mtu

    @property
    def ifnames(self) -> frozenset[str]:
        """The node's links whose changes are ours to repair, and the one that carries the overlay."""
        names = {self._network.underlay_ifname, self._network.tunnel_ifname}
        return frozenset(names | ({BRIDGE_IFNAME} if self.config.wiring is Wiring.BRIDGE else set()))

    def install(self) -> None:
        """Tell the runtime of the network. Raises KubenetError."""
        kind = install_plugin(self.config.bin_dir, self.config.socket_path, cache=self.config.cache_dir)
        path = install_conflist(self.config.conf_dir, name=self.config.conflist)
        log.info("cni: %s plugin in %s, network in %s", kind.value, self.config.bin_dir, path)
        self.look_for_rivals()

    def look_for_rivals(self) -> None:
        """Notice whether the runtime uses somebody else's network, and say so when that changes."""
        rival = rival_of(self.config.conf_dir, self.config.conflist)
        if rival and rival != self.vitals.rival:
            log.warning(
                "cni: %s goes before %s: pods get that network; remove it, or name ours lower (--conflist)",
                self.config.conf_dir / rival,
                self.config.conflist,
            )
        self.vitals.rival = rival

    def drifting(self) -> bool:
        """Return whether it is time to compare although nobody told of a change."""
        return self._network.settings_changed() or self._network.filter_is_due()

    def prove_tunnel(self) -> None:
        """Find out once for each tunnel device whether its checksums are right. Raises KubenetError."""
        now_s = time.monotonic()
        with self._acting:
            index, peers = self._network.tunnel_index, self._network.tunnel_ends
            if self._stopped or not index or self._proved == index or now_s < self._prove_due_s:
                return
            self._prove_due_s = now_s + PROVE_EVERY_S
        # The proof takes seconds when peers are silent: others must not wait for it.
        chosen = peers[self._prove_turn :] + peers[: self._prove_turn]
        self._prove_turn = (self._prove_turn + PROVE_BY) % max(1, len(peers))
        proof = prove(self.config.netns, self._network.tunnel_ifname, chosen[:PROVE_BY])
        self.vitals.checksums = proof.value
        if proof is not Proof.UNKNOWN:
            self._proved = index

    def tend(self) -> None:
        """Let go of what is dead, and do what could not be done when it was asked. Raises KubenetError."""
        with self._acting:
            if not self._stopped:
                self._do_deferred()
                self.attachments.sweep(time.time_ns())
                self.look_for_rivals()

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


async def run_agent(
    config: AgentConfig,
    client: ApiClient,
    ready: asyncio.Event | None = None,
    vitals: Vitals | None = None,
) -> None:
    """Serve the pods of one node until cancelled; ``ready`` is set when pods can be added.

    Raises AlreadyExists when another agent serves this node, StateLost, InvalidInput for wrong settings.
    """
    agent = await asyncio.to_thread(NodeAgent, config, vitals)
    try:
        workers = await asyncio.to_thread(agent.start)
        informer = Informer(client, NODES, Node)
        async with asyncio.TaskGroup() as tasks:
            for worker in workers:
                tasks.create_task(_watch(worker))
            tasks.create_task(informer.run())
            tasks.create_task(_tend(agent))
            tasks.create_task(_Follower(agent, informer, client, ready).run())
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

    def __init__(
        self, agent: NodeAgent, informer: Informer[Node], client: ApiClient, ready: asyncio.Event | None
    ) -> None:
        self._agent = agent
        self._name = agent.config.node_name
        self._informer = informer
        self._ready = ready
        self._installed = False
        self._skipped: Sequence[Skipped] = ()
        self._client = client
        self._peers: Sequence[NodeNet] | None = None  # None: somebody moved since they were computed
        self._reconciler = Reconciler(f"cni {self._name}", self._sync, PACE)

    async def run(self) -> None:
        self._informer.on_change(self._on_change)
        await self._informer.wait_synced()
        self._reconciler.poke()
        loop = asyncio.get_running_loop()
        with Subscription(self._agent.config.netns) as events:
            loop.add_reader(events.fileno(), self._on_events, events)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._reconciler.run())
                    tasks.create_task(self._look_now_and_then())
            finally:
                loop.remove_reader(events.fileno())

    def _on_change(self, change: Change[Node]) -> None:
        # Nodes tell of their health all the time, and seldom that they have moved.
        vni = self._agent.config.vni
        before, after = (node_net(node, vni) if node else None for node in (change.old, change.new))
        if before != after:
            self._peers = None
            self._reconciler.poke()

    async def _look_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if not self._installed:
                continue
            if await asyncio.to_thread(self._agent.drifting):
                self._reconciler.poke()
            try:
                await asyncio.to_thread(self._agent.prove_tunnel)
            except KubenetError as error:
                log.warning("cni %s: checksums of the tunnel: %s", self._name, error)

    def _on_events(self, events: Subscription) -> None:
        ours = self._agent.ifnames
        if any(_concerns(event, ours) for event in events.read()):
            self._reconciler.poke()

    async def _sync(self) -> None:
        node = self._informer.cache.get(self._name)
        own = own_net(node) if node else Skipped(self._name, "it has no Node object yet")
        if isinstance(own, Skipped) or node is None:
            self._tell([own] if isinstance(own, Skipped) else [])
            return
        if self._peers is None:
            nodes = self._informer.cache.objects().values()
            self._peers, skipped = peers_of(own, nodes, self._agent.config.vni)
            self._tell(skipped)
        await asyncio.to_thread(self._agent.sync, own, self._peers)
        if not self._installed:
            await asyncio.to_thread(self._agent.install)
            self._installed = True
        if self._ready is not None:
            self._ready.set()
        if self._agent.config.publish:
            await self._publish(node, own)

    async def _publish(self, node: Node, own: NodeNet) -> None:
        """Tell in the Node object what others need to know, if it is not there yet. Raises KubenetError."""
        wanted = annotations_of(own.node_ip, own.vtep_mac, self._agent.config.vni)
        if patch := publication(node, wanted, rfc3339(datetime.now(UTC))):
            await self._client.patch(
                NODES, "", self._name, patch, content_type=STRATEGIC_PATCH, subresource="status"
            )

    def _tell(self, skipped: Sequence[Skipped]) -> None:
        for entry in skipped:
            if entry not in self._skipped:
                log.warning("cni %s: node %s is left out: %s", self._name, entry.name, entry.reason)
        self._skipped = skipped


def _concerns(event: Event, ours: Container[str]) -> bool:
    """Whether an event may be about what is ours: also a route to nowhere, which has no link. *Pure.*"""
    if not isinstance(event, Changed):
        return True
    return event.ifname in ours or (event.subject is Subject.ROUTE and not event.ifname)


def publication(node: Node, annotations: Mapping[str, str], now: str) -> Json:
    """Return the patch of a Node's status that tells of its network; empty when all is there. *Pure.*"""
    patch: Json = {}
    if any(node.metadata.annotations.get(key) != value for key, value in annotations.items()):
        patch["metadata"] = {"annotations": dict(annotations)}
    if not any(c.type == NETWORK_UNAVAILABLE and c.status == "False" for c in node.status.conditions):
        condition: Json = {
            "type": NETWORK_UNAVAILABLE,
            "status": "False",
            "reason": "KubenetIsUp",
            "message": "overlay, packet filter and plugin are in place",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        patch["status"] = {"conditions": [condition]}
    return patch
