"""The whole proxy of a node, fed by watches: what an event costs until it is in the kernel; what it holds."""

import asyncio
import resource
import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.proxying.addresses import pod
from bench.proxying.feed import Feed
from bench.proxying.tables import NETWORK
from kubenet.cli.proxy_run import collect_garbage_seldom, settle_memory
from kubenet.kernel.netns import NetNs
from kubenet.reconcile import Pace, Reconciler
from proxy.apply_stale import FlowKeeper, KernelFlows
from proxy.backend import ProxyMode
from proxy.backends import open_backend
from proxy.family import FamilySync
from proxy.policy import Locality
from proxy.source import ApiSource, SourceChange
from proxy.sync import ProxySync
from proxy.track import TrackRules

_WARM_UP = 20


class Daemon:
    """A proxy without servers, in nftables mode, loaded with ``count`` Services. Use it as a context."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._feed = Feed(count)
        self._netns = NetNs.unnamed()
        self._family = FamilySync(
            TrackRules(service_cidrs=NETWORK.service_cidrs),
            Locality("here"),
            open_backend(ProxyMode.NFTABLES, self._netns, NETWORK),
            FlowKeeper(KernelFlows(self._netns, 4)),
        )
        self._source = ApiSource(self._feed, "here")
        self._syncer = ProxySync([self._family], self._source.look, check_s=3600)
        self._synced = asyncio.Event()
        self._reconciler = Reconciler("bench", self._sync, Pace(min_interval_s=0.0))
        self._source.on_change(self._changed)
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = 0
        self.load_cpu_ms = 0.0

    async def __aenter__(self) -> Self:
        collect_garbage_seldom()  # as the command does, and settles below
        before_s = time.process_time()
        self._tasks.append(asyncio.create_task(self._source.run()))
        await self._source.wait_synced()
        self._tasks.append(asyncio.create_task(self._reconciler.run()))
        await self._after(self._reconciler.poke)
        self.load_cpu_ms = (time.process_time() - before_s - self._feed.making_s) * 1000
        settle_memory()
        for _ in range(_WARM_UP):
            await self.change_ms()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._family.backend.close()
        self._netns.close()

    async def change_ms(self) -> float:
        """Return how long it takes from reading one event to its having been committed."""
        self._turn += 1
        at = self._turn * 7919 % self._count
        line = self._feed.change(at, pod(200_000 + self._turn))
        start = time.perf_counter()
        await self._after(lambda: self._feed.send(line))
        return (time.perf_counter() - start) * 1000

    async def burst_ms(self, many: int) -> float:
        """Return how long it takes from reading the first of ``many`` events until all are committed."""
        self._turn += 1
        second = [IPv4Address(int(pod(300_000)) + self._turn * many + at) for at in range(many)]
        lines = [self._feed.change(at, ip) for at, ip in enumerate(second)]

        def send() -> None:
            for line in lines:
                self._feed.send(line)

        start = time.perf_counter()
        await self._after(send)
        return (time.perf_counter() - start) * 1000

    def _changed(self, change: SourceChange) -> None:
        self._syncer.changed(change.keys)
        self._reconciler.poke()

    async def _sync(self) -> None:
        await self._syncer.sync()
        self._synced.set()

    async def _after(self, act: Callable[[], None]) -> None:
        self._synced.clear()
        act()
        await self._synced.wait()


async def loaded(count: int) -> Mapping[str, float]:
    """Return what a daemon with ``count`` Services took and holds. For a process of its own."""
    async with Daemon(count) as daemon:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        rss_mb = pages * resource.getpagesize() / (1 << 20)
        return {"cpu_ms": daemon.load_cpu_ms, "rss_mb": rss_mb}
