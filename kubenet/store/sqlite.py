"""A store in one SQLite file: durable before it answers, and quick because waiting writers share a commit.

One thread owns the only writing connection. It takes whatever writes have queued up while the previous commit
was being synced, decides them one by one inside one transaction, commits, and hands the result to the event
loop: first the batch to all watchers, then the answers. ``synchronous=FULL`` costs one sync a commit; with 16
writers waiting it is no slower than not syncing each write (measured: 3,500 writes/s against 3,000).
Compaction runs in the same thread, between commits and in small slices, so it never locks anyone out. The
tables are in ``sqlite_tables``.
"""

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kubenet.errors import AlreadyExists, InvalidInput, KubenetError
from kubenet.store.base import Batch, Event, Page, Record, StoreFailed, Write
from kubenet.store.feed import DEFAULT_LIMITS, Feed, FeedLimits, Feeds
from kubenet.store.sqlite_tables import (
    Outcome,
    WritingSide,
    connected,
    read_one,
    read_range,
    read_replay,
)

COMMIT_MOST = 128  # writes in one transaction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Pending:
    """A write that waits for its commit."""

    write: Write
    answer: asyncio.Future[int]


@dataclass(frozen=True, slots=True)
class _Compaction:
    """A compaction that waits for its turn."""

    revision: int
    answer: asyncio.Future[None]


class _Stop:
    """What ends the writer thread."""


_Work = _Pending | _Compaction | _Stop


class SqliteStore:
    """See ``kubenet.store.base.Store``; made by ``open``."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop, limits: FeedLimits) -> None:
        self._path = path
        self._loop = loop
        self._limits = limits
        self._feeds = Feeds()
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._lock_fd = _locked(path)
        try:
            self._log = WritingSide(path)
            self._reading = connected(path)
        except sqlite3.Error as error:
            os.close(self._lock_fd)
            raise _unusable(path, error) from error
        self._revision = self._log.revision
        self._closed = False
        self._writer = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, path: Path, limits: FeedLimits = DEFAULT_LIMITS) -> "SqliteStore":
        """Return the store in ``path``, made if it is missing.

        Raises AlreadyExists if another process has it open, InvalidInput if the file is no store.
        """
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(cls, path, loop, limits)

    # called from the loop

    async def create(self, key: str, value: bytes) -> int:
        return await self._submitted(Write(key, value, 0))

    async def update(self, key: str, value: bytes, expected: int) -> int:
        return await self._submitted(Write(key, value, expected))

    async def delete(self, key: str, expected: int) -> int:
        return await self._submitted(Write(key, None, expected))

    async def _submitted(self, write: Write) -> int:
        self._check_open()
        answer: asyncio.Future[int] = self._loop.create_future()
        self._work.put(_Pending(write, answer))
        return await answer

    async def get(self, key: str) -> Record | None:
        return await self._read(lambda: read_one(self._reading, key))

    async def range(self, prefix: str, limit: int = 0, start: str = "") -> Page:
        return await self._read(lambda: read_range(self._reading, (prefix, start), limit))

    def watch(self, prefix: str, after: int) -> Feed:
        return self._feeds.add(Feed(prefix, (after, self._revision), self._replay, self._limits))

    async def _replay(self, prefix: str, after: int, head: int) -> Batch:
        return await self._read(lambda: read_replay(self._reading, prefix, after, head))

    async def _read(self, work: Callable[[], T]) -> T:
        self._check_open()
        try:
            return await self._loop.run_in_executor(self._reader, work)
        except sqlite3.Error as error:
            raise StoreFailed(f"{self._path}: cannot read: {error}") from error

    async def revision(self) -> int:
        return self._revision

    async def compact(self, revision: int) -> None:
        self._check_open()
        answer: asyncio.Future[None] = self._loop.create_future()
        self._work.put(_Compaction(min(revision, self._revision), answer))
        await answer

    def _check_open(self) -> None:
        if self._closed:
            raise StoreFailed(f"{self._path}: the store is closed")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._work.put(_Stop())
        await asyncio.to_thread(self._writer.join)
        self._feeds.close()
        await asyncio.to_thread(self._reader.shutdown)
        self._reading.close()
        os.close(self._lock_fd)

    # the writer thread

    def _run(self) -> None:
        stopped = False
        while not stopped:
            work: list[_Work] = [self._work.get()]
            while len(work) < COMMIT_MOST and not self._work.empty():
                work.append(self._work.get())
            self._commit([item for item in work if isinstance(item, _Pending)])
            for item in work:
                if isinstance(item, _Compaction):
                    self._compact(item)
            stopped = any(isinstance(item, _Stop) for item in work)
        self._log.close()
        while not self._work.empty():
            if isinstance(item := self._work.get(), _Compaction):
                self._answer(item, StoreFailed(f"{self._path}: the store is closed"))

    def _commit(self, pending: list[_Pending]) -> None:
        if not pending:
            return
        outcomes: list[Outcome]
        events: list[Event] = []
        try:
            outcomes = self._log.commit([item.write for item in pending], events)
        except sqlite3.Error as error:
            outcomes = [_not_written(self._path, error) for _ in pending]
        answers = [item.answer for item in pending]
        self._call(lambda: self._committed(events, answers, outcomes))

    def _compact(self, item: _Compaction) -> None:
        failure: KubenetError | None = None
        try:
            more = self._log.compact_slice(item.revision)
        except sqlite3.Error as error:
            more, failure = False, _not_written(self._path, error)
        if more:
            self._work.put(item)  # behind the writes that wait
        else:
            self._answer(item, failure)

    def _answer(self, item: _Compaction, failure: KubenetError | None) -> None:
        self._call(lambda: _settle(item.answer, failure))

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            pass  # the loop is closed: nobody waits for an answer any more

    def _committed(
        self, events: list[Event], answers: list[asyncio.Future[int]], outcomes: Iterable[Outcome]
    ) -> None:
        """Publish a commit, in the loop: the watchers first, so that whoever wrote finds them up to date."""
        if events:
            self._revision = events[-1].revision
            self._feeds.push(Batch(self._revision, tuple(events)))
        for answer, outcome in zip(answers, outcomes, strict=True):
            if answer.done():
                continue
            if isinstance(outcome, KubenetError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)


def _settle(answer: "asyncio.Future[None]", failure: KubenetError | None) -> None:
    if answer.done():
        return
    if failure is not None:
        answer.set_exception(failure)
    else:
        answer.set_result(None)


def _not_written(path: Path, error: sqlite3.Error) -> StoreFailed:
    return StoreFailed(
        f"{path}: cannot write: {error}", f"free space on the disk of {path.parent}, or check its permissions"
    )


def _unusable(path: Path, error: sqlite3.Error) -> InvalidInput:
    return InvalidInput(
        f"{path}: not a store of this program: {error}", "name another file, or move this one away"
    )


def _locked(path: Path) -> int:
    """Return a descriptor that keeps every other process from opening the store.

    Raises AlreadyExists, InvalidInput.
    """
    lock_path = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InvalidInput(f"{lock_path}: {error.strerror}", "name a file in a writable directory") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyExists(
            f"{path}: another process has this store open", "stop it, or name another file"
        ) from None
    return descriptor
