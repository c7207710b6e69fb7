"""Creating, changing and deleting objects: the kind decides, the store keeps, the cache shows.

Every change is a compare-and-swap: the decision is made on the cached state, the store accepts it only if the
object is still at that revision, and otherwise the decision is made again. Nothing is locked.
"""

import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from kubenet.apiserver import codec, objects
from kubenet.apiserver.addresses import NO_CLAIMS, ServiceAddresses, claims_of
from kubenet.apiserver.apply import tracked
from kubenet.apiserver.cache import Cache
from kubenet.apiserver.entries import Change, Entry
from kubenet.apiserver.kinds import NAMESPACE, SERVICE
from kubenet.apiserver.objects import Birth
from kubenet.apiserver.ownership import FOREGROUND, ORPHAN
from kubenet.apiserver.query import DeleteOptions, WriteOptions
from kubenet.apiserver.status import (
    StatusError,
    already_exists,
    conflict,
    forbidden,
    named,
    not_found,
    unavailable,
    unprocessable,
)
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.tree import ensure_table, text_at, texts_at
from kubenet.clock import Clock, rfc3339
from kubenet.model.objects import Json
from kubenet.store.base import KeyTaken, RevisionMismatch, Store, StoreFailed

SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # no vowels, so that no words come out
TRIES = 16
NAME_TRIES = 8

Decide = Callable[[Json], Json]
"""From the present object (the callee's own copy) to the one to store; called again after a conflict."""


@dataclass(frozen=True, slots=True)
class Address:
    """One object: of which kind, where, called what."""

    kind: Kind
    namespace: str
    name: str

    @property
    def key(self) -> str:
        return self.kind.key(self.namespace, self.name)

    def not_found(self) -> StatusError:
        return not_found(self.kind.resource, self.name)


