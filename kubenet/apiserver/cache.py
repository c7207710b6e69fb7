"""All objects in memory, as served bytes plus a small index, and the recent changes of each kind.

The cache follows the store by one watch. It answers every read, so a read costs no store access; a write
waits until the cache has reached its revision, so that a client reads what it wrote. Changes are kept for
watches that resume and for lists that continue: the state at an earlier revision is the present state with
the later changes undone, so a page of a list costs no pinned copy.
"""

import asyncio
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile

import msgspec

from kubenet.apiserver import codec
from kubenet.apiserver.kinds import ALL, BY_PLURAL
from kubenet.apiserver.status import revision_too_large
from kubenet.apiserver.strategy import FieldLabel, Kind
from kubenet.apiserver.tree import table_at
from kubenet.model.objects import Json, ObjectMeta
from kubenet.store.base import Batch, Event, Gone, Record, Store, Watch, prefix_end

REGISTRY = "/registry/"


class _Head(msgspec.Struct):
    metadata: ObjectMeta


_HEAD = msgspec.json.Decoder(_Head)


class Entry:
    """One state of one object: its served bytes, and what selectors look at."""

    __slots__ = ("_fields", "body", "key", "kind", "meta", "revision")

    def __init__(self, kind: Kind, record: Record) -> None:
        self.kind = kind
        self.key = record.key
        self.revision = record.revision
        self.body = codec.stamped(kind.resource, record.value, record.revision)
        self.meta = _HEAD.decode(record.value).metadata
        self._fields: dict[str, str] | None = None

    @property
    def labels(self) -> dict[str, str]:
        return self.meta.labels

    @property
    def fields(self) -> dict[str, str]:
        """What field selectors see; decoded when a selector first asks."""
        if self._fields is None:
            value = self.table()
            self._fields = {name: _field_text(value, label) for name, label in self.kind.field_labels.items()}
        return self._fields

    def table(self) -> Json:
        """Return the object as a dict of the caller's own."""
        return codec.decoded_table(self.body)


def _field_text(value: Json, label: FieldLabel) -> str:
    found = table_at(value, *label.path[:-1]).get(label.path[-1])
    if isinstance(found, bool):
        return "true" if found else "false"
    return label.absent if found is None else str(found)


