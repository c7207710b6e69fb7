"""Create, update, patch, delete: the rules that hold for every kind."""

import asyncio
import re

import pytest

from kubenet.store.base import StoreFailed
from kubenet.store.memory import MemoryStore
from tests.netns.apiserver.server import (
    CONFIGMAPS,
    DEFAULT,
    DEPLOYMENTS,
    JSON_PATCH,
    NS,
    PODS,
    SERVICES,
    STRATEGIC,
    Api,
    configmap,
    deployment,
    on_server,
    pod,
    service,
    serving,
)


def test_B3_2_a_created_object_has_what_only_the_server_gives() -> None:
    async def case(api: Api) -> None:
        sent = deployment("web")
        sent["metadata"] |= {"uid": "mine", "generation": 9, "creationTimestamp": "2001-01-01T00:00:00Z"}
        made = (await api.post(DEPLOYMENTS, sent)).ok
        metadata = made["metadata"]
        assert (made["kind"], made["apiVersion"]) == ("Deployment", "apps/v1")
        assert (metadata["name"], metadata["namespace"], metadata["generation"]) == ("web", "default", 1)
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", metadata["uid"])
        assert re.fullmatch(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
        assert metadata["creationTimestamp"] > "2001-01-02"
        assert (await api.get(f"{DEPLOYMENTS}/web")).ok == made

    on_server(case)


def test_B3_2_generated_names_differ_and_use_the_known_letters() -> None:
    async def case(api: Api) -> None:
        sent = {"metadata": {"generateName": "web-"}, "data": {}}
        names = {(await api.post(CONFIGMAPS, sent)).ok["metadata"]["name"] for _ in range(20)}
        assert len(names) == 20
        assert all(re.fullmatch("web-[bcdfghjklmnpqrstvwxz2456789]{5}", name) for name in names)

    on_server(case)


def test_B3_2_a_name_is_taken_once() -> None:
    async def case(api: Api) -> None:
        tries = await asyncio.gather(*(api.post(SERVICES, service("web")) for _ in range(10)))
        assert sorted(reply.status for reply in tries) == [201] + [409] * 9
        refusal = next(reply for reply in tries if reply.status == 409)
        assert refusal.refused(409, "AlreadyExists") == 'services "web" already exists'
        assert refusal.json["details"] == {"name": "web", "kind": "services"}
        again = await api.post(DEPLOYMENTS, deployment("web"))
        assert again.status == 201  # another kind, another name space
        message = (await api.post(DEPLOYMENTS, deployment("web"))).refused(409, "AlreadyExists")
        assert message == 'deployments.apps "web" already exists'

    on_server(case)


def test_B3_2_the_namespace_must_exist_and_match() -> None:
    async def case(api: Api) -> None:
        missing = await api.post(f"{NS}/none/configmaps", configmap("a"))
        assert missing.refused(404, "NotFound") == 'namespaces "none" not found'
        other = configmap("a") | {"metadata": {"name": "a", "namespace": "kube-system"}}
        assert "does not match" in (await api.post(CONFIGMAPS, other)).refused(400, "BadRequest")
        another = await api.put(f"{CONFIGMAPS}/a", configmap("b"))
        assert "does not match the name on the URL" in another.refused(400, "BadRequest")
        kind = await api.post(CONFIGMAPS, {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}})
        assert "does not match the expected API version" in kind.refused(400, "BadRequest")

    on_server(case)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        pytest.param(CONFIGMAPS, configmap("Upper"), "metadata.name", id="upper case"),
        pytest.param(SERVICES, service("1web"), "metadata.name", id="a service that begins with a digit"),
        pytest.param(NS, {"metadata": {"name": "a.b"}}, "metadata.name", id="a namespace with a dot"),
        pytest.param(CONFIGMAPS, configmap("a" * 254), "metadata.name", id="too long"),
        pytest.param(CONFIGMAPS, {"metadata": {}}, "metadata.name", id="no name"),
        pytest.param(
            CONFIGMAPS,
            {"metadata": {"name": "a", "labels": {"a b": "c"}}},
            "metadata.labels",
            id="a label key",
        ),
        pytest.param(
            CONFIGMAPS,
            {"metadata": {"name": "a", "labels": {"a": "ü"}}},
            "metadata.labels",
            id="a label value",
        ),
        pytest.param(
            CONFIGMAPS,
            {"metadata": {"name": "a", "annotations": {"a": "x" * 300_000}}},
            "metadata.annotations",
            id="annotations of 300 kB",
        ),
    ],
)
def test_B3_3_names_labels_and_annotations_are_checked(path: str, body: object, field: str) -> None:
    async def case(api: Api) -> None:
        reply = await api.post(path, body)
        message = reply.refused(422, "Invalid")
        assert [cause["field"] for cause in reply.json["details"]["causes"]] == [field]
        assert f"is invalid: {field}: " in message

    on_server(case)


