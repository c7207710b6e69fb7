"""Unknown and duplicate fields: where they are said to be, and what is none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.apiserver.fieldcheck import WARNINGS_MOST, FieldCheck
from kubenet.apiserver.kinds import BY_PLURAL, POD
from kubenet.apiserver.query import FieldValidation, field_validation
from kubenet.apiserver.schema.strict import COMPLAINTS_MOST, complaints, members_of, warning
from kubenet.apiserver.status import StatusError

TEMPLATE = '{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c"},%s]}}'


@pytest.mark.parametrize(
    ("kind", "body", "found"),
    [
        pytest.param(
            "Pod", '{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}', [], id="nothing wrong"
        ),
        pytest.param("Deployment", '{"spec":{"bogus":1}}', ['unknown field "spec.bogus"'], id="a member"),
        pytest.param("ConfigMap", '{"spec":null}', ['unknown field "spec"'], id="a member that is null"),
        pytest.param(
            "Pod", '{"spec":{"Containers":[]}}', ['unknown field "spec.Containers"'], id="other letters"
        ),
        pytest.param(
            "Deployment",
            '{"spec":{"template":%s}}' % (TEMPLATE % '{"imagee":"x","ports":[{"port":1}]}'),
            [
                'unknown field "spec.template.spec.containers[1].imagee"',
                'unknown field "spec.template.spec.containers[1].ports[0].port"',
            ],
            id="members inside lists, in their order",
        ),
        pytest.param(
            "ConfigMap", '{"data":{"anything":"goes"},"metadata":{"labels":{"x":"y"}}}', [], id="maps"
        ),
        pytest.param(
            "ConfigMap", '{"data":{"a":"1","a":"2"}}', ['duplicate field "data.a"'], id="twice in a map"
        ),
        pytest.param(
            "Service",
            '{"spec":{"ports":[{"port":1,"port":2}]},"spec":{}}',
            ['duplicate field "spec.ports[0].port"', 'duplicate field "spec"'],
            id="members twice",
        ),
        pytest.param(
            "Pod",
            '{"spec":{"volumes":[{"name":"v","emptyDir":{}}],"kind":"x"}}',
            ['unknown field "spec.kind"'],
            id="embedded members are known, a kind inside is not",
        ),
        pytest.param(
            "Pod",
            '{"metadata":{"managedFields":[{"fieldsV1":{"f:a":{"f:b":{},".":{}}}}]}}',
            [],
            id="the fields of a manager may be anything",
        ),
        pytest.param(
            "Eviction", '{"deleteOptions":{"kind":"DeleteOptions","gracePeriodSeconds":1}}', [], id="options"
        ),
        pytest.param("Nothing", '{"x":{"y":1}}', [], id="a kind without a table"),
    ],
)
def test_B2_9_complaints_say_where(kind: str, body: str, found: list[str]) -> None:
    assert complaints(kind, members_of(body.encode())) == found


def test_B2_9_complaints_have_an_end() -> None:
    assert len(complaints("Pod", {f"x{index}": 1 for index in range(1000)})) == COMPLAINTS_MOST


def test_B2_9_a_warning_is_one_line() -> None:
    assert warning('unknown field "a"') == '299 - "unknown field \\"a\\""'
    assert warning("a\r\nSet-Cookie: b\\") == '299 - "a  Set-Cookie: b\\\\"'
    assert len(warning("x" * 10_000)) < 300
    check = FieldCheck(POD, "Pod", FieldValidation.WARN)
    check.check_body({f"x{index}": 1 for index in range(1000)}, b"", "application/yaml")
    assert len(check.warnings) == WARNINGS_MOST


def test_B2_9_a_patch_answers_only_for_what_it_brings() -> None:
    check = FieldCheck(BY_PLURAL["configmaps"], "ConfigMap", FieldValidation.STRICT)
    check.check_patched({"old": 1, "data": {}}, {"old": 1}, b"{}")
    assert check.warnings == []
    with pytest.raises(StatusError, match='unknown field "new"') as refused:
        check.check_patched({"old": 1, "new": 1}, {"old": 1}, b'{"new":1}')
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")


def test_B2_9_levels_are_named() -> None:
    assert field_validation("POST", {}) is FieldValidation.WARN
    assert field_validation("PUT", {"fieldValidation": "Ignore"}) is FieldValidation.IGNORE
    with pytest.raises(StatusError, match='Unsupported value: "Loud"') as refused:
        field_validation("PATCH", {"fieldValidation": "Loud"})
    assert refused.value.code == 422


KEYS = st.sampled_from(["spec", "metadata", "labels", "containers", "x", "fieldsV1", "volumes"]) | st.text(
    max_size=2
)
BODIES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, BODIES, max_size=4), st.sampled_from(["Pod", "Service", "Deployment", "Event"]))
def test_A5_any_object_can_be_checked(value: Any, kind: str) -> None:
    """With no member twice, it does not matter whether the body or what it was decoded to is looked at."""
    assert complaints(kind, members_of(json.dumps(value).encode())) == complaints(kind, value)
