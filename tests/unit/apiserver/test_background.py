"""What the server does on its own time: forgetting history and old Events."""

import asyncio
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network

import pytest

from kubenet.apiserver.addresses import ServiceAddresses
from kubenet.apiserver.cache import Cache
from kubenet.apiserver.entries import CacheLimits
from kubenet.apiserver.garbage import GarbageCollector
from kubenet.apiserver.kinds import EVENT, NAMESPACE
from kubenet.apiserver.query import WriteOptions
from kubenet.apiserver.retention import Retention, run_retention
from kubenet.apiserver.writes import Writer
from kubenet.clock import rfc3339
from kubenet.model.objects import Json
from kubenet.store.base import Gone
from kubenet.store.memory import MemoryStore


class SetClock:
    """A clock that stands until it is set; sleeping moves it on."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)
        self.slept = 0
        self.stop_after = 0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    async def sleep(self, delay_s: float) -> None:
        self.moment += timedelta(seconds=delay_s)
        self.slept += 1
        if self.slept == self.stop_after:
            raise asyncio.CancelledError


def test_the_store_forgets_what_is_old_and_keeps_the_rest() -> None:
    async def run() -> None:
        store, clock = MemoryStore(), SetClock()
        for index in range(30):
            await store.create(f"/{index}", b"")
        clock.stop_after = 8  # seconds 0 to 70, every 10; the store moves on after the fourth look
        rule = Retention(keep_s=30, keep_revisions=10, check_every_s=10)
        with pytest.raises(asyncio.CancelledError):
            await run_retention(store, clock, rule)
        with pytest.raises(Gone):
            await store.watch("/", 19).__anext__()
        assert len((await store.watch("/", 20).__anext__()).events) == 10

    asyncio.run(run())


def test_B3_16_events_go_an_hour_after_the_last_thing_that_happened() -> None:
    async def run() -> None:
        clock, store = SetClock(), MemoryStore()
        cache = Cache(store, CacheLimits())
        writer = Writer(store, cache, ServiceAddresses(IPv4Network("10.0.0.0/24")), clock)
        collector = GarbageCollector(cache, writer, clock)
        await cache.load()
        following = asyncio.create_task(cache.run())
        await writer.create(NAMESPACE, "", {"metadata": {"name": "default"}}, WriteOptions())
        again = rfc3339(clock.now() + timedelta(minutes=30))
        for name, last in (("once", ""), ("again", again)):
            event: Json = {"metadata": {"name": name}, "lastTimestamp": last}
            event["involvedObject"] = {"namespace": "default"}
            await writer.create(EVENT, "default", event, WriteOptions())
        left = []
        for _ in range(3):
            clock.moment += timedelta(minutes=40)
            await collector.expire_events()
            left.append(sorted(entry.meta.name for entry in cache.shelf(EVENT).entries.values()))
        assert left == [["again", "once"], ["again"], []]
        following.cancel()

    asyncio.run(run())