def test_B3_4_an_update_with_a_stale_revision_is_a_conflict() -> None:
    async def case(api: Api) -> None:
        first = (await api.post(CONFIGMAPS, configmap("a", x="1"))).ok
        second = (await api.put(f"{CONFIGMAPS}/a", first | {"data": {"x": "2"}})).ok
        assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
        stale = await api.put(f"{CONFIGMAPS}/a", first | {"data": {"x": "3"}})
        assert stale.refused(409, "Conflict") == (
            'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your'
            " changes to the latest version and try again"
        )
        unconditional = await api.put(f"{CONFIGMAPS}/a", configmap("a", x="4"))
        assert unconditional.ok["data"] == {"x": "4"}
        other_life = first["metadata"] | {"uid": "another", "resourceVersion": ""}
        reply = await api.put(f"{CONFIGMAPS}/a", first | {"metadata": other_life})
        assert "Precondition failed: UID" in reply.refused(409, "Conflict")

    on_server(case)


def test_B3_4_an_update_that_changes_nothing_keeps_the_revision_and_is_no_event() -> None:
    async def case(api: Api) -> None:
        made = (await api.post(DEPLOYMENTS, deployment("web"))).ok
        revision = await api.store.revision()
        assert (await api.put(f"{DEPLOYMENTS}/web", made)).ok == made
        assert (await api.put(f"{DEPLOYMENTS}/web", deployment("web"))).ok == made
        assert (await api.patch(f"{DEPLOYMENTS}/web", {"spec": {"replicas": 1}})).ok == made
        assert (await api.patch(f"{DEPLOYMENTS}/web", {"metadata": {"labels": None}})).ok == made
        assert await api.store.revision() == revision

    on_server(case)


def test_B3_4_ten_writers_without_a_revision_all_succeed_one_after_the_other() -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a"))
        patches = (api.patch(f"{CONFIGMAPS}/a", {"data": {f"k{index}": "v"}}) for index in range(10))
        assert {reply.status for reply in await asyncio.gather(*patches)} == {200}
        assert len((await api.get(f"{CONFIGMAPS}/a")).ok["data"]) == 10

    on_server(case)


def test_B3_5_only_a_change_of_the_spec_is_a_new_generation() -> None:
    async def case(api: Api) -> None:
        path = f"{DEPLOYMENTS}/web"
        await api.post(DEPLOYMENTS, deployment("web"))

        async def generation() -> int:
            return int((await api.get(path)).ok["metadata"]["generation"])

        await api.patch(path, {"metadata": {"labels": {"a": "b"}}})
        await api.patch(f"{path}/status", {"status": {"replicas": 3}})
        assert await generation() == 1
        await api.patch(path, {"spec": {"replicas": 3}})
        assert await generation() == 2
        await api.patch(f"{path}/scale", {"spec": {"replicas": 4}})
        assert await generation() == 3
        await api.patch(path, {"metadata": {"generation": 99}})
        assert await generation() == 3

    on_server(case)


