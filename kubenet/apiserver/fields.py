"""Sets of fields of an object: which there are, which differ, and how they are written. *Pure.*

A field is a path of elements as FieldsV1 spells them: ``f:name`` a member, ``k:{"port":80}`` the element of
a list with these keys, ``v:"x"`` an element of a set. The schema says which lists and maps are taken apart;
what it does not know is taken apart as far as it is a table. A list with an element without keys, or with
two that have the same, is one value.

Source: Kubernetes documentation, "Server-Side Apply", "Merge strategy"; metav1.FieldsV1.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kubenet.apiserver.schema.types import LEAVES, Field, Shape, is_message, message
from kubenet.apiserver.status import bad_request
from kubenet.model.objects import Json, JsonValue

Path = tuple[str, ...]
Fields = frozenset[Path]
NONE: Fields = frozenset()
KEY_DEFAULTS: Mapping[str, JsonValue] = {"protocol": "TCP"}  # of keys that an element may leave out


@dataclass(frozen=True, slots=True)
class Node:
    """What the schema knows of a value: a table of these members, a list by keys, a set, or one value."""

    message: str = ""  # members are looked up here
    keys: tuple[str, ...] = ()  # of a list's elements
    is_set: bool = False
    atomic: bool = False

    def member(self, name: str) -> "Node":
        """Return what is known of a member of a table."""
        if not self.message:
            return UNKNOWN
        field = message(self.message).by_name.get(name)
        return UNKNOWN if field is None else _of_field(field)


UNKNOWN = Node()
LEAF = Node(atomic=True)


def root(kind: str) -> Node:
    """Return what is known of an object of a kind."""
    return Node(message=kind) if is_message(kind) else UNKNOWN


def _of_field(field: Field) -> Node:
    if field.atomic:
        return LEAF
    if field.shape is Shape.LIST:
        element = "" if field.type in LEAVES else field.type
        return Node(
            message=element, is_set=field.keys == ("*",), keys=() if field.keys == ("*",) else field.keys
        )
    return Node(message="" if field.type in LEAVES else field.type)


def parts(node: Node, value: JsonValue) -> dict[str, tuple[Node, JsonValue]] | None:
    """Return the members or elements of a value by their path element; None if it is one value."""
    if node.atomic:
        return None
    if isinstance(value, dict):
        return {f"f:{name}": (node.member(name), member) for name, member in value.items()}
    if isinstance(value, list) and node.keys:
        inner = Node(message=node.message)
        found = {_key_of(node, element): (inner, element) for element in value}
        return found if len(found) == len(value) and "" not in found else None
    if isinstance(value, list) and node.is_set:
        elements = {f"v:{_compact(element)}": (LEAF, element) for element in value}
        return elements if len(elements) == len(value) else None
    return None


def check_keys(node: Node, value: JsonValue) -> None:
    """Refuse a list that cannot be merged: an element lacks its keys, or two have the same.

    Raises StatusError (400).
    """
    inside = parts(node, value)
    if inside is None and isinstance(value, list) and not node.atomic and (node.keys or node.is_set):
        what = f'keys "{", ".join(node.keys)}"' if node.keys else "the same value"
        raise bad_request(f"an associative list has an element without its keys, or two with {what}")
    for child, member in (inside or {}).values():
        check_keys(child, member)


def _key_of(node: Node, element: JsonValue) -> str:
    """Return the path element of a list's element; empty if it has none of its keys."""
    if not isinstance(element, dict):
        return ""
    keys: Json = {}
    for name in node.keys:
        if name in element:
            keys[name] = element[name]
        elif name in KEY_DEFAULTS:
            keys[name] = KEY_DEFAULTS[name]
    return f"k:{_compact(keys)}" if node.keys[0] in keys else ""


def _compact(value: JsonValue) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def leaves(node: Node, value: JsonValue, path: Path = ()) -> Iterator[Path]:
    """Yield the fields that an applied value owns: its leaves, and each element of a list by itself."""
    inside = parts(node, value)
    if not inside:
        if path:
            yield path
        return
    for element, (child, member) in inside.items():
        here = (*path, element)
        if element.startswith("k:"):
            yield here
        yield from leaves(child, member, here)


