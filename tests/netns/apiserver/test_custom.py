"""Custom resources: defined, served, checked, shown, applied, and gone with their definition."""

import asyncio
from pathlib import Path

import pytest

from kubenet.store.sqlite import SqliteStore
from tests.netns.apiserver.server import NS, TABLE, Api, Value, on_server, serving

pytestmark = pytest.mark.netns

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
SPEC = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1},
        "mode": {"type": "string", "default": "slow", "enum": ["slow", "fast"]},
        "replicas": {"type": "integer"},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {
        "spec": SPEC,
        "status": {
            "type": "object",
            "properties": {"phase": {"type": "string"}, "replicas": {"type": "integer"}},
        },
    },
}


def definition(**version: Value) -> Value:
    return {
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": SCHEMA},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                        {"name": "Phase", "type": "string", "jsonPath": ".status.phase", "priority": 1},
                        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                    ],
                }
                | version
            ],
        },
    }


def widget(name: str = "a", **spec: Value) -> Value:
    return {
        "kind": "Widget",
        "apiVersion": "example.com/v1",
        "metadata": {"name": name},
        "spec": {"size": 3} | spec,
    }


async def _define(api: Api, **version: Value) -> None:
    assert (await api.post(DEFINITIONS, definition(**version))).status == 201
    async with asyncio.timeout(5):
        while not await _is_established(api):
            await asyncio.sleep(0.01)


async def _is_established(api: Api) -> bool:
    status = (await api.get(f"{DEFINITIONS}/widgets.example.com")).ok["status"]
    return {"Established", "NamesAccepted"} == {
        one["type"] for one in status["conditions"] if one["status"] == "True"
    }


def test_B3_18_a_defined_kind_is_discovered_and_served() -> None:
    async def case(api: Api) -> None:
        (await api.get(WIDGETS)).refused(404, "NotFound")
        await _define(api)
        assert "example.com" in [group["name"] for group in (await api.get("/apis")).ok["groups"]]
        resources = (await api.get("/apis/example.com/v1")).ok["resources"]
        assert [one["name"] for one in resources] == ["widgets", "widgets/status", "widgets/scale"]
        assert resources[0]["shortNames"] == ["wd"]
        made = (await api.post(WIDGETS, widget())).ok
        assert (made["kind"], made["apiVersion"], made["spec"]["mode"]) == (
            "Widget",
            "example.com/v1",
            "slow",
        )
        assert made["metadata"]["generation"] == 1
        async with api.watch(WIDGETS) as watch:
            assert await watch.take(1) == [("ADDED", "a")]
            changed = (await api.patch(f"{WIDGETS}/a", {"spec": {"size": 4}})).ok
            assert changed["metadata"]["generation"] == 2
            assert await watch.take(1) == [("MODIFIED", "a")]
        document = (await api.get("/openapi/v3/apis/example.com/v1")).ok
        assert document["components"]["schemas"]["io.k8s.Widget"]["properties"]["spec"] == SPEC

    on_server(case)


def test_B3_18_objects_are_checked_pruned_and_strict_when_asked() -> None:
    async def case(api: Api) -> None:
        await _define(api)
        wrong = widget(size=0, mode="odd")
        message = (await api.post(WIDGETS, wrong)).refused(422, "Invalid")
        assert "spec.size" in message
        assert "spec.mode" in message
        no_size = {"metadata": {"name": "a"}, "spec": {}}
        assert "spec.size: Required value" in (await api.post(WIDGETS, no_size)).refused(422, "Invalid")
        odd = widget(odd=1)
        refused = await api.post(WIDGETS, odd, fieldValidation="Strict")
        assert 'strict decoding error: unknown field "spec.odd"' in refused.refused(400, "BadRequest")
        pruned = await api.post(WIDGETS, odd)
        assert "odd" not in pruned.ok["spec"]
        assert 'unknown field \\"spec.odd\\"' in pruned.headers["Warning"]

    on_server(case)