class Writer:
    """The only part of the server that writes into the store."""

    def __init__(self, store: Store, cache: Cache, addresses: ServiceAddresses, clock: Clock) -> None:
        self._store = store
        self._cache = cache
        self._addresses = addresses
        self._clock = clock
        cache.listen(self._on_change, self.load_addresses)

    def load_addresses(self) -> None:
        """Learn which addresses stored Services hold; call it once the cache is loaded.

        Nothing is freed here: a write under way may hold an address that no stored Service shows yet.
        """
        for entry in self._cache.shelf(SERVICE).entries.values():
            self._addresses.hold(claims_of(entry.table()))

    def _on_change(self, change: Change) -> None:
        if change.after.kind is SERVICE:
            before = claims_of(change.before.table()) if change.before else NO_CLAIMS
            after = NO_CLAIMS if change.deleted else claims_of(change.after.table())
            self._addresses.free(before - after)
            self._addresses.hold(after)

    @contextmanager
    def _assigned(self, address: Address, new: Json, old: Json | None, keep: bool) -> Iterator[None]:
        """Have ``new``'s addresses assigned inside; what was taken is given back on failure, or unless kept.

        Raises StatusError.
        """
        if address.kind is not SERVICE:
            yield
            return
        assignment = self._addresses.assign(new, claims_of(old) if old else NO_CLAIMS)
        stored = False
        try:
            if assignment.causes:
                raise unprocessable(address.kind.resource, address.name, assignment.causes)
            yield
            stored = keep
        finally:
            if not stored:
                self._addresses.free(assignment.taken)

    # creating

    async def create(self, kind: Kind, namespace: str, sent: Json, options: WriteOptions) -> bytes:
        """Store a new object and return its served form. Raises StatusError."""
        objects.fit_address(kind, sent, namespace, "")
        tries = 1 if text_at(sent, "metadata", "name") else NAME_TRIES
        while True:
            tries -= 1
            new = objects.created(kind, sent, self._birth())
            address = Address(kind, namespace, text_at(new, "metadata", "name"))
            try:
                return await self._create(address, new, options)
            except KeyTaken:
                if tries == 0:
                    raise already_exists(kind.resource, address.name) from None

    def _birth(self) -> Birth:
        suffix = "".join(random.choices(SUFFIX_LETTERS, k=5))
        return Birth(str(uuid.uuid4()), rfc3339(self._clock.now()), suffix)

    def _track(self, kind: Kind, old: Json, new: Json, options: WriteOptions) -> None:
        """Write down who manages which field of ``new``."""
        if options.tracked:
            return
        states, now = (old, new), rfc3339(self._clock.now())
        entries = tracked(kind, options.manager, states, now)
        metadata = ensure_table(new, "metadata")
        metadata.pop("managedFields", None)
        if entries:
            metadata["managedFields"] = entries

    async def _create(self, address: Address, new: Json, options: WriteOptions) -> bytes:
        self._check_namespace(address)
        if self._cache.get(address.kind, address.namespace, address.name) is not None:
            raise KeyTaken(address.key)
        if not options.tracked:
            ensure_table(new, "metadata").pop("managedFields", None)
        with self._assigned(address, new, None, keep=not options.dry_run):
            self._track(address.kind, {}, new, options)
            body = objects.to_store(address.kind, new, None)
            if options.dry_run:
                return body
            return await self._stored(address, body, 0)

    def _check_namespace(self, address: Address) -> None:
        if not address.kind.resource.namespaced:
            return
        space = self._cache.get(NAMESPACE, "", address.namespace)
        if space is None:
            raise not_found(NAMESPACE.resource, address.namespace)
        if space.meta.deletion_timestamp:
            space_name = address.namespace
            why = f"unable to create new content in namespace {space_name} because it is being terminated"
            raise forbidden(address.kind.resource, address.name, why)

    async def _stored(self, address: Address, body: bytes, expected: int) -> bytes:
        """Write, and return the served form once the cache shows it; ``expected`` 0 creates."""
        try:
            if expected:
                revision = await self._store.update(address.key, body, expected)
            else:
                revision = await self._store.create(address.key, body)
        except StoreFailed as error:
            raise unavailable(str(error)) from error
        await self._cache.reach(revision)
        return codec.stamped(address.kind.resource, body, revision)

    # changing

    async def change(self, address: Address, decide: Decide, options: WriteOptions) -> bytes:
        """Store what ``decide`` makes of the present object and return its served form.

        An object that would not change keeps its revision. Raises StatusError.
        """
        for _ in range(TRIES):
            entry = self._entry(address)
            try:
                return await self._change(address, entry, decide, options)
            except RevisionMismatch:
                await self._cache.refresh()
        raise conflict(address.kind.resource, address.name)

    async def _change(self, address: Address, entry: Entry, decide: Decide, options: WriteOptions) -> bytes:
        old = entry.table()
        new = decide(entry.table())
        with self._assigned(address, new, old, keep=not options.dry_run):
            objects.count_generation(address.kind, new, old)
            self._track(address.kind, old, new, options)
            body = objects.to_store(address.kind, new, None if options.subresource else old)
            if objects.unchanged(new, old):
                return entry.body
            if options.dry_run:
                return codec.stamped(address.kind.resource, body, entry.revision)
            if objects.goes_now(new):
                return await self._removed(address, entry)
            return await self._stored(address, body, entry.revision)

    async def apply(self, address: Address, decide: Decide, options: WriteOptions) -> tuple[bytes, bool]:
        """Store what ``decide`` makes of the present object, or of nothing; also tell whether it is new.

        Raises StatusError.
        """
        for _ in range(TRIES):
            if options.subresource or self._cache.get(address.kind, address.namespace, address.name):
                return await self.change(address, decide, options), False
            try:
                return await self.create(address.kind, address.namespace, decide({}), options), True
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
                await self._cache.refresh()
        raise conflict(address.kind.resource, address.name)

    def _entry(self, address: Address) -> Entry:
        entry = self._cache.get(address.kind, address.namespace, address.name)
        if entry is None:
            raise address.not_found()
        return entry

    # deleting

    async def delete(self, address: Address, options: DeleteOptions) -> bytes:
        """Delete an object, or begin to; return what the API answers. Raises StatusError."""
        for _ in range(TRIES):
            entry = self._entry(address)
            _check_preconditions(address, entry, options)
            try:
                return await self._delete(address, entry, options)
            except RevisionMismatch:
                await self._cache.refresh()
        raise conflict(address.kind.resource, address.name)

    async def delete_if_there(self, address: Address, options: DeleteOptions) -> None:
        """Delete an object that may have gone meanwhile. Raises StatusError."""
        try:
            await self.delete(address, options)
        except StatusError as error:
            if error.reason != "NotFound":
                raise

    async def _delete(self, address: Address, entry: Entry, options: DeleteOptions) -> bytes:
        old = entry.table()
        grace_s = address.kind.strategy.grace_s(old, options.grace_s)
        new = self._marked(entry.table(), grace_s, _finalizers_for(address.kind, old, options))
        if objects.goes_now(new):
            if not options.dry_run:
                await self._removed(address, entry)
            return codec.encoded(_success(address, entry))
        if objects.unchanged(new, old) or options.dry_run:
            return entry.body
        return await self._stored(address, codec.stored(address.kind.resource, new), entry.revision)

    def _marked(self, new: Json, grace_s: int, finalizers: list[str]) -> Json:
        """Return the object with its end announced; a second delete may only bring the end nearer."""
        metadata = ensure_table(new, "metadata")
        metadata["finalizers"] = [*finalizers]
        announced_s = metadata.get("deletionGracePeriodSeconds")
        if not isinstance(announced_s, int) or grace_s < announced_s:
            end = self._clock.now() + timedelta(seconds=grace_s)
            metadata["deletionTimestamp"] = rfc3339(end)
            metadata["deletionGracePeriodSeconds"] = grace_s
        if text_at(new, "kind") == NAMESPACE.resource.kind:
            ensure_table(new, "status")["phase"] = "Terminating"
        return new

    async def _removed(self, address: Address, entry: Entry) -> bytes:
        try:
            revision = await self._store.delete(address.key, entry.revision)
        except StoreFailed as error:
            raise unavailable(str(error)) from error
        await self._cache.reach(revision)
        return codec.restamped(address.kind.resource, entry.body, revision)


def _check_preconditions(address: Address, entry: Entry, options: DeleteOptions) -> None:
    pairs = (
        ("UID", options.uid, entry.meta.uid),
        ("ResourceVersion", options.revision, str(entry.revision)),
    )
    for what, asked, have in pairs:
        if asked and asked != have:
            why = f"Precondition failed: {what} in precondition: {asked}, {what} in object meta: {have}"
            raise conflict(address.kind.resource, address.name, why)


def _finalizers_for(kind: Kind, old: Json, options: DeleteOptions) -> list[str]:
    """Return the finalizers that an object has while it is deleted with these options."""
    names = [name for name in texts_at(old, "metadata", "finalizers") if name not in (FOREGROUND, ORPHAN)]
    if kind is NAMESPACE:
        return names
    by_policy = {"Foreground": FOREGROUND, "Orphan": ORPHAN}
    return [*names, by_policy[options.propagation]] if options.propagation in by_policy else names


def _success(address: Address, entry: Entry) -> Json:
    details = named(address.kind.resource, address.name) | {"uid": entry.meta.uid}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
