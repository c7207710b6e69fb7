"""What only a store on disk promises."""

import asyncio
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kubenet.errors import AlreadyExists, InvalidInput
from kubenet.store.base import Gone, Store, StoreFailed
from kubenet.store.sqlite import SqliteStore
from tests.unit.store.stores import opened, read_until, run_case

REPOSITORY = Path(__file__).parents[3]


def test_B5_10_a_watch_resumes_over_a_restart(tmp_path: Path) -> None:
    async def before(store: Store) -> None:
        for index in range(5):
            await store.create(f"/{index}", str(index).encode())

    async def after(store: Store) -> None:
        assert await store.revision() == 5
        watch = store.watch("/", 2)
        await store.create("/new", b"")
        assert [event.revision for event in await read_until(watch, 6)] == [3, 4, 5, 6]

    run_case("sqlite", tmp_path / "s.db", before)
    run_case("sqlite", tmp_path / "s.db", after)


def test_revisions_go_on_when_the_newest_change_was_a_deletion_that_is_compacted(tmp_path: Path) -> None:
    async def before(store: Store) -> None:
        await store.create("/a", b"")
        await store.delete("/a", 1)
        await store.compact(2)

    async def after(store: Store) -> None:
        assert await store.revision() == 2
        assert (await store.range("/")).revision == 2
        with pytest.raises(Gone):
            await store.watch("/", 1).__anext__()
        assert await store.create("/b", b"") == 3

    run_case("sqlite", tmp_path / "s.db", before)
    run_case("sqlite", tmp_path / "s.db", after)


def test_compaction_keeps_one_row_a_live_key(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    async def case(store: Store) -> None:
        await store.create("/lease", b"x" * 100)
        for revision in range(1, 601):
            await store.update("/lease", b"x" * 100, revision)
        await store.compact(601)

    run_case("sqlite", path, case)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM log").fetchone() == (1,)


def test_compaction_keeps_nothing_of_a_key_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"

    async def case(store: Store) -> None:
        await store.create("/a", b"")
        await store.delete("/a", 1)
        await store.create("/b", b"")
        await store.compact(2)

    run_case("sqlite", path, case)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT key FROM log").fetchall() == [("/b",)]


def test_writes_go_on_between_the_slices_of_a_compaction(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        await asyncio.gather(*(store.create(f"/{index}", b"") for index in range(3000)))
        compaction = asyncio.ensure_future(store.compact(3000))
        await asyncio.gather(*(store.create(f"/during/{index}", b"") for index in range(50)))
        await compaction
        assert await store.revision() == 3050

    run_case("sqlite", tmp_path / "s.db", case)


def test_a_store_that_is_open_is_refused_a_second_time(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        with pytest.raises(AlreadyExists, match="another process has this store open"):
            await SqliteStore.open(tmp_path / "s.db")

    run_case("sqlite", tmp_path / "s.db", case)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"this is no database at all, but a long enough text" * 40, id="another kind of file"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 4000, id="a damaged database"),
    ],
)
def test_a_file_that_is_no_store_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"s\.db: not a store"):
        asyncio.run(_open(path))
    assert path.read_bytes() == content


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    asyncio.run(_open(path))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE meta SET number = 99 WHERE name = 'schema'")
    with pytest.raises(InvalidInput, match="schema version 99"):
        asyncio.run(_open(path))


def test_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file or directory"):
        asyncio.run(_open(tmp_path / "missing" / "s.db"))


async def _open(path: Path) -> None:
    async with opened("sqlite", path):
        pass


def test_A7_a_full_disk_fails_writes_only_and_only_while_it_lasts(tmp_path: Path) -> None:
    async def case(store: Store) -> None:
        await store.create("/before", b"1")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        written = max(file.stat().st_size for file in tmp_path.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (written + 4096, hard))
        try:
            with pytest.raises(StoreFailed, match="cannot write"):
                await asyncio.gather(*(store.create(f"/during/{index}", b"x" * 4096) for index in range(9)))
            record = await store.get("/before")
            assert record is not None
            assert record.value == b"1"
            reached = await store.revision()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert await store.create("/after", b"2") == reached + 1
        assert len((await store.range("/")).records) == reached + 1

    run_case("sqlite", tmp_path / "s.db", case)


WRITER = """
import asyncio, sys
from pathlib import Path
from kubenet.store.sqlite import SqliteStore

async def write(store, writer):
    revision, number = 0, 0
    while True:
        number += 1
        value = b"%d" % number
        key = f"/{writer}"
        revision = await (store.update(key, value, revision) if revision else store.create(key, value))
        print(writer, number, revision, flush=True)

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    await asyncio.gather(*(write(store, writer) for writer in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("attempt", range(2))
def test_A1_kill_9_loses_no_acknowledged_write(tmp_path: Path, attempt: int) -> None:
    path = tmp_path / "s.db"
    acknowledged = _killed_writer(path, acknowledgements=random.randrange(1, 300))

    async def case(store: Store) -> None:
        newest = 0
        for writer, (number, revision) in acknowledged.items():
            record = await store.get(f"/{writer}")
            assert record is not None, writer
            assert (int(record.value), record.revision) >= (number, revision)
            newest = max(newest, revision)
        reached = await store.revision()
        assert reached >= newest
        events = await read_until(store.watch("/", 0), reached)
        assert [event.revision for event in events] == list(range(1, reached + 1))
        assert await store.create("/new", b"") == reached + 1

    run_case("sqlite", path, case)


def _killed_writer(path: Path, acknowledgements: int) -> dict[str, tuple[int, int]]:
    """Kill a process that writes, after some acknowledgements; return the newest of each of its writers."""
    acknowledged: dict[str, tuple[int, int]] = {}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout is not None
        for _ in range(acknowledgements):
            writer, number, revision = process.stdout.readline().split()
            acknowledged[writer] = (int(number), int(revision))
        process.send_signal(signal.SIGKILL)
        for line in process.stdout.readlines():
            if len(parts := line.split()) == 3 and line.endswith("\n"):
                acknowledged[parts[0]] = (int(parts[1]), int(parts[2]))
    return acknowledged
