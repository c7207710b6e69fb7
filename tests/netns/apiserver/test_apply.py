"""Server-side apply: who manages which field, conflicts, force, and what goes when nobody wants it."""

import json

import pytest

from tests.netns.apiserver.server import (
    CONFIGMAPS,
    DEPLOYMENTS,
    MERGE,
    SERVICES,
    STRATEGIC,
    Api,
    Reply,
    Value,
    configmap,
    deployment,
    on_server,
)

pytestmark = pytest.mark.netns

APPLY = "application/apply-patch+yaml"


def _config(**data: str) -> Value:
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "c"}, "data": data}


async def _apply(api: Api, path: str, config: Value, manager: str = "one", **options: str) -> Reply:
    return await api.patch(path, config, type=APPLY, fieldManager=manager, **options)


def _managers(value: Value) -> list[tuple[str, str]]:
    return [(entry["manager"], entry["operation"]) for entry in value["metadata"]["managedFields"]]


def _fields(value: Value, manager: str) -> Value:
    entries = value["metadata"]["managedFields"]
    return next(entry["fieldsV1"] for entry in entries if entry["manager"] == manager)


def test_B3_8_an_apply_creates_and_then_changes_nothing() -> None:
    async def case(api: Api) -> None:
        path = f"{CONFIGMAPS}/c"
        made = await _apply(api, path, _config(a="1"))
        assert made.status == 201
        assert _managers(made.json) == [("one", "Apply")]
        assert _fields(made.json, "one") == {"f:data": {"f:a": {}}}
        again = await _apply(api, path, _config(a="1"))
        assert (again.status, again.json) == (200, made.json)

    on_server(case)


def test_B3_8_what_another_manages_is_a_conflict_until_it_is_forced() -> None:
    async def case(api: Api) -> None:
        path = f"{CONFIGMAPS}/c"
        await _apply(api, path, _config(a="1", b="1"))
        assert (await _apply(api, path, _config(a="1"), "two")).status == 200  # the same value is no conflict
        refused = await _apply(api, path, _config(a="2", b="2"), "two")
        message = refused.refused(409, "Conflict")
        assert message == 'Apply failed with 2 conflicts: conflicts with "one":\n- .data.a\n- .data.b'
        assert refused.json["details"]["causes"][0] == {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "one"',
            "field": ".data.a",
        }
        taken = (await _apply(api, path, _config(a="2", b="2"), "two", force="true")).ok
        assert taken["data"] == {"a": "2", "b": "2"}
        assert _managers(taken) == [("two", "Apply")]

    on_server(case)


def test_B3_8_a_field_that_its_manager_drops_goes_unless_another_has_it() -> None:
    async def case(api: Api) -> None:
        path = f"{CONFIGMAPS}/c"
        await _apply(api, path, _config(mine="1", shared="1"))
        await _apply(api, path, _config(shared="1"), "two")
        left = (await _apply(api, path, _config(other="1"))).ok
        assert left["data"] == {"shared": "1", "other": "1"}
        emptied = (await _apply(api, path, _config(), "two")).ok
        assert emptied["data"] == {"other": "1"}

    on_server(case)


def test_B3_8_other_writers_are_tracked_and_named_in_conflicts() -> None:
    async def case(api: Api) -> None:
        path = f"{CONFIGMAPS}/c"
        made = (await api.post(CONFIGMAPS, configmap("c", a="1"), fieldManager="creator")).ok
        assert _managers(made) == [("creator", "Update")]
        assert _fields(made, "creator") == {"f:data": {".": {}, "f:a": {}}}
        await api.patch(path, {"data": {"b": "1"}}, MERGE, fieldManager="patcher")
        message = (await _apply(api, path, _config(a="2"))).refused(409, "Conflict")
        assert message.startswith('Apply failed with 1 conflict: conflict with "creator" using v1 at 20')
        assert message.endswith(": .data.a")
        taken = (await _apply(api, path, _config(a="2"), force="true")).ok
        assert _managers(taken) == [("one", "Apply"), ("creator", "Update"), ("patcher", "Update")]
        assert _fields(taken, "creator") == {"f:data": {}}

    on_server(case)


def test_B3_8_lists_are_merged_by_the_keys_of_the_schema() -> None:
    async def case(api: Api) -> None:
        path = f"{SERVICES}/web"

        def config(*ports: Value) -> Value:
            return {
                "kind": "Service",
                "apiVersion": "v1",
                "metadata": {"name": "web"},
                "spec": {"ports": [*ports]},
            }

        http = {"name": "http", "port": 80}
        https = {"name": "https", "port": 443, "protocol": "TCP"}
        dns = {"name": "dns", "port": 80, "protocol": "UDP"}
        made = (await _apply(api, path, config(http))).ok
        key = 'k:{"port":80,"protocol":"TCP"}'
        assert _fields(made, "one")["f:spec"]["f:ports"] == {key: {".": {}, "f:name": {}, "f:port": {}}}
        both = (await _apply(api, path, config(https, dns), "two")).ok
        assert [port["name"] for port in both["spec"]["ports"]] == ["http", "https", "dns"]
        left = (await _apply(api, path, config(dns), "two")).ok
        assert [port["name"] for port in left["spec"]["ports"]] == ["http", "dns"]
        keyless = config({"name": "x"})
        assert "without its keys" in (await _apply(api, path, keyless)).refused(400, "BadRequest")

    on_server(case)


