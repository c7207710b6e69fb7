"""CustomResourceDefinitions, and the kinds that they define. *Pure.*

One version of a definition is served: the one that is stored. Names must agree with each other, and the
schema must be there; conversion is not done.

Source: Kubernetes API reference, apiextensions.k8s.io/v1.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from kubenet.apiserver import structural
from kubenet.apiserver.printers.base import UNKNOWN, Column, Printer, age, name_of, since
from kubenet.apiserver.registry.declared import Declared, fill
from kubenet.apiserver.status import Cause, invalid, required, unsupported
from kubenet.apiserver.strategy import Kind, Strategy
from kubenet.apiserver.tree import ensure_table, table_at, tables_at, text_at, texts_at
from kubenet.model.objects import Json, JsonValue
from kubenet.model.resources import Resource

GROUP = "apiextensions.k8s.io"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
SCOPES = ("Cluster", "Namespaced")
NOT_SPEC = ("apiVersion", "kind", "metadata", "status")


class DefinitionStrategy(Declared):
    """The definition of a kind; it stays until all objects of the kind are gone."""

    generation_of = ("spec",)
    status = {"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []}  # noqa: RUF012

    def fill_defaults(self, new: Json) -> None:
        names = ensure_table(new, "spec", "names")
        kind = text_at(names, "kind")
        fill(names, {"singular": kind.lower(), "listKind": f"{kind}List"} if kind else {})
        fill(ensure_table(new, "spec"), {"conversion": {"strategy": "None"}})

    def fill_create(self, new: Json) -> None:
        super().fill_create(new)
        ensure_table(new, "metadata")["finalizers"] = [*texts_at(new, "metadata", "finalizers"), CLEANUP]

    def causes(self, new: Json) -> Iterator[Cause]:
        spec = table_at(new, "spec")
        group, plural = text_at(spec, "group"), text_at(spec, "names", "plural")
        for part in ("group", "scope"):
            if not text_at(spec, part):
                yield required(f"spec.{part}")
        for part in ("plural", "kind"):
            if not text_at(spec, "names", part):
                yield required(f"spec.names.{part}")
        if text_at(new, "metadata", "name") != f"{plural}.{group}":
            detail = 'must be spec.names.plural+"."+spec.group'
            yield invalid("metadata.name", text_at(new, "metadata", "name"), detail)
        if text_at(spec, "scope") not in ("", *SCOPES):
            yield unsupported("spec.scope", text_at(spec, "scope"), SCOPES)
        yield from _version_causes(spec)


def _version_causes(spec: Json) -> Iterator[Cause]:
    versions = tables_at(spec, "versions")
    if sum(version.get("storage") is True for version in versions) != 1:
        shown: list[JsonValue] = [text_at(version, "name") for version in versions]
        detail = "must have exactly one version marked as storage version"
        yield invalid("spec.versions", str(shown), detail)
    for index, version in enumerate(versions):
        if not table_at(version, "schema", "openAPIV3Schema"):
            yield required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required")


DEFINITION = Kind(
    Resource(GROUP, "v1", "customresourcedefinitions", "CustomResourceDefinition", False),
    DefinitionStrategy(),
    short_names=("crd", "crds"),
    subresources=("status",),
)


@dataclass(frozen=True, slots=True)
class CustomResource(Resource):
    """The address of a defined kind, which also knows how it is printed and what its schema is."""

    printer: Printer | None = field(default=None, compare=False)
    schema: Json = field(default_factory=dict, compare=False)


class CustomStrategy(Strategy):
    """The rules of a defined kind: those of its schema."""

    def __init__(self, schema: Json, has_status: bool) -> None:
        self.schema = schema
        self.has_status = has_status
        properties = [name for name in table_at(schema, "properties") if name not in NOT_SPEC]
        self.generation_of = tuple(properties) or ("spec",)
        if not has_status:
            self.generation_of += ("status",)

    def unknown(self, value: Json) -> list[str]:
        """Return the members that are not in the schema."""
        rest = {key: member for key, member in value.items() if key not in NOT_SPEC[:3]}
        return list(structural.unknown(self.schema, rest))

    def fill_defaults(self, new: Json) -> None:
        rest = {key: member for key, member in new.items() if key not in NOT_SPEC[:3]}
        kept = structural.pruned(self.schema, rest)
        assert isinstance(kept, dict)
        for key in rest:
            del new[key]
        new |= kept
        structural.fill_defaults({**self.schema, "properties": self._own()}, new)

    def causes(self, new: Json) -> Iterator[Cause]:
        rest = {key: member for key, member in new.items() if key not in NOT_SPEC[:3]}
        needed: list[JsonValue] = [
            name for name in texts_at(self.schema, "required") if name not in NOT_SPEC[:3]
        ]
        yield from structural.causes({**self.schema, "required": needed}, rest, "")

    def _own(self) -> Json:
        properties = table_at(self.schema, "properties")
        return {name: inner for name, inner in properties.items() if name not in NOT_SPEC[:3]}


def defined(definition: Json) -> Kind | None:
    """Return the kind that a definition defines; None if it serves none."""
    spec = table_at(definition, "spec")
    found = [one for one in tables_at(spec, "versions") if one.get("storage") is True]
    if not found or found[0].get("served") is not True:
        return None
    version, names = found[0], table_at(spec, "names")
    schema, parts = table_at(version, "schema", "openAPIV3Schema"), table_at(version, "subresources")
    resource = CustomResource(
        text_at(spec, "group"),
        text_at(version, "name"),
        text_at(names, "plural"),
        text_at(names, "kind"),
        text_at(spec, "scope") == "Namespaced",
        _printer(tables_at(version, "additionalPrinterColumns")),
        schema,
    )
    return Kind(
        resource,
        CustomStrategy(schema, "status" in parts),
        short_names=tuple(texts_at(names, "shortNames")),
        categories=tuple(texts_at(names, "categories")),
        subresources=tuple(name for name in ("status", "scale") if name in parts),
        custom=True,
    )


def established(definition: Json, now: str) -> Json:
    """Return a definition whose status says that its kind is served."""
    spec, status = table_at(definition, "spec"), ensure_table(definition, "status")
    versions: list[JsonValue] = [
        text_at(one, "name") for one in tables_at(spec, "versions") if one.get("storage") is True
    ]
    conditions: list[JsonValue] = [
        {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now}
        for kind, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    have = {text_at(one, "type"): text_at(one, "status") for one in tables_at(status, "conditions")}
    if have != {"NamesAccepted": "True", "Established": "True"}:
        status["conditions"] = conditions
    status["acceptedNames"] = dict(table_at(spec, "names"))
    status["storedVersions"] = versions
    return definition


def _printer(columns: list[Json]) -> Printer:
    """Return the printer of ``additionalPrinterColumns``: the name, then these; the age if there are none."""
    if not columns:
        return Printer((Column("Name"), Column("Age")), lambda value, now: [name_of(value), age(value, now)])
    shown = [Column("Name")]
    for column in columns:
        wide = column.get("priority", 0) not in (0, None)
        shown.append(Column(text_at(column, "name"), text_at(column, "type") or "string", wide))

    def cells(value: Json, now: datetime) -> list[JsonValue]:
        return [name_of(value), *(_cell(column, value, now) for column in columns)]

    return Printer(tuple(shown), cells)


def _cell(column: Json, value: Json, now: datetime) -> JsonValue:
    found = json_path(text_at(column, "jsonPath"), value)
    if text_at(column, "type") == "date":
        return since(found, now) if isinstance(found, str) else UNKNOWN
    return found if isinstance(found, str | int | float | bool) else "" if found is None else str(found)


_STEP = re.compile(r"\.([\w-]+)|\['([^']+)'\]|\[(\d+)\]|\[\?\(@\.([\w.-]+)\s*==\s*[\"']([^\"']*)[\"']\)\]")


def json_path(path: str, value: JsonValue) -> JsonValue:
    """Return what a simple JSONPath leads to: members, indexes, and ``[?(@.type=="Ready")]``; else None."""
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            return None
        name, index, key = step[1] or step[2], step[3], step[4]
        if name is not None:
            value = value.get(name) if isinstance(value, dict) else None
        elif index is not None:
            value = value[int(index)] if isinstance(value, list) and int(index) < len(value) else None
        else:
            elements = value if isinstance(value, list) else []
            value = next((one for one in elements if json_path(f".{key}", one) == step[5]), None)
        at = step.end()
    return value
