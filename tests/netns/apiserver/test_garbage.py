"""What disappears by itself: dependents, contents of namespaces."""

import asyncio

import pytest

from kubenet.store.memory import MemoryStore
from tests.netns.apiserver.server import (
    CONFIGMAPS,
    DEPLOYMENTS,
    NS,
    PODS,
    REPLICASETS,
    Api,
    Value,
    configmap,
    deployment,
    on_server,
    pod,
    serving,
)


def owned(value: Value, kind: str, owner: Value) -> Value:
    metadata = owner["metadata"]
    api_version = "apps/v1" if kind in ("Deployment", "ReplicaSet") else "v1"
    reference = {"apiVersion": api_version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"]}
    value["metadata"].setdefault("ownerReferences", []).append(reference | {"controller": True})
    return value


async def make_family(api: Api) -> None:
    """A Deployment with a ReplicaSet with two pods, one of them on a node, as controllers make them."""
    web = (await api.post(DEPLOYMENTS, deployment("web"))).ok
    replicaset = (await api.post(REPLICASETS, owned(deployment("web-1"), "Deployment", web))).ok
    await api.post(PODS, owned(pod("web-1-a"), "ReplicaSet", replicaset))
    await api.post(PODS, owned(pod("web-1-b", nodeName="n1"), "ReplicaSet", replicaset))


def test_B3_12_deleting_a_deployment_takes_its_replicasets_and_pods_along() -> None:
    async def case(api: Api) -> None:
        await make_family(api)
        assert (await api.delete(f"{DEPLOYMENTS}/web", {"propagationPolicy": "Background"})).status == 200
        await api.until_gone(f"{REPLICASETS}/web-1")
        await api.until_gone(f"{PODS}/web-1-a")
        async with asyncio.timeout(5):
            while "deletionTimestamp" not in (going := (await api.get(f"{PODS}/web-1-b")).ok["metadata"]):
                await asyncio.sleep(0.01)
        assert going["deletionGracePeriodSeconds"] == 30  # its node has to stop it first

    on_server(case)


def test_B3_12_foreground_deletion_keeps_the_owner_until_the_last_dependent_is_gone() -> None:
    async def case(api: Api) -> None:
        await make_family(api)
        waiting = (await api.delete(f"{DEPLOYMENTS}/web", {"propagationPolicy": "Foreground"})).ok
        assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
        await api.until_gone(f"{PODS}/web-1-a")
        for path in (f"{DEPLOYMENTS}/web", f"{REPLICASETS}/web-1"):
            assert (await api.get(path)).ok["metadata"]["deletionTimestamp"]
        await api.delete(f"{PODS}/web-1-b", {"gracePeriodSeconds": 0})
        await api.until_gone(f"{REPLICASETS}/web-1")
        await api.until_gone(f"{DEPLOYMENTS}/web")

    on_server(case)


def test_B3_12_orphans_forget_their_owner_and_stay() -> None:
    async def case(api: Api) -> None:
        await make_family(api)
        await api.delete(f"{DEPLOYMENTS}/web", {"propagationPolicy": "Orphan"})
        await api.until_gone(f"{DEPLOYMENTS}/web")
        replicaset = (await api.get(f"{REPLICASETS}/web-1")).ok
        assert replicaset["metadata"].get("ownerReferences", []) == []
        assert "deletionTimestamp" not in (await api.get(f"{PODS}/web-1-a")).ok["metadata"]

    on_server(case)


@pytest.mark.parametrize(
    ("kind", "stays"),
    [
        pytest.param("ConfigMap", False, id="an owner that is gone"),
        pytest.param("Database", True, id="an owner of a kind that nobody serves here"),
    ],
)
def test_B3_12_an_object_whose_owner_never_was_is_collected(kind: str, stays: bool) -> None:
    async def case(api: Api) -> None:
        nobody = {"metadata": {"name": "nobody", "uid": "0000"}}
        await api.post(CONFIGMAPS, owned(configmap("a"), kind, nobody))
        await api.post(CONFIGMAPS, owned(configmap("canary"), "ConfigMap", nobody))
        await api.until_gone(f"{CONFIGMAPS}/canary")
        assert (await api.get(f"{CONFIGMAPS}/a")).status == (200 if stays else 404)

    on_server(case)


def test_B3_12_one_owner_that_lives_is_enough() -> None:
    async def case(api: Api) -> None:
        one = (await api.post(CONFIGMAPS, configmap("one"))).ok
        two = (await api.post(CONFIGMAPS, configmap("two"))).ok
        await api.post(CONFIGMAPS, owned(owned(configmap("child"), "ConfigMap", one), "ConfigMap", two))
        await api.post(CONFIGMAPS, owned(configmap("canary"), "ConfigMap", one))
        await api.delete(f"{CONFIGMAPS}/one")
        await api.until_gone(f"{CONFIGMAPS}/canary")
        assert (await api.get(f"{CONFIGMAPS}/child")).status == 200
        await api.delete(f"{CONFIGMAPS}/two")
        await api.until_gone(f"{CONFIGMAPS}/child")

    on_server(case)


def test_B3_12_an_owner_in_another_namespace_is_none() -> None:
    async def case(api: Api) -> None:
        far = (await api.post(f"{NS}/kube-system/configmaps", configmap("far"))).ok
        node = (await api.post("/api/v1/nodes", {"metadata": {"name": "n1"}})).ok
        await api.post(CONFIGMAPS, owned(configmap("of-node"), "Node", node))
        await api.post(CONFIGMAPS, owned(configmap("of-far"), "ConfigMap", far))
        await api.until_gone(f"{CONFIGMAPS}/of-far")
        assert (await api.get(f"{CONFIGMAPS}/of-node")).status == 200

    on_server(case)


def test_an_object_whose_namespace_is_not_there_is_collected() -> None:
    async def case(api: Api) -> None:
        head = '"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"none","uid":"1"'
        await api.store.create("/registry/configmaps/none/a", f"{{{head}}}}}".encode())
        await api.until_gone(f"{NS}/none/configmaps/a")

    on_server(case)


def test_B3_10_a_namespace_goes_when_its_contents_are_gone() -> None:
    async def case(api: Api) -> None:
        made = (await api.post(NS, {"metadata": {"name": "demo"}})).ok
        assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "demo"}
        assert (made["spec"], made["status"]) == ({"finalizers": ["kubernetes"]}, {"phase": "Active"})
        await api.post(f"{NS}/demo/configmaps", configmap("a"))
        await api.post(f"{NS}/demo/pods", pod("p", nodeName="n1"))
        await api.post(CONFIGMAPS, configmap("elsewhere"))
        going = (await api.delete(f"{NS}/demo")).ok
        assert (going["kind"], going["status"]["phase"]) == ("Namespace", "Terminating")
        late = await api.post(f"{NS}/demo/configmaps", configmap("b"))
        assert "because it is being terminated" in late.refused(403, "Forbidden")
        await api.until_gone(f"{NS}/demo/configmaps/a")
        assert (await api.get(f"{NS}/demo")).ok["status"]["phase"] == "Terminating"
        await api.delete(f"{NS}/demo/pods/p", {"gracePeriodSeconds": 0})
        await api.until_gone(f"{NS}/demo")
        assert (await api.get(f"{CONFIGMAPS}/elsewhere")).status == 200

    on_server(case)


def test_garbage_is_collected_after_a_restart_too() -> None:
    async def run() -> None:
        store = MemoryStore()
        async with serving(store) as api:
            await api.post(NS, {"metadata": {"name": "demo"}})
            await api.post(f"{NS}/demo/configmaps", configmap("a"))
            await api.delete(f"{NS}/demo")  # the server stops before it gets to the contents
        async with serving(store) as api:
            await api.until_gone(f"{NS}/demo/configmaps/a")
            await api.until_gone(f"{NS}/demo")

    asyncio.run(run())
