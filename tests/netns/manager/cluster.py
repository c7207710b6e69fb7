"""A control plane with the real API server, and nodes that only pretend to run pods."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kubenet.apiserver.http import ApiServer
from kubenet.client.cache import Change
from kubenet.client.errors import Conflict, ObjectNotFound
from kubenet.client.informer import Informer
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.clock import Clock, SystemClock, rfc3339
from kubenet.kernel.netns import NetNs
from kubenet.manager import ManagerConfig, run_controllers, run_scheduler
from kubenet.model.objects import Deployment, EndpointSlice, Json, Node, ObjectT, Pod
from kubenet.model.resources import DEPLOYMENTS, ENDPOINTSLICES, LEASES, NODES, PODS, Resource
from kubenet.store.memory import MemoryStore

PORT = 6443
DEADLINE_S = 10.0


class Skippable:
    """The machine's clock, which a test may put forward."""

    def __init__(self) -> None:
        self.skipped_s = 0.0
        self._clock = SystemClock()
        self._skip = asyncio.Event()

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.skipped_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now().timestamp() + self.skipped_s, UTC)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


@dataclass
class Cluster:
    """What a test looks at and changes."""

    client: ApiClient
    silent: set[str] = field(default_factory=set)  # nodes that do nothing any more
    history: list[tuple[str, str]] = field(default_factory=list)  # what became of pods, in order

    async def until(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a state; a test that waits in vain says for what."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not await holds():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"not within {DEADLINE_S:g} s: {what}") from None

    async def pods(self) -> list[Pod]:
        found = await self.client.list(PODS, "default", Pod)
        return [each for each in found if not each.metadata.deletion_timestamp]

    async def all(self, resource: Resource, type: type[ObjectT]) -> list[ObjectT]:
        return list(await self.client.list(resource, "", type))

    async def available(self, replicas: int) -> bool:
        found = await self.client.get(DEPLOYMENTS, "default", "web", Deployment)
        status = found.status
        counts = (status.replicas, status.updated_replicas, status.available_replicas)
        return counts == (replicas,) * 3 and status.observed_generation == found.metadata.generation

    async def ready_addresses(self) -> list[str]:
        found = await self.client.list(ENDPOINTSLICES, "default", EndpointSlice)
        endpoints = [each for one in found for each in one.endpoints or ()]
        return sorted(each.addresses[0] for each in endpoints if each.conditions.ready)


def web(replicas: int, image: str = "v1", **strategy: object) -> Json:
    spec: Json = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {"name": "c", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}
                ],
            },
        },
    }
    if strategy:
        rolling: Json = {"maxSurge": 1, "maxUnavailable": 0}
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


SERVICE: Json = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
}


@asynccontextmanager
async def running(netns: NetNs, *nodes: str, clock: Clock | None = None) -> AsyncIterator[Cluster]:
    """Run a control plane whose controllers go by ``clock``, and nodes of these names."""
    server = ApiServer(MemoryStore())
    listener = netns.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", PORT))
    listener.listen()
    await server.start([listener])
    config = ClusterConfig(server=f"http://127.0.0.1:{PORT}")
    async with ApiClient(config, socket_factory=netns.socket) as client:
        cluster = Cluster(client)
        tasks = [asyncio.create_task(run_controllers(client, ManagerConfig(), clock))]
        tasks.append(asyncio.create_task(run_scheduler(client)))
        tasks += [asyncio.create_task(_PretendedNode(cluster, name).run()) for name in nodes]
        try:
            yield cluster
            for task in tasks:
                assert not task.done(), task.exception()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.stop()


class _PretendedNode:
    """Says that its pods run, and that they have ended, as soon as it is told."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._client = cluster.client
        self._name = name
        self._addresses = 0
        self._acting: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await self._register()
        pods = Informer(self._client, PODS, Pod, field_selector=f"spec.nodeName={self._name}")
        pods.on_change(self._changed)
        await pods.run()

    async def _register(self) -> None:
        now = rfc3339(datetime.now(UTC))
        ready: Json = {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now}
        amounts: Json = {"cpu": "8", "memory": "8Gi", "pods": "110"}
        body: Json = {"metadata": {"name": self._name}, "apiVersion": "v1", "kind": "Node"}
        await self._client.create(NODES, "", body)
        status: Json = {"conditions": [ready], "capacity": amounts, "allocatable": amounts}
        await self._client.patch(NODES, "", self._name, {"status": status}, subresource="status")
        spec: Json = {"holderIdentity": self._name, "renewTime": "2026-01-01T00:00:00.000000Z"}
        lease: Json = {"metadata": {"name": self._name}, "spec": spec}
        await self._client.create(LEASES, "kube-node-lease", lease)

    def _changed(self, change: Change[Pod]) -> None:
        if change.old is None and change.new is not None:
            self._cluster.history.append(("bound", change.key))
        if change.new is None:
            self._cluster.history.append(("gone", change.key))
        elif self._name not in self._cluster.silent:
            task = asyncio.create_task(self._act(change.new))
            self._acting.add(task)
            task.add_done_callback(self._acting.discard)

    async def _act(self, pod: Pod) -> None:
        meta = pod.metadata
        try:
            if meta.deletion_timestamp:
                await self._client.delete(PODS, meta.namespace, meta.name, grace_s=0, uid=meta.uid)
            elif not pod.ready:
                await self._start(pod)
        except (Conflict, ObjectNotFound):
            pass  # it has changed again: the watch will say

    async def _start(self, pod: Pod) -> None:
        self._addresses += 1
        node = await self._client.get(NODES, "", self._name, Node)
        address = f"{node.spec.pod_cidr.rpartition('.')[0]}.{self._addresses + 1}"
        ready: Json = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(datetime.now(UTC))}
        status: Json = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [ready],
        }
        meta = pod.metadata
        body: Json = {"metadata": {"uid": meta.uid}, "status": status}
        await self._client.patch(PODS, meta.namespace, meta.name, body, subresource="status")
