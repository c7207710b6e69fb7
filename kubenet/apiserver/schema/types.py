"""The types of the served kinds, read from a compact notation. *Pure.*

One message a paragraph: ``Name: field field ...``. A field is ``name:type=number``; without a type it is a
string, without a name its message's members stand among those around it (a Go struct embedded in another).
``[T]`` is a list, ``{T}`` a map from strings. ``!`` after the type says that an explicit zero means something
(``replicas: 0``); elsewhere a typed client writes zeros for what it did not set, and they are dropped.

Scalars: string, bytes (base64 in JSON), int, bool. Types with a JSON form of their own: Time, MicroTime,
Quantity, IntOrString, FieldsV1.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

from kubenet.apiserver.schema import core, groups, pods, volumes

LEAVES = frozenset(
    ("string", "bytes", "int", "bool", "Time", "MicroTime", "Quantity", "IntOrString", "FieldsV1")
)

_SERVED = {
    "v1": "Binding ConfigMap Endpoints Event Namespace Node Pod Secret Service ServiceAccount",
    "apps/v1": "Deployment ReplicaSet",
    "discovery.k8s.io/v1": "EndpointSlice",
    "coordination.k8s.io/v1": "Lease",
    "autoscaling/v1": "Scale",
    "policy/v1": "Eviction",
}
SERVED = frozenset((version, kind) for version, kinds in _SERVED.items() for kind in kinds.split())
DELETE_OPTIONS = "DeleteOptions"  # every group version has it


class Shape(Enum):
    """How many values a field has."""

    ONE = "one"
    LIST = "list"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str  # empty: the members belong to the message around it
    type: str  # one of LEAVES, or a message
    number: int
    shape: Shape = Shape.ONE
    zero_counts: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of one message: by number, and (embedded ones included) by name."""

    by_number: Mapping[int, Field]
    by_name: Mapping[str, Field]


_FIELD = re.compile(r"(\w*)(?::([\[{]?)([\w.]+)[\]}]?(!?))?=(\d+)")
_SHAPES = {"": Shape.ONE, None: Shape.ONE, "[": Shape.LIST, "{": Shape.MAP}


def is_served(api_version: str, kind: str) -> bool:
    """Return whether there is a message for the kind of a body."""
    return (api_version, kind) in SERVED or kind == DELETE_OPTIONS


def is_message(name: str) -> bool:
    """Return whether the table has a message of this name."""
    return name in _notation()


@cache
def message(name: str) -> Message:
    """Return a message by its name; there must be one."""
    fields = _notation()[name]
    return Message({field.number: field for field in fields}, dict(_named(fields)))


def _named(fields: tuple[Field, ...]) -> Iterator[tuple[str, Field]]:
    for field in fields:
        if field.name:
            yield field.name, field
        else:
            yield from message(field.type).by_name.items()


@cache
def _notation() -> dict[str, tuple[Field, ...]]:
    text = "".join((core.MESSAGES, groups.MESSAGES, pods.MESSAGES, volumes.MESSAGES))
    paragraphs = text.replace("\n  ", " ").split("\n")
    named = (paragraph.partition(": ") for paragraph in paragraphs if paragraph)
    return {name: tuple(_field(word) for word in words.split()) for name, _, words in named}


def _field(word: str) -> Field:
    found = _FIELD.fullmatch(word)
    if found is None:
        raise ValueError(f"{word}: is no field; next: correct the table of messages")
    name, bracket, kind, zero, number = found.groups()
    return Field(name, kind or "string", int(number), _SHAPES[bracket], bool(zero))
