"""The objects of one kind as last seen, with indexes, and what changed when. *Pure.*

Source: client-go tools/cache (Store, Indexer, DeletedFinalStateUnknown).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic

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

    def __init__(self, trim: Callable[[ObjectT], ObjectT] | None = None) -> None:
        """``trim`` returns what is to be kept of an object; a ``Change`` brings it as it came."""
        self._trim = trim
        self._objects: dict[str, ObjectT] = {}
        self._snapshot: Mapping[str, ObjectT] | None = None
        self._indexes: dict[str, _Index[ObjectT]] = {}
        self.synced = False  # whether it has held the whole truth at least once
        self.resource_version = 0  # every change of this kind up to here is in

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: str) -> ObjectT | None:
        """Return the object, or None."""
        return self._objects.get(key)

    def objects(self) -> Mapping[str, ObjectT]:
        """Return all objects as they are now; later changes do not show. Cheap while nothing changes."""
        if self._snapshot is None:
            self._snapshot = MappingProxyType(dict(self._objects))
        return self._snapshot

    def add_index(self, name: str, values: Callable[[ObjectT], Iterable[str]]) -> None:
        """Keep objects findable by ``values(object)``, which depends on the object alone."""
        index = self._indexes[name] = _Index(values)
        for key, each in self._objects.items():
            index.move(key, None, each)

    def indexed(self, name: str, value: str) -> tuple[ObjectT, ...]:
        """Return the objects that have ``value`` in the index, ordered by key."""
        return tuple(self._objects[key] for key in self._indexes[name].at(value))

    def index_values(self, name: str, each: ObjectT) -> Iterable[str]:
        """Return under which values of an index ``each`` belongs, whether it is stored or not."""
        return self._indexes[name].values(each)

    def put(self, new: ObjectT) -> Change[ObjectT] | None:
        """Store an object; return None when it is the very version that is there already."""
        key = new.metadata.key
        old = self._objects.get(key)
        if old is not None and _same_version(old, new):
            return None
        self._store(key, old, new)
        return Change(key, old, new)

    def remove(self, last: ObjectT) -> Change[ObjectT] | None:
        """Drop an object whose last state is ``last``; return None when it is not there."""
        key = last.metadata.key
        old = self._objects.get(key)
        if old is None:
            return None
        self._store(key, old, None)
        return Change(key, last, None)

    def replace(self, objects: Sequence[ObjectT]) -> list[Change[ObjectT]]:
        """Hold exactly ``objects`` from now on; return what this changed: nothing for equal versions."""
        wanted = {each.metadata.key for each in objects}
        gone = [(key, old) for key, old in self._objects.items() if key not in wanted]
        changes: list[Change[ObjectT]] = []
        for key, old in gone:
            self._store(key, old, None)
            changes.append(Change(key, old, None, final_state_unknown=True))
        changes += [change for each in objects if (change := self.put(each)) is not None]
        self.synced = True
        return changes

    def _store(self, key: str, old: ObjectT | None, new: ObjectT | None) -> None:
        self._snapshot = None
        if new is not None and self._trim:
            new = self._trim(new)
        if new is None:
            del self._objects[key]
        else:
            self._objects[key] = new
        for index in self._indexes.values():
            index.move(key, old, new)


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

    def move(self, key: str, old: ObjectT | None, new: ObjectT | None) -> None:
        before = set(self.values(old)) if old is not None else set()
        after = set(self.values(new)) if new is not None else set()
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


def _same_version(old: KubeObject, new: KubeObject) -> bool:
    """The uid counts too: a server that was set up anew counts its versions from the start again."""
    a, b = old.metadata, new.metadata
    return a.resource_version == b.resource_version and a.uid == b.uid and bool(a.resource_version)


def version_number(resource_version: str) -> int:
    """kube-apiserver promises since 1.35 that these compare as integers; 0 where a server does otherwise."""
    return int(resource_version) if resource_version.isdecimal() else 0
