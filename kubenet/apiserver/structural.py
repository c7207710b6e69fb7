"""Structural schemas: what a CustomResourceDefinition says of its objects, carried out. *Pure.*

Pruning drops what the schema does not know, defaulting fills in what is left out, validation says what is
wrong. Rules in CEL (``x-kubernetes-validations``) and formats are not looked at.

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions"; JSON Schema
Validation (draft 4).
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache

from kubenet.apiserver.status import Cause, invalid, required, unsupported
from kubenet.apiserver.tree import copied, list_at, table_at, tables_at, text_at, texts_at
from kubenet.model.objects import Json, JsonValue

KEPT = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"
EMBEDDED = "x-kubernetes-embedded-resource"
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def unknown(schema: Json, value: JsonValue, at: str = "") -> Iterator[str]:
    """Yield the paths of members that the schema does not know."""
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from unknown(table_at(schema, "items"), element, f"{at}[{index}]")
    if not isinstance(value, dict):
        return
    for key, member in value.items():
        here, inner = (f"{at}.{key}" if at else key), _member(schema, key)
        if inner is None:
            yield here
        else:
            yield from unknown(inner, member, here)


def pruned(schema: Json, value: JsonValue) -> JsonValue:
    """Return a value without the members that the schema does not know."""
    if isinstance(value, list):
        return [pruned(table_at(schema, "items"), element) for element in value]
    if not isinstance(value, dict):
        return value
    return {
        key: pruned(inner, member)
        for key, member in value.items()
        if (inner := _member(schema, key)) is not None
    }


def _member(schema: Json, key: str) -> Json | None:
    """Return the schema of a member; None if there may be no such member."""
    properties = table_at(schema, "properties")
    if key in properties:
        return table_at(properties, key)
    if isinstance(schema.get("additionalProperties"), dict):
        return table_at(schema, "additionalProperties")
    if schema.get(KEPT) is True or schema.get("additionalProperties") is True:
        return {KEPT: True}
    if schema.get(EMBEDDED) is True and key in ("apiVersion", "kind", "metadata"):
        return {KEPT: True}
    return None


def fill_defaults(schema: Json, value: JsonValue) -> None:
    """Give a value the defaults of the schema."""
    if isinstance(value, list):
        for element in value:
            fill_defaults(table_at(schema, "items"), element)
    if not isinstance(value, dict):
        return
    properties, others = table_at(schema, "properties"), table_at(schema, "additionalProperties")
    for key in properties:
        inner = table_at(properties, key)
        if key not in value and "default" in inner:
            value[key] = copied(inner["default"])
    for key, member in value.items():
        fill_defaults(table_at(properties, key) if key in properties else others, member)


def causes(schema: Json, value: JsonValue, at: str) -> Iterator[Cause]:
    """Yield what is wrong with a value."""
    if value is None and schema.get("nullable") is True:
        return
    if not _type_fits(schema, value):
        wanted = text_at(schema, "type")
        detail = f'{at} in body must be of type {wanted}: "{_kind_of(value)}"'
        yield Cause(at, "FieldValueTypeInvalid", f"Invalid value: {json.dumps(_kind_of(value))}: {detail}")
        return
    if "enum" in schema and value not in list_at(schema, "enum"):
        yield unsupported(at, value, [str(one) for one in list_at(schema, "enum")])
    yield from _bounds(schema, value, at)
    yield from _combined(schema, value, at)
    if isinstance(value, dict):
        yield from _member_causes(schema, value, at)
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from causes(table_at(schema, "items"), element, f"{at}[{index}]")


def _type_fits(schema: Json, value: JsonValue) -> bool:
    if schema.get(INT_OR_STRING) is True:
        return isinstance(value, str | int) and not isinstance(value, bool)
    types = _TYPES.get(text_at(schema, "type"))
    if types is None:
        return True
    if isinstance(value, bool):
        return bool in types
    if isinstance(value, float) and value.is_integer() and int in types:
        return True
    return isinstance(value, types)


def _kind_of(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _member_causes(schema: Json, value: Json, at: str) -> Iterator[Cause]:
    for name in texts_at(schema, "required"):
        if name not in value:
            yield required(f"{at}.{name}" if at else name)
    for key, member in value.items():
        inner = _member(schema, key)
        if inner:
            yield from causes(inner, member, f"{at}.{key}" if at else key)


_LIMITS = (
    ("maxLength", str, "may not be more than {} bytes"),
    ("maxItems", list, "must have at most {} items"),
    ("maxProperties", dict, "must have at most {} items"),
)
_LEASTS = (
    ("minLength", str, "should be at least {} chars long"),
    ("minItems", list, "should have at least {} items"),
    ("minProperties", dict, "should have at least {} properties"),
)


def _bounds(schema: Json, value: JsonValue, at: str) -> Iterator[Cause]:
    if isinstance(value, str | list | dict):
        for name, kind, words in (*_LIMITS, *_LEASTS):
            limit = schema.get(name)
            if isinstance(limit, int) and isinstance(value, kind):
                wrong = len(value) > limit if name.startswith("max") else len(value) < limit
                if wrong:
                    yield invalid(at, _short(value), f"{at} in body {words.format(limit)}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_causes(schema, value, at)
    if isinstance(value, str) and (pattern := text_at(schema, "pattern")) and not _matches(pattern, value):
        yield invalid(at, value, f"{at} in body should match '{pattern}'")


def _short(value: JsonValue) -> JsonValue:
    return value if isinstance(value, str) else json.dumps(value)[:100]


def _number_causes(schema: Json, value: float, at: str) -> Iterator[Cause]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if isinstance(least, int | float):
        strict = schema.get("exclusiveMinimum") is True
        if value < least or (strict and value == least):
            words = "greater than" if strict else "greater than or equal to"
            yield invalid(at, value, f"{at} in body should be {words} {least}")
    if isinstance(most, int | float):
        strict = schema.get("exclusiveMaximum") is True
        if value > most or (strict and value == most):
            words = "less than" if strict else "less than or equal to"
            yield invalid(at, value, f"{at} in body should be {words} {most}")
    step = schema.get("multipleOf")
    if isinstance(step, int | float) and step and value % step:
        yield invalid(at, value, f"{at} in body should be a multiple of {step}")


@lru_cache(1024)
def _compiled(pattern: str) -> "re.Pattern[str] | None":
    try:
        return re.compile(pattern)
    except re.error:
        return None  # RE2 and Python differ a little: what cannot be read here is let pass


def _matches(pattern: str, value: str) -> bool:
    found = _compiled(pattern)
    return found is None or found.search(value) is not None


def _combined(schema: Json, value: JsonValue, at: str) -> Iterator[Cause]:
    for part in tables_at(schema, "allOf"):
        yield from causes(part, value, at)
    for name, words in (("anyOf", "at least"), ("oneOf", "only")):
        parts = tables_at(schema, name)
        fitting = sum(not any(causes(part, value, at)) for part in parts)
        if parts and (fitting == 0 or (fitting > 1 and name == "oneOf")):
            yield invalid(at, _short(value), f'"{at}" must validate {words} one schema ({name})')
    refused = table_at(schema, "not")
    if refused and not any(causes(refused, value, at)):
        yield invalid(at, _short(value), f'"{at}" must not validate the schema (not)')
