"""What a body says that its kind does not have, or says twice. *Pure.*

A misspelt field is not an error of the JSON: without this check it would vanish without a word.

Source: Kubernetes API concepts, "Validation for unrecognized or duplicate fields".
"""

import json
from collections.abc import Iterator, Mapping

from kubenet.apiserver.schema.types import DELETE_OPTIONS, LEAVES, SERVED, Field, is_message, message

COMPLAINTS_MOST = 100
_TYPE_META = ("kind", "apiVersion")
_WITH_TYPE_META = frozenset(kind for _, kind in SERVED) | {DELETE_OPTIONS}
_NONE: Mapping[str, Field] = {}


class Members(tuple[tuple[str, object], ...]):
    """The members of a JSON object in their order, so that one which occurs twice is seen twice."""

    __slots__ = ()


def members_of(body: bytes) -> object:
    """Return a JSON body that was decoded before, its objects as ``Members``."""
    # Numbers do not matter here, and Python refuses to read an integer of some thousand digits.
    return json.loads(body, object_pairs_hook=Members, parse_int=float)


def complaints(kind: str, value: object) -> list[str]:
    """Return what is unknown in an object of a kind and what occurs twice, in the order of the body.

    A kind that the table does not have knows every field.
    """
    found = _complaints(kind, value, "") if is_message(kind) else iter(())
    return [complaint for complaint, _ in zip(found, range(COMPLAINTS_MOST), strict=False)]


def _complaints(name: str, value: object, at: str) -> Iterator[str]:
    """Yield the complaints about one value; ``name`` is empty where any member is allowed."""
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from _complaints(name, element, f"{at}[{index}]")
        return
    fields = message(name).by_name if name else _NONE
    seen = set()
    for key, member in _pairs(value):
        path = f"{at}.{key}" if at else key
        if key in seen:
            yield f'duplicate field "{path}"'
        seen.add(key)
        field = fields.get(key)
        if field is not None:
            yield from _member_complaints(field, member, path)
        elif not name:
            yield from _complaints("", member, path)
        elif key not in _TYPE_META or name not in _WITH_TYPE_META:
            yield f'unknown field "{path}"'


def _member_complaints(field: Field, member: object, path: str) -> Iterator[str]:
    if not isinstance(member, dict | list | Members):
        return
    inner = "" if field.type in LEAVES else field.type
    if not field.is_map:
        yield from _complaints(inner, member, path)
        return
    yield from _complaints("", Members((key, None) for key, _ in _pairs(member)), path)
    for key, element in _pairs(member):
        yield from _complaints(inner, element, f"{path}.{key}")


def _pairs(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, Members):
        yield from value


def warning(complaint: str) -> str:
    """Return a complaint as the value of a Warning header: one line, not too long."""
    text = "".join(letter if letter.isprintable() else " " for letter in complaint[:256])
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'
