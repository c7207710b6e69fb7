"""Objects in the API's protobuf form, as JSON. *Pure.*

Typed clients send it: kubectl from 1.32 on for ``create`` and ``run``, and most programs written in Go. Only
requests are read; answers are always JSON, which every client accepts. What a newer client knows and the
table does not is ignored, as protobuf wants it.

A typed client writes the zero of everything it left alone, so a zero is dropped unless the table says that
it counts; an empty message stays (``emptyDir: {}``).

Source: Protocol Buffers documentation, "Encoding"; Kubernetes API concepts, "Protobuf encoding".
"""

from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from kubenet.apiserver.schema.types import Field, Shape, is_served, message, message_of
from kubenet.apiserver.status import StatusError, bad_request
from kubenet.errors import Malformed
from kubenet.model.objects import Json, JsonValue
from kubenet.model.wire import Wire, fields, read_varint

PROTOBUF_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
FIELDS_MOST = 200_000  # an EndpointSlice of 1000 endpoints has some 15,000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799  # the years 1 to 9999

# The numbers inside the envelope and the types that have a JSON form of their own.
_TYPE_META, _RAW, _ENCODING = 1, 2, 3
_API_VERSION, _KIND = 1, 2
_KEY, _VALUE = 1, 2
_SECONDS, _NANOS = 1, 2
_INT_TYPE, _INT_VALUE, _STRING_VALUE = 1, 2, 3


def decode(body: bytes) -> Json:
    """Return the object of a request's body. Raises StatusError (400)."""
    if not body.startswith(MAGIC):
        raise _malformed("it does not begin with the four bytes of the API's envelope")
    reader = _Reader()
    envelope = reader.last(body[len(MAGIC) :])
    named = reader.last(_bytes(envelope.get(_TYPE_META, b"")))
    api_version, kind = (_text(named.get(number, b"")) for number in (_API_VERSION, _KIND))
    if not is_served(api_version, kind):
        raise bad_request(f'no kind "{kind}" is registered for version "{api_version}"')
    if envelope.get(_ENCODING):
        raise _malformed("its content is encoded once more")
    decoded: Json = {"kind": kind, "apiVersion": api_version}
    reader.fill(decoded, message_of(api_version, kind), _bytes(envelope.get(_RAW, b"")))
    return decoded


