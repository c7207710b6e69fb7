"""One pod on this node: one task that makes what runs equal to what the pod object says."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import msgspec

from kubenet.client.errors import Conflict, ObjectNotFound
from kubenet.client.recorder import EventRecorder
from kubenet.client.transport import ApiClient
from kubenet.clock import Clock, rfc3339
from kubenet.errors import KubenetError
from kubenet.model.events import EventType, occurrence
from kubenet.model.objects import Container, Json, Pod, Service
from kubenet.model.resources import PODS
from kubenet.node import record
from kubenet.node.cni_runtime import CniRuntime
from kubenet.node.config import NodeConfig
from kubenet.node.container import ContainerRunner
from kubenet.node.files import service_variables
from kubenet.node.images import ImageUnknown, argv_of
from kubenet.node.probe import probe_for_ever
from kubenet.node.record import ContainerRecord, PodRecord
from kubenet.node.sandbox import Sandbox
from kubenet.node.status import ContainerView, Waiting, pod_status

log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.1
RETRY_MOST_S = 10.0


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What all pods of a node share."""

    config: NodeConfig
    client: ApiClient
    network: CniRuntime
    services: Callable[[], Iterable[Service]]
    clock: Clock
    events: EventRecorder


class PodWorker:
    """Runs one pod, from its sandbox to its end. ``run`` ends when nothing of the pod is left."""

    def __init__(self, parts: NodeParts, pod: Pod, found: PodRecord | None = None) -> None:
        self._parts = parts
        self._pod = pod
        self._sandbox = Sandbox(parts.config, parts.network, pod)
        self._addresses = found.addresses if found else ()
        self._forgotten = False  # the object is gone from the API
        self._ending = False
        self._wake = asyncio.Event()
        self._problem = Waiting()
        self._sent: Json = {}
        self._failures = 0
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._runners = [self._runner(container) for container in pod.spec.containers]
        self._adopt(found.containers if found and found.addresses else {})

    def update(self, pod: Pod | None) -> None:
        """Take in a newer pod object; None means that there is none any more."""
        if pod is None:
            self._forgotten = True
        else:
            self._pod = pod
        self._wake.set()

    async def run(self) -> None:
        """Keep the pod as it shall be until it shall not be."""
        try:
            while not self._shall_end():
                await self._retried(self._sync())
                await self._sleep()
            while not await self._retried(self._end()):
                await asyncio.sleep(self._retry_s())
        finally:
            for probe in self._probes.values():
                probe.cancel()
            for runner in self._runners:
                runner.close()

    def _runner(self, container: Container) -> ContainerRunner:
        parts, pod = self._parts, self._pod
        log_path = parts.config.log_path(pod.metadata.uid, container.name)
        return ContainerRunner(container, pod.spec.restart_policy, parts.clock, self._wake.set, log_path)

    def _adopt(self, containers: dict[str, ContainerRecord]) -> None:
        for runner in self._runners:
            if (found := containers.get(runner.container.name)) is not None:
                runner.adopt(found)

    def _shall_end(self) -> bool:
        return self._forgotten or self._pod.metadata.deletion_timestamp is not None

    async def _sync(self) -> None:
        if not self._addresses:
            await self._report()
            self._addresses = await asyncio.to_thread(self._sandbox.create)
        for runner in self._runners:
            if runner.due_s is not None and runner.due_s <= self._parts.clock.monotonic():
                await self._start(runner)
        self._keep_probes()
        self._write_record()
        await self._report()

    async def _start(self, runner: ContainerRunner) -> None:
        meta, container = self._pod.metadata, runner.container
        try:
            argv = argv_of(container, self._parts.config.images)
        except ImageUnknown as error:
            runner.fail("ErrImagePull", error)
            self._tell("Failed", error.message, EventType.WARNING)
            return
        linked = () if self._pod.spec.enable_service_links is False else self._parts.services()
        variables = service_variables(linked, meta.namespace)
        environment = variables | {each.name: each.value for each in container.env}
        await runner.start(lambda: self._sandbox.start(argv, environment, runner.log_path))
        if runner.running:
            self._tell("Started", f"Started container {container.name}")

    def _tell(self, reason: str, message: str, type: EventType = EventType.NORMAL) -> None:
        self._parts.events.record(occurrence(PODS, self._pod, reason, message, type))

    def _keep_probes(self) -> None:
        for runner in self._runners:
            name = runner.container.name
            if runner.container.readiness_probe is None or (name in self._probes) == runner.running:
                continue
            if runner.running:
                self._probes[name] = asyncio.ensure_future(self._probe(runner))
            else:
                self._probes.pop(name).cancel()

    async def _probe(self, runner: ContainerRunner) -> None:
        def changed(ready: bool) -> None:
            runner.ready = ready
            self._wake.set()

        await probe_for_ever(self._parts.config.netns, self._addresses[0], runner.container, changed)

    def _write_record(self) -> None:
        meta = self._pod.metadata
        containers = {r.container.name: found for r in self._runners if (found := r.record()) is not None}
        kept = PodRecord(meta.namespace, meta.name, meta.uid, self._addresses, containers)
        record.write(self._parts.config.pod_dir(meta.uid), kept)

    def _views(self) -> list[ContainerView]:
        if self._addresses:
            return [runner.view() for runner in self._runners]
        return [ContainerView(r.container.name, r.container.image, self._problem) for r in self._runners]

    async def _report(self) -> None:
        """Send the status if it says something new."""
        now = rfc3339(self._parts.clock.now())
        host_ip = str(self._parts.config.node_ip)
        status = pod_status(self._pod, self._views(), self._addresses, host_ip, now)
        meta = self._pod.metadata
        if status == self._sent or self._forgotten:
            return
        body: Json = {"metadata": {"uid": meta.uid}, "status": status}
        try:
            stored = await self._parts.client.patch(
                PODS, meta.namespace, meta.name, body, subresource="status"
            )
        except (ObjectNotFound, Conflict):
            return  # the pod is gone, or another one has its name: the watch will tell
        self._sent = status
        newer = msgspec.json.decode(stored, type=Pod)
        if newer.metadata.deletion_timestamp is None or not self._shall_end():
            self._pod = newer

    async def _end(self) -> None:
        """Stop the pod and remove it from the node and from the API.

        Raises KubenetError; done again, it goes on.
        """
        meta = self._pod.metadata
        grace_s = 0 if self._forgotten else meta.deletion_grace_period_seconds or 0
        for probe in self._probes.values():
            probe.cancel()
        if not self._ending:
            self._ending = True
            self._tell("Killing", "Stopping containers " + ", ".join(r.container.name for r in self._runners))
        await self._report()  # not ready from here on: the endpoints let go of the pod while it still answers
        await asyncio.gather(*(runner.stop(grace_s) for runner in self._runners))
        await asyncio.to_thread(self._sandbox.destroy)
        try:
            await self._parts.client.delete(PODS, meta.namespace, meta.name, grace_s=0, uid=meta.uid)
        except (ObjectNotFound, Conflict):
            pass  # somebody was faster

    async def _retried(self, act: Awaitable[None]) -> bool:
        """Return whether ``act`` succeeded; a failure is said in the pod's status and tried again."""
        try:
            await act
        except KubenetError as error:
            self._failures += 1
            self._problem = Waiting("ContainerCreating", error.message)
            log.warning("pod %s: try %d: %s", self._pod.metadata.key, self._failures, error)
            reason = "FailedKillPod" if self._shall_end() else "FailedCreatePodSandBox"
            self._tell(reason, error.message, EventType.WARNING)
            return False
        self._failures = 0
        return True

    def _retry_s(self) -> float:
        return float(min(RETRY_MOST_S, RETRY_FIRST_S * 2 ** min(self._failures, 10)))

    async def _sleep(self) -> None:
        """Wait until something has happened, a container is due, or a failure is to be tried again."""
        now_s = self._parts.clock.monotonic()
        waits = [max(0.0, r.due_s - now_s) for r in self._runners if r.due_s is not None and self._addresses]
        if self._failures:
            waits.append(self._retry_s())
        try:
            async with asyncio.timeout(min(waits, default=None)):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
