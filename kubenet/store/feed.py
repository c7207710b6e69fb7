"""One watcher's side of a store: replay from the log in pages, then live batches through a bounded buffer.

The store registers a feed and reads its own head revision in the same step of the event loop, so that nothing
falls between the two phases: the log has everything up to ``head``, and ``push`` brings everything after it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kubenet.store.base import Batch, Event, Gone

Replay = Callable[[str, int, int], Awaitable[Batch]]
"""``replay(prefix, after, head)`` returns a page of the log; its ``revision`` says how far it reaches."""


@dataclass(frozen=True, slots=True)
class FeedLimits:
    """How much a watcher may leave unread before it is cut."""

    events: int = 10_000
    size_bytes: int = 64 << 20


DEFAULT_LIMITS = FeedLimits()


class Feed:
    """A watch of one prefix; see ``kubenet.store.base.Watch``."""

    def __init__(self, prefix: str, span: tuple[int, int], replay: Replay, limits: FeedLimits) -> None:
        self._prefix = prefix
        self._reached, self._head = span
        self._after = self._reached
        self._replay = replay
        self._limits = limits
        self._buffer: deque[Batch] = deque()
        self._buffered_events = 0
        self._buffered_bytes = 0
        self._wake = asyncio.Event()
        self._end: Gone | None = None
        self.closed = False

    def push(self, batch: Batch) -> None:
        """Take a committed batch; cuts this watcher when it has left too much unread."""
        events = tuple(
            event
            for event in batch.events
            if event.key.startswith(self._prefix) and event.revision > self._after
        )
        if not events or self._end is not None:
            return
        self._buffered_events += len(events)
        self._buffered_bytes += sum(_size_bytes(event) for event in events)
        if self._buffered_events > self._limits.events or self._buffered_bytes > self._limits.size_bytes:
            self.cut(
                f"watch of {self._prefix}: {self._buffered_events} unread changes, the reader is too slow"
            )
            return
        self._buffer.append(Batch(batch.revision, events))
        self._wake.set()

    def cut(self, why: str) -> None:
        """End the watch: the reader gets Gone next, whatever it has not read is dropped."""
        self._end = Gone(why)
        self._buffer.clear()
        self._wake.set()

    def close(self) -> None:
        """Stop receiving. Idempotent."""
        self.closed = True
        if self._end is None:
            self.cut(f"watch of {self._prefix}: closed")

    def __aiter__(self) -> "Feed":
        return self

    async def __anext__(self) -> Batch:
        if self._end is None and self._reached < self._head:
            page = await self._replay(self._prefix, self._reached, self._head)
            self._reached = page.revision
            return page
        while not self._buffer and self._end is None:
            self._wake.clear()
            await self._wake.wait()
        if self._end is not None:
            raise self._end
        batch = self._buffer.popleft()
        self._buffered_events -= len(batch.events)
        self._buffered_bytes -= sum(_size_bytes(event) for event in batch.events)
        return batch


def _size_bytes(event: Event) -> int:
    return len(event.value) if event.value is not None else 0


class Feeds:
    """All watchers of one store."""

    def __init__(self) -> None:
        self._feeds: list[Feed] = []

    def add(self, feed: Feed) -> Feed:
        self._feeds.append(feed)
        return feed

    def push(self, batch: Batch) -> None:
        """Hand a committed batch to every watcher; forget the closed ones."""
        if any(feed.closed for feed in self._feeds):
            self._feeds = [feed for feed in self._feeds if not feed.closed]
        for feed in self._feeds:
            feed.push(batch)

    def cut(self, why: str) -> None:
        """End every watch: changes are missing."""
        for feed in self._feeds:
            feed.cut(why)

    def close(self) -> None:
        for feed in self._feeds:
            feed.close()
        self._feeds.clear()
