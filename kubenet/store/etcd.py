"""A store in etcd, version 3: what one machine may lose, a majority of members keeps.

One watch of everything follows the members and hands each change to the feeds; a write answers once that
watch has shown it, so watchers know it first. A member that is lost is left for the next: writes are repeated
(what a repeated write finds done by itself was done by it), and the watch goes on where it was.

Revisions are etcd's, less one: an empty etcd begins at 1, a store at 0. What was migrated from another store
has a base, a key beside the root, that is added to all: so revisions go on where the other store had come to.
Keys of others in the same etcd make gaps, but no revision is told that has no change of ours.

Source: etcd documentation, "API guarantees", "Interacting with etcd"; grpc.aio.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import grpc
import grpc.aio

from kubenet.errors import AlreadyExists, InvalidInput, KubenetError
from kubenet.store import etcd_wire as wire
from kubenet.store.base import (
    Batch,
    Event,
    Gone,
    KeyTaken,
    Page,
    Record,
    RevisionMismatch,
    StoreFailed,
    Write,
)
from kubenet.store.feed import DEFAULT_LIMITS, Feed, FeedLimits, Feeds

log = logging.getLogger(__name__)

OFFSET = 1
PAGE = 500
TRY_S = 3.0  # for one member to answer
PATIENCE_S = 15.0  # for any of them: an election takes a second or two
BACKOFF_S = (0.02, 0.5)
PROGRESS_AFTER_S = 0.1  # without the event of a revision: it may be one of somebody else's keys
_RETRIED = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN")
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 5000),
    ("grpc.keepalive_timeout_ms", 3000),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

T = TypeVar("T")
Channel = Any  # grpc has no types


@dataclass(frozen=True, slots=True)
class EtcdConfig:
    """Which members there are, how to be known to them, and below which key everything is kept."""

    endpoints: tuple[str, ...]  # http://HOST:PORT or https://HOST:PORT
    root: str = "/kubenet"
    ca_pem: bytes = b""
    cert_pem: bytes = b""
    key_pem: bytes = field(default=b"", repr=False)


class EtcdStore:
    """See ``kubenet.store.base.Store``; made by ``open``."""

    def __init__(self, config: EtcdConfig, limits: FeedLimits) -> None:
        if not config.endpoints:
            raise InvalidInput("etcd: no endpoints", "give --etcd-endpoints http://HOST:2379,...")
        self._root = config.root.encode()
        self._limits = limits
        self._channels = [_channel(endpoint, config) for endpoint in config.endpoints]
        self._names = ", ".join(config.endpoints)
        self._current = 0
        self._feeds = Feeds()
        self._shift = OFFSET  # what etcd's revisions have more than ours
        self._revision = 0  # of the newest change that the feeds have
        self._confirmed = 0  # up to here nothing is missing
        self._arrived = asyncio.Event()
        self._requests: asyncio.Queue[bytes] | None = None
        self._closed = False
        self._follower: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, config: EtcdConfig, limits: FeedLimits = DEFAULT_LIMITS) -> "EtcdStore":
        """Return a store once a member answers. Raises StoreFailed, InvalidInput."""
        store = cls(config, limits)
        try:
            found = await store._range(wire.range_request(store._base_key))
        except KubenetError:
            await store.close()
            raise
        store._shift = OFFSET - sum(int(one.value) for one in found.records)
        store._revision = store._confirmed = found.revision - store._shift
        store._follower = asyncio.create_task(store._follow())
        return store

    @property
    def _base_key(self) -> bytes:
        return b"kubenet-base:" + self._root

    async def begin_at(self, revision: int) -> None:
        """Let the next change be one after ``revision``. Raises AlreadyExists if there are keys already."""
        if (await self.range("", limit=1)).records or self._shift != OFFSET:
            raise AlreadyExists(f"etcd: {self._names}: {self._root.decode()} is in use", "name another root")
        found = await self._range(wire.range_request(self._root))
        base = revision - found.revision
        if base > 0:
            request = wire.swap_request(self._base_key, str(base).encode(), 0)
            await self._tried(lambda channel: _call(channel, wire.TXN, request))
            self._shift = OFFSET - base
            self._revision = self._confirmed = revision

    # writing

    async def create(self, key: str, value: bytes) -> int:
        return await self._swap(Write(key, value, 0))

    async def update(self, key: str, value: bytes, expected: int) -> int:
        return await self._swap(Write(key, value, expected))

    async def delete(self, key: str, expected: int) -> int:
        return await self._swap(Write(key, None, expected))

    async def _swap(self, write: Write) -> int:
        expected = write.expected + self._shift if write.expected else 0
        request = wire.swap_request(self._key(write.key), write.value, expected)
        tries = 0

        async def attempt(channel: Channel) -> bytes:
            nonlocal tries
            tries += 1
            return await _call(channel, wire.TXN, request)

        outcome = wire.read_outcome(await self._tried(attempt))
        revision = outcome.revision
        if not outcome.succeeded:
            if tries == 1 or not _is_ours(write, outcome.have):
                raise self._refused(write, outcome.have)
            revision = outcome.have.revision if outcome.have else outcome.revision
        await self._arrival(revision - self._shift)
        return revision - self._shift

    def _refused(self, write: Write, have: wire.KeyValue | None) -> KubenetError:
        revision = have.revision - self._shift if have else 0
        if write.expected == 0:
            return KeyTaken(f"{write.key}: exists at revision {revision}")
        return RevisionMismatch(write.key, write.expected, revision)

    # reading

    async def get(self, key: str) -> Record | None:
        found = await self._range(wire.range_request(self._key(key)))
        return next((self._record(one) for one in found.records), None)

    async def range(self, prefix: str, limit: int = 0, start: str = "") -> Page:
        first, end = self._key(max(prefix, start)), wire.end_of(self._key(prefix))
        found = await self._range(wire.range_request(first, end, limit or PAGE))
        records, revision = list(found.records), found.revision
        while found.more and not limit:
            following = records[-1].key + b"\0"
            found = await self._range(wire.range_request(following, end, PAGE, revision))
            records.extend(found.records)
        return Page(tuple(self._record(one) for one in records), revision - self._shift, found.more)

    async def _range(self, request: bytes) -> wire.Found:
        answer = await self._tried(lambda channel: _call(channel, wire.RANGE, request))
        return wire.read_range(answer)

    async def revision(self) -> int:
        found = await self._range(wire.range_request(self._root))
        await self._arrival(found.revision - self._shift)
        return self._revision

    async def compact(self, revision: int) -> None:
        target = min(revision, self._revision) + self._shift
        request = wire.compact_request(target)
        try:
            await self._tried(lambda channel: _call(channel, wire.COMPACT, request))
        except StoreFailed as error:
            if "has been compacted" not in str(error):
                raise

    # watching

    def watch(self, prefix: str, after: int) -> Feed:
        return self._feeds.add(Feed(prefix, (after, self._revision), self._replay, self._limits))

    async def _replay(self, prefix: str, after: int, head: int) -> Batch:
        """Return a page of what happened; every revision of ours has a change below the root."""
        events: list[Event] = []
        reached = after
        try:
            async with self._watching(after) as heard:
                async for message in heard:
                    events.extend(event for event in self._events(message) if after < event.revision <= head)
                    reached = events[-1].revision if events else reached
                    if reached >= head or len(events) >= PAGE:
                        break
        except grpc.RpcError as error:
            raise StoreFailed(f"etcd: {self._names}: a watch broke: {_words(error)}") from None
        page = events[:PAGE]
        return Batch(page[-1].revision, tuple(event for event in page if event.key.startswith(prefix)))

    async def _follow(self) -> None:
        """Hand every change to the feeds, for ever."""
        failures = 0
        while True:
            try:
                async with self._watching(self._confirmed, progress=True) as heard:
                    async for message in heard:
                        failures = 0
                        self._take(message)
            except grpc.RpcError as error:
                log.info("etcd: the watch broke, and goes on at another member: %s", _words(error))
            except Gone as gone:
                await self._start_anew(gone)
            self._next_member()
            failures += 1
            await asyncio.sleep(_pause_s(failures))

    async def _start_anew(self, gone: Gone) -> None:
        """Cut every feed: changes were forgotten that they have not seen."""
        log.warning("etcd: %s", gone)
        self._feeds.cut(str(gone))
        with suppress(StoreFailed):
            found = await self._range(wire.range_request(self._root))
            self._revision = self._confirmed = found.revision - self._shift

    def _take(self, message: wire.Heard) -> None:
        events = tuple(event for event in self._events(message) if event.revision > self._revision)
        if events:
            self._revision = events[-1].revision
            self._feeds.push(Batch(self._revision, events))
        if events or not message.created:  # without events it tells how far the watch has come
            self._confirmed = max(self._confirmed, self._revision)
            if not events:
                self._confirmed = max(self._confirmed, message.revision - self._shift)
            self._arrived.set()

    def _events(self, message: wire.Heard) -> list[Event]:
        return [
            Event(
                change.revision - self._shift,
                self._name(change.key),
                change.value,
                self._record(change.before) if change.before else None,
            )
            for change in message.changes
        ]

    @asynccontextmanager
    async def _watching(self, after: int, progress: bool = False) -> AsyncIterator[AsyncIterator[wire.Heard]]:
        """Watch everything from ``after`` on, that revision included: so that its compaction is an error."""
        start, requests = after + self._shift, asyncio.Queue[bytes]()
        if start < 0:
            raise Gone(f"revision {after} was before this etcd")
        requests.put_nowait(wire.watch_request(self._root, wire.end_of(self._root), max(1, start)))
        call = self._channels[self._current].stream_stream(wire.WATCH)(_sent(requests))
        if progress:
            self._requests = requests
        try:
            yield _heard(call, after)
        finally:
            call.cancel()

    async def _arrival(self, revision: int) -> None:
        """Return once the feeds have everything up to ``revision``. Raises StoreFailed."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self._confirmed < revision:
                    self._check_open()
                    self._arrived.clear()
                    await self._nudged()
        except TimeoutError:
            raise StoreFailed(
                f"etcd: {self._names}: the watch does not come to revision {revision}"
            ) from None

    async def _nudged(self) -> None:
        try:
            async with asyncio.timeout(PROGRESS_AFTER_S):
                await self._arrived.wait()
        except TimeoutError:
            if self._requests is not None:
                self._requests.put_nowait(wire.progress_request())

    # members

    async def _tried(self, attempt: Callable[[Channel], Awaitable[bytes]]) -> bytes:
        """Ask one member after another until one answers. Raises StoreFailed."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        for tries in count(1):
            self._check_open()
            try:
                return await attempt(self._channels[self._current])
            except grpc.RpcError as error:
                late = asyncio.get_running_loop().time() > deadline
                if late or error.code().name not in _RETRIED:
                    raise StoreFailed(f"etcd: {self._names}: {_words(error)}") from None
                self._next_member()
                await asyncio.sleep(_pause_s(tries))
        raise AssertionError("count() has no end")

    def _next_member(self) -> None:
        self._current = (self._current + 1) % len(self._channels)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreFailed("etcd: the store is closed")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._arrived.set()
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        self._feeds.close()
        for channel in self._channels:
            await channel.close()

    def _key(self, key: str) -> bytes:
        return self._root + key.encode()

    def _name(self, key: bytes) -> str:
        return key[len(self._root) :].decode()

    def _record(self, found: wire.KeyValue) -> Record:
        return Record(self._name(found.key), found.value, found.revision - self._shift)


def _is_ours(write: Write, have: wire.KeyValue | None) -> bool:
    """Return whether a write that was sent twice was carried out the first time."""
    if write.value is None:
        return have is None
    return have is not None and have.value == write.value


async def _call(channel: Channel, method: str, request: bytes) -> bytes:
    answer: bytes = await channel.unary_unary(method)(request, timeout=TRY_S)
    return answer


async def _sent(requests: "asyncio.Queue[bytes]") -> AsyncIterator[bytes]:
    while True:
        yield await requests.get()


async def _heard(call: Any, after: int) -> AsyncIterator[wire.Heard]:
    async for message in call:
        heard = wire.read_watch(message)
        if heard.compacted:
            raise Gone(f"revision {after} is compacted (etcd keeps from {heard.compacted} on)")
        if heard.canceled:
            raise StoreFailed("etcd: the watch was refused")
        yield heard


def _channel(endpoint: str, config: EtcdConfig) -> Channel:
    scheme, _, address = endpoint.rpartition("://")
    if scheme not in ("http", "https", "") or ":" not in address:
        raise InvalidInput(f"etcd: {endpoint}: not http://HOST:PORT or https://HOST:PORT")
    if scheme != "https":
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        config.ca_pem or None, config.key_pem or None, config.cert_pem or None
    )
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


def _words(error: Any) -> str:
    return f"{error.code().name}: {error.details()}"


def _pause_s(tries: int) -> float:
    least, most = BACKOFF_S
    longest: float = min(most, least * 2.0 ** min(tries, 10))
    return longest * random.uniform(0.5, 1.0)
