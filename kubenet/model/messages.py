"""Protobuf messages as dataclasses. *Pure.*

A message is a frozen dataclass whose fields carry their numbers (``numbered``). Of a message only the fields
that somebody reads are declared; others are skipped when they come, as the format wants it. A zero is not
written, and a field that does not come is its zero.

Law: ``decode(kind, encode(message)) == message``.

Source: Protocol Buffers documentation, "Encoding".
"""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from kubenet.errors import Malformed
from kubenet.model import wire

_NUMBER = "protobuf number"
_KEY, _VALUE = 1, 2  # of an entry of a map

M = TypeVar("M")


def numbered(number: int, default: Any = MISSING) -> Any:
    """Declare a field of a message: a str, bytes, int or bool, a message, a tuple or a dict of them."""
    if default is MISSING:
        return field(metadata={_NUMBER: number})
    if isinstance(default, dict):
        return field(default_factory=dict, metadata={_NUMBER: number})
    return field(default=default, metadata={_NUMBER: number})


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    number: int
    kind: Any  # of one element
    shape: type | None  # tuple, dict, or None for a single value


def encode(message: object) -> bytes:
    """Return the message as bytes."""
    return b"".join(_written(each, getattr(message, each.name)) for each in _layout(type(message)))


def decode(kind: type[M], content: bytes) -> M:
    """Return the message of ``kind`` in ``content``. Raises Malformed."""
    by_number = {each.number: each for each in _layout(kind)}
    got: dict[str, Any] = {each.name: _zero(each) for each in by_number.values()}
    for number, value in wire.fields(content):
        each = by_number.get(number)
        if each is None:
            continue
        if each.shape is tuple:
            got[each.name] = (*got[each.name], *_elements(each.kind, value))
        elif each.shape is dict:
            key, entry = _entry(each.kind, value)
            got[each.name][key] = entry
        else:
            got[each.name] = _read(each.kind, value)
    return kind(**got)


def _layout(kind: Any) -> tuple[_Field, ...]:
    return _layout_of(kind)


@cache
def _layout_of(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    return tuple(_field(each.name, each.metadata[_NUMBER], hints[each.name]) for each in fields(kind))


def _field(name: str, number: int, hint: Any) -> _Field:
    origin = get_origin(hint)
    if origin is None:
        return _Field(name, number, hint, None)
    return _Field(name, number, get_args(hint)[0 if origin is tuple else 1], origin)


def _written(each: _Field, value: Any) -> bytes:
    if each.shape is tuple:
        return b"".join(_one(each.number, element) for element in value)
    if each.shape is dict:
        entries = (_one(_KEY, key) + _one(_VALUE, entry) for key, entry in value.items())
        return b"".join(wire.message_field(each.number, entry) for entry in entries)
    return b"" if value == _zero(each) else _one(each.number, value)


def _one(number: int, value: Any) -> bytes:
    if isinstance(value, int):  # a bool is one
        return wire.varint(number << 3 | wire.VARINT) + wire.varint(int(value))
    if isinstance(value, str):
        return wire.message_field(number, value.encode())
    return wire.message_field(number, value if isinstance(value, bytes) else encode(value))


def _read(kind: Any, value: wire.Wire) -> Any:
    if kind in (int, bool):
        return kind(wire.signed(value))
    content = wire.content_of(value)
    if kind is bytes:
        return content
    if kind is not str:
        return decode(kind, content)
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Malformed("protobuf: a string is not UTF-8") from None


def _elements(kind: Any, value: wire.Wire) -> Sequence[Any]:
    if kind is not int or isinstance(value, int):
        return (_read(kind, value),)
    packed, at = [], 0
    while at < len(value):
        number, at = wire.read_varint(value, at)
        packed.append(wire.signed(number))
    return packed


def _entry(kind: Any, value: wire.Wire) -> tuple[str, Any]:
    found = dict(wire.fields(wire.content_of(value)))
    entry = _zero(_Field("", _VALUE, kind, None)) if _VALUE not in found else _read(kind, found[_VALUE])
    return _read(str, found.get(_KEY, b"")), entry


def _zero(each: _Field) -> Any:
    if each.shape is not None:
        return each.shape()
    message = isinstance(each.kind, type) and is_dataclass(each.kind)
    return decode(each.kind, b"") if message else each.kind()
