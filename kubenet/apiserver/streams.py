"""Watches over HTTP: one tap per watcher on the stream of changes, drained into a chunked response.

A tap is bounded. A watcher that leaves too much unread is cut: it blocks neither writers nor other watchers.
All watchers of the same form share the encoded lines.
"""

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from aiohttp import web

from kubenet.apiserver.cache import Cache, change_of
from kubenet.apiserver.entries import Change, Shelf
from kubenet.apiserver.misbehaviour import Mischief
from kubenet.apiserver.query import WatchQuery
from kubenet.apiserver.status import StatusError, expired, too_old, unavailable
from kubenet.apiserver.view import View
from kubenet.apiserver.watch import bookmark_line, change_line, edge, error_line, initial_lines
from kubenet.store.base import Gone, Store, StoreFailed

TAP_MOST_CHANGES = 1000
TAP_MOST_BYTES = 4 << 20
BOOKMARK_EVERY_S = 60.0
DEFAULT_TIMEOUT_S = (1800.0, 3600.0)
INITIAL_CHUNK = 500


class Tap:
    """The changes that one watcher has not written yet."""

    def __init__(self, query: WatchQuery, view: View, transport: asyncio.BaseTransport | None) -> None:
        self._query = query
        self._view = view
        self._transport = transport
        self._lines: deque[bytes] = deque()
        self._size_bytes = 0
        self.wake = asyncio.Event()
        self.writing = False  # a write that does not end means that the watcher does not read
        self.end: StatusError | None = None
        self.closed = False

    @property
    def left(self) -> bool:
        """Whether the watcher has hung up."""
        return self._transport is None or self._transport.is_closing()

    def push(self, change: Change) -> None:
        """Take a change, if the watcher sees it."""
        event_type = edge(change, self._query.selection)
        if not event_type or self.end is not None:
            return
        line = change_line(change, event_type, self._view)
        self._lines.append(line)
        self._size_bytes += len(line)
        self.wake.set()
        if len(self._lines) > TAP_MOST_CHANGES or self._size_bytes > TAP_MOST_BYTES:
            self.cut(expired("the watcher is too slow: too many changes are unread"))

    def cut(self, error: StatusError) -> None:
        """End the watch with an error; a watcher that does not read gets no more than a hang-up."""
        self.end = error
        self._lines.clear()
        self.wake.set()
        self._hang_up_if_stuck()

    def close(self) -> None:
        """End the watch as if its time were up."""
        self.closed = True
        self.wake.set()
        self._hang_up_if_stuck()

    def _hang_up_if_stuck(self) -> None:
        if self.writing and isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()

    def drain(self) -> bytes:
        """Return what is unread, and forget it."""
        unread = b"".join(self._lines)
        self._lines.clear()
        self._size_bytes = 0
        self.wake.clear()
        return unread


