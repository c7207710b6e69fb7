"""The kinds that nothing of ours reads: kept, defaulted and checked as the API does it."""

from typing import Any

import pytest

from tests.netns.apiserver.server import DEFAULT, Api, Value, on_server, pod

pytestmark = pytest.mark.netns

TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": pod()["spec"]}
ONCE = {"spec": pod(restartPolicy="Never")["spec"]}
SELECTED = {"selector": {"matchLabels": {"app": "x"}}, "template": TEMPLATE}
ROLE = {"kind": "ClusterRole", "name": "view", "apiGroup": "rbac.authorization.k8s.io"}
RULES = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]
GROUPS = {
    "apps": "apps/v1",
    "autoscaling": "autoscaling/v2",
    "batch": "batch/v1",
    "networking": "networking.k8s.io/v1",
    "node": "node.k8s.io/v1",
    "policy": "policy/v1",
    "rbac": "rbac.authorization.k8s.io/v1",
    "scheduling": "scheduling.k8s.io/v1",
    "storage": "storage.k8s.io/v1",
}
# Where, what is sent, and what of the answer the server filled in.
CASES: dict[str, tuple[str, Value, Value]] = {
    "daemonsets": (
        "apps ns",
        {"spec": SELECTED},
        {"spec": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 1}}}, "status": {"numberReady": 0}},
    ),
    "statefulsets": (
        "apps ns",
        {"spec": SELECTED | {"serviceName": "x"}},
        {"spec": {"replicas": 1, "podManagementPolicy": "OrderedReady"}},
    ),
    "controllerrevisions": ("apps ns", {"revision": 1, "data": {"a": 1}}, {"data": {"a": 1}}),
    "replicationcontrollers": (
        "core ns",
        {"spec": {"template": TEMPLATE}},
        {"spec": {"replicas": 1, "selector": {"app": "x"}}, "metadata": {"labels": {"app": "x"}}},
    ),
    "jobs": (
        "batch ns",
        {"spec": {"template": ONCE}},
        {"spec": {"completions": 1, "parallelism": 1, "backoffLimit": 6}},
    ),
    "cronjobs": (
        "batch ns",
        {"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": ONCE}}}},
        {"spec": {"concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 3}},
    ),
    "networkpolicies": (
        "networking ns",
        {"spec": {"egress": [{"ports": [{"port": 53}]}]}},
        {"spec": {"policyTypes": ["Ingress", "Egress"], "podSelector": {}}},
    ),
    "ingresses": (
        "networking ns",
        {"spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}}},
        {"status": {"loadBalancer": {}}},
    ),
    "ingressclasses": ("networking", {"spec": {"controller": "a/b"}}, {}),
    "servicecidrs": ("networking", {"spec": {"cidrs": ["10.0.0.0/16"]}}, {"status": {}}),
    "ipaddresses": ("networking", {"spec": {"parentRef": {"resource": "services", "name": "x"}}}, {}),
    "poddisruptionbudgets": (
        "policy ns",
        {"spec": {"minAvailable": 1}},
        {"status": {"disruptionsAllowed": 0}},
    ),
    "horizontalpodautoscalers": (
        "autoscaling ns",
        {"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "x"}}},
        {"spec": {"minReplicas": 1}},
    ),
    "priorityclasses": ("scheduling", {"value": 5}, {"preemptionPolicy": "PreemptLowerPriority"}),
    "runtimeclasses": ("node", {"handler": "runc"}, {}),
    "storageclasses": ("storage", {"provisioner": "x"}, {"reclaimPolicy": "Delete"}),
    "persistentvolumes": (
        "core",
        {"spec": {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}},
        {"spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}},
    ),
    "persistentvolumeclaims": (
        "core ns",
        {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
        {"spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}},
    ),
    "resourcequotas": ("core ns", {"spec": {"hard": {"pods": "4"}}}, {"status": {}}),
    "limitranges": ("core ns", {"spec": {"limits": [{"type": "Container"}]}}, {}),
    "podtemplates": ("core ns", {"template": TEMPLATE}, {}),
    "clusterroles": ("rbac", {"rules": RULES}, {}),
    "roles": ("rbac ns", {"rules": RULES}, {}),
    "clusterrolebindings": (
        "rbac",
        {"roleRef": ROLE, "subjects": [{"kind": "User", "name": "ann"}]},
        {"subjects": [{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}]},
    ),
    "rolebindings": ("rbac ns", {"roleRef": ROLE}, {}),
}


def _path(where: str, plural: str) -> str:
    group, _, namespaced = where.partition(" ")
    root = "/api/v1" if group == "core" else f"/apis/{GROUPS[group]}"
    return f"{root}/namespaces/default/{plural}" if namespaced else f"{root}/{plural}"


def _holds(have: Any, want: Any) -> bool:
    if isinstance(want, dict):
        return isinstance(have, dict) and all(key in have and _holds(have[key], want[key]) for key in want)
    return bool(have == want)


def test_F_every_kind_is_created_defaulted_listed_and_deleted() -> None:
    async def case(api: Api) -> None:
        for plural, (where, sent, filled) in CASES.items():
            path = _path(where, plural)
            made = (await api.post(path, {"metadata": {"name": "x"}} | sent)).ok
            assert _holds(made, filled), (plural, made)
            again = (await api.put(f"{path}/x", made)).ok
            assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"], plural
            assert "x" in [item["metadata"]["name"] for item in (await api.get(path)).ok["items"]]
            assert (await api.delete(f"{path}/x")).status == 200

    on_server(case)


BAD: dict[str, tuple[Value, str]] = {
    "networkpolicies": ({"spec": {"policyTypes": ["Sideways"]}}, "spec.policyTypes[0]: Unsupported value"),
    "ingresses": ({"spec": {}}, "either `defaultBackend` or `rules` must be specified"),
    "poddisruptionbudgets": (
        {"spec": {"minAvailable": 1, "maxUnavailable": 1}},
        "minAvailable and maxUnavailable cannot be both set",
    ),
    "jobs": ({"spec": {"template": TEMPLATE}}, 'Unsupported value: "Always"'),
    "cronjobs": (
        {"spec": {"schedule": "never", "jobTemplate": {"spec": {"template": ONCE}}}},
        "spec.schedule: Invalid value",
    ),
    "clusterroles": ({"rules": [{"resources": ["pods"]}]}, "rules[0].verbs: Required value"),
    "rolebindings": ({"roleRef": {"kind": "User", "name": "x"}}, "roleRef.kind: Unsupported value"),
}


@pytest.mark.parametrize("plural", sorted(BAD))
def test_B3_3_a_wrong_value_is_refused(plural: str) -> None:
    async def case(api: Api) -> None:
        sent, why = BAD[plural]
        refused = await api.post(_path(CASES[plural][0], plural), {"metadata": {"name": "x"}} | sent)
        assert why in refused.refused(422, "Invalid")

    on_server(case)


def test_a_value_of_the_wrong_type_is_refused_for_kinds_without_code() -> None:
    async def case(api: Api) -> None:
        for sent in ({"value": "high"}, {"value": True}, {"metadata": {"name": 1}}):
            reply = await api.post(_path("scheduling", "priorityclasses"), {"metadata": {"name": "x"}} | sent)
            reply.refused(400, "BadRequest")
        reply = await api.post(f"{DEFAULT}/limitranges", {"metadata": {"name": "x"}, "spec": {"limits": {}}})
        assert "spec.limits" in reply.refused(400, "BadRequest")

    on_server(case)


def test_a_job_finds_its_pods_by_its_uid_and_keeps_its_template() -> None:
    async def case(api: Api) -> None:
        path = _path("batch ns", "jobs")
        made = (await api.post(path, {"metadata": {"name": "x"}, "spec": {"template": ONCE}})).ok
        uid = made["metadata"]["uid"]
        assert made["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
        labels = made["spec"]["template"]["metadata"]["labels"]
        assert (labels["batch.kubernetes.io/job-name"], labels["controller-uid"]) == ("x", uid)
        changed = await api.patch(
            f"{path}/x", {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "other"}]}}}}
        )
        assert "spec.template" in changed.refused(422, "Invalid")

    on_server(case)


def test_the_role_of_a_binding_never_changes() -> None:
    async def case(api: Api) -> None:
        path = _path("rbac ns", "rolebindings")
        made = (await api.post(path, {"metadata": {"name": "x"}, "roleRef": ROLE})).ok
        made["roleRef"]["name"] = "admin"
        assert "cannot change roleRef" in (await api.put(f"{path}/x", made)).refused(422, "Invalid")

    on_server(case)


@pytest.mark.parametrize("plural", ["statefulsets", "replicationcontrollers"])
def test_B3_13_scale(plural: str) -> None:
    async def case(api: Api) -> None:
        where, sent, _ = CASES[plural]
        path = _path(where, plural)
        await api.post(path, {"metadata": {"name": "x"}} | sent)
        scaled = (await api.patch(f"{path}/x/scale", {"spec": {"replicas": 4}})).ok
        assert (scaled["spec"]["replicas"], scaled["status"]["selector"]) == (4, "app=x")

    on_server(case)
