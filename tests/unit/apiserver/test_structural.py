"""Structural schemas: pruning, defaults, validation; and what printer columns lead to."""

from typing import Any

import pytest

from kubenet.apiserver import structural
from kubenet.apiserver.registry.custom import json_path

PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
SCHEMA: Any = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "default": 3, "multipleOf": 3},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "minLength": 2},
                "mode": {"type": "string", "enum": ["fast", "slow"], "default": "fast"},
                "ports": {"type": "array", "maxItems": 2, "items": PORT},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "any": {"x-kubernetes-int-or-string": True},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "none": {"type": "string", "nullable": True},
                "either": {
                    "type": "object",
                    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                },
                "parts": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"kind": {"type": "string", "default": "x"}}},
                },
            },
        }
    },
}


def _wrong(**spec: Any) -> list[tuple[str, str]]:
    found = structural.causes(SCHEMA, {"spec": {"size": 3} | spec}, "")
    return [(cause.field, cause.message) for cause in found]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"name": "abc", "mode": "slow", "ports": [1, 65535], "labels": {"a": "b"}},
        {"any": 1},
        {"any": "1"},
        {"free": {"anything": [1, {"at": "all"}]}},
        {"none": None},
        {"either": {"a": 1}},
    ],
)
def test_B3_18_what_fits_the_schema_is_right(spec: Any) -> None:
    assert _wrong(**spec) == []


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"size": "3"}, "spec.size", 'must be of type integer: "string"'),
        ({"size": True}, "spec.size", 'must be of type integer: "boolean"'),
        ({"size": 4}, "spec.size", "multiple of 3"),
        ({"name": "ABC"}, "spec.name", "should match '^[a-z]+$'"),
        ({"name": "abcdef"}, "spec.name", "may not be more than 5"),
        ({"name": "a"}, "spec.name", "at least 2 chars"),
        ({"mode": "odd"}, "spec.mode", 'Unsupported value: "odd": supported values: "fast", "slow"'),
        ({"ports": [1, 2, 3]}, "spec.ports", "at most 2 items"),
        ({"ports": [0]}, "spec.ports[0]", "greater than or equal to 1"),
        ({"labels": {"a": 1}}, "spec.labels.a", "must be of type string"),
        ({"any": 1.5}, "spec.any", "Invalid value"),
        ({"none": 1}, "spec.none", "must be of type string"),
        ({"either": {}}, "spec.either", "oneOf"),
        ({"either": {"a": 1, "b": 2}}, "spec.either", "oneOf"),
    ],
)
def test_B3_18_what_does_not_is_named(spec: Any, field: str, words: str) -> None:
    (wrong,) = _wrong(**spec)
    assert wrong[0] == field
    assert words in wrong[1]


def test_B3_18_a_missing_field_is_required() -> None:
    (cause,) = structural.causes(SCHEMA, {"spec": {}}, "")
    assert (cause.field, cause.reason) == ("spec.size", "FieldValueRequired")


def test_B3_18_unknown_members_are_named_and_pruned() -> None:
    value: Any = {
        "spec": {"size": 3, "odd": 1, "free": {"x": 1}, "labels": {"x": "y"}, "parts": [{"odd": 1}]},
        "more": 1,
    }
    assert list(structural.unknown(SCHEMA, value)) == ["spec.odd", "spec.parts[0].odd", "more"]
    kept = {"spec": {"size": 3, "free": {"x": 1}, "labels": {"x": "y"}, "parts": [{}]}}
    assert structural.pruned(SCHEMA, value) == kept


def test_B3_18_defaults_reach_into_lists() -> None:
    value: Any = {"spec": {"parts": [{}, {"kind": "y"}]}}
    structural.fill_defaults(SCHEMA, value)
    assert value == {"spec": {"size": 3, "mode": "fast", "parts": [{"kind": "x"}, {"kind": "y"}]}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.a", 1),
        (".spec.none", None),
        (".spec.list[1]", "y"),
        (".spec.list[9]", None),
        ('.status.conditions[?(@.type=="Ready")].status', "True"),
        (".metadata.annotations['a.b/c']", "z"),
        ("nonsense", None),
    ],
)
def test_B3_18_a_column_finds_its_value(path: str, found: object) -> None:
    value: Any = {
        "metadata": {"annotations": {"a.b/c": "z"}},
        "spec": {"a": 1, "list": ["x", "y"]},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
    }
    assert json_path(path, value) == found