def test_B3_8_scale_by_another_keeps_its_replicas() -> None:
    """The usual case: an autoscaler owns the replicas, and the manifest leaves them out."""

    async def case(api: Api) -> None:
        path = f"{DEPLOYMENTS}/web"
        config = {"kind": "Deployment", "apiVersion": "apps/v1"} | deployment("web")
        made = (await _apply(api, path, config)).ok
        assert made["spec"]["replicas"] == 1
        await api.patch(f"{path}/scale", {"spec": {"replicas": 5}}, fieldManager="scaler")
        config["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2"
        changed = (await _apply(api, path, config)).ok
        assert (changed["spec"]["replicas"], changed["metadata"]["generation"]) == (5, 3)
        config["spec"]["replicas"] = 2
        assert "conflict with" in (await _apply(api, path, config)).refused(409, "Conflict")
        container = 'k:{"name":"c"}'
        owned = _fields(changed, "one")["f:spec"]["f:template"]["f:spec"]["f:containers"]
        assert owned == {container: {".": {}, "f:image": {}, "f:name": {}}}
        scaler = next(e for e in changed["metadata"]["managedFields"] if e["manager"] == "scaler")
        assert (scaler["subresource"], scaler["fieldsV1"]) == ("scale", {"f:spec": {"f:replicas": {}}})

    on_server(case)


def test_B3_8_status_is_applied_through_its_subresource_only() -> None:
    async def case(api: Api) -> None:
        path = f"{DEPLOYMENTS}/web"
        config = {"kind": "Deployment", "apiVersion": "apps/v1"} | deployment("web")
        await _apply(api, path, config | {"status": {"replicas": 9}})
        status = {"kind": "Deployment", "apiVersion": "apps/v1", "status": {"replicas": 3}}
        written = (await _apply(api, f"{path}/status", status, "controller")).ok
        assert written["status"] == {"replicas": 3}
        assert _fields(written, "controller") == {"f:status": {"f:replicas": {}}}
        assert "f:status" not in _fields(written, "one")

    on_server(case)


def test_B3_8_a_dry_run_and_a_missing_manager() -> None:
    async def case(api: Api) -> None:
        path = f"{CONFIGMAPS}/c"
        assert (await _apply(api, path, _config(a="1"), dryRun="All")).status == 201
        assert (await api.get(path)).status == 404
        nameless = await api.patch(path, _config(), type=APPLY)
        assert "is required for apply patch" in nameless.refused(422, "Invalid")
        listed = _config()
        listed["metadata"]["managedFields"] = []
        assert "managedFields must be nil" in (await _apply(api, path, listed)).refused(400, "BadRequest")
        misspelt = await _apply(api, path, _config() | {"dat": {}}, fieldValidation="Strict")
        assert 'unknown field "dat"' in misspelt.refused(400, "BadRequest")

    on_server(case)


def test_B3_8_an_object_from_before_belongs_to_nobody_in_particular() -> None:
    async def case(api: Api) -> None:
        path = f"{CONFIGMAPS}/c"
        await api.post(CONFIGMAPS, configmap("c", a="1"))
        cleared = await api.patch(path, {"metadata": {"managedFields": [{}]}})
        assert "managedFields" not in cleared.ok["metadata"]
        message = (await _apply(api, path, _config(a="2"))).refused(409, "Conflict")
        assert '"before-first-apply"' in message
        assert (await _apply(api, path, _config(a="2"), force="true")).ok["data"] == {"a": "2"}

    on_server(case)


def test_B3_8_a_strategic_patch_takes_what_it_changes() -> None:
    async def case(api: Api) -> None:
        path = f"{DEPLOYMENTS}/web"
        await _apply(api, path, {"kind": "Deployment", "apiVersion": "apps/v1"} | deployment("web"))
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "new"}]}}}}
        patched = (await api.patch(path, patch, STRATEGIC, fieldManager="setter")).ok
        image: Value = {"f:template": {"f:spec": {"f:containers": {'k:{"name":"c"}': {"f:image": {}}}}}}
        assert _fields(patched, "setter") == {"f:spec": image}
        assert "f:image" not in json.dumps(_fields(patched, "one"))

    on_server(case)