def test_B3_18_status_and_scale_are_parts_of_their_own() -> None:
    async def case(api: Api) -> None:
        await _define(api)
        made = (await api.post(WIDGETS, widget(replicas=2) | {"status": {"phase": "Odd"}})).ok
        assert "status" not in made
        written = (
            await api.patch(f"{WIDGETS}/a/status", {"status": {"phase": "Up"}, "spec": {"size": 9}})
        ).ok
        assert (written["status"], written["spec"]["size"]) == ({"phase": "Up"}, 3)
        assert written["metadata"]["generation"] == 1
        scaled = (await api.patch(f"{WIDGETS}/a/scale", {"spec": {"replicas": 5}})).ok
        assert scaled["spec"]["replicas"] == 5
        rows = (await api.get(WIDGETS, accept=TABLE)).ok
        assert [column["name"] for column in rows["columnDefinitions"]] == ["Name", "Size", "Phase", "Age"]
        assert rows["rows"][0]["cells"][:3] == ["a", 3, "Up"]

    on_server(case)


def test_B3_18_server_side_apply_of_a_custom_resource() -> None:
    async def case(api: Api) -> None:
        await _define(api)
        how = {"type": "application/apply-patch+yaml"}
        assert (await api.patch(f"{WIDGETS}/a", widget(), fieldManager="one", **how)).status == 201
        refused = await api.patch(f"{WIDGETS}/a", widget(size=5), fieldManager="two", **how)
        assert ".spec.size" in refused.refused(409, "Conflict")

    on_server(case)


def test_B3_18_a_definition_takes_its_objects_with_it() -> None:
    async def case(api: Api) -> None:
        await _define(api)
        await api.post(WIDGETS, widget("a"))
        await api.post(WIDGETS, widget("b") | {"metadata": {"name": "b", "finalizers": ["example.com/wait"]}})
        await api.delete(f"{DEFINITIONS}/widgets.example.com")
        await api.until_gone(f"{WIDGETS}/a")
        assert (await api.get(f"{DEFINITIONS}/widgets.example.com")).status == 200  # b holds it
        await api.patch(f"{WIDGETS}/b", {"metadata": {"finalizers": None}})
        await api.until_gone(f"{DEFINITIONS}/widgets.example.com")
        (await api.get(WIDGETS)).refused(404, "NotFound")
        await _define(api)
        assert (await api.get(WIDGETS)).ok["items"] == []

    on_server(case)


def test_B3_18_a_namespace_takes_its_custom_resources_with_it() -> None:
    async def case(api: Api) -> None:
        await _define(api)
        await api.post(NS, {"metadata": {"name": "x"}})
        path = WIDGETS.replace("default", "x")
        await api.post(path, widget())
        await api.delete(f"{NS}/x")
        await api.until_gone(f"{NS}/x")
        assert (await api.get("/apis/example.com/v1/widgets")).ok["items"] == []

    on_server(case)


def test_B3_18_custom_resources_live_through_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        for turn in range(2):
            store = await SqliteStore.open(tmp_path / "s.db")
            async with serving(store) as api:
                if turn == 0:
                    await _define(api)
                    await api.post(WIDGETS, widget())
                assert (await api.get(f"{WIDGETS}/a")).ok["spec"]["size"] == 3
            await store.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"schema": {}}, "openAPIV3Schema"),
        ({"storage": False}, "exactly one version marked as storage"),
    ],
)
def test_B3_18_a_wrong_definition_is_refused(changed: Value, why: str) -> None:
    async def case(api: Api) -> None:
        assert why in (await api.post(DEFINITIONS, definition(**changed))).refused(422, "Invalid")
        misnamed = definition() | {"metadata": {"name": "other.example.com"}}
        assert "metadata.name" in (await api.post(DEFINITIONS, misnamed)).refused(422, "Invalid")

    on_server(case)
