"""What becomes of CustomResourceDefinitions: their kinds are served, and emptied before they go.

The cache serves a kind from the moment in which it sees the definition; here its status says so, and a
definition that is being deleted takes its objects with it.
"""

import asyncio
import logging

from kubenet.apiserver.cache import Cache
from kubenet.apiserver.entries import Change, Entry
from kubenet.apiserver.ownership import without_finalizer
from kubenet.apiserver.query import DeleteOptions, WriteOptions
from kubenet.apiserver.registry.custom import CLEANUP, DEFINITION, established
from kubenet.apiserver.status import StatusError
from kubenet.apiserver.writes import Address, Writer
from kubenet.clock import Clock, rfc3339

log = logging.getLogger(__name__)

RETRY_S = 0.2


class Definitions:
    """See the module's text; ``run`` it beside the cache."""

    def __init__(self, cache: Cache, writer: Writer, clock: Clock) -> None:
        self._cache = cache
        self._writer = writer
        self._clock = clock
        self._queue: dict[str, None] = {}
        self._wake = asyncio.Event()
        cache.listen(self._on_change, self._all)

    def _all(self) -> None:
        for entry in self._cache.shelf(DEFINITION).entries.values():
            self._enqueue(entry.meta.name)

    def _enqueue(self, name: str) -> None:
        self._queue[name] = None
        self._wake.set()

    def _on_change(self, change: Change) -> None:
        kind = change.after.kind
        if kind is DEFINITION and not change.deleted:
            self._enqueue(change.after.meta.name)
        elif kind.custom and change.deleted:
            self._enqueue(kind.directory)  # its definition may wait for that

    async def run(self) -> None:
        """Look after definitions for ever."""
        self._all()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                name = next(iter(self._queue))
                del self._queue[name]
                try:
                    await self._examine(name)
                except StatusError as error:
                    if error.reason != "NotFound":
                        log.warning("definition %s: %s, again in %s s", name, error, RETRY_S)
                        asyncio.get_running_loop().call_later(RETRY_S, self._enqueue, name)

    async def _examine(self, name: str) -> None:
        entry = self._cache.get(DEFINITION, "", name)
        if entry is None:
            return
        address = Address(DEFINITION, "", name)
        if not entry.meta.deletion_timestamp:
            now = rfc3339(self._clock.now())
            options = WriteOptions(subresource=True)
            await self._writer.change(address, lambda old: established(old, now), options)
        elif CLEANUP in entry.meta.finalizers:
            left = self._objects(name)
            for one in left:
                if not one.meta.deletion_timestamp:
                    target = Address(one.kind, one.meta.namespace, one.meta.name)
                    await self._writer.delete_if_there(target, DeleteOptions())
            if not left:
                await self._writer.change(
                    address, lambda old: without_finalizer(old, CLEANUP), WriteOptions()
                )

    def _objects(self, directory: str) -> list[Entry]:
        shelf = self._cache.shelves.get(directory)
        return [*shelf.entries.values()] if shelf else []
