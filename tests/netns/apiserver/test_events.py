"""Kinds with two faces: Events of the core group and of events.k8s.io, autoscalers of two versions."""

import pytest

from tests.netns.apiserver.server import DEFAULT, Api, Value, on_server

pytestmark = pytest.mark.netns

CORE = f"{DEFAULT}/events"
NEW = "/apis/events.k8s.io/v1/namespaces/default/events"
POD = {"kind": "Pod", "namespace": "default", "name": "p"}
NEW_EVENT: Value = {
    "kind": "Event",
    "apiVersion": "events.k8s.io/v1",
    "metadata": {"name": "e"},
    "regarding": POD,
    "note": "it runs",
    "reason": "Started",
    "action": "Starting",
    "type": "Normal",
    "eventTime": "2026-01-01T00:00:00.000000Z",
    "reportingController": "kubelet",
    "reportingInstance": "n1",
}


def test_B3_16_an_event_is_seen_in_both_groups() -> None:
    async def case(api: Api) -> None:
        made = (await api.post(NEW, NEW_EVENT, fieldValidation="Strict")).ok
        assert (made["apiVersion"], made["note"], made["regarding"]) == ("events.k8s.io/v1", "it runs", POD)
        core = (await api.get(f"{CORE}/e")).ok
        assert (core["apiVersion"], core["message"], core["involvedObject"]) == ("v1", "it runs", POD)
        assert core["reportingComponent"] == "kubelet"
        assert core["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
        older = {"metadata": {"name": "o"}, "involvedObject": POD, "message": "older", "count": 2}
        await api.post(CORE, older)
        listed = (await api.get(NEW)).ok
        assert (listed["kind"], listed["apiVersion"]) == ("EventList", "events.k8s.io/v1")
        assert [item["note"] for item in listed["items"]] == ["it runs", "older"]
        assert listed["items"][1]["deprecatedCount"] == 2
        found = await api.get(CORE, fieldSelector="involvedObject.name=p,reason=Started")
        assert [item["metadata"]["name"] for item in found.ok["items"]] == ["e"]

    on_server(case)


def test_B3_16_changes_and_watches_go_both_ways() -> None:
    async def case(api: Api) -> None:
        await api.post(NEW, NEW_EVENT)
        async with api.watch(NEW) as new, api.watch(CORE) as core:
            assert (await new.next())["object"]["note"] == "it runs"
            assert (await core.next())["object"]["message"] == "it runs"
            series = {"series": {"count": 3, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}
            patched = (await api.patch(f"{NEW}/e", series | {"note": "again"})).ok
            assert (patched["note"], patched["series"]["count"]) == ("again", 3)
            seen = await new.next()
            assert (seen["type"], seen["object"]["note"]) == ("MODIFIED", "again")
            assert (await core.next())["object"]["message"] == "again"
            assert (await api.delete(f"{NEW}/e")).status == 200
            assert ((await core.next())["type"], (await new.next())["type"]) == ("DELETED", "DELETED")
        misspelt = await api.post(NEW, NEW_EVENT | {"message": "core's"}, fieldValidation="Strict")
        assert 'unknown field "message"' in misspelt.refused(400, "BadRequest")

    on_server(case)


def test_an_autoscaler_of_version_1_is_one_of_version_2_that_looks_at_the_processor() -> None:
    async def case(api: Api) -> None:
        old, new = (
            f"/apis/autoscaling/{v}/namespaces/default/horizontalpodautoscalers" for v in ("v1", "v2")
        )
        spec = {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 5}
        body = {"metadata": {"name": "web"}, "spec": spec | {"targetCPUUtilizationPercentage": 80}}
        made = (await api.post(old, body, fieldValidation="Strict")).ok
        assert (made["apiVersion"], made["spec"]["targetCPUUtilizationPercentage"]) == ("autoscaling/v1", 80)
        metric = (await api.get(f"{new}/web")).ok["spec"]["metrics"][0]["resource"]
        assert metric == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
        changed = (await api.patch(f"{old}/web", {"spec": {"targetCPUUtilizationPercentage": 50}})).ok
        assert changed["spec"]["targetCPUUtilizationPercentage"] == 50
        assert changed["spec"]["minReplicas"] == 1
        groups = (await api.get("/apis")).ok["groups"]
        scaling = next(group for group in groups if group["name"] == "autoscaling")
        assert [one["version"] for one in scaling["versions"]] == ["v2", "v1"]

    on_server(case)
