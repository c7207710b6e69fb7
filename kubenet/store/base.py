"""What the API server asks of a store: keys, opaque values, one counter of revisions.

Every write gets the next revision, with no gap: one writer hands them out inside its transaction. A watch
started after revision N delivers every later change once and in order, from the log first and then live.
Compaction forgets old states only: the newest state of every key at or before the compacted revision stays,
so that a change always knows what it replaced.

Source: etcd v3 API (revisions, compaction); kine's four transaction shapes (create, update, delete, compact).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from kubenet.errors import KubenetError


class KeyTaken(KubenetError):
    """The key to create exists already."""


class RevisionMismatch(KubenetError):
    """The key is not at the revision that the writer expected (0: it does not exist)."""

    def __init__(self, key: str, expected: int, have: int) -> None:
        super().__init__(f"{key}: expected revision {expected}, the store has {have}")
        self.have = have


class Gone(KubenetError):
    """A watch cannot continue: its revision is compacted, or its reader was too slow. List, then watch."""


class StoreFailed(KubenetError):
    """The store could not write or read: nothing of this write is kept."""


@dataclass(frozen=True, slots=True)
class Record:
    """One key with its value, as of the revision that wrote it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change. ``before`` is what it replaced; ``value`` is None when the key was deleted."""

    revision: int
    key: str
    value: bytes | None
    before: Record | None


@dataclass(frozen=True, slots=True)
class Batch:
    """The changes of a watch up to and including ``revision``; there may be none (progress)."""

    revision: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a range: records in key order, the revision they are true at, and whether more follow."""

    records: tuple[Record, ...]
    revision: int
    more: bool


@dataclass(frozen=True, slots=True)
class Write:
    """One intended change: ``value`` None deletes; the key must be at revision ``expected``, 0 for absent."""

    key: str
    value: bytes | None
    expected: int


def check(write: Write, have: int) -> None:
    """Refuse a write whose expectation does not hold; ``have`` is the key's revision, 0 if it does not exist.

    Raises KeyTaken, RevisionMismatch.
    """
    if write.expected == have:
        return
    if write.expected == 0:
        raise KeyTaken(f"{write.key}: exists at revision {have}")
    raise RevisionMismatch(write.key, write.expected, have)


class Watch(Protocol):
    """An endless iterator of batches in revision order; iterating raises Gone when it cannot continue."""

    def __aiter__(self) -> AsyncIterator[Batch]: ...

    async def __anext__(self) -> Batch: ...

    def close(self) -> None:
        """Stop receiving. Idempotent."""
        ...


class Store(Protocol):
    """A store of records; all methods are called from one event loop."""

    async def create(self, key: str, value: bytes) -> int:
        """Store a new key and return its revision. Raises KeyTaken, StoreFailed."""
        ...

    async def update(self, key: str, value: bytes, expected: int) -> int:
        """Replace a key that is at revision ``expected``; return the new revision.

        Raises RevisionMismatch, StoreFailed.
        """
        ...

    async def delete(self, key: str, expected: int) -> int:
        """Remove a key that is at revision ``expected``; return the deletion's revision.

        Raises RevisionMismatch, StoreFailed.
        """
        ...

    async def get(self, key: str) -> Record | None:
        """Return the newest record of ``key``."""
        ...

    async def range(self, prefix: str, limit: int = 0, start: str = "") -> Page:
        """Return the records whose keys begin with ``prefix`` and are not below ``start``; limit 0: all."""
        ...

    def watch(self, prefix: str, after: int) -> Watch:
        """Return a watch of the changes with a revision greater than ``after``."""
        ...

    async def revision(self) -> int:
        """Return the revision of the newest write."""
        ...

    async def compact(self, revision: int) -> None:
        """Forget all states that were replaced at or before ``revision``."""
        ...

    async def close(self) -> None:
        """End all watches and free what the store holds."""
        ...


def prefix_end(prefix: str) -> str:
    """Return the least string greater than every string that begins with ``prefix``."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\U0010ffff"