def everything(node: Node, value: JsonValue, path: Path) -> Iterator[Path]:
    """Yield all fields of a value, the tables around them too."""
    yield path
    for element, (child, member) in (parts(node, value) or {}).items():
        yield from everything(child, member, (*path, element))


@dataclass(frozen=True, slots=True)
class Difference:
    """What a write did to the fields of an object."""

    changed: Fields  # added, or with another value
    removed: Fields


def difference(node: Node, old: JsonValue, new: JsonValue) -> Difference:
    """Return how two states of an object differ."""
    changed: set[Path] = set()
    removed: set[Path] = set()
    _differ(node, (old, new), (), (changed, removed))
    return Difference(frozenset(changed), frozenset(removed))


def _differ(
    node: Node, states: tuple[JsonValue, JsonValue], path: Path, found: tuple[set[Path], set[Path]]
) -> None:
    old, new = states
    if old == new and type(old) is type(new):
        return
    before, after = parts(node, old), parts(node, new)
    if before is None or after is None:
        found[0].add(path)
        return
    for element, (child, member) in after.items():
        here = (*path, element)
        if element in before:
            _differ(child, (before[element][1], member), here, found)
        else:
            found[0].update(everything(child, member, here))
    for element, (child, member) in before.items():
        if element not in after:
            found[1].update(everything(child, member, (*path, element)))


def merged(node: Node, live: JsonValue, config: JsonValue) -> JsonValue:
    """Return ``live`` with everything that ``config`` says."""
    if node.atomic or type(live) is not type(config):
        return config
    if isinstance(config, dict) and isinstance(live, dict):
        both: Json = dict(live)
        for name, value in config.items():
            both[name] = merged(node.member(name), live[name], value) if name in live else value
        return both
    if isinstance(config, list) and isinstance(live, list) and (node.keys or node.is_set):
        have, want = parts(node, live), parts(node, config)
        if have is None or want is None:
            return config
        inner = Node(message=node.message, atomic=node.is_set)
        kept = [
            merged(inner, value, want[element][1]) if element in want else value
            for element, (_, value) in have.items()
        ]
        return kept + [value for element, (_, value) in want.items() if element not in have]
    return config


def without(node: Node, value: JsonValue, gone: Fields, kept: Fields, path: Path = ()) -> JsonValue:
    """Return a value without some fields; a table that loses its last member goes too.

    The element of a list goes only if nothing below it is in ``kept``.
    """
    inside = parts(node, value)
    if inside is None:
        return value
    left = {}
    for element, (child, member) in inside.items():
        here = (*path, element)
        if here in gone and not _owned(here, kept):
            continue
        rest = without(child, member, gone, kept, here)
        if rest not in ({}, []) or member in ({}, []):
            left[element] = rest
    if isinstance(value, dict):
        return {element[2:]: member for element, member in left.items()}
    return list(left.values())


def _owned(path: Path, kept: Fields) -> bool:
    return any(other[: len(path)] == path for other in kept)


def to_json(fields: Fields) -> Json:
    """Return the FieldsV1 of a set."""
    tree: Json = {}
    for path in sorted(fields):
        node = tree
        for element in path:
            child = node.setdefault(element, {})
            assert isinstance(child, dict)
            node = child
        node["."] = {}
    return _tidied(tree)


def _tidied(tree: Json) -> Json:
    """Drop the mark of a field that holds no others."""
    tidy: Json = {}
    for element, child in tree.items():
        inner = child if isinstance(child, dict) else {}
        tidy[element] = {} if inner.keys() == {"."} else _tidied(inner)
    return tidy


def from_json(tree: JsonValue, path: Path = ()) -> Iterator[Path]:
    """Yield the fields of a FieldsV1."""
    if not isinstance(tree, dict):
        return
    if path and (not tree or "." in tree):
        yield path
    for element, child in tree.items():
        if element != ".":
            yield from from_json(child, (*path, element))


def shown(path: Path) -> str:
    """Return a field as messages name it: ``.spec.ports[port=80,protocol="TCP"].name``."""
    return "".join(_shown(element) for element in path)


def _shown(element: str) -> str:
    kind, rest = element[:2], element[2:]
    if kind == "f:":
        return f".{rest}"
    if kind == "v:":
        return f"[={rest}]"
    keys = json.loads(rest)
    return "[" + ",".join(f"{name}={_compact(value)}" for name, value in keys.items()) + "]"
