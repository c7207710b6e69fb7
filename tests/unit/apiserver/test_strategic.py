"""Strategic merge patch: merge keys, directives, and what kubectl really sends."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.apiserver.status import StatusError
from kubenet.apiserver.strategic import strategic_merge

Value = Any


def spec(*containers: Value, **more: Value) -> Value:
    return {"spec": {"containers": list(containers)} | more}


A, B, C = ({"name": name, "image": f"{name}:1"} for name in "abc")


@pytest.mark.parametrize(
    ("have", "patch", "want"),
    [
        pytest.param(
            spec(A, B), spec({"name": "b", "image": "b:2"}), spec(A, B | {"image": "b:2"}), id="by name"
        ),
        pytest.param(spec(A), spec(B), spec(A, B), id="a new element goes to the end"),
        pytest.param(spec(A, B), spec({"name": "a", "$patch": "delete"}), spec(B), id="delete an element"),
        pytest.param(spec(A, B), spec({"$patch": "replace"}, C), spec(C), id="replace the list"),
        pytest.param(
            spec(A, x=1), {"spec": {"$patch": "replace", "y": 2}}, {"spec": {"y": 2}}, id="replace an object"
        ),
        pytest.param(spec(A), {"spec": {"$patch": "delete"}}, {"spec": {}}, id="delete an object"),
        pytest.param(spec(A, x=1), {"spec": {"x": None}}, spec(A), id="null removes"),
        pytest.param(
            spec(A | {"ports": [{"containerPort": 80, "name": "http"}]}),
            spec({"name": "a", "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81}]}),
            spec(A | {"ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81}]}),
            id="a container's ports by number",
        ),
        pytest.param(
            {"spec": {"ports": [{"port": 80, "targetPort": 1}, {"port": 443}]}},
            {"spec": {"ports": [{"port": 80, "targetPort": 2}]}},
            {"spec": {"ports": [{"port": 80, "targetPort": 2}, {"port": 443}]}},
            id="a service's ports by number",
        ),
        pytest.param(
            {"ports": [{"port": 80, "name": "a"}], "endpoints": [{"addresses": ["1"]}]},
            {"ports": [{"port": 81}], "endpoints": [{"addresses": ["2"]}]},
            {"ports": [{"port": 81}], "endpoints": [{"addresses": ["2"]}]},
            id="an endpoint slice's lists are replaced",
        ),
        pytest.param(
            {"spec": {"template": {"spec": {"containers": [A | {"env": [{"name": "X", "value": "1"}]}]}}}},
            {
                "spec": {
                    "template": {
                        "spec": {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}]}]}
                    }
                }
            },
            {
                "spec": {
                    "template": {
                        "spec": {
                            "containers": [
                                A | {"env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}
                            ]
                        }
                    }
                }
            },
            id="variables of a container of a template",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}},
            {"metadata": {"finalizers": ["b", "c"]}},
            id="finalizers are a set",
        ),
        pytest.param(
            spec(A, B, C),
            {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}},
            spec(C, A, B),
            id="order",
        ),
        pytest.param(
            spec(A, B, C),
            {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}},
            spec(C, B, A),
            id="an element that the client does not know keeps its place",
        ),
        pytest.param(
            {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}},
            {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}},
            {"strategy": {"type": "Recreate"}},
            id="retain keys",
        ),
        pytest.param(
            {"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Other"}]}},
            {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            {"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other"}]}},
            id="conditions by type",
        ),
        pytest.param(
            spec(A | {"command": ["x", "y"]}),
            spec({"name": "a", "command": ["z"]}),
            spec(A | {"command": ["z"]}),
            id="a list of texts is replaced",
        ),
        pytest.param(
            {"spec": "text"}, {"spec": {"a": {"b": None, "c": 1}}}, {"spec": {"a": {"c": 1}}}, id="new"
        ),
    ],
)
def test_B3_7_strategic_merge(have: Value, patch: Value, want: Value) -> None:
    assert strategic_merge(have, patch) == want


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(spec({"image": "x"}), id="an element without its merge key"),
        pytest.param(spec("text"), id="an element that is no object"),
        pytest.param({"$patch": "explode"}, id="an unknown directive"),
    ],
)
def test_B3_7_patches_that_cannot_be_meant_are_refused(patch: Value) -> None:
    with pytest.raises(StatusError) as refusal:
        strategic_merge(spec(A), patch)
    assert refusal.value.code == 400


NAMES = st.lists(st.sampled_from("abcdef"), unique=True, max_size=5)


@given(NAMES, NAMES)
def test_merging_by_key_never_doubles_and_never_loses_an_element(have: list[str], patch: list[str]) -> None:
    base, change = spec(*({"name": n, "v": 1} for n in have)), spec(*({"name": n, "v": 2} for n in patch))
    merged = strategic_merge(base, change)["spec"]
    assert isinstance(merged, dict)
    containers: Value = merged["containers"]
    assert [one["name"] for one in containers] == have + [name for name in patch if name not in have]
    assert {one["name"]: one["v"] for one in containers} == dict.fromkeys(have, 1) | dict.fromkeys(patch, 2)


@given(NAMES, st.permutations("abcdef"))
def test_set_element_order_sorts_all_that_it_names(have: list[str], order: list[str]) -> None:
    patch: Value = {"spec": {"$setElementOrder/containers": [{"name": name} for name in order]}}
    merged = strategic_merge(spec(*({"name": name} for name in have)), patch)["spec"]
    assert isinstance(merged, dict)
    containers: Value = merged["containers"]
    assert [one["name"] for one in containers] == sorted(have, key=order.index)
