"""The scheduler at work: watches pods and nodes, decides, binds.

One pod is decided at a time, each on a snapshot that holds all earlier decisions; the writes that follow go
out side by side. A refused binding costs nothing but a second decision: the watch, not the refusal, says what
has become of the pod.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import replace

from kubenet.client.cache import Change
from kubenet.client.errors import Conflict, ObjectNotFound
from kubenet.client.informer import Informer
from kubenet.client.recorder import EventRecorder
from kubenet.client.transport import ApiClient
from kubenet.client.writer import Writer
from kubenet.clock import Clock, SystemClock, rfc3339
from kubenet.errors import InvalidInput, KubenetError
from kubenet.model.objects import Node, Pod
from kubenet.model.resources import NODES, PODS
from kubenet.model.writes import Write
from kubenet.scheduler.answers import binding, outcome, unschedulable
from kubenet.scheduler.cluster import Cluster
from kubenet.scheduler.queue import SchedulingQueue
from kubenet.scheduler.select import Chosen, Nowhere, choose
from kubenet.scheduler.tailor import tailored
from kubenet.scheduler.views import NodeView, PodView, node_view, pod_view, takes_room, waits_for_a_node

log = logging.getLogger(__name__)

# Writes under way at once: enough that the server's group commit has a group, few enough for its queue.
MOST_WRITES = 16


async def run_scheduler(client: ApiClient, *, ready: asyncio.Event | None = None) -> None:
    """Put every pod that has no node on one, for ever; sets ``ready`` when it serves."""
    scheduler = Scheduler(SystemClock(), random.random)
    pods, nodes = Informer(client, PODS, Pod), Informer(client, NODES, Node)
    pods.on_change(scheduler.pod_changed)
    nodes.on_change(scheduler.node_changed)
    writer = Writer(client)
    recorder = EventRecorder(client, "kubenet-scheduler")
    free = asyncio.Semaphore(MOST_WRITES)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(recorder.run())
        tasks.create_task(pods.run())
        tasks.create_task(nodes.run())
        await pods.wait_synced()
        await nodes.wait_synced()
        if ready is not None:
            ready.set()
        while True:
            await free.acquire()
            pod, write = await scheduler.next_write()
            carrying = tasks.create_task(_carry_out(scheduler, writer, recorder, pod, write))
            carrying.add_done_callback(lambda _: free.release())


async def _carry_out(
    scheduler: "Scheduler", writer: Writer, recorder: EventRecorder, pod: Pod, write: Write
) -> None:
    try:
        await writer.carry_out((write,))
    except KubenetError as error:
        scheduler.failed(pod, error)
    else:
        recorder.record(outcome(pod, write))


class Scheduler:
    """Changes go in, writes come out; what it knows changes only between two awaits."""

    def __init__(self, clock: Clock, tie: Callable[[], float]) -> None:
        self._clock = clock
        self._tie = tie
        self._cluster = Cluster()
        self._queue = SchedulingQueue()
        self._waiting: dict[str, tuple[Pod, PodView]] = {}  # pods without a node, by key
        self._lonely: set[str] = set()  # those of them that one pod more somewhere may help
        self._start = 0  # where the next search begins
        self._poked = asyncio.Event()

    def pod_changed(self, change: Change[Pod]) -> None:
        """Take in what the watch says of a pod."""
        old, new = change.old, change.new
        freed = False
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            freed = self._cluster.remove(old.metadata.uid)
        if new is None or not waits_for_a_node(new):
            self._drop(change.key)
        if new is not None:
            freed = self._pod_is(new) or freed
        if freed:
            self._queue.wake()
        self._poked.set()

    def node_changed(self, change: Change[Node]) -> None:
        """Take in what the watch says of a node."""
        view = _node_view(change.new) if change.new else None
        if view is None:
            self._cluster.remove_node(change.key)
        elif self._cluster.put_node(view):
            self._queue.wake()
            self._poked.set()

    async def next_write(self) -> tuple[Pod, Write]:
        """Decide on pod after pod until a decision has to be written down; return that."""
        while True:
            decided = self.decide_next()
            if decided is None:
                await self._wait()
                continue
            pod, write = decided
            if write is not None:
                return pod, write
            await asyncio.sleep(0)  # many pods that fit nowhere must not keep the loop from everybody else

    def decide_next(self) -> tuple[Pod, Write | None] | None:
        """Decide on the oldest pod that is ready, if there is one; what to write may be nothing."""
        key = self._queue.take(self._clock.monotonic())
        if key is None:
            return None
        pod, view = self._waiting[key]
        return pod, self._decide(pod, view)

    def failed(self, pod: Pod, error: KubenetError) -> None:
        """Take in that a write did not succeed: what was assumed is forgotten, and the pod decided anew."""
        meta = pod.metadata
        if self._cluster.forget(meta.uid):
            self._queue.wake()
        waiting = self._waiting.get(meta.key)
        still = waiting is not None and waiting[0].metadata.uid == meta.uid
        delay_s = self._queue.retry(meta.key, self._clock.monotonic()) if still else None
        expected = isinstance(error, Conflict | ObjectNotFound)  # somebody else was faster
        next_step = "it is gone or has a node" if delay_s is None else f"again in {delay_s:.1f} s"
        log.log(logging.DEBUG if expected else logging.WARNING, "pod %s: %s; %s", meta.key, error, next_step)
        self._poked.set()

    def _pod_is(self, pod: Pod) -> bool:
        """Return whether the pod's present state may help others."""
        uid, key = pod.metadata.uid, pod.metadata.key
        try:
            view = pod_view(pod)
        except InvalidInput as error:
            log.warning("pod %s: ignored: %s", key, error)
            self._drop(key)
            return False
        if takes_room(pod):
            known = self._cluster.knows(uid)
            return self._cluster.place(view) or (not known and bool(self._lonely))
        if not waits_for_a_node(pod):
            return self._cluster.remove(uid)
        before = self._waiting.get(key)
        self._waiting[key] = (pod, view)
        if view.needs_company:
            self._lonely.add(key)
        # What we write into its status comes back as a change; that is no reason to try again.
        if (before is None or before[1] != view) and not self._cluster.is_assumed(uid):
            self._queue.add(key, view.created)
        return False

    def _drop(self, key: str) -> None:
        self._waiting.pop(key, None)
        self._lonely.discard(key)
        self._queue.remove(key)

    def _decide(self, pod: Pod, view: PodView) -> Write | None:
        nodes = self._cluster.snapshot()
        profile = tailored(view, nodes, repelled=self._cluster.repels)
        decision = choose(view, nodes, self._start, self._tie(), profile)
        if nodes:
            self._start = (self._start + decision.examined) % len(nodes)
        match decision:
            case Chosen(node_name=node_name):
                self._cluster.assume(replace(view, node_name=node_name))
                if self._lonely:
                    self._queue.wake()
                log.info("pod %s goes to %s (best of %d)", view.key, node_name, decision.feasible)
                return binding(pod, node_name)
            case Nowhere(message=message):
                self._queue.park(view.key)
                write = unschedulable(pod, message, rfc3339(self._clock.now()))
                if write is not None:
                    log.info("pod %s: %s", view.key, message)
                return write

    async def _wait(self) -> None:
        """Return when something has changed, or a delayed pod is due."""
        self._poked.clear()
        due_s = self._queue.next_due_s()
        timeout_s = None if due_s is None else max(0.0, due_s - self._clock.monotonic())
        try:
            async with asyncio.timeout(timeout_s):
                await self._poked.wait()
        except TimeoutError:
            return


def _node_view(node: Node) -> NodeView | None:
    """Return None for a node that says what cannot be understood: no pod goes there."""
    try:
        return node_view(node)
    except InvalidInput as error:
        log.warning("node %s: ignored: %s", node.metadata.name, error)
        return None
