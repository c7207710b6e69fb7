"""A map that never changes: a new version shares nearly all of the old one. *Pure.*

A query must see one state of the zone, and a change must not cost a copy of a hundred thousand entries. The
entries lie in 1,024 dictionaries by the hash of their key; a new version copies the tuple of dictionaries (8
KiB) and the few dictionaries that change, some 5 us at any size met in a cluster, while a look-up stays two
indexings.
"""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_SHARDS = 1024  # a power of two, for the mask
_MASK = _SHARDS - 1


class ShardedMap(Generic[K, V]):
    """An immutable mapping with cheap successors."""

    __slots__ = ("_shards",)

    def __init__(self, entries: Mapping[K, V] | None = None) -> None:
        nothing: dict[K, V] = {}
        self._shards: tuple[dict[K, V], ...] = (nothing,) * _SHARDS
        if entries:
            self._shards = self.patched(entries)._shards

    def get(self, key: K) -> V | None:
        """Return what is under ``key``, or None."""
        return self._shards[hash(key) & _MASK].get(key)

    def __contains__(self, key: K) -> bool:
        return key in self._shards[hash(key) & _MASK]

    def __iter__(self) -> Iterator[K]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def patched(self, changes: Mapping[K, V | None]) -> "ShardedMap[K, V]":
        """Return the map with ``changes`` made; None removes a key, present or not."""
        shards = list(self._shards)
        copied: set[int] = set()
        for key, value in changes.items():
            index = hash(key) & _MASK
            if index not in copied:
                shards[index] = shards[index].copy()
                copied.add(index)
            if value is None:
                shards[index].pop(key, None)
            else:
                shards[index][key] = value
        successor: ShardedMap[K, V] = ShardedMap()
        successor._shards = tuple(shards)
        return successor
