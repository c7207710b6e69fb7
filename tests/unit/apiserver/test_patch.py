"""Merge patch and JSON patch: the examples of their RFCs, and their laws."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.apiserver.patch import json_patch, merge_patch
from kubenet.apiserver.status import StatusError
from kubenet.model.objects import JsonValue

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
TABLES: st.SearchStrategy[Any] = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b"}', '{"a":null}', "{}"),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ('["a","b"]', '["c","d"]', '["c","d"]'),
        ('{"a":"b"}', '["c"]', '["c"]'),
        ('{"a":"foo"}', "null", "null"),
        ('{"a":"foo"}', '"bar"', '"bar"'),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
        ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
    ],
)
def test_B3_7_merge_patch_follows_the_appendix_of_RFC_7396(target: str, patch: str, result: str) -> None:
    assert merge_patch(json.loads(target), json.loads(patch)) == json.loads(result)


@given(VALUES, VALUES)
def test_a_merge_patch_applied_twice_is_applied_once(target: JsonValue, patch: JsonValue) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(TABLES)
def test_an_empty_merge_patch_changes_nothing(target: JsonValue) -> None:
    assert merge_patch(target, {}) == target


@given(VALUES, VALUES)
def test_a_merge_patch_leaves_its_target_as_it_was(target: JsonValue, patch: JsonValue) -> None:
    before = json.dumps(target)
    merge_patch(target, patch)
    assert json.dumps(target) == before


def difference(have: Any, want: Any) -> Any:
    """Return a merge patch from one object without nulls to another."""
    if not isinstance(have, dict) or not isinstance(want, dict):
        return want
    gone = {key: None for key in have if key not in want}
    return gone | {key: difference(have.get(key), want[key]) for key in want if have.get(key) != want[key]}


NO_NULLS: st.SearchStrategy[Any] = st.recursive(
    st.integers(0, 3), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(st.sampled_from("abc"), NO_NULLS), st.dictionaries(st.sampled_from("abc"), NO_NULLS))
def test_a_merge_patch_leads_from_any_object_to_any_other(have: Any, want: Any) -> None:
    assert merge_patch(have, difference(have, want)) == want


@pytest.mark.parametrize(
    ("document", "operations", "result"),
    [
        pytest.param(
            {"foo": "bar"},
            [{"op": "add", "path": "/baz", "value": "qux"}],
            {"baz": "qux", "foo": "bar"},
            id="A.1 add a member",
        ),
        pytest.param(
            {"foo": ["bar", "baz"]},
            [{"op": "add", "path": "/foo/1", "value": "qux"}],
            {"foo": ["bar", "qux", "baz"]},
            id="A.2 add an element",
        ),
        pytest.param(
            {"baz": "qux", "foo": "bar"}, [{"op": "remove", "path": "/baz"}], {"foo": "bar"}, id="A.3 remove"
        ),
        pytest.param(
            {"foo": ["bar", "qux", "baz"]},
            [{"op": "remove", "path": "/foo/1"}],
            {"foo": ["bar", "baz"]},
            id="A.4 remove an element",
        ),
        pytest.param(
            {"baz": "qux", "foo": "bar"},
            [{"op": "replace", "path": "/baz", "value": "boo"}],
            {"baz": "boo", "foo": "bar"},
            id="A.5 replace",
        ),
        pytest.param(
            {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
            [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
            {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
            id="A.6 move",
        ),
        pytest.param(
            {"foo": ["all", "grass", "cows", "eat"]},
            [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
            {"foo": ["all", "cows", "eat", "grass"]},
            id="A.7 move an element",
        ),
        pytest.param(
            {"baz": "qux", "foo": ["a", 2, "c"]},
            [
                {"op": "test", "path": "/baz", "value": "qux"},
                {"op": "test", "path": "/foo/1", "value": 2},
            ],
            {"baz": "qux", "foo": ["a", 2, "c"]},
            id="A.8 test",
        ),
        pytest.param(
            {"foo": "bar"},
            [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
            {"foo": "bar", "child": {"grandchild": {}}},
            id="A.10 add an object",
        ),
        pytest.param(
            {"foo": "bar"},
            [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
            {"foo": "bar", "baz": "qux"},
            id="A.11 ignore what is unknown",
        ),
        pytest.param(
            {"/": 9, "~1": 10},
            [{"op": "test", "path": "/~01", "value": 10}],
            {"/": 9, "~1": 10},
            id="A.14 escapes",
        ),
        pytest.param(
            {"foo": ["bar"]},
            [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
            {"foo": ["bar", ["abc", "def"]]},
            id="A.16 append",
        ),
        pytest.param({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}, id="copy"),
        pytest.param({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}, id="the whole"),
        pytest.param({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}, id="move to itself"),
    ],
)
def test_B3_7_json_patch_follows_the_examples_of_RFC_6902(
    document: JsonValue, operations: JsonValue, result: JsonValue
) -> None:
    before = json.dumps(document)
    assert json_patch(document, operations) == result
    assert json.dumps(document) == before


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        pytest.param({"op": "test", "path": "/baz", "value": "bar"}, 422, id="A.9 a test that fails"),
        pytest.param({"op": "test", "path": "/one", "value": True}, 422, id="A.15 true is not 1"),
        pytest.param({"op": "add", "path": "/no/bat", "value": "qux"}, 422, id="A.12 no such parent"),
        pytest.param({"op": "remove", "path": "/no"}, 422, id="remove what is not there"),
        pytest.param({"op": "replace", "path": "/no", "value": 1}, 422, id="replace what is not there"),
        pytest.param({"op": "add", "path": "/list/9", "value": 1}, 422, id="beyond the end"),
        pytest.param({"op": "add", "path": "/list/01", "value": 1}, 422, id="a leading zero"),
        pytest.param({"op": "remove", "path": "/list/-"}, 422, id="remove behind the end"),
        pytest.param({"op": "add", "path": "/one/two", "value": 1}, 422, id="a member of a number"),
        pytest.param({"op": "move", "from": "/deep", "path": "/deep/er"}, 422, id="move into itself"),
        pytest.param({"op": "add", "path": "/a"}, 400, id="no value"),
        pytest.param({"op": "destroy", "path": "/a"}, 400, id="unknown operation"),
        pytest.param({"op": ["add"], "path": "/a"}, 400, id="an operation that is no text"),
        pytest.param({"op": "remove", "path": "a"}, 400, id="no pointer"),
        pytest.param({"op": "remove"}, 400, id="no path"),
        pytest.param("remove", 400, id="no object"),
    ],
)
def test_B3_7_json_patches_that_are_refused(operation: JsonValue, code: int) -> None:
    document: JsonValue = {"baz": "qux", "one": 1, "list": [1], "deep": {}}
    with pytest.raises(StatusError) as refusal:
        json_patch(document, [operation])
    assert refusal.value.code == code


@given(TABLES, TABLES)
def test_json_patch_can_add_and_remove_every_member(document: Any, extra: Any) -> None:
    added: list[Any] = [{"op": "add", "path": f"/new-{key}", "value": value} for key, value in extra.items()]
    removed: list[Any] = [{"op": "remove", "path": f"/new-{key}"} for key in extra]
    assert json_patch(document, added) == document | {f"new-{key}": value for key, value in extra.items()}
    assert json_patch(document, added + removed) == document
