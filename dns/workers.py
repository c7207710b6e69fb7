"""Several processes on one port: a server, and workers that it tells what it hears of the cluster.

The kernel deals the queries out among the sockets of one port (SO_REUSEPORT), so each process has its own and
they share nothing. The server watches the API server alone; a worker is the same command with one end of a
socket pair in the place of the watch. A worker that ends is started again; a reload is told to all.

Source: socket(7) (SO_REUSEPORT).
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dns.deltas import Cluster, Frames, Kind, change, frame
from dns.feed import ClusterFeed
from kubenet.errors import TimedOut
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import Child, spawn
from kubenet.model.objects import EndpointSlice, KubeObject, Namespace, Pod, Service

log = logging.getLogger(__name__)

READY_LOOK_S = 0.02
AGAIN_S = 1.0  # until a worker that ended is started again
FIGURES_S = 2.0  # for a worker to tell its figures
MOST_WAITING_BYTES = 256 << 20  # a worker that hears nothing for so long is started anew
READ_BYTES = 1 << 16


class Hub:
    """All that has been told of all clusters, for workers that come later."""

    def __init__(self) -> None:
        self._told: dict[Cluster, dict[tuple[Kind, str], bytes]] = {}
        self._complete: set[Cluster] = set()
        self.listeners: list[Callable[[Cluster, bytes], None]] = []

    def tell(self, kind: Kind, cluster: Cluster, key: str, new: KubeObject | None) -> None:
        """An object is now ``new``."""
        told = self._told.setdefault(cluster, {})
        made = change(kind, cluster, key, new)
        if new is None:
            told.pop((kind, key), None)
        else:
            told[kind, key] = made
        self._pass_on(cluster, made)

    def complete(self, cluster: Cluster) -> None:
        """All objects of a cluster have been told."""
        self._complete.add(cluster)
        self._pass_on(cluster, frame(Kind.COMPLETE, cluster))

    def forget(self, wanted: set[Cluster]) -> None:
        """Only some clusters are of interest any more."""
        for gone in set(self._told) - wanted:
            del self._told[gone]
            self._complete.discard(gone)

    def so_far(self, cluster: Cluster) -> Sequence[bytes]:
        """Return the frames that tell a newcomer everything."""
        told = tuple(self._told.get(cluster, {}).values())
        return (*told, frame(Kind.COMPLETE, cluster)) if cluster in self._complete else told

    def _pass_on(self, cluster: Cluster, made: bytes) -> None:
        for listener in self.listeners:
            listener(cluster, made)


class ToldFeed(ClusterFeed):
    """A feed that passes on what it hears."""

    hub: Hub | None = None
    cluster: Cluster = b""

    def _pass_on(self, kind: Kind, key: str, new: KubeObject | None) -> None:
        if self.hub:
            self.hub.tell(kind, self.cluster, key, new)

    def service(self, key: str, new: Service | None) -> None:
        super().service(key, new)
        self._pass_on(Kind.SERVICE, key, new)

    def endpoint_slice(self, key: str, new: EndpointSlice | None) -> None:
        super().endpoint_slice(key, new)
        self._pass_on(Kind.SLICE, key, new)

    def namespace(self, key: str, new: Namespace | None) -> None:
        super().namespace(key, new)
        self._pass_on(Kind.NAMESPACE, key, new)

    def pod(self, key: str, new: Pod | None) -> None:
        super().pod(key, new)
        self._pass_on(Kind.POD, key, new)

    def complete(self) -> None:
        super().complete()
        if self.hub:
            self.hub.complete(self.cluster)


class Worker:
    """One worker process and the way to it."""

    def __init__(self, hub: Hub, child: Child, ours: socket.socket) -> None:
        self.child = child
        self.ready = asyncio.Event()
        self._hub = hub
        self._ours = ours
        self._follows: set[Cluster] = set()
        self._writer: asyncio.StreamWriter | None = None
        self._figures: asyncio.Future[str] | None = None

    async def serve(self) -> int:
        """Tell the worker what it wants to know until it ends; return its exit status."""
        reader, self._writer = await asyncio.open_connection(sock=self._ours)
        self._hub.listeners.append(self._tell)
        try:
            frames = Frames()
            while piece := await reader.read(READ_BYTES):
                for kind, cluster, content in frames.feed(piece):
                    self._heard(kind, cluster, content)
        except OSError:
            pass  # it has ended
        finally:
            self._hub.listeners.remove(self._tell)
            self._writer.close()
        return await self.child.exited()

    def _heard(self, kind: Kind, cluster: Cluster, content: bytes) -> None:
        if kind is Kind.FOLLOW and self._writer:
            self._follows.add(cluster)
            for made in self._hub.so_far(cluster):
                self._writer.write(made)
        elif kind is Kind.READY:
            self.ready.set()
        elif kind is Kind.FIGURES and self._figures and not self._figures.done():
            self._figures.set_result(content.decode())

    def _tell(self, cluster: Cluster, made: bytes) -> None:
        if self._writer is None or cluster not in self._follows:
            return
        self._writer.write(made)
        if self._writer.transport.get_write_buffer_size() > MOST_WAITING_BYTES:
            log.error("dns: worker %d does not listen; it is started anew", self.child.pid)
            self.child.signal(signal.SIGKILL)

    async def figures(self) -> str:
        """Return its page of metrics, nothing if it does not tell."""
        if self._writer is None:
            return ""
        self._figures = asyncio.get_running_loop().create_future()
        self._writer.write(frame(Kind.FIGURES))
        with suppress(TimeoutError):
            return await asyncio.wait_for(self._figures, FIGURES_S)
        return ""


class Workers:
    """The workers of one server. ``argv`` starts one when a descriptor is added to it."""

    def __init__(self, hub: Hub, argv: Sequence[str | Path], count: int, netns: NetNs | None) -> None:
        self.running: dict[int, Worker] = {}
        self._hub = hub
        self._argv = tuple(argv)
        self._netns = netns
        self._ending = False
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep(number)) for number in range(1, count + 1)]

    async def _keep(self, number: int) -> None:
        while not self._ending:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            with theirs:
                argv = [*self._argv, "--worker", str(number), "--worker-fd", str(theirs.fileno())]
                environment = dict(os.environ)
                child = spawn(argv, netns=self._netns, env=environment, stderr=2, pass_fds=(theirs.fileno(),))
            worker = self.running[number] = Worker(self._hub, child, ours)
            try:
                status = await worker.serve()
            finally:
                del self.running[number]
            if status == 0:
                return  # it has a successor, or was told to end
            if not self._ending:
                log.error("dns: worker %d ended; it is started again", number)
                await asyncio.sleep(AGAIN_S)

    @property
    def ready(self) -> bool:
        """Whether all of them answer."""
        running = self.running.values()
        return len(running) == len(self._tasks) and all(each.ready.is_set() for each in running)

    async def wait_ready(self, most_s: float) -> None:
        """Return when all of them answer. Raises TimedOut."""
        with suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                while not self.ready:
                    await asyncio.sleep(READY_LOOK_S)
                return
        raise TimedOut(f"dns: the workers do not answer after {most_s:g} s", "see what they say")

    def reload(self) -> None:
        """Have all of them look at the Corefile."""
        for worker in self.running.values():
            worker.child.signal(signal.SIGUSR1)

    def stop(self) -> None:
        """Have all of them end, in their own time."""
        self._ending = True
        for worker in self.running.values():
            worker.child.signal(signal.SIGTERM)

    async def figures(self) -> list[str]:
        """Return their pages of metrics."""
        return list(await asyncio.gather(*(worker.figures() for worker in self.running.values())))

    async def close(self, grace_s: float) -> None:
        """Wait for their end, and bring it about after ``grace_s``."""
        self.stop()
        await asyncio.wait(self._tasks, timeout=grace_s)
        for worker in list(self.running.values()):
            worker.child.signal(signal.SIGKILL)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
