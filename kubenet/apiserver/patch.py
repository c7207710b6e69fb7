"""Merge patch and JSON patch. *Pure.*

Laws: ``merge_patch(target, {}) == target``; applying a merge patch twice is applying it once.

Source: RFC 7396 (merge patch), RFC 6902 (JSON patch), RFC 6901 (pointers).
"""

from collections.abc import Callable

from kubenet.apiserver.status import StatusError, bad_request
from kubenet.apiserver.tree import copied
from kubenet.model.objects import JsonValue

OPERATIONS_MOST = 10_000


def merge_patch(target: JsonValue, patch: JsonValue) -> JsonValue:
    """Return ``target`` with an RFC 7396 patch applied; null members of the patch remove."""
    if not isinstance(patch, dict):
        return copied(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(target: JsonValue, operations: JsonValue) -> JsonValue:
    """Return ``target`` with RFC 6902 operations applied, all or none. Raises StatusError (400, 422)."""
    if not isinstance(operations, list) or len(operations) > OPERATIONS_MOST:
        raise bad_request("a JSON patch is a list of at most 10000 operations")
    document = copied(target)
    for operation in operations:
        if not isinstance(operation, dict):
            raise bad_request("a JSON patch is a list of objects")
        document = _applied(document, operation)
    return document


Operation = dict[str, JsonValue]


def _applied(document: JsonValue, operation: Operation) -> JsonValue:
    name = operation.get("op")
    act = _OPERATIONS.get(name) if isinstance(name, str) else None
    if act is None:
        raise bad_request(f"JSON patch has an unknown operation: {name!r}")
    if name in ("add", "replace", "test") and "value" not in operation:
        raise bad_request(f"JSON patch operation {name} has no value")
    return act(document, _pointer(operation.get("path")), operation)


def _add(document: JsonValue, path: list[str], operation: Operation) -> JsonValue:
    return _added(document, path, copied(operation["value"]))


def _replace(document: JsonValue, path: list[str], operation: Operation) -> JsonValue:
    _found(document, path)
    return _added(_removed(document, path), path, copied(operation["value"]))


def _remove(document: JsonValue, path: list[str], operation: Operation) -> JsonValue:
    del operation
    return _removed(document, path)


def _test(document: JsonValue, path: list[str], operation: Operation) -> JsonValue:
    if not _same(_found(document, path), operation["value"]):
        raise _refused(f"testing value {operation['path']} failed")
    return document


def _same(one: JsonValue, other: JsonValue) -> bool:
    """Return whether two values are equal JSON: 1 is 1.0, but not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _move(document: JsonValue, path: list[str], operation: Operation) -> JsonValue:
    source = _pointer(operation.get("from"))
    if path[: len(source)] == source and path != source:
        raise _refused("cannot move a value into itself")
    moved = _found(document, source)
    return _added(_removed(document, source), path, moved)


def _copy(document: JsonValue, path: list[str], operation: Operation) -> JsonValue:
    return _added(document, path, copied(_found(document, _pointer(operation.get("from")))))


_OPERATIONS: dict[str, Callable[[JsonValue, list[str], Operation], JsonValue]] = {
    "add": _add,
    "replace": _replace,
    "remove": _remove,
    "test": _test,
    "move": _move,
    "copy": _copy,
}


def _pointer(text: JsonValue) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise bad_request(f"JSON patch path is not a pointer: {text!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _found(document: JsonValue, path: list[str]) -> JsonValue:
    node = document
    for part in path:
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list):
            node = node[_index(part, len(node) - 1)]
        else:
            raise _refused(f"nonexistent path: /{'/'.join(path)}")
    return node


def _index(part: str, most: int) -> int:
    if not part.isascii() or not part.isdigit() or (len(part) > 1 and part[0] == "0") or int(part[:9]) > most:
        raise _refused(f"invalid index: {part}")
    return int(part)


def _added(document: JsonValue, path: list[str], value: JsonValue) -> JsonValue:
    if not path:
        return value
    parent, last = _found(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent)), value)
    else:
        raise _refused(f"nonexistent path: /{'/'.join(path)}")
    return document


def _removed(document: JsonValue, path: list[str]) -> JsonValue:
    if not path:
        return None
    _found(document, path)
    parent, last = _found(document, path[:-1]), path[-1]
    if isinstance(parent, dict):
        del parent[last]
    elif isinstance(parent, list):
        del parent[_index(last, len(parent) - 1)]
    return document


def _refused(why: str) -> StatusError:
    return StatusError(
        422, "Invalid", f"the server rejected our request due to an error in our request: {why}"
    )
