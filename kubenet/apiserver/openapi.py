"""The schema table as OpenAPI documents: version 3 a group, and version 2 of everything. *Pure.*

kubectl reads from it which fields there are (explain), how lists are merged (apply, diff), and which requests
take a dry run or check fields. Descriptions are left out: the table has none.

Source: OpenAPI Specification 3.0.3 and 2.0; Kubernetes documentation, "The Kubernetes API", "OpenAPI".
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from hashlib import sha256

import msgspec

from kubenet.apiserver.discovery import paths
from kubenet.apiserver.kinds import SERVED, Catalogue
from kubenet.apiserver.registry.custom import CustomResource
from kubenet.apiserver.schema.types import ATOMIC, LEAVES, Field, Shape, message
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.tree import copied_table, ensure_table
from kubenet.model.objects import Json, JsonValue

TITLE: Json = {"title": "Kubernetes", "version": "v1.33.0+kubenet"}
PREFIX = "io.k8s"
_LEAF_SCHEMAS: dict[str, Json] = {
    "string": {"type": "string"},
    "bytes": {"type": "string", "format": "byte"},
    "int": {"type": "integer", "format": "int64"},
    "bool": {"type": "boolean"},
    "Time": {"type": "string", "format": "date-time"},
    "MicroTime": {"type": "string", "format": "date-time"},
    "Quantity": {"type": "string"},
    "IntOrString": {"type": "string", "format": "int-or-string"},
    "FieldsV1": {"type": "object"},
    "RawExtension": {"type": "object"},
    "Texts": {"type": "array", "items": {"type": "string"}},
}
_V3_ANY: dict[str, Json] = {
    "Quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "IntOrString": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
}
_WRITE_OPTIONS = ("dryRun", "fieldManager", "fieldValidation")
_VERBS = {
    "get": ("get", ()),
    "put": ("update", _WRITE_OPTIONS),
    "post": ("create", _WRITE_OPTIONS),
    "patch": ("patch", (*_WRITE_OPTIONS, "force")),
    "delete": ("delete", ("dryRun", "gracePeriodSeconds", "propagationPolicy")),
}


def v3_index(catalogue: Catalogue) -> Json:
    """Return what /openapi/v3 holds: where the document of each group is."""
    found: Json = {}
    for path in paths(catalogue):
        group = path.removeprefix("/")
        body = v3_document(catalogue, group)
        if body is not None:
            found[group] = {"serverRelativeURL": f"/openapi/v3/{group}?hash={sha256(body).hexdigest()[:32]}"}
    return {"paths": found}


def v3_document(catalogue: Catalogue, group: str) -> bytes | None:
    """Return the document of ``api/v1`` or ``apis/GROUP/VERSION``, or None."""
    kinds = [kind for kind in catalogue.served if _place(kind) == group]
    if any(kind.custom for kind in kinds):
        return _document(kinds)
    return _built_in_document(group) if kinds else None


@cache
def _built_in_document(group: str) -> bytes:
    return _document([kind for kind in SERVED if _place(kind) == group])


def _document(kinds: Sequence[Kind]) -> bytes:
    reference = "#/components/schemas/"
    built_in = [kind for kind in kinds if not kind.custom]
    schemas = {_name(name): _schema(name, reference, v3=True) for name in _reached(built_in)}
    schemas |= {_name(name): _schema(name, reference, v3=True) for name in ("ObjectMeta", "OwnerReference")}
    schemas |= {_name(name): _schema(name, reference, v3=True) for name in ("ManagedFieldsEntry",)}
    for kind in kinds:
        if kind.custom:
            schemas[_schema_name(kind)] = _custom_schema(kind, reference)
        _mark(schemas[_schema_name(kind)], kind)
    document: Json = {
        "openapi": "3.0.0",
        "info": TITLE,
        "paths": dict(_paths(kinds, v3=True)),
        "components": {"schemas": dict(schemas)},
    }
    return msgspec.json.encode(document)


@cache
def v2_document() -> Json:
    """Return the document of all groups in the older form."""
    schemas = {_name(name): _schema(name, "#/definitions/", v3=False) for name in _reached(SERVED)}
    for kind in SERVED:
        _mark(schemas[_schema_name(kind)], kind)
    return {
        "swagger": "2.0",
        "info": TITLE,
        "paths": dict(_paths(SERVED, v3=False)),
        "definitions": dict(schemas),
    }


def _schema_name(kind: Kind) -> str:
    return _name(kind.resource.kind if kind.custom else kind.message)


def _custom_schema(kind: Kind, reference: str) -> Json:
    """Return the schema of a definition, with the metadata that every object has."""
    schema = copied_table(kind.resource.schema) if isinstance(kind.resource, CustomResource) else {}
    ensure_table(schema, "properties")["metadata"] = {
        "allOf": [{"$ref": f"{reference}{_name('ObjectMeta')}"}]
    }
    return schema


def _place(kind: Kind) -> str:
    resource = kind.resource
    return f"apis/{resource.group}/{resource.version}" if resource.group else f"api/{resource.version}"


def _name(message_name: str) -> str:
    return f"{PREFIX}.{message_name}"


def _reached(kinds: Iterable[Kind]) -> Iterator[str]:
    """Yield the messages of some kinds and all inside them."""
    seen = {"DeleteOptions"}
    left = ["DeleteOptions", *dict.fromkeys(kind.message for kind in kinds)]
    seen.update(left)
    while left:
        name = left.pop()
        yield name
        inside = {field.type for field in message(name).by_name.values() if field.type not in LEAVES}
        left.extend(sorted(inside - seen))
        seen |= inside


def _mark(schema: Json, kind: Kind) -> None:
    """Say of which kind a schema is."""
    resource = kind.resource
    found = schema.setdefault("x-kubernetes-group-version-kind", [])
    assert isinstance(found, list)
    found.append({"group": resource.group, "version": resource.version, "kind": resource.kind})
    properties = schema["properties"]
    assert isinstance(properties, dict)
    for name in ("apiVersion", "kind"):
        properties[name] = {"type": "string"}


def _schema(name: str, reference: str, v3: bool) -> Json:
    properties: Json = {
        field.name: _property(field, reference, v3) for field in message(name).by_name.values()
    }
    schema: Json = {"type": "object", "properties": properties}
    if name in ATOMIC:
        schema["x-kubernetes-map-type"] = "atomic"
    return schema


def _property(field: Field, reference: str, v3: bool) -> Json:
    one = _value(field.type, reference, v3)
    if field.shape is Shape.MAP:
        mapped: Json = {"type": "object", "additionalProperties": one}
        return mapped | ({"x-kubernetes-map-type": "atomic"} if field.keys else {})
    if field.shape is not Shape.LIST:
        return one
    listed: Json = {"type": "array", "items": one}
    if field.keys == ("*",):
        return listed | {"x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge"}
    if not field.keys:
        return listed | {"x-kubernetes-list-type": "atomic"}
    keys: list[JsonValue] = [*field.keys]
    listed |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
    strategy = "merge,retainKeys" if field.type == "Volume" else "merge"
    return listed | {"x-kubernetes-patch-merge-key": field.keys[0], "x-kubernetes-patch-strategy": strategy}


def _value(name: str, reference: str, v3: bool) -> Json:
    if name in LEAVES:
        return dict((_V3_ANY.get(name) if v3 else None) or _LEAF_SCHEMAS[name])
    target: Json = {"$ref": f"{reference}{_name(name)}"}
    return {"allOf": [target], "default": {}} if v3 else target


def _paths(kinds: Iterable[Kind], v3: bool) -> Iterator[tuple[str, Json]]:
    for kind in kinds:
        base = f"/{_place(kind)}"
        if kind.resource.namespaced:
            base += "/namespaces/{namespace}"
        collection = f"{base}/{kind.plural}"
        yield collection, _operations(kind, ("get", "post"), "list", v3)
        if kind.kept:
            yield f"{collection}/{{name}}", _operations(kind, ("get", "put", "patch", "delete"), "get", v3)


def _operations(kind: Kind, methods: tuple[str, ...], reading: str, v3: bool) -> Json:
    found: Json = {}
    for method in methods:
        verb, options = _VERBS[method]
        action = reading if method == "get" else method
        if (reading if method == "get" else verb) not in kind.verbs:
            continue
        found[method] = _operation(kind, action, options, v3)
    return found


def _operation(kind: Kind, action: str, options: Iterable[str], v3: bool) -> Json:
    resource = kind.resource
    parameters: list[JsonValue] = [_parameter(name, v3) for name in options]
    group = resource.group.partition(".")[0] or "core"
    return {
        "operationId": f"{action}{group.title()}{resource.version.title()}{resource.kind}",
        "parameters": parameters,
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {
            "group": resource.group,
            "version": resource.version,
            "kind": resource.kind,
        },
    }


def _parameter(name: str, v3: bool) -> Json:
    kinds = {"force": "boolean", "gracePeriodSeconds": "integer"}
    kind = kinds.get(name, "string")
    described: Json = {"name": name, "in": "query", "description": ""}
    typed: Json = {"schema": {"type": kind}} if v3 else {"type": kind, "uniqueItems": True}
    return described | typed
