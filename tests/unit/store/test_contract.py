"""What every store promises, on every store."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from kubenet.store.base import Gone, KeyTaken, RevisionMismatch, Store, StoreFailed
from kubenet.store.feed import FeedLimits
from tests.unit.store.stores import STORES, Runner, read_until, run_case


@pytest.fixture(params=STORES)
def on_store(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    return lambda case: run_case(request.param, tmp_path / "store.db", case)


@pytest.fixture(params=STORES)
def on_small_store(request: pytest.FixtureRequest, tmp_path: Path) -> Runner:
    """A store whose watchers may leave three changes or 1000 bytes unread."""
    limits = FeedLimits(events=3, size_bytes=1000)
    return lambda case: run_case(request.param, tmp_path / "store.db", case, limits)


def test_every_write_gets_the_next_revision_and_a_refused_one_gets_none(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        assert await store.create("/a", b"1") == 1
        with pytest.raises(KeyTaken):
            await store.create("/a", b"2")
        assert await store.update("/a", b"2", 1) == 2
        with pytest.raises(RevisionMismatch) as stale:
            await store.update("/a", b"3", 1)
        assert stale.value.have == 2
        with pytest.raises(RevisionMismatch):
            await store.delete("/a", 1)
        assert await store.delete("/a", 2) == 3
        assert await store.create("/a", b"4") == 4
        assert await store.revision() == 4

    on_store(case)


def test_a_missing_key_can_be_neither_updated_nor_deleted(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        with pytest.raises(RevisionMismatch) as missing:
            await store.update("/a", b"1", 7)
        assert missing.value.have == 0
        with pytest.raises(RevisionMismatch):
            await store.delete("/a", 7)
        assert await store.get("/a") is None
        assert await store.revision() == 0

    on_store(case)


def test_a_record_is_read_as_it_was_written(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        value = bytes(range(256)) * 20
        revision = await store.create("/name with ünicode/and \0", value)
        record = await store.get("/name with ünicode/and \0")
        assert record is not None
        assert (record.value, record.revision) == (value, revision)

    on_store(case)


def test_a_range_holds_the_keys_below_its_prefix_in_order(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        for key in ("/pods/b", "/podsx/a", "/pods/a", "/pod/a", "/pods/ä", "/pods/a/b", "/pods0"):
            await store.create(key, key.encode())
        page = await store.range("/pods/")
        assert [record.key for record in page.records] == ["/pods/a", "/pods/a/b", "/pods/b", "/pods/ä"]
        assert page.records[0].value == b"/pods/a"
        assert (page.revision, page.more) == (7, False)
        assert (await store.range("/none/")).records == ()
        assert len((await store.range("")).records) == 7

    on_store(case)


def test_a_range_is_read_in_pages(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        for index in range(5):
            await store.create(f"/k/{index}", b"")
        first = await store.range("/k/", limit=2)
        assert ([record.key for record in first.records], first.more) == (["/k/0", "/k/1"], True)
        rest = await store.range("/k/", limit=3, start="/k/2")
        assert ([record.key for record in rest.records], rest.more) == (["/k/2", "/k/3", "/k/4"], False)

    on_store(case)


def test_a_watch_replays_what_was_and_goes_on_with_what_comes(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        await store.create("/a", b"1")
        await store.create("/b", b"1")
        watch = store.watch("/", 1)
        await store.update("/a", b"2", 1)
        await store.delete("/b", 2)
        events = await read_until(watch, 4)
        assert [(event.revision, event.key, event.value) for event in events] == [
            (2, "/b", b"1"),
            (3, "/a", b"2"),
            (4, "/b", None),
        ]
        assert [event.before.value if event.before else None for event in events] == [None, b"1", b"1"]
        assert [event.before.revision if event.before else 0 for event in events] == [0, 1, 2]

    on_store(case)


def test_a_watch_sees_its_own_prefix_only(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        await store.create("/a/1", b"")
        await store.create("/b/1", b"")
        watch = store.watch("/a/", 0)
        await store.create("/b/2", b"")
        await store.create("/a/2", b"")
        assert [event.key for event in await read_until(watch, 4)] == ["/a/1", "/a/2"]

    on_store(case)


def test_a_watch_from_the_future_waits_for_it(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        watch = store.watch("/", 2)
        for index in range(3):
            await store.create(f"/{index}", b"")
        assert [event.revision for event in await read_until(watch, 3)] == [3]

    on_store(case)


def test_a_long_replay_comes_in_pages_and_misses_nothing_written_meanwhile(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        await asyncio.gather(*(store.create(f"/{index}", b"") for index in range(1200)))
        watch = store.watch("/", 0)
        first = await watch.__anext__()
        assert len(first.events) == 500
        await store.create("/late", b"")
        rest = await read_until(watch, 1201)
        assert [event.revision for event in (*first.events, *rest)] == list(range(1, 1202))

    on_store(case)


def test_watching_below_the_compacted_revision_is_refused(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        revision = 0
        for index in range(5):
            revision = await store.create(f"/{index}", b"")
        await store.compact(3)
        with pytest.raises(Gone):
            await store.watch("/", 2).__anext__()
        events = await read_until(store.watch("/", 3), revision)
        assert [event.revision for event in events] == [4, 5]

    on_store(case)


def test_a_change_after_compaction_still_tells_what_it_replaced(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        await store.create("/old", b"first")
        for index in range(4):
            await store.create(f"/{index}", b"")
        await store.compact(5)
        await store.update("/old", b"second", 1)
        events = await read_until(store.watch("/", 5), 6)
        assert events[0].before is not None
        assert (events[0].before.value, events[0].before.revision) == (b"first", 1)

    on_store(case)


def test_compaction_keeps_every_present_record(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        await store.create("/kept", b"1")
        await store.create("/changed", b"1")
        await store.update("/changed", b"2", 2)
        await store.create("/gone", b"1")
        await store.delete("/gone", 4)
        await store.compact(99)  # no further than what exists
        page = await store.range("/")
        assert [(r.key, r.value, r.revision) for r in page.records] == [
            ("/changed", b"2", 3),
            ("/kept", b"1", 1),
        ]
        assert page.revision == 5
        assert await store.create("/next", b"") == 6

    on_store(case)


def test_compacting_less_than_before_changes_nothing(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        for index in range(5):
            await store.create(f"/{index}", b"")
        await store.compact(4)
        await store.compact(2)
        with pytest.raises(Gone):
            await store.watch("/", 3).__anext__()
        assert len(await read_until(store.watch("/", 4), 5)) == 1

    on_store(case)


@pytest.mark.parametrize(
    "value",
    [pytest.param(b"", id="too many changes"), pytest.param(b"x" * 600, id="too many bytes")],
)
def test_B5_8_a_slow_watcher_is_cut_and_delays_nobody(on_small_store: Runner, value: bytes) -> None:
    async def case(store: Store) -> None:
        slow, quick = store.watch("/", 0), store.watch("/", 0)
        for index in range(4):
            await store.create(f"/{index}", value)
            await read_until(quick, index + 1)
        with pytest.raises(Gone):
            await slow.__anext__()
        with pytest.raises(Gone):
            await slow.__anext__()

    on_small_store(case)


def test_closing_the_store_ends_a_watch_that_waits(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        watch = store.watch("/", 0)
        waiting = asyncio.ensure_future(watch.__anext__())
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(Gone):
            await waiting

    on_store(case)


def test_a_closed_watch_gets_nothing_more(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        watch = store.watch("/", 0)
        watch.close()
        await store.create("/a", b"")
        with pytest.raises(Gone):
            await watch.__anext__()

    on_store(case)


def test_of_many_who_expect_the_same_revision_one_succeeds(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        revision = await store.create("/a", b"")
        tries = (store.update("/a", str(index).encode(), revision) for index in range(50))
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["RevisionMismatch"] * 49 + ["int"]
        record = await store.get("/a")
        assert record is not None
        assert record.value == str(next(i for i, o in enumerate(outcomes) if isinstance(o, int))).encode()

    on_store(case)


def test_many_writers_at_once_leave_no_gap(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        watch = store.watch("/", 0)
        revisions = await asyncio.gather(*(store.create(f"/{index}", b"") for index in range(300)))
        assert sorted(revisions) == list(range(1, 301))
        assert [event.revision for event in await read_until(watch, 300)] == list(range(1, 301))

    on_store(case)


def test_a_watcher_knows_a_write_before_its_writer_does(on_store: Runner) -> None:
    async def case(store: Store) -> None:
        watch = store.watch("/", 0)
        revision = await store.create("/a", b"")
        batch = await asyncio.wait_for(watch.__anext__(), 0.001)
        assert batch.revision == revision

    on_store(case)


def test_a_closed_sqlite_store_refuses_instead_of_hanging(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        await store.close()
        attempts: tuple[Callable[[], object], ...] = (
            lambda: store.create("/a", b""),
            lambda: store.get("/a"),
            lambda: store.compact(1),
        )
        for attempt in attempts:
            with pytest.raises(StoreFailed):
                await attempt()  # type: ignore[misc]  # each returns a coroutine of its own type

    run_case("sqlite", tmp_path / "store.db", case)
