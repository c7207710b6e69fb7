"""The node agent (a kubelet): its Node, its lease, and a worker for each pod that is bound to it."""

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from kubenet.client.cache import Change
from kubenet.client.errors import ObjectExists, ObjectNotFound
from kubenet.client.informer import Informer
from kubenet.client.recorder import EventRecorder
from kubenet.client.transport import STRATEGIC_PATCH, ApiClient
from kubenet.clock import SystemClock, rfc3339, rfc3339_micro
from kubenet.errors import KubenetError
from kubenet.model.objects import Node, ObjectMeta, Pod, Service
from kubenet.model.resources import LEASES, NODES, PODS, SERVICES
from kubenet.node import record
from kubenet.node.cni_runtime import CniRuntime, load_network
from kubenet.node.config import NodeConfig
from kubenet.node.record import PodRecord
from kubenet.node.registration import (
    HEARTBEAT_S,
    LEASE_NAMESPACE,
    lease_object,
    machine,
    node_object,
    node_status,
)
from kubenet.node.worker import NodeParts, PodWorker

log = logging.getLogger(__name__)

NOT_READY_POLL_S = 0.05


async def run_node_agent(config: NodeConfig, client: ApiClient) -> None:
    """Run the agent until cancelled; pods go on without it, and the next agent takes them over."""
    pods = Informer(client, PODS, Pod, field_selector=f"spec.nodeName={config.name}")
    services = Informer(client, SERVICES, Service)
    clock = SystemClock()
    network = CniRuntime((config.cni_bin_dir,), config.state_dir / "cni", config.netns)
    events = EventRecorder(client, "kubenet-node", config.name, clock)
    parts = NodeParts(config, client, network, lambda: services.cache.objects().values(), clock, events)
    async with asyncio.TaskGroup() as group:
        group.create_task(events.run(), name="events")
        group.create_task(pods.run(), name="pods")
        group.create_task(services.run(), name="services")
        group.create_task(_Heart(parts).run(), name="heartbeat")
        await pods.wait_synced()
        await services.wait_synced()
        workers = Workers(parts, group)
        workers.take_over(record.read_all(config.state_dir / "pods"), pods.cache.objects().values())
        pods.on_change(workers.receive)


class Workers:
    """The workers of a node, by the uid of their pods: two pods of one name never mix."""

    def __init__(self, parts: NodeParts, group: asyncio.TaskGroup) -> None:
        self._parts = parts
        self._group = group
        self._by_uid: dict[str, PodWorker] = {}

    def take_over(self, found: Iterable[PodRecord], pods: Iterable[Pod]) -> None:
        """Begin: with the pods that are, with what an earlier agent left, and with what is to be removed."""
        records = {each.uid: each for each in found}
        for pod in pods:
            self._begin(pod, records.pop(pod.metadata.uid, None))
        for orphan in records.values():
            meta = ObjectMeta(namespace=orphan.namespace, name=orphan.name, uid=orphan.uid)
            self._begin(Pod(metadata=meta), orphan)
            self._by_uid[orphan.uid].update(None)

    def receive(self, change: Change[Pod]) -> None:
        """Take in a change of a pod."""
        old, new = change.old, change.new
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._update(old, None)
        if new is not None:
            self._update(new, new)

    def _update(self, subject: Pod, pod: Pod | None) -> None:
        worker = self._by_uid.get(subject.metadata.uid)
        if worker is not None:
            worker.update(pod)
        elif pod is not None:
            self._begin(pod, None)

    def _begin(self, pod: Pod, found: PodRecord | None) -> None:
        if pod.spec.host_network:
            log.warning("pod %s: host network is not offered by this node agent", pod.metadata.key)
            return
        worker = self._by_uid[pod.metadata.uid] = PodWorker(self._parts, pod, found)
        self._group.create_task(self._run(pod.metadata.uid, worker), name=f"pod {pod.metadata.key}")

    async def _run(self, uid: str, worker: PodWorker) -> None:
        try:
            await worker.run()
        finally:
            self._by_uid.pop(uid, None)


class _Heart:
    """Registers the node, and says at intervals that it lives and how."""

    def __init__(self, parts: NodeParts) -> None:
        self._parts = parts
        self._name = parts.config.name
        self._machine = machine()
        self._was_ready = False

    async def run(self) -> None:
        while True:
            try:
                await self._beat()
                wait_s = HEARTBEAT_S if self._was_ready else NOT_READY_POLL_S
            except KubenetError as error:
                log.warning("node %s: %s", self._name, error)
                wait_s = 1.0
            await self._parts.clock.sleep(wait_s)

    async def _beat(self) -> None:
        node = await self._node()
        reason = await asyncio.to_thread(self._not_ready)
        if self._was_ready or not reason or not node.status.conditions:
            await self._report(node, reason)
        if not reason and not self._was_ready:
            self._was_ready = True
            if self._parts.config.ready:
                self._parts.config.ready.set()

    async def _report(self, node: Node, reason: str) -> None:
        client, now = self._parts.client, self._parts.clock.now()
        status = node_status(node, str(self._parts.config.node_ip), self._machine, reason, rfc3339(now))
        # Strategic: the conditions and addresses of others (NetworkUnavailable of a CNI agent) stay.
        await client.patch(
            NODES, "", self._name, {"status": status}, content_type=STRATEGIC_PATCH, subresource="status"
        )
        lease = lease_object(self._name, rfc3339_micro(now))
        try:
            await client.patch(LEASES, LEASE_NAMESPACE, self._name, {"spec": lease["spec"]})
        except ObjectNotFound:
            await client.create(LEASES, LEASE_NAMESPACE, lease)

    async def _node(self) -> Node:
        client = self._parts.client
        try:
            return await client.get(NODES, "", self._name, Node)
        except ObjectNotFound:
            pass
        try:
            created = await client.create(NODES, "", node_object(self._name, self._machine))
        except ObjectExists:
            return await client.get(NODES, "", self._name, Node)
        return msgspec.json.decode(created, type=Node)

    def _not_ready(self) -> str:
        try:
            load_network(self._parts.config.cni_conf_dir)
        except KubenetError as error:
            return f"container runtime network not ready: {error.message}"
        return ""
