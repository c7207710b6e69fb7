"""Run the agent of one node as the Node objects want it, whoever changes the one or the other.

A watch of the Node objects, events of the kernel and a timer all end in the same comparison; what is there
already costs a look at its bytes.
"""

import asyncio
import logging
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime

from cni.agent import AgentConfig, NodeAgent
from cni.flannel import annotations_of
from cni.overlay import NodeNet, Skipped, node_net, own_net, peers_of
from cni.vitals import Vitals
from kubenet.client.cache import Change
from kubenet.client.informer import Informer
from kubenet.client.transport import STRATEGIC_PATCH, ApiClient
from kubenet.clock import rfc3339
from kubenet.errors import KubenetError
from kubenet.kernel.events import Changed, Event, Subject, Subscription
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
NETWORK_UNAVAILABLE = "NetworkUnavailable"


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
