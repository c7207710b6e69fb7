"""Objects as served bytes plus a small index, and the recent changes of each kind. *Pure.*

Changes are kept for watches that resume and for lists that continue: the state at an earlier revision is the
present state with the later changes undone, so a page of a list costs no pinned copy.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

import msgspec

from kubenet.apiserver import codec
from kubenet.apiserver.strategy import FieldLabel, Kind
from kubenet.apiserver.tree import table_at
from kubenet.model.objects import Json, ObjectMeta


class _Head(msgspec.Struct):
    metadata: ObjectMeta


_HEAD = msgspec.json.Decoder(_Head)


class Entry:
    """One state of one object: its served bytes, and what selectors look at."""

    __slots__ = ("_fields", "body", "key", "kind", "meta", "revision")

    def __init__(self, kind: Kind, key: str, value: bytes, revision: int) -> None:
        self.kind = kind
        self.key = key
        self.revision = revision
        self.body = codec.stamped(kind.resource, value, revision)
        self.meta = _HEAD.decode(value).metadata
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

    def __init__(self, after: Entry, before: Entry | None, deleted: bool) -> None:
        self.revision = after.revision
        self.after = after
        self.before = before
        self.deleted = deleted
        self.lines: dict[tuple[str, str], bytes] = {}  # encoded once for all watchers of the same form

    @property
    def key(self) -> str:
        return self.after.key


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What the cache keeps, and how long a read waits for a revision that it has not seen yet."""

    changes_most: int = 4096  # of each kind
    changes_most_bytes: int = 64 << 20  # of each kind
    freshness_wait_s: float = 3.0


class Shelf:
    """The objects of one kind in key order, and its recent changes."""

    def __init__(self, kind: Kind, limits: CacheLimits) -> None:
        self.kind = kind
        self.entries: dict[str, Entry] = {}
        self.keys: list[str] = []
        self.changes: deque[Change] = deque()
        self.oldest = 0  # changes after this revision are kept
        self._limits = limits
        self._kept_bytes = 0

    def load(self, entries: list[Entry], revision: int) -> None:
        """Replace everything by the state at ``revision``; older changes are forgotten."""
        self.entries = {entry.key: entry for entry in entries}
        self.keys = sorted(self.entries)
        self.changes.clear()
        self._kept_bytes = 0
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
        self._kept_bytes += len(change.after.body)
        while len(self.changes) > self._limits.changes_most or (
            self._kept_bytes > self._limits.changes_most_bytes
        ):
            forgotten = self.changes.popleft()
            self._kept_bytes -= len(forgotten.after.body)
            self.oldest = forgotten.revision

    def since(self, revision: int) -> list[Change]:
        """Return the kept changes after ``revision``, oldest first; it must not be below ``oldest``."""
        later = list(takewhile(lambda change: change.revision > revision, reversed(self.changes)))
        later.reverse()
        return later

    def under(self, prefix: str) -> list[str]:
        """Return the present keys that begin with ``prefix``."""
        return self.keys[bisect_left(self.keys, prefix) : bisect_left(self.keys, prefix + "\U0010ffff")]

    def count(self, prefix: str, start: str, revision: int) -> int:
        """Return how many entries ``scan`` would yield."""
        if not self.since(revision):
            return len(self.under(prefix)) - bisect_left(self.under(prefix), start)
        return sum(1 for _ in self.scan(prefix, start, revision))

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
