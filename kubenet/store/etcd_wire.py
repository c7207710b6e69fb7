"""The messages of etcd's API version 3 that a store of four transactions needs. *Pure.*

Source: the field numbers of etcd, api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto (3.4 to 3.6 agree).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kubenet.model.wire import Wire, bytes_field, content_of, fields, message_field, number_field, signed

RANGE, TXN, COMPACT = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Compact"
WATCH = "/etcdserverpb.Watch/Watch"
_EQUAL, _TARGET_MOD = 0, 2
_DELETED = 1


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key with its value; ``revision`` is that of its last change."""

    key: bytes
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a range: what there is at a revision, and whether there is more."""

    records: tuple[KeyValue, ...]
    revision: int
    more: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to a transaction: whether it was carried out, and what the key holds if it was not."""

    succeeded: bool
    revision: int
    have: KeyValue | None


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch; ``value`` None is a deletion."""

    key: bytes
    value: bytes | None
    revision: int
    before: KeyValue | None


@dataclass(frozen=True, slots=True)
class Heard:
    """One message of a watch."""

    revision: int
    created: bool
    canceled: bool
    compacted: int  # the revision below which nothing is kept, if the watch asked for less
    changes: tuple[Change, ...]


def range_request(key: bytes, end: bytes = b"", limit: int = 0, revision: int = 0) -> bytes:
    """Return a request for the keys from ``key`` up to, not including, ``end``; only ``key`` without one."""
    return bytes_field(1, key) + bytes_field(2, end) + number_field(3, limit) + number_field(4, revision)


def swap_request(key: bytes, value: bytes | None, expected: int) -> bytes:
    """Return a transaction: write (``value`` None: delete) if the key is at ``expected``, else read it."""
    compare = b"".join(
        (number_field(1, _EQUAL), number_field(2, _TARGET_MOD), bytes_field(3, key), _exact(6, expected))
    )
    if value is None:
        act = message_field(3, bytes_field(1, key))
    else:
        act = message_field(2, bytes_field(1, key) + bytes_field(2, value))
    read = message_field(1, range_request(key))
    return message_field(1, compare) + message_field(2, act) + message_field(3, read)


def _exact(number: int, value: int) -> bytes:
    """Return a field of a oneof: a zero says which of them is meant."""
    return number_field(number, value) or bytes((number << 3, 0))


def compact_request(revision: int) -> bytes:
    return number_field(1, revision)


def watch_request(key: bytes, end: bytes, start: int) -> bytes:
    """Return the beginning of a watch from revision ``start`` on, with what each change replaced."""
    create = bytes_field(1, key) + bytes_field(2, end) + number_field(3, start) + number_field(6, True)
    return message_field(1, create)


def progress_request() -> bytes:
    """Return a request to be told how far a watch has come."""
    return message_field(3, b"")


def read_range(answer: bytes) -> Found:
    """Return what a range found. Raises Malformed."""
    records, revision, more = [], 0, False
    for number, value in fields(answer):
        if number == 1:
            revision = _revision(value)
        elif number == 2:
            records.append(_key_value(value))
        elif number == 3:
            more = bool(value)
    return Found(tuple(records), revision, more)


def read_outcome(answer: bytes) -> Outcome:
    """Return what a transaction did. Raises Malformed."""
    succeeded, revision = False, 0
    have: KeyValue | None = None
    for number, value in fields(answer):
        if number == 1:
            revision = _revision(value)
        elif number == 2:
            succeeded = bool(value)
        elif number == 3:
            have = next(iter(_read_by(value)), None)
    return Outcome(succeeded, revision, have)


def _read_by(response: Wire) -> Iterator[KeyValue]:
    """Yield what the range inside a response found."""
    for number, value in fields(content_of(response)):
        if number == 1:
            yield from read_range(content_of(value)).records


def read_watch(message: bytes) -> Heard:
    """Return a message of a watch. Raises Malformed."""
    found: dict[int, Wire] = {}
    changes = []
    for number, value in fields(message):
        if number == 11:
            changes.append(_change(value))
        else:
            found[number] = value
    return Heard(
        _revision(found.get(1, b"")),
        bool(found.get(3, 0)),
        bool(found.get(4, 0)),
        signed(found.get(5, 0)),
        tuple(changes),
    )


def _change(value: Wire) -> Change:
    parts = dict(fields(content_of(value)))
    record = _key_value(parts.get(2, b""))
    before = _key_value(parts[3]) if 3 in parts else None
    written = None if parts.get(1, 0) == _DELETED else record.value
    return Change(record.key, written, record.revision, before)


def _key_value(value: Wire) -> KeyValue:
    parts = dict(fields(content_of(value)))
    key, content = content_of(parts.get(1, b"")), content_of(parts.get(5, b""))
    return KeyValue(key, content, signed(parts.get(3, 0)))


def _revision(header: Wire) -> int:
    return signed(dict(fields(content_of(header))).get(3, 0))


def end_of(prefix: bytes) -> bytes:
    """Return the least key greater than every key that begins with ``prefix``."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else b"\x00"