class Change:
    """One change of one object; ``after`` of a deletion is the last state at the deletion's revision."""

    __slots__ = ("after", "before", "deleted", "lines", "revision")

    def __init__(self, kind: Kind, event: Event) -> None:
        self.revision = event.revision
        self.deleted = event.value is None
        self.before = Entry(kind, event.before) if event.before else None
        value = event.value if event.value is not None else (event.before.value if event.before else b"")
        self.after = Entry(kind, Record(event.key, value, event.revision))
        self.lines: dict[tuple[str, str], bytes] = {}  # encoded once for all watchers of the same form

    @property
    def key(self) -> str:
        return self.after.key


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What the cache keeps, and how long a read waits for a revision that it has not seen yet."""

    changes_most: int = 4096  # of each kind
    freshness_wait_s: float = 3.0


class Shelf:
    """The objects of one kind in key order, and its recent changes."""

    def __init__(self, kind: Kind, most_changes: int) -> None:
        self.kind = kind
        self.entries: dict[str, Entry] = {}
        self.keys: list[str] = []
        self.changes: deque[Change] = deque()
        self.oldest = 0  # changes after this revision are kept
        self._most_changes = most_changes

    def load(self, entries: list[Entry], revision: int) -> None:
        """Replace everything by the state at ``revision``; older changes are forgotten."""
        self.entries = {entry.key: entry for entry in entries}
        self.keys = sorted(self.entries)
        self.changes.clear()
        self.oldest = revision

    def apply(self, change: Change) -> None:
        if change.deleted:
            if self.entries.pop(change.key, None) is not None:
                del self.keys[bisect_left(self.keys, change.key)]
        else:
            if change.key not in self.entries:
                insort(self.keys, change.key)
            self.entries[change.key] = change.after
        self.changes.append(change)
        if len(self.changes) > self._most_changes:
            self.oldest = self.changes.popleft().revision

    def since(self, revision: int) -> list[Change]:
        """Return the kept changes after ``revision``, oldest first; it must not be below ``oldest``."""
        later = list(takewhile(lambda change: change.revision > revision, reversed(self.changes)))
        later.reverse()
        return later

    def under(self, prefix: str) -> list[str]:
        """Return the present keys that begin with ``prefix``."""
        return self.keys[bisect_left(self.keys, prefix) : bisect_left(self.keys, prefix_end(prefix))]

    def scan(self, prefix: str, start: str, revision: int) -> Iterator[Entry]:
        """Yield the entries under ``prefix``, from key ``start`` on, as they were at ``revision``."""
        undone: dict[str, Entry | None] = {}
        for change in self.since(revision):
            undone.setdefault(change.key, change.before)
        gone = sorted(key for key in undone if key not in self.entries)
        keys = sorted({*self.keys, *gone}) if gone else self.keys
        for index in range(bisect_left(keys, max(prefix, start)), len(keys)):
            key = keys[index]
            if not key.startswith(prefix):
                return
            entry = undone[key] if key in undone else self.entries[key]
            if entry is not None:
                yield entry


Listener = Callable[[Change], None]


class Cache:
    """Every served object; see the module's text."""

    def __init__(self, store: Store, limits: CacheLimits) -> None:
        self._store = store
        self._limits = limits
        self.shelves = {kind.plural: Shelf(kind, limits.changes_most) for kind in ALL}
        self.revision = 0
        self._listeners: list[Listener] = []
        self._on_reload: list[Callable[[], None]] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._watch: Watch | None = None

    def shelf(self, kind: Kind) -> Shelf:
        return self.shelves[kind.plural]

    def get(self, kind: Kind, namespace: str, name: str) -> Entry | None:
        return self.shelves[kind.plural].entries.get(kind.key(namespace, name))

    def listen(self, listener: Listener, on_reload: Callable[[], None]) -> None:
        """Call ``listener`` for every change, and ``on_reload`` when changes may have been missed."""
        self._listeners.append(listener)
        self._on_reload.append(on_reload)

    async def load(self) -> None:
        """Read everything from the store and begin to follow it."""
        page = await self._store.range(REGISTRY)
        found: dict[str, list[Entry]] = {plural: [] for plural in self.shelves}
        for record in page.records:
            if kind := _kind_of(record.key):
                found[kind.plural].append(Entry(kind, record))
        for plural, shelf in self.shelves.items():
            shelf.load(found[plural], page.revision)
        self._watch = self._store.watch(REGISTRY, page.revision)
        self._reach(page.revision)

    async def run(self) -> None:
        """Follow the store for ever; ``load`` must have been awaited."""
        while True:
            assert self._watch is not None
            try:
                async for batch in self._watch:
                    self._apply(batch)
            except Gone:
                self._watch.close()
                await self.load()
                for reloaded in self._on_reload:
                    reloaded()

    def _apply(self, batch: Batch) -> None:
        for event in batch.events:
            if kind := _kind_of(event.key):
                change = Change(kind, event)
                self.shelves[kind.plural].apply(change)
                self.revision = event.revision
                for listener in self._listeners:
                    listener(change)
        self._reach(batch.revision)

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
            await asyncio.wait_for(self.reach(revision), self._limits.freshness_wait_s)
        except TimeoutError:
            raise revision_too_large(revision, self.revision) from None

    async def refresh(self) -> None:
        """Return once the cache holds everything that the store holds now."""
        await self.reach(await self._store.revision())


def _kind_of(key: str) -> Kind | None:
    return BY_PLURAL.get(key[len(REGISTRY) :].partition("/")[0])
