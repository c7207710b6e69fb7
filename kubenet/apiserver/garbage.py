"""Removing what nobody needs: dependents of deleted objects, contents of deleted namespaces, old Events.

The collector follows the cache's changes, and looks at everything once when it starts and when changes may
have been missed, so that nothing is forgotten over a restart. What becomes of one object is decided by
``ownership`` (pure).
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from kubenet.apiserver.cache import Cache
from kubenet.apiserver.entries import Change, Entry
from kubenet.apiserver.kinds import EVENT, NAMESPACE
from kubenet.apiserver.objects import updated_finalizers
from kubenet.apiserver.ownership import (
    FOREGROUND,
    ORPHAN,
    Owner,
    Verdict,
    verdict,
    without_finalizer,
    without_owner,
)
from kubenet.apiserver.query import DeleteOptions, WriteOptions
from kubenet.apiserver.status import StatusError
from kubenet.apiserver.tree import text_at
from kubenet.apiserver.writes import Address, Writer
from kubenet.clock import Clock
from kubenet.model.objects import OwnerReference

log = logging.getLogger(__name__)

EVENTS_KEPT = timedelta(hours=1)
SWEEP_EVERY_S = 60.0
RETRY_S = 0.2
# A namespace rests this long before its contents go: creations under way end, and a client that deletes a
# whole manifest still finds the objects that come after the namespace. (Kubernetes waits 5 s.)
NAMESPACE_REST_S = 0.5
AT_ONCE = 32  # writes under way together share a commit of the store


class Dependents:
    """Who names whom as owner, by the owner's uid, and where each uid lives."""

    def __init__(self) -> None:
        self._dependents: dict[str, set[str]] = {}
        self._entries: dict[str, Entry] = {}
        self._by_uid: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        self.drop(entry.key)
        self._entries[entry.key] = entry
        self._by_uid[entry.meta.uid] = entry.key
        for owner in entry.meta.owner_references:
            self._dependents.setdefault(owner.uid, set()).add(entry.key)

    def drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        if self._by_uid.get(entry.meta.uid) == key:
            del self._by_uid[entry.meta.uid]
        for owner in entry.meta.owner_references:
            keys = self._dependents.get(owner.uid, set())
            keys.discard(key)
            if not keys:
                self._dependents.pop(owner.uid, None)

    def entry(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def by_uid(self, uid: str) -> Entry | None:
        return self._entries.get(self._by_uid.get(uid, ""))

    def of(self, uid: str) -> list[Entry]:
        """Return the objects that name ``uid`` as an owner."""
        return [self._entries[key] for key in sorted(self._dependents.get(uid, ()))]

    def clear(self) -> None:
        self._dependents.clear()
        self._entries.clear()
        self._by_uid.clear()


class GarbageCollector:
    """See the module's text; ``run`` it beside the cache."""

    def __init__(self, cache: Cache, writer: Writer, clock: Clock) -> None:
        self._cache = cache
        self._writer = writer
        self._clock = clock
        self._known = Dependents()
        self._queue: dict[str, None] = {}  # in order, each key once
        self._wake = asyncio.Event()
        self._resting: set[str] = set()
        cache.listen(self._on_change, self.load)

    def load(self) -> None:
        """Look at every object anew."""
        self._known.clear()
        for shelf in self._cache.shelves.values():
            for entry in shelf.entries.values():
                self._known.add(entry)
                self._enqueue(entry.key)

    def _enqueue(self, *keys: str) -> None:
        self._queue.update(dict.fromkeys(keys))
        self._wake.set()

    def _on_change(self, change: Change) -> None:
        meta = change.after.meta
        if change.deleted:
            self._enqueue(*(entry.key for entry in self._known.of(meta.uid)))
            self._known.drop(change.key)
            owners = (self._known.by_uid(owner.uid) for owner in meta.owner_references)
            self._enqueue(*(owner.key for owner in owners if owner))
        else:
            self._known.add(change.after)
            if self._ends(change) and change.after.kind is NAMESPACE:
                self._rest(change.key)
            elif change.before is None or meta.deletion_timestamp or meta.owner_references:
                self._enqueue(change.key)
        if meta.namespace and (change.deleted or change.before is None):
            self._enqueue(NAMESPACE.key("", meta.namespace))

    def _ends(self, change: Change) -> bool:
        """Return whether this change announced the object's end."""
        before = change.before is not None and change.before.meta.deletion_timestamp
        return bool(change.after.meta.deletion_timestamp) and not before

    def _rest(self, key: str) -> None:
        self._resting.add(key)
        asyncio.get_running_loop().call_later(NAMESPACE_REST_S, self._rested, key)

    def _rested(self, key: str) -> None:
        self._resting.discard(key)
        self._enqueue(key)

    async def run(self) -> None:
        """Collect for ever."""
        self.load()
        while True:
            try:
                # Not wait_for: in Python 3.11 it swallows a cancellation that meets the end of the wait.
                async with asyncio.timeout(SWEEP_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                await self.expire_events()
                continue
            self._wake.clear()
            while self._queue:
                keys = list(self._queue)[:AT_ONCE]
                for key in keys:
                    del self._queue[key]
                await asyncio.gather(*(self._examine(key) for key in keys))

    async def _examine(self, key: str) -> None:
        entry = self._known.entry(key)
        if entry is None:
            return
        try:
            await self._judge(entry)
        except StatusError as error:
            if error.reason != "NotFound":
                log.warning("garbage: %s: %s, again in %s s", key, error, RETRY_S)
                asyncio.get_running_loop().call_later(RETRY_S, self._enqueue, key)

    async def _judge(self, entry: Entry) -> None:
        if entry.kind is NAMESPACE:
            if entry.meta.deletion_timestamp and entry.key not in self._resting:
                await self._empty(entry)
            return
        if entry.kind.resource.namespaced and not self._cache.get(NAMESPACE, "", entry.meta.namespace):
            await self._delete(entry, DeleteOptions(grace_s=0, uid=entry.meta.uid))
            return
        if entry.meta.deletion_timestamp:
            await self._let_go(entry)
            return
        decision = verdict(entry.meta.owner_references, lambda owner: self._state(entry, owner))
        if decision is not Verdict.KEEP:
            await self._delete(entry, DeleteOptions(propagation=decision.value, uid=entry.meta.uid))

    def _state(self, entry: Entry, reference: OwnerReference) -> Owner:
        kind = self._cache.catalogue.of_kind(reference.api_version, reference.kind)
        if kind is None:
            return Owner.PRESENT  # a kind that is not served here: not ours to judge
        owner = self._known.by_uid(reference.uid)
        if owner is None or owner.meta.namespace not in ("", entry.meta.namespace):
            return Owner.ABSENT
        waiting = owner.meta.deletion_timestamp and FOREGROUND in owner.meta.finalizers
        return Owner.WAITING if waiting else Owner.PRESENT

    async def _delete(self, entry: Entry, options: DeleteOptions) -> None:
        await self._writer.delete_if_there(_address(entry), options)

    async def _empty(self, space: Entry) -> None:
        """Delete what is in a terminating namespace; the namespace itself when nothing is left."""
        contents = self._contents(space.meta.name)
        for entry in contents:
            if not entry.meta.deletion_timestamp:
                await self._delete(entry, DeleteOptions(uid=entry.meta.uid))
        if not contents:
            await self._writer.change(
                _address(space), lambda old: updated_finalizers({}, old), WriteOptions()
            )

    def _contents(self, namespace: str) -> list[Entry]:
        return [
            shelf.entries[key]
            for shelf in self._cache.shelves.values()
            if shelf.kind.resource.namespaced
            for key in shelf.under(f"{shelf.kind.prefix}{namespace}/")
        ]

    async def _let_go(self, entry: Entry) -> None:
        """Do what an object's deletion policy waits for, then take its finalizer away."""
        dependents = self._known.of(entry.meta.uid)
        if ORPHAN in entry.meta.finalizers:
            for dependent in dependents:
                await self._orphan(dependent, entry.meta.uid)
            await self._drop_finalizer(entry, ORPHAN)
        elif FOREGROUND in entry.meta.finalizers:
            self._enqueue(*(one.key for one in dependents if not one.meta.deletion_timestamp))
            if not dependents:
                await self._drop_finalizer(entry, FOREGROUND)

    async def _orphan(self, dependent: Entry, uid: str) -> None:
        await self._writer.change(_address(dependent), lambda old: without_owner(old, uid), WriteOptions())

    async def _drop_finalizer(self, entry: Entry, name: str) -> None:
        await self._writer.change(_address(entry), lambda old: without_finalizer(old, name), WriteOptions())

    async def expire_events(self) -> None:
        """Delete the Events that nothing has happened to for an hour."""
        before = self._clock.now() - EVENTS_KEPT
        for entry in _older(self._cache.shelf(EVENT).entries.values(), before):
            await self._delete(entry, DeleteOptions())


def _older(events: Iterable[Entry], before: datetime) -> list[Entry]:
    """Return the events that nothing has happened to since ``before``."""
    return [
        entry
        for entry in events
        if _moment(entry.meta.creation_timestamp or "", before) < before
        and _moment(text_at(entry.table(), "lastTimestamp"), before - EVENTS_KEPT) < before
    ]


def _moment(timestamp: str, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(timestamp)
    except ValueError:
        return otherwise


def _address(entry: Entry) -> Address:
    return Address(entry.kind, entry.meta.namespace, entry.meta.name)
