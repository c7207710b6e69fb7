"""An OpenAPI version 2 document in its protobuf form, which kubectl asks for. *Pure.*

Only what our own document has is written.

Source: the field numbers of gnostic, openapiv2/OpenAPIv2.proto.
"""

from collections.abc import Iterable
from functools import cache

import msgspec

from kubenet.apiserver.openapi import v2_document
from kubenet.apiserver.tree import table_at, tables_at, text_at
from kubenet.model.objects import Json, JsonValue
from kubenet.model.wire import bytes_field, message_field, number_field

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
_OPERATION_EXTENSION, _SCHEMA_EXTENSION = 13, 31


@cache
def v2_protobuf() -> bytes:
    """Return the whole document."""
    document = v2_document()
    info = table_at(document, "info")
    paths = table_at(document, "paths").items()
    return b"".join(
        (
            bytes_field(1, text_at(document, "swagger")),
            message_field(
                2, bytes_field(1, text_at(info, "title")) + bytes_field(2, text_at(info, "version"))
            ),
            message_field(8, b"".join(_named(2, path, _path_item(_table(item))) for path, item in paths)),
            message_field(9, _named_schemas(table_at(document, "definitions"))),
        )
    )


def _table(value: JsonValue) -> Json:
    return value if isinstance(value, dict) else {}


def _named(number: int, name: str, content: bytes) -> bytes:
    """Return one pair of a map, as a field of the message that is the map."""
    return message_field(number, bytes_field(1, name) + message_field(2, content))


def _named_schemas(schemas: Json) -> bytes:
    return b"".join(_named(1, name, _schema(_table(schema))) for name, schema in schemas.items())


def _path_item(item: Json) -> bytes:
    return b"".join(
        message_field(_METHODS[method], _operation(_table(operation))) for method, operation in item.items()
    )


def _operation(operation: Json) -> bytes:
    ok = bytes_field(1, "200") + message_field(2, message_field(1, bytes_field(1, "OK")))
    return b"".join(
        (
            bytes_field(5, text_at(operation, "operationId")),
            *(message_field(8, _parameter(one)) for one in tables_at(operation, "parameters")),
            message_field(9, message_field(1, ok)),
            *_extensions(_OPERATION_EXTENSION, operation),
        )
    )


def _parameter(parameter: Json) -> bytes:
    """Return a ParametersItem: a Parameter that is no body, in the query."""
    query = b"".join(
        (
            bytes_field(2, text_at(parameter, "in")),
            bytes_field(4, text_at(parameter, "name")),
            bytes_field(6, text_at(parameter, "type")),
            number_field(20, parameter.get("uniqueItems") is True),
        )
    )
    return message_field(1, message_field(2, message_field(3, query)))


def _schema(schema: Json) -> bytes:
    parts = [bytes_field(1, text_at(schema, "$ref")), bytes_field(2, text_at(schema, "format"))]
    if "additionalProperties" in schema:
        inner = _schema(table_at(schema, "additionalProperties"))
        parts.append(message_field(21, message_field(1, inner)))
    if kind := text_at(schema, "type"):
        parts.append(message_field(22, bytes_field(1, kind)))
    if "items" in schema:
        parts.append(message_field(23, message_field(1, _schema(table_at(schema, "items")))))
    if "properties" in schema:
        parts.append(message_field(25, _named_schemas(table_at(schema, "properties"))))
    parts.extend(_extensions(_SCHEMA_EXTENSION, schema))
    return b"".join(parts)


def _extensions(number: int, holder: Json) -> Iterable[bytes]:
    """Return the members that begin with ``x-``; their values are YAML, of which JSON is a part."""
    return [
        _named(number, key, bytes_field(2, msgspec.json.encode(value)))
        for key, value in holder.items()
        if key.startswith("x-")
    ]
