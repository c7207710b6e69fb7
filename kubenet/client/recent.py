"""A cache that never forgets our own writes.

A watch is always a little late. A controller that has just made two pods and looks at its cache too early
sees none, and makes two more. So every answer to our own writes is kept on top of the cache until the watch
has come past it. That moment is known exactly: the answer carries the object's resourceVersion and the watch
delivers in that order, hence an answer is obsolete as soon as the cache has seen its version, also when
others have changed or deleted the object since. A delete is shown as one that has begun (a deletion
timestamp).

This replaces client-go's expectations (counts of creations not yet seen, given up after 5 minutes): it needs
no counting, serves every kind, and has no time limit.

Source: client-go tools/cache (MutationCache) has the idea with a time limit; KEP-5504 (versions compare).
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Generic

import msgspec

from kubenet.client.cache import Cache, version_number
from kubenet.model.objects import ObjectT

# What a deletion timestamp says does not matter to anyone who reads through here, only that there is one.
BEGUN = "1970-01-01T00:00:00Z"


class Recent(Generic[ObjectT]):
    """Reads like the cache it covers, with our own writes on top."""

    def __init__(self, cache: Cache[ObjectT]) -> None:
        self._cache = cache
        self._written: dict[str, tuple[int, ObjectT]] = {}  # by key, with the version of the write
        self._deleted: dict[str, tuple[int, str]] = {}  # by uid: the version it was decided on, and the key

    def wrote(self, answer: ObjectT) -> None:
        """Remember the server's answer to a create, replace or patch."""
        version = version_number(answer.metadata.resource_version)
        known = self._written.get(answer.metadata.key)
        if known is None or known[0] < version:
            self._written[answer.metadata.key] = (version, answer)

    def deleted(self, key: str, uid: str, resource_version: str) -> None:
        """Remember that the server accepted a delete, decided on the object's ``resource_version``."""
        self._deleted[uid] = (version_number(resource_version), key)

    def get(self, key: str) -> ObjectT | None:
        """Return the object, or None."""
        self._forget_what_is_seen()
        return self._shown(key)

    def objects(self) -> Mapping[str, ObjectT]:
        """Return all objects as they are now."""
        self._forget_what_is_seen()
        if not self._written and not self._deleted:
            return self._cache.objects()
        merged = dict(self._cache.objects())
        for key in self._touched():
            if (shown := self._shown(key)) is not None:
                merged[key] = shown
        return MappingProxyType(merged)

    def indexed(self, name: str, value: str) -> tuple[ObjectT, ...]:
        """Return the objects that have ``value`` in the index ``name`` of the cache, ordered by key."""
        self._forget_what_is_seen()
        found = {each.metadata.key: each for each in self._cache.indexed(name, value)}
        for key in self._touched():
            found.pop(key, None)
            shown = self._shown(key)
            if shown is not None and value in self._cache.index_values(name, shown):
                found[key] = shown
        return tuple(found[key] for key in sorted(found))

    def _touched(self) -> Iterable[str]:
        return {*self._written, *(key for _, key in self._deleted.values())}

    def _shown(self, key: str) -> ObjectT | None:
        written = self._written.get(key)
        each = written[1] if written else self._cache.get(key)
        if each is None or each.metadata.uid not in self._deleted or each.metadata.deletion_timestamp:
            return each
        begun = msgspec.structs.replace(each.metadata, deletion_timestamp=BEGUN)
        return msgspec.structs.replace(each, metadata=begun)

    def _forget_what_is_seen(self) -> None:
        seen = self._cache.resource_version
        for key in [key for key, (version, _) in self._written.items() if version <= seen]:
            del self._written[key]
        for uid in [uid for uid, deletion in self._deleted.items() if self._saw_deletion(uid, *deletion)]:
            del self._deleted[uid]

    def _saw_deletion(self, uid: str, version: int, key: str) -> bool:
        if version > self._cache.resource_version:
            return False  # the cache has not even seen what we deleted
        each = self._cache.get(key)
        return each is None or each.metadata.uid != uid or each.metadata.deletion_timestamp is not None
