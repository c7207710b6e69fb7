"""The contract of stores over a real etcd, and what only etcd can show: other keys, three members."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from kubenet.errors import AlreadyExists, InvalidInput
from kubenet.store.base import Gone, Store, StoreFailed
from kubenet.store.etcd import EtcdConfig, EtcdStore
from kubenet.store.feed import DEFAULT_LIMITS, FeedLimits
from kubenet.store.memory import MemoryStore
from kubenet.store.migrate import migrate
from tests.netns.store.etcd import Cluster, etcd, needs_etcd
from tests.unit.store.stores import Runner, read_until
from tests.unit.store.test_contract import *  # noqa: F403 - the contract's cases run here, too

pytestmark = [pytest.mark.netns, needs_etcd]

# What the contract's module has beside the cases for every store.
del test_a_closed_sqlite_store_refuses_instead_of_hanging  # noqa: F821


def _runner(cluster: Cluster, limits: FeedLimits = DEFAULT_LIMITS) -> Runner:
    def run(case: Callable[[Store], Awaitable[None]]) -> None:
        async def opened() -> None:
            store = await EtcdStore.open(EtcdConfig(cluster.endpoints), limits)
            try:
                await asyncio.wait_for(case(store), 30)
            finally:
                await store.close()

        asyncio.run(opened())

    return run


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with etcd() as running:
        yield running


@pytest.fixture  # type: ignore[no-redef]  # in place of the contract's own
def on_store(cluster: Cluster) -> Runner:
    return _runner(cluster)


@pytest.fixture  # type: ignore[no-redef]  # the same
def on_small_store(cluster: Cluster) -> Runner:
    return _runner(cluster, FeedLimits(events=3, size_bytes=1000))


def test_keys_of_others_in_the_same_etcd_hold_nothing_up(cluster: Cluster) -> None:
    async def case() -> None:
        ours = await EtcdStore.open(EtcdConfig(cluster.endpoints))
        other = await EtcdStore.open(EtcdConfig(cluster.endpoints, root="/else"))
        try:
            watch = ours.watch("/", 0)
            first = await ours.create("/a", b"")
            for index in range(20):
                await other.create(f"/{index}", b"")
            assert await asyncio.wait_for(ours.revision(), 5) == first
            second = await ours.create("/b", b"")
            assert second == first + 21
            assert [event.key for event in await read_until(watch, second)] == ["/a", "/b"]
            assert [record.key for record in (await ours.range("")).records] == ["/a", "/b"]
        finally:
            await ours.close()
            await other.close()

    asyncio.run(case())


def test_a_store_opened_later_has_everything(cluster: Cluster) -> None:
    async def case() -> None:
        store = await EtcdStore.open(EtcdConfig(cluster.endpoints))
        for index in range(700):
            await store.create(f"/{index:04}", b"x" * 100)
        await store.close()
        again = await EtcdStore.open(EtcdConfig(cluster.endpoints))
        try:
            assert len((await again.range("/")).records) == 700
            events = await read_until(again.watch("/", 10), 700)
            assert [event.revision for event in events] == list(range(11, 701))
        finally:
            await again.close()

    asyncio.run(case())


def test_migration_keeps_the_order_and_lets_no_revision_go_back(cluster: Cluster) -> None:
    async def case() -> None:
        source = MemoryStore()
        for index in range(50):
            await source.create(f"/registry/{index % 7}/{index}", str(index).encode())
        await source.update("/registry/0/0", b"newest", 1)
        await source.delete("/registry/1/1", 2)
        newest = await source.revision()
        target = await EtcdStore.open(EtcdConfig(cluster.endpoints))
        try:
            assert await migrate(source, target) == 49
            with pytest.raises(AlreadyExists):
                await migrate(source, target)
        finally:
            await target.close()
        again = await EtcdStore.open(EtcdConfig(cluster.endpoints))
        try:
            records = sorted((await again.range("")).records, key=lambda record: record.revision)
            before = sorted((await source.range("")).records, key=lambda record: record.revision)
            assert [(one.key, one.value) for one in records] == [(one.key, one.value) for one in before]
            assert records[0].revision > newest
            with pytest.raises(Gone):
                await again.watch("/", 5).__anext__()
            changed = await again.update(records[0].key, b"more", records[0].revision)
            assert changed == records[-1].revision + 1
        finally:
            await again.close()

    asyncio.run(case())


def test_F_a_cluster_of_three_loses_a_member_and_nobody_notices() -> None:
    """The member that the store talks to is killed twice, under load: every write is there once."""

    async def case(cluster: Cluster) -> None:
        store = await EtcdStore.open(EtcdConfig(cluster.endpoints))
        watch = store.watch("/", 0)
        written: dict[str, int] = {}

        async def write(worker: int) -> None:
            for index in range(60):
                key = f"/{worker}/{index}"
                written[key] = await store.create(key, key.encode())

        try:
            writing = asyncio.gather(*(write(worker) for worker in range(8)))
            while len(written) < 100:
                await asyncio.sleep(0.01)
            victim = cluster.members[store._current]
            await asyncio.to_thread(victim.kill)
            while len(written) < 250:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(victim.start, cluster.members, False)
            await asyncio.wait_for(writing, 60)
            newest = max(written.values())
            events = await asyncio.wait_for(read_until(watch, newest), 20)
            assert {event.key: event.revision for event in events} == written
            assert [event.revision for event in events] == sorted(written.values())
            assert len((await store.range("/")).records) == 480
        finally:
            await store.close()

    with etcd(members=3) as cluster:
        asyncio.run(case(cluster))


def test_an_etcd_that_is_not_there_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubenet.store.etcd.PATIENCE_S", 0.2)
    with pytest.raises(StoreFailed, match="UNAVAILABLE"):
        asyncio.run(EtcdStore.open(EtcdConfig(("http://127.0.0.1:1",))))
    for wrong in ((), ("nonsense",), ("ftp://127.0.0.1:1",)):
        with pytest.raises(InvalidInput):
            asyncio.run(EtcdStore.open(EtcdConfig(wrong)))