class Streams:
    """All watches of the server."""

    def __init__(self, store: Store, cache: Cache, mischief: Mischief | None = None) -> None:
        self._mischief = mischief
        self._store = store
        self._cache = cache
        self._taps: defaultdict[str, list[Tap]] = defaultdict(list)  # by the kind's directory
        self._stopped = False
        cache.listen(self._on_change, self._on_reload)

    def _on_change(self, change: Change) -> None:
        for tap in self._taps[change.after.kind.directory]:
            tap.push(change)

    def _on_reload(self) -> None:
        for tap in self._all():
            tap.cut(expired("the server lost its place in the store"))

    def _all(self) -> Iterable[Tap]:
        return [tap for taps in self._taps.values() for tap in taps]

    @property
    def count(self) -> int:
        """How many watches are open."""
        return sum(len(taps) for taps in self._taps.values())

    def close(self) -> None:
        """End every watch now, and every later one at once."""
        self._stopped = True
        for tap in self._all():
            tap.close()

    async def serve(
        self, request: web.BaseRequest, shelf: Shelf, query: WatchQuery, view: View
    ) -> web.StreamResponse:
        """Answer a watch until its end. Raises StatusError before the first byte."""
        await self._cache.at_least(query.revision or 0)
        response = web.StreamResponse(
            headers={"Content-Type": view.content_type, "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        tap = Tap(query, view, request.transport)
        taps = self._taps[shelf.kind.directory]
        try:
            await response.prepare(request)
            await response.write(b"")
            async with aclosing(self._chunks(shelf, query, view, tap)) as chunks:
                async for chunk in chunks:
                    tap.writing = True
                    if not await self._write(response, chunk):
                        break
                    tap.writing = False
            await response.write_eof()
        except ConnectionError:
            # The watcher left, or was cut while it did not read; or we hang up on it.
            if self._mischief is not None and request.transport is not None:
                request.transport.close()
        finally:
            if tap in taps:
                taps.remove(tap)
        return response

    async def _write(self, response: web.StreamResponse, chunk: bytes) -> bool:
        """Write a piece; return whether the stream goes on. Raises ConnectionError."""
        if self._mischief is not None:
            return await self._mischief.write(response, chunk)
        await response.write(chunk)
        return True

    async def _chunks(
        self, shelf: Shelf, query: WatchQuery, view: View, tap: Tap
    ) -> AsyncGenerator[bytes, None]:
        """Yield what the watcher gets, from its first line to its last."""
        try:
            async with aclosing(self._beginning(shelf, query, view, tap)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Gone:
            yield error_line(too_old(query.revision or 0, shelf.oldest))
            return
        except StoreFailed as error:
            yield error_line(unavailable(str(error)))
            return
        async with aclosing(self._live(shelf, query, view, tap)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _live(
        self, shelf: Shelf, query: WatchQuery, view: View, tap: Tap
    ) -> AsyncGenerator[bytes, None]:
        """Yield what the tap brings until the time is up, with a bookmark whenever it is silent for long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (query.timeout_s or random.uniform(*DEFAULT_TIMEOUT_S))
        while not tap.closed and not self._stopped and loop.time() < deadline:
            timeout_s = min(BOOKMARK_EVERY_S, deadline - loop.time())
            try:
                async with asyncio.timeout(timeout_s):
                    await tap.wake.wait()
            except TimeoutError:
                if tap.left:
                    return
                if query.bookmarks and not tap.wake.is_set():  # nothing up to this revision is unread
                    yield bookmark_line(shelf.kind, self._cache.revision, view)
                continue
            if tap.end is not None:
                yield error_line(tap.end)
                return
            if unread := tap.drain():
                yield unread

    async def _beginning(
        self, shelf: Shelf, query: WatchQuery, view: View, tap: Tap
    ) -> AsyncGenerator[bytes, None]:
        """Yield the present objects, or what happened since the revision asked for; then the tap is open."""
        taps = self._taps[shelf.kind.directory]
        if query.revision is None:
            taps.append(tap)
            revision = self._cache.revision
            entries = [entry for key in shelf.keys if query.selection.takes(entry := shelf.entries[key])]
            for first in range(0, len(entries), INITIAL_CHUNK):
                yield b"".join(initial_lines(entries[first : first + INITIAL_CHUNK], view))
            if query.initial_events_end:
                yield bookmark_line(shelf.kind, revision, view, initial_events_end=True)
            return
        if query.revision < 0:
            taps.append(tap)
            return
        reached = query.revision
        while reached < shelf.oldest:  # which moves on while we write
            async with aclosing(self._replayed(shelf, reached)) as pages:
                async for revision, changes in pages:
                    reached = revision
                    yield _lines(changes, query, view)
            await self._cache.reach(reached)  # or the tap would bring some of it again
        taps.append(tap)
        changes = shelf.since(reached)
        for first in range(0, len(changes), INITIAL_CHUNK):
            yield _lines(changes[first : first + INITIAL_CHUNK], query, view)

    async def _replayed(self, shelf: Shelf, after: int) -> AsyncGenerator[tuple[int, list[Change]], None]:
        """Yield, from the store's log, what the cache does not keep any more; with the revision reached."""
        watch = self._store.watch(shelf.kind.prefix, after)
        try:
            async for batch in watch:
                yield batch.revision, [change_of(shelf.kind, event) for event in batch.events]
                if batch.revision >= shelf.oldest:
                    return
        finally:
            watch.close()


def _lines(changes: Iterable[Change], query: WatchQuery, view: View) -> bytes:
    """Return the lines of the changes that the watcher sees."""
    return b"".join(
        change_line(change, event_type, view)
        for change in changes
        if (event_type := edge(change, query.selection))
    )
