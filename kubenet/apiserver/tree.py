"""Typed ways into a JSON object of unknown content. *Pure.*

The readers never raise on a value of the wrong type: they return the empty value, because what a client sent
is checked elsewhere and what is stored was checked before. Dicts exist only while a write is decided, and
belong to that write: functions of this package named ``set_``, ``fill_`` and ``drop_`` change the dict that
they are given.
"""

from collections.abc import Mapping

from kubenet.model.objects import Json, JsonValue


def table_at(parent: Json, *path: str) -> Json:
    """Return the object at ``path``, or an empty one that is not part of ``parent``."""
    node: JsonValue = parent
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def ensure_table(parent: Json, *path: str) -> Json:
    """Return the object at ``path``, made if it is missing."""
    node = parent
    for key in path:
        child = node.get(key)
        if not isinstance(child, dict):
            child = node[key] = {}
        node = child
    return node


def list_at(parent: Json, *path: str) -> list[JsonValue]:
    """Return the list at ``path``, or an empty one that is not part of ``parent``."""
    value = table_at(parent, *path[:-1]).get(path[-1])
    return value if isinstance(value, list) else []


def tables_at(parent: Json, *path: str) -> list[Json]:
    """Return the objects of the list at ``path``."""
    return [value for value in list_at(parent, *path) if isinstance(value, dict)]


def texts_at(parent: Json, *path: str) -> list[str]:
    """Return the strings of the list at ``path``."""
    return [value for value in list_at(parent, *path) if isinstance(value, str)]


def text_at(parent: Json, *path: str) -> str:
    """Return the string at ``path``, or an empty one."""
    value = table_at(parent, *path[:-1]).get(path[-1])
    return value if isinstance(value, str) else ""


def int_at(parent: Json, *path: str, default: int = 0) -> int:
    """Return the integer at ``path``, or ``default``."""
    value = table_at(parent, *path[:-1]).get(path[-1])
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def strings_at(parent: Json, *path: str) -> dict[str, str]:
    """Return the string members of the object at ``path``: labels, annotations, selectors."""
    return {key: value for key, value in table_at(parent, *path).items() if isinstance(value, str)}


def copied(value: JsonValue) -> JsonValue:
    """Return a deep copy."""
    if isinstance(value, dict):
        return {key: copied(member) for key, member in value.items()}
    if isinstance(value, list):
        return [copied(member) for member in value]
    return value


def copied_table(value: Mapping[str, JsonValue]) -> Json:
    """Return a deep copy of an object."""
    return {key: copied(member) for key, member in value.items()}


def set_default(parent: Json, key: str, value: JsonValue) -> None:
    """Give ``key`` a value unless it has one; an empty string counts as none, as it does in the API."""
    if parent.get(key) in (None, ""):
        parent[key] = value
