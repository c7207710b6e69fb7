"""What a body says that its kind does not have, or says twice. *Pure.*

A misspelt field is not an error of the JSON: without this check it would vanish without a word.

Source: Kubernetes API concepts, "Validation for unrecognized or duplicate fields".
"""

import json
from collections.abc import Iterable, Iterator, Mapping

from kubenet.apiserver.schema.types import (
    DELETE_OPTIONS,
    LEAVES,
    SERVED,
    Field,
    is_message,
    message,
    message_of,
)

COMPLAINTS_MOST = 100
_TYPE_META = ("kind", "apiVersion")
_WITH_TYPE_META = frozenset(message_of(*pair) for pair in SERVED) | {DELETE_OPTIONS}
_NONE: Mapping[str, Field] = {}


class Members(tuple[tuple[str, object], ...]):
    """The members of a JSON object in their order, so that one which occurs twice is seen twice."""

    __slots__ = ()


_NESTED = (list, dict, Members)


def members_of(body: bytes) -> object:
    """Return a JSON body that was decoded before, its objects as ``Members``."""
    # Numbers do not matter here, and Python refuses to read an integer of some thousand digits.
    return json.loads(body, object_pairs_hook=Members, parse_int=float)


def complaints(kind: str, value: object) -> list[str]:
    """Return what is unknown in an object of a kind and what occurs twice, in the order of the body.

    A kind that the table does not have knows every field.
    """
    if not is_message(kind) or _is_clean(kind, value):
        return []
    found = _complaints(kind, value, "")
    return [complaint for complaint, _ in zip(found, range(COMPLAINTS_MOST), strict=False)]


def _is_clean(name: str, value: object) -> bool:
    """Return whether there is nothing to complain of: the answer nearly always, so it builds no paths."""
    if isinstance(value, list):
        return all(_is_clean(name, element) for element in value)
    if isinstance(value, Members) and len(dict(value)) < len(value):
        return False
    fields = message(name).by_name if name else _NONE
    for key, member in _pairs(value):
        field = fields.get(key)
        if field is None and name and (key not in _TYPE_META or name not in _WITH_TYPE_META):
            return False
        if type(member) in _NESTED and not _is_clean(_inside(field), member):
            return False
    return True


def _inside(field: Field | None) -> str:
    """Return the message that a field holds; empty for a leaf or a map (all of which hold leaves)."""
    return "" if field is None or field.type in LEAVES else field.type


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
        if field is not None or not name:
            yield from _complaints(_inside(field), member, path)
        elif key not in _TYPE_META or name not in _WITH_TYPE_META:
            yield f'unknown field "{path}"'


def _pairs(value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, dict):
        return value.items()
    return value if isinstance(value, Members) else ()


def warning(complaint: str) -> str:
    """Return a complaint as the value of a Warning header: one line, not too long."""
    text = "".join(letter if letter.isprintable() else " " for letter in complaint[:256])
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{escaped}"'