def test_B3_6_status_and_spec_are_written_through_doors_of_their_own() -> None:
    async def case(api: Api) -> None:
        path = f"{PODS}/a"
        sent = pod("a") | {"status": {"phase": "Running", "podIP": "10.0.0.1"}}
        assert (await api.post(PODS, sent)).ok["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
        await api.patch(path, {"status": {"phase": "Failed"}})
        assert (await api.get(path)).ok["status"]["phase"] == "Pending"
        await api.patch(f"{path}/status", {"status": {"phase": "Running"}, "spec": {"nodeName": "n1"}})
        stored = (await api.get(path)).ok
        assert stored["status"]["phase"] == "Running"
        assert "nodeName" not in stored["spec"]
        whole = stored | {"status": {"phase": "Succeeded"}}
        assert (await api.put(f"{path}/status", whole)).ok["status"] == {"phase": "Succeeded"}
        assert (await api.get(f"{path}/status")).ok["status"] == {"phase": "Succeeded"}

    on_server(case)


def test_B3_7_the_three_kinds_of_patch() -> None:
    async def case(api: Api) -> None:
        path = f"{DEPLOYMENTS}/web"
        made = (await api.post(DEPLOYMENTS, deployment("web"))).ok
        containers = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s"}]}}}}
        strategic = (await api.patch(path, containers, STRATEGIC)).ok
        names = [one["name"] for one in strategic["spec"]["template"]["spec"]["containers"]]
        assert names == ["c", "side"]
        merged = (await api.patch(path, containers)).ok
        assert [one["name"] for one in merged["spec"]["template"]["spec"]["containers"]] == ["side"]
        operations = [
            {"op": "test", "path": "/spec/replicas", "value": 1},
            {"op": "replace", "path": "/spec/replicas", "value": 5},
        ]
        assert (await api.patch(path, operations, JSON_PATCH)).ok["spec"]["replicas"] == 5
        refused = await api.patch(path, operations, JSON_PATCH)
        assert "testing value /spec/replicas failed" in refused.refused(422, "Invalid")
        stale = {
            "metadata": {"resourceVersion": made["metadata"]["resourceVersion"]},
            "spec": {"replicas": 7},
        }
        (await api.patch(path, stale)).refused(409, "Conflict")
        unknown = await api.patch(path, {}, "application/json")
        unknown.refused(415, "UnsupportedMediaType")

    on_server(case)


def test_B3_7_a_patch_cannot_rename_an_object() -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a"))
        reply = await api.patch(f"{CONFIGMAPS}/a", {"metadata": {"name": "b"}})
        reply.refused(400, "BadRequest")
        removed = await api.patch(f"{CONFIGMAPS}/a", {"metadata": None})
        assert removed.ok["metadata"]["name"] == "a"

    on_server(case)


def test_B3_9_a_dry_run_shows_the_result_and_stores_nothing() -> None:
    async def case(api: Api) -> None:
        await api.post(CONFIGMAPS, configmap("a", x="1"))
        revision = await api.store.revision()
        made = (await api.post(SERVICES, service("web"), dryRun="All")).ok
        assert made["spec"]["clusterIP"].startswith("10.96.")
        assert "resourceVersion" not in made["metadata"]
        changed = await api.patch(f"{CONFIGMAPS}/a", {"data": {"x": "2"}}, dryRun="All")
        assert changed.ok["data"] == {"x": "2"}
        assert (await api.delete(f"{CONFIGMAPS}/a", dryRun="All")).status == 200
        assert (await api.delete(f"{CONFIGMAPS}/a", {"dryRun": ["All"]})).status == 200
        (await api.post(CONFIGMAPS, configmap("a"), dryRun="All")).refused(409, "AlreadyExists")
        (await api.post(CONFIGMAPS, configmap("b"), dryRun="some")).refused(400, "BadRequest")
        assert (await api.get(f"{CONFIGMAPS}/a")).ok["data"] == {"x": "1"}
        assert await api.store.revision() == revision
        # The address that the dry run showed is free again.
        assert (await api.post(SERVICES, service("a", clusterIP=made["spec"]["clusterIP"]))).status == 201

    on_server(case)


def test_B3_10_a_delete_answers_with_the_uid_and_heeds_preconditions() -> None:
    async def case(api: Api) -> None:
        made = (await api.post(CONFIGMAPS, configmap("a"))).ok
        wrong = await api.delete(f"{CONFIGMAPS}/a", {"preconditions": {"uid": "another"}})
        assert "Precondition failed: UID" in wrong.refused(409, "Conflict")
        stale = await api.delete(f"{CONFIGMAPS}/a", {"preconditions": {"resourceVersion": "1"}})
        assert "Precondition failed: ResourceVersion" in stale.refused(409, "Conflict")
        right = {"preconditions": {"uid": made["metadata"]["uid"]}}
        gone = (await api.delete(f"{CONFIGMAPS}/a", right)).ok
        assert (gone["kind"], gone["status"]) == ("Status", "Success")
        assert gone["details"] == {"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}
        again = await api.delete(f"{CONFIGMAPS}/a")
        assert again.refused(404, "NotFound") == 'configmaps "a" not found'

    on_server(case)


def test_B3_10_an_object_stays_until_its_last_finalizer_is_gone() -> None:
    async def case(api: Api) -> None:
        path = f"{CONFIGMAPS}/a"
        await api.post(CONFIGMAPS, {"metadata": {"name": "a", "finalizers": ["x.dev/one", "x.dev/two"]}})
        waiting = (await api.delete(path)).ok
        assert waiting["metadata"]["deletionTimestamp"]
        assert waiting["metadata"]["deletionGracePeriodSeconds"] == 0
        revision = await api.store.revision()
        assert (await api.delete(path)).ok == waiting  # a second time changes nothing
        assert await api.store.revision() == revision
        await api.patch(path, {"metadata": {"finalizers": ["x.dev/two"], "deletionTimestamp": None}})
        assert (await api.get(path)).ok["metadata"]["deletionTimestamp"]
        await api.patch(path, {"metadata": {"finalizers": []}})
        (await api.get(path)).refused(404, "NotFound")

    on_server(case)


def test_B3_10_a_pod_on_a_node_gets_time_and_one_that_never_ran_does_not() -> None:
    async def case(api: Api) -> None:
        await api.post(PODS, pod("pending"))
        assert (await api.delete(f"{PODS}/pending")).ok["status"] == "Success"
        await api.post(PODS, pod("running", nodeName="n1", terminationGracePeriodSeconds=7))
        going = (await api.delete(f"{PODS}/running")).ok
        assert going["metadata"]["deletionGracePeriodSeconds"] == 7
        assert going["metadata"]["deletionTimestamp"] > going["metadata"]["creationTimestamp"]
        shorter = (await api.delete(f"{PODS}/running", {"gracePeriodSeconds": 2})).ok
        assert shorter["metadata"]["deletionGracePeriodSeconds"] == 2
        longer = (await api.delete(f"{PODS}/running", gracePeriodSeconds="60")).ok
        assert longer["metadata"]["deletionGracePeriodSeconds"] == 2
        assert (await api.delete(f"{PODS}/running", {"gracePeriodSeconds": 0})).ok["status"] == "Success"
        (await api.get(f"{PODS}/running")).refused(404, "NotFound")
        await api.post(PODS, pod("done", nodeName="n1"))
        await api.patch(f"{PODS}/done/status", {"status": {"phase": "Succeeded"}})
        assert (await api.delete(f"{PODS}/done")).ok["status"] == "Success"

    on_server(case)


def test_B3_11_a_collection_is_deleted_by_its_selectors() -> None:
    async def case(api: Api) -> None:
        for name, color in (("a", "red"), ("b", "red"), ("c", "blue")):
            await api.post(CONFIGMAPS, {"metadata": {"name": name, "labels": {"color": color}}})
        gone = (await api.delete(CONFIGMAPS, labelSelector="color=red")).ok
        assert [item["metadata"]["name"] for item in gone["items"]] == ["a", "b"]
        left = (await api.get(CONFIGMAPS)).ok["items"]
        assert [item["metadata"]["name"] for item in left] == ["c"]

    on_server(case)


def test_B3_13_scale_reads_and_writes_the_number_of_replicas() -> None:
    async def case(api: Api) -> None:
        path = f"{DEPLOYMENTS}/web/scale"
        made = (await api.post(DEPLOYMENTS, deployment("web", replicas=3))).ok
        await api.patch(f"{DEPLOYMENTS}/web/status", {"status": {"replicas": 2}})
        scale = (await api.get(path)).ok
        assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
        assert scale["spec"] == {"replicas": 3}
        assert scale["status"] == {"replicas": 2, "selector": "app=web"}
        assert scale["metadata"]["uid"] == made["metadata"]["uid"]
        assert (await api.put(path, scale | {"spec": {"replicas": 5}})).ok["spec"] == {"replicas": 5}
        (await api.put(path, scale | {"spec": {"replicas": 6}})).refused(409, "Conflict")
        assert (await api.patch(path, {"spec": {"replicas": 0}})).ok["spec"] == {"replicas": 0}
        negative = await api.patch(path, {"spec": {"replicas": -1}})
        assert "must be greater than or equal to 0" in negative.refused(422, "Invalid")
        assert (await api.get(f"{DEPLOYMENTS}/web")).ok["spec"]["replicas"] == 0

    on_server(case)


def test_B3_14_a_pod_is_bound_once() -> None:
    async def case(api: Api) -> None:
        path = f"{PODS}/a/binding"
        await api.post(PODS, pod("a"))
        binding = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}}
        bound = await api.post(path, binding)
        assert (bound.status, bound.ok["status"]) == (201, "Success")
        stored = (await api.get(f"{PODS}/a")).ok
        assert stored["spec"]["nodeName"] == "n1"
        conditions = {one["type"]: one["status"] for one in stored["status"]["conditions"]}
        assert conditions == {"PodScheduled": "True"}
        again = await api.post(path, binding)
        assert 'pod a is already assigned to node "n1"' in again.refused(409, "Conflict")
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            (await api.call(method, path, binding if method != "GET" else None)).refused(
                405, "MethodNotAllowed"
            )
        nowhere = await api.post(path, {"target": {}})
        assert "target.name: Required value" in nowhere.refused(422, "Invalid")
        await api.post(PODS, pod("b"))
        other = binding | {"metadata": {"name": "b"}}
        assert (await api.post(f"{DEFAULT}/bindings", other)).status == 201
        assert (await api.get(f"{PODS}/b")).ok["spec"]["nodeName"] == "n1"

    on_server(case)


