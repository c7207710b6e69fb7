"""The objects of one kind as last seen, with indexes, and what changed when. *Pure.*

Source: client-go tools/cache (Store, Indexer, DeletedFinalStateUnknown).
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from kubenet.client.packing import Kept, Listed, Packed, Packing, Whole
from kubenet.model.objects import KubeObject, ObjectT


@dataclass(frozen=True, slots=True)
class Change(Generic[ObjectT]):
    """One object before and after; ``new`` None means that it is gone."""

    key: str
    old: ObjectT | None
    new: ObjectT | None
    final_state_unknown: bool = False  # gone while nobody watched: ``old`` may not be its last state


class Cache(Generic[ObjectT]):
    """Objects by ``namespace/name``. Only the informer writes; everybody else reads."""

    def __init__(self, keep: Whole[ObjectT] | Packing[ObjectT] | None = None) -> None:
        """``keep`` is how objects are kept; a ``Change`` brings them as they came."""
        self._keep = keep or Whole()
        self._objects: dict[str, Kept[ObjectT]] = {}
        self._snapshot: Mapping[str, ObjectT] | None = None
        self._indexes: dict[str, _Index[ObjectT]] = {}
        self.synced = False  # whether it has held the whole truth at least once
        self.resource_version = 0  # every change of this kind up to here is in

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: str) -> ObjectT | None:
        """Return the object, or None."""
        return self._unpacked(self._objects.get(key))

    def objects(self) -> Mapping[str, ObjectT]:
        """Return all objects as they are now; later changes do not show. Cheap while nothing changes."""
        if isinstance(self._keep, Packing):
            return self._keep.mapping(dict(self._objects))
        if self._snapshot is None:
            self._snapshot = self._keep.mapping(dict(self._objects))
        return self._snapshot

    def add_index(self, name: str, values: Callable[[ObjectT], Iterable[str]]) -> None:
        """Keep objects findable by ``values(object)``, which depends on the object alone."""
        index = self._indexes[name] = _Index(values)
        for key, kept in self._objects.items():
            index.move(key, None, self._keep.unpack(kept))

    def indexed(self, name: str, value: str) -> tuple[ObjectT, ...]:
        """Return the objects that have ``value`` in the index, ordered by key."""
        return tuple(self._keep.unpack(self._objects[key]) for key in self._indexes[name].at(value))

    def index_keys(self, name: str) -> Mapping[str, Sequence[str]]:
        """Return the sorted keys of objects by value of the index, as they are now."""
        return self._indexes[name].all()

    def index_values(self, name: str, each: ObjectT) -> Iterable[str]:
        """Return under which values of an index ``each`` belongs, whether it is stored or not."""
        return self._indexes[name].values(each)

    def shelved(self, page: "Sequence[Listed[ObjectT]]") -> "Sequence[Listed[ObjectT]]":
        """Return a page of a list for ``replace``, of no more size than it will be kept in.

        What has changed since an earlier list stays as it came.
        """
        return [self._shelved(each) for each in page] if isinstance(self._keep, Packing) else page

    def _shelved(self, each: "Listed[ObjectT]") -> "Listed[ObjectT]":
        if isinstance(each, Packed):
            return each
        key = each.metadata.key
        kept = self._objects.get(key)
        if kept is not None and _same_version(self._keep.unpack(kept), each):
            return Packed(key, kept)
        return each if self.synced else Packed(key, self._keep.pack(each))

    def put(self, new: ObjectT) -> Change[ObjectT] | None:
        """Store an object; return None when it is the very version that is there already."""
        key = new.metadata.key
        old = self.get(key)
        if old is not None and _same_version(old, new):
            return None
        self._store(key, self._keep.pack(new))
        return Change(key, old, new)

    def remove(self, last: ObjectT) -> Change[ObjectT] | None:
        """Drop an object whose last state is ``last``; return None when it is not there."""
        key = last.metadata.key
        if key not in self._objects:
            return None
        self._store(key, None)
        return Change(key, last, None)

    def replace(self, objects: "Sequence[Listed[ObjectT]]") -> list[Change[ObjectT]]:
        """Hold exactly ``objects`` from now on; return what this changed: nothing for equal versions."""
        return list(self.replacing(objects))

    def replacing(self, objects: "Sequence[Listed[ObjectT]]") -> Iterator[Change[ObjectT]]:
        """Do as ``replace`` does, at once; each change is made as it is asked for: there may be many."""
        wanted = {_key(each) for each in objects}
        moved: list[tuple[str, Kept[ObjectT] | None, Kept[ObjectT] | None]] = []
        for key, kept in [(key, kept) for key, kept in self._objects.items() if key not in wanted]:
            self._store(key, None)
            moved.append((key, kept, None))
        for each in objects:
            key = _key(each)
            kept_before, new = self._objects.get(key), each.kept if isinstance(each, Packed) else each
            if not self._is_there(kept_before, new):
                self._store(key, new if isinstance(each, Packed) else self._keep.pack(each))
                moved.append((key, kept_before, new))
        self.synced = True
        return (self._change(*each) for each in moved)

    def _is_there(self, kept: "Kept[ObjectT] | None", new: "Kept[ObjectT]") -> bool:
        if kept is None:
            return False
        return kept is new or _same_version(self._keep.unpack(kept), self._keep.unpack(new))

    def _change(self, key: str, old: "Kept[ObjectT] | None", new: "Kept[ObjectT] | None") -> Change[ObjectT]:
        return Change(key, self._unpacked(old), self._unpacked(new), final_state_unknown=new is None)

    def _unpacked(self, kept: "Kept[ObjectT] | None") -> ObjectT | None:
        return None if kept is None else self._keep.unpack(kept)

    def _store(self, key: str, kept: "Kept[ObjectT] | None") -> None:
        self._snapshot = None
        key = sys.intern(key)  # caches and their readers hold the same keys
        before = self._objects.get(key)
        if kept is None:
            del self._objects[key]
        else:
            self._objects[key] = kept
        for index in self._indexes.values():
            index.move(key, self._unpacked(before), self._unpacked(kept))


class _Index(Generic[ObjectT]):
    """Keys by value. Most values have one, and a set of one key would be four times as large."""

    def __init__(self, values: Callable[[ObjectT], Iterable[str]]) -> None:
        self.values = values
        self._keys: dict[str, str | set[str]] = {}

    def at(self, value: str) -> list[str]:
        """Return the keys under ``value``, sorted."""
        keys = self._keys.get(value)
        if keys is None:
            return []
        return [keys] if isinstance(keys, str) else sorted(keys)

    def all(self) -> dict[str, list[str]]:
        """Return the sorted keys by value."""
        return {value: self.at(value) for value in self._keys}

    def move(self, key: str, old: ObjectT | None, new: ObjectT | None) -> None:
        before = set(self.values(old)) if old is not None else set()
        after = set(map(sys.intern, self.values(new))) if new is not None else set()
        for value in before - after:
            keys = self._keys[value]
            if isinstance(keys, str) or keys == {key}:
                del self._keys[value]
            else:
                keys.discard(key)
        for value in after - before:
            keys = self._keys.setdefault(value, key)
            if isinstance(keys, set):
                keys.add(key)
            elif keys != key:
                self._keys[value] = {keys, key}


def _key(each: "Listed[ObjectT]") -> str:
    return each.key if isinstance(each, Packed) else each.metadata.key


def _same_version(old: KubeObject, new: KubeObject) -> bool:
    """The uid counts too: a server that was set up anew counts its versions from the start again."""
    a, b = old.metadata, new.metadata
    return a.resource_version == b.resource_version and a.uid == b.uid and bool(a.resource_version)


def version_number(resource_version: str) -> int:
    """kube-apiserver promises since 1.35 that these compare as integers; 0 where a server does otherwise."""
    return int(resource_version) if resource_version.isdecimal() else 0
