"""All objects in memory, fed by one watch of the store.

The cache answers every read, so a read costs no store access; a write waits until the cache has reached its
revision, so that a client reads what it wrote.
"""

import asyncio
from collections.abc import Callable

from kubenet.apiserver import codec
from kubenet.apiserver.entries import CacheLimits, Change, Entry, Shelf
from kubenet.apiserver.kinds import ALL, BUILT_IN, Catalogue
from kubenet.apiserver.registry.custom import DEFINITION
from kubenet.apiserver.status import revision_too_large
from kubenet.apiserver.strategy import Kind
from kubenet.store.base import Batch, Event, Gone, Store, Watch

REGISTRY = "/registry/"


Listener = Callable[[Change], None]


class Cache:
    """Every served object; see the module's text."""

    def __init__(self, store: Store, limits: CacheLimits, catalogue: Catalogue = BUILT_IN) -> None:
        self._store = store
        self._limits = limits
        self.catalogue = catalogue
        self.shelves = {kind.directory: Shelf(kind, limits) for kind in ALL}
        self.revision = 0
        self._listeners: list[Listener] = []
        self._on_reload: list[Callable[[], None]] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._watch: Watch | None = None

    def shelf(self, kind: Kind) -> Shelf:
        return self.shelves[kind.directory]

    def get(self, kind: Kind, namespace: str, name: str) -> Entry | None:
        return self.shelves[kind.directory].entries.get(kind.key(namespace, name))

    def listen(self, listener: Listener, on_reload: Callable[[], None]) -> None:
        """Call ``listener`` for every change, and ``on_reload`` when changes may have been missed."""
        self._listeners.append(listener)
        self._on_reload.append(on_reload)

    async def load(self) -> None:
        """Read everything from the store and begin to follow it."""
        page = await self._store.range(REGISTRY)
        for record in page.records:
            if record.key.startswith(DEFINITION.prefix):
                self._define(record.key, record.value)
        found: dict[str, list[Entry]] = {directory: [] for directory in self.shelves}
        for record in page.records:
            if kind := self._kind_of(record.key):
                found[kind.directory].append(Entry(kind, record.key, record.value, record.revision))
        for directory, shelf in self.shelves.items():
            shelf.load(found[directory], page.revision)
        self._watch = self._store.watch(REGISTRY, page.revision)
        self._reach(page.revision)

    async def run(self) -> None:
        """Follow the store for ever; ``load`` must have been awaited."""
        while True:
            assert self._watch is not None
            try:
                async for batch in self._watch:
                    self._apply(batch)
                    await asyncio.sleep(0)  # let watchers write before the next batch comes
            except Gone:
                self._watch.close()
                await self.load()
                for reloaded in self._on_reload:
                    reloaded()

    def _apply(self, batch: Batch) -> None:
        for event in batch.events:
            if event.key.startswith(DEFINITION.prefix):
                self._define(event.key, event.value)
            if kind := self._kind_of(event.key):
                shelf = self.shelves[kind.directory]
                change = change_of(kind, event, shelf.entries.get(event.key))
                shelf.apply(change)
                self.revision = event.revision
                for listener in self._listeners:
                    listener(change)
        self._reach(batch.revision)

    def _define(self, key: str, value: bytes | None) -> None:
        """Begin to serve the kind of a definition, or (None) end it."""
        if value is None:
            gone = self.catalogue.forget(key.removeprefix(DEFINITION.prefix))
            if gone is not None:
                self.shelves.pop(gone.directory, None)
        elif kind := self.catalogue.define(codec.decoded_table(value)):
            shelf = self.shelves.get(kind.directory)
            if shelf is None:
                shelf = self.shelves[kind.directory] = Shelf(kind, self._limits)
                shelf.load([], self.revision)
            shelf.kind = kind

    def _kind_of(self, key: str) -> Kind | None:
        return self.catalogue.in_directory(key[len(REGISTRY) :].partition("/")[0])

    def _reach(self, revision: int) -> None:
        self.revision = max(self.revision, revision)
        reached = [waiter for waiter in self._waiters if waiter[0] <= self.revision]
        if reached:
            self._waiters = [waiter for waiter in self._waiters if waiter[0] > self.revision]
        for _, future in reached:
            if not future.done():
                future.set_result(None)

    async def reach(self, revision: int) -> None:
        """Return once the cache holds everything up to ``revision``."""
        if self.revision >= revision:
            return
        waiter = (revision, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter[1]
        finally:
            if waiter in self._waiters:  # cancelled while it waited
                self._waiters.remove(waiter)

    async def at_least(self, revision: int) -> None:
        """Return once the cache is at ``revision``, which a client has seen. Raises StatusError (504)."""
        try:
            async with asyncio.timeout(self._limits.freshness_wait_s):
                await self.reach(revision)
        except TimeoutError:
            raise revision_too_large(revision, self.revision) from None

    async def refresh(self) -> None:
        """Return once the cache holds everything that the store holds now."""
        await self.reach(await self._store.revision())


def change_of(kind: Kind, event: Event, known: Entry | None = None) -> Change:
    """Return a store's event as a change; ``known`` is used if it is the state that the event replaced."""
    before = None
    if event.before is not None:
        same = known is not None and known.revision == event.before.revision
        before = known if same else Entry(kind, event.key, event.before.value, event.before.revision)
    deleted = event.value is None
    value = event.value if event.value is not None else (event.before.value if event.before else b"")
    return Change(Entry(kind, event.key, value, event.revision), before, deleted)