class _Reader:
    """Reads one body; counts what it reads, since two bytes can stand for an object."""

    def __init__(self) -> None:
        self._left = FIELDS_MOST

    def fill(self, table: Json, name: str, content: bytes) -> None:
        """Put the fields of a message into ``table``; a field that is already there is merged or replaced."""
        fields = message(name).by_number
        for number, value in self._fields(content):
            field = fields.get(number)
            if field is None:
                continue
            if not field.name:
                self.fill(table, field.type, _bytes(value))
            elif field.shape is Shape.LIST:
                _list_in(table, field.name).extend(self._elements(field, value))
            elif field.shape is Shape.MAP:
                self._fill_map(_table_in(table, field.name), field, _bytes(value))
            else:
                self._fill_one(table, field, value)

    def last(self, content: bytes) -> dict[int, Wire]:
        """Return the last value of each number in a message."""
        return dict(self._fields(content))

    def _fill_one(self, table: Json, field: Field, value: Wire) -> None:
        if field.type not in _LEAF:
            self.fill(_table_in(table, field.name), field.type, _bytes(value))
            return
        leaf = self._leaf(field.type, value)
        if leaf is None or (leaf in (0, "", False) and field.type in _ZEROES and not field.zero_counts):
            table.pop(field.name, None)
        else:
            table[field.name] = leaf

    def _elements(self, field: Field, value: Wire) -> list[JsonValue]:
        if field.type == "int" and isinstance(value, bytes):
            return [*_packed(value)]
        return [self._value(field.type, value)]

    def _fill_map(self, table: Json, field: Field, content: bytes) -> None:
        entry = self.last(content)
        empty = 0 if field.type in ("int", "bool") else b""
        table[_text(entry.get(_KEY, b""))] = self._value(field.type, entry.get(_VALUE, empty))

    def _value(self, name: str, value: Wire) -> JsonValue:
        if name in _LEAF:
            return self._leaf(name, value)
        table: Json = {}
        self.fill(table, name, _bytes(value))
        return table

    def _leaf(self, name: str, value: Wire) -> JsonValue:
        return _LEAF[name](self, value)

    def _fields(self, content: bytes) -> Iterator[tuple[int, Wire]]:
        try:
            for field in fields(content):
                self._left -= 1
                if self._left < 0:
                    raise _malformed(f"it has more than {FIELDS_MOST} fields")
                yield field
        except Malformed as error:
            raise _malformed(error.message.removeprefix("protobuf: ")) from None

    # the types that have a JSON form of their own

    def _time(self, value: Wire) -> JsonValue:
        return self._moment(value, "seconds")

    def _micro_time(self, value: Wire) -> JsonValue:
        return self._moment(value, "microseconds")

    def _moment(self, value: Wire, precision: str) -> str | None:
        """Return a point in time as RFC 3339; nothing inside means none."""
        parts = self.last(_bytes(value))
        if not parts:
            return None
        seconds, nanos = _int(parts.get(_SECONDS, 0)), _int(parts.get(_NANOS, 0))
        if not _FIRST_S <= seconds <= _LAST_S or not 0 <= nanos < 10**9:
            raise _malformed("it has a time outside the years 1 to 9999")
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
        return moment.isoformat(timespec=precision).replace("+00:00", "Z")

    def _quantity(self, value: Wire) -> JsonValue:
        return _text(self.last(_bytes(value)).get(1, b"")) or "0"

    def _int_or_string(self, value: Wire) -> JsonValue:
        parts = self.last(_bytes(value))
        if _int(parts.get(_INT_TYPE, 0)):
            return _text(parts.get(_STRING_VALUE, b""))
        return _int(parts.get(_INT_VALUE, 0))

    def _fields_v1(self, value: Wire) -> JsonValue:
        raw = _bytes(self.last(_bytes(value)).get(1, b""))
        try:
            found: JsonValue = msgspec.json.decode(raw) if raw else {}
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise _malformed(f"a field that holds JSON does not: {error}") from None
        return found

    def _texts(self, value: Wire) -> JsonValue:
        return [_text(element) for number, element in self._fields(_bytes(value)) if number == 1]

    def _string(self, value: Wire) -> JsonValue:
        return _text(value)

    def _base64(self, value: Wire) -> JsonValue:
        return b64encode(_bytes(value)).decode()

    def _integer(self, value: Wire) -> JsonValue:
        return _int(value)

    def _boolean(self, value: Wire) -> JsonValue:
        return bool(_int(value))


_LEAF = {
    "string": _Reader._string,
    "bytes": _Reader._base64,
    "int": _Reader._integer,
    "bool": _Reader._boolean,
    "Time": _Reader._time,
    "MicroTime": _Reader._micro_time,
    "Quantity": _Reader._quantity,
    "IntOrString": _Reader._int_or_string,
    "FieldsV1": _Reader._fields_v1,
    "RawExtension": _Reader._fields_v1,
    "Texts": _Reader._texts,
}
_ZEROES = ("string", "bytes", "int", "bool")


def _packed(content: bytes) -> Iterator[int]:
    at = 0
    while at < len(content):
        number, at = read_varint(content, at)
        yield _int(number)


def _int(value: Wire) -> int:
    if isinstance(value, bytes):
        raise _malformed("it has bytes where a number belongs")
    return value - 2**64 if value >= 2**63 else value


def _bytes(value: Wire) -> bytes:
    if isinstance(value, int):
        raise _malformed("it has a number where bytes belong")
    return value


def _text(value: Wire) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError:
        raise _malformed("it has a string that is not UTF-8") from None


def _table_in(table: Json, name: str) -> Json:
    child = table.setdefault(name, {})
    return child if isinstance(child, dict) else {}


def _list_in(table: Json, name: str) -> list[JsonValue]:
    child = table.setdefault(name, [])
    return child if isinstance(child, list) else []


def _malformed(why: str) -> StatusError:
    return bad_request(f"the body of the request is not protobuf: {why}")