def test_B3_14_of_many_schedulers_one_binds_the_pod() -> None:
    async def case(api: Api) -> None:
        await api.post(PODS, pod("a"))
        bindings = ({"target": {"kind": "Node", "name": f"n{index}"}} for index in range(10))
        replies = await asyncio.gather(*(api.post(f"{PODS}/a/binding", one) for one in bindings))
        assert sorted(reply.status for reply in replies) == [201] + [409] * 9

    on_server(case)


def test_an_eviction_deletes_a_pod_gracefully() -> None:
    async def case(api: Api) -> None:
        await api.post(PODS, pod("a", nodeName="n1"))
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
        assert (await api.post(f"{PODS}/a/eviction", eviction)).status == 201
        assert (await api.get(f"{PODS}/a")).ok["metadata"]["deletionGracePeriodSeconds"] == 30

    on_server(case)


def test_a_change_and_its_reading_are_never_out_of_step() -> None:
    async def case(api: Api) -> None:
        async def one(index: int) -> None:
            name = f"c{index}"
            made = (await api.post(CONFIGMAPS, configmap(name))).ok
            assert (await api.get(f"{CONFIGMAPS}/{name}")).ok == made
            changed = (await api.patch(f"{CONFIGMAPS}/{name}", {"data": {"a": "b"}})).ok
            assert (await api.get(f"{CONFIGMAPS}/{name}")).ok == changed
            await api.delete(f"{CONFIGMAPS}/{name}")
            assert (await api.get(f"{CONFIGMAPS}/{name}")).status == 404

        await asyncio.gather(*(one(index) for index in range(20)))

    on_server(case)


class FailingStore(MemoryStore):
    """A store whose disk is full."""

    full = False

    async def create(self, key: str, value: bytes) -> int:
        if self.full:
            raise StoreFailed("disk full")
        return await super().create(key, value)


def test_A7_a_store_that_cannot_write_is_a_503_and_reads_go_on() -> None:
    async def run() -> None:
        store = FailingStore()
        async with serving(store) as api:
            store.full = True
            refused = await api.post(SERVICES, service("a", clusterIP="10.96.0.77"))
            assert "disk full" in refused.refused(503, "ServiceUnavailable")
            assert refused.headers["Retry-After"] == "1"
            assert (await api.get(SERVICES)).status == 200
            store.full = False
            assert (await api.post(SERVICES, service("a", clusterIP="10.96.0.77"))).status == 201

    asyncio.run(run())


def test_a_server_stops_even_when_it_has_only_just_started() -> None:
    async def run() -> None:
        store = MemoryStore()
        for _ in range(20):
            async with asyncio.timeout(5), serving(store):
                pass

    asyncio.run(run())
