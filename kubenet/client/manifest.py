"""Manifest files: YAML text becomes objects that know where they go. *Pure.*

Every complaint names the file and the line, because that is where the reader has to go next.

Source: Kubernetes API conventions (apiVersion, kind, metadata); YAML 1.1 as PyYAML reads it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import yaml

from kubenet.errors import InvalidManifest, UnknownKind
from kubenet.model.objects import Json, JsonValue
from kubenet.model.resources import BY_KIND, Resource

# An alias costs a few bytes and may stand for millions; no honest manifest comes near this.
MAX_VALUES = 200_000

# libyaml builds its tree by recursion in C and has no limit of its own: deep nesting would end the process.
MAX_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a manifest file."""

    resource: Resource
    namespace: str  # empty for kinds without one
    name: str
    body: Json

    def __str__(self) -> str:
        group = f".{self.resource.group}" if self.resource.group else ""
        return f"{self.resource.kind.lower()}{group}/{self.name}"


def parse(text: str, source: str, namespace: str = "default") -> tuple[Manifest, ...]:
    """Return the objects of ``text``; those without a namespace go to ``namespace``.

    Raises InvalidManifest (not YAML, not an object, no name) and UnknownKind; nothing is returned unless
    everything is good.
    """
    try:
        check_depth(text, source)
        documents = list(yaml.compose_all(text, Loader=yaml.CSafeLoader))
    except yaml.YAMLError as error:
        raise _not_yaml(error, source) from None
    manifests = tuple(_manifest(node, source, namespace) for node in documents if not _is_empty(node))
    if not manifests:
        raise InvalidManifest(f"{source}: holds no object", "give a file with at least one Kubernetes object")
    return manifests


def _line(mark: object) -> int:
    return int(getattr(mark, "line", -1)) + 1  # PyYAML has two classes of marks, in C and in Python


def check_depth(text: str, source: str) -> None:
    """Raise InvalidManifest if ``text`` is nested deeper than the parser can bear."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                where = f"{source}:{_line(event.start_mark)}"
                raise InvalidManifest(f"{where}: nested more than {MAX_DEPTH} deep", f"look at {where}")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _manifest(node: yaml.Node, source: str, namespace: str) -> Manifest:
    where = f"{source}:{_line(node.start_mark)}"
    body = _Builder(source).build(node)
    if not isinstance(body, dict):
        raise InvalidManifest(f"{where}: not an object but {type(body).__name__}", f"look at {where}")
    api_version, kind = (_text(body.get(field), field, where) for field in ("apiVersion", "kind"))
    resource = BY_KIND.get((api_version, kind))
    if resource is None:
        known = ", ".join(sorted({kind for _, kind in BY_KIND}))
        raise UnknownKind(
            f"{where}: unknown kind {kind!r} of apiVersion {api_version!r}", f"use one of: {known}"
        )
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        raise InvalidManifest(f"{where}: {kind} has no metadata", f"add metadata.name at {where}")
    name = _text(metadata.get("name"), "metadata.name", where)
    if not resource.namespaced:
        return Manifest(resource, "", name, body)
    stated = metadata.setdefault("namespace", namespace)
    return Manifest(resource, _text(stated, "metadata.namespace", where), name, body)


def _text(value: JsonValue, field: str, where: str) -> str:
    if isinstance(value, str) and value:
        return value
    problem = "is missing" if value in (None, "") else f"is not text but {value!r}"
    raise InvalidManifest(f"{where}: {field} {problem}", f"set {field} at {where}")


def _not_yaml(error: yaml.YAMLError, source: str) -> InvalidManifest:
    mark = getattr(error, "problem_mark", None)
    where = f"{source}:{mark.line + 1}" if mark else source
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "no reason given"
    return InvalidManifest(f"{where}: not YAML: {problem}", f"look at {where}")


class _Builder:
    """Turns composed nodes into JSON values, with a budget, so that aliases cannot blow up."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._left = MAX_VALUES
        self._scalars = yaml.constructor.SafeConstructor()

    def build(self, node: yaml.Node) -> JsonValue:
        try:
            return self._value(node)
        except RecursionError:
            raise InvalidManifest(f"{self._at(node)}: an alias of itself") from None

    def _at(self, node: yaml.Node) -> str:
        return f"{self._source}:{_line(node.start_mark)}"

    def _value(self, node: yaml.Node) -> JsonValue:
        self._left -= 1
        if self._left < 0:
            raise InvalidManifest(
                f"{self._at(node)}: more than {MAX_VALUES} values (aliases count each time)"
            )
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item) for item in node.value]
        return self._scalar(node)

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple[str, JsonValue]]:
        seen = set()
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise InvalidManifest(f"{self._at(key_node)}: a key must be text")
            if key_node.value in seen:
                raise InvalidManifest(f"{self._at(key_node)}: key {key_node.value!r} stands twice")
            seen.add(key_node.value)
            yield key_node.value, self._value(value_node)

    def _scalar(self, node: yaml.Node) -> JsonValue:
        try:
            value = self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise InvalidManifest(f"{self._at(node)}: not a plain value: {node.value!r}") from error
        if isinstance(value, date):
            return str(node.value)  # YAML reads 2026-01-01 as a date, Kubernetes means text
        if value is None or isinstance(value, str | int | float | bool):
            return value
        raise InvalidManifest(f"{self._at(node)}: not a JSON value: {node.value!r}")
