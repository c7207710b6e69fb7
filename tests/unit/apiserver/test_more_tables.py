"""The rows of the kinds that are kept without any part of ours reading them: one object, its cells."""

from datetime import UTC, datetime
from typing import Any

import pytest

from kubenet.apiserver.kinds import BY_PLURAL
from kubenet.apiserver.table import printer

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
META = {"name": "x", "creationTimestamp": "2026-01-02T03:03:35Z"}
AGE = "30s"
TEMPLATE = {"spec": {"containers": [{"name": "c", "image": "web"}], "nodeSelector": {"disk": "ssd"}}}
SELECTOR = {"matchLabels": {"app": "web"}}
TEMPLATED = {"selector": SELECTOR, "template": TEMPLATE}
SUBJECTS = [
    {"kind": "User", "name": "ann"},
    {"kind": "Group", "name": "ops"},
    {"kind": "ServiceAccount", "namespace": "ns", "name": "robot"},
]
DONE = {"type": "Complete", "status": "True"}
ROWS: dict[str, tuple[Any, list[object]]] = {
    "daemonsets": (
        {"spec": TEMPLATED, "status": {"desiredNumberScheduled": 3, "numberReady": 2}},
        ["x", 3, 0, 2, 0, 0, "disk=ssd", AGE, "c", "web", "app=web"],
    ),
    "statefulsets": (
        {"spec": {"replicas": 2} | TEMPLATED, "status": {"readyReplicas": 1}},
        ["x", "1/2", AGE, "c", "web"],
    ),
    "replicationcontrollers": (
        {"spec": {"replicas": 2, "selector": {"app": "web"}, "template": TEMPLATE}},
        ["x", 2, 0, 0, AGE, "c", "web", "app=web"],
    ),
    "jobs": (
        {
            "spec": {"completions": 3} | TEMPLATED,
            "status": {
                "succeeded": 3,
                "conditions": [DONE],
                "startTime": "2026-01-02T03:03:35Z",
                "completionTime": "2026-01-02T03:03:40Z",
            },
        },
        ["x", "Complete", "3/3", "5s", AGE, "c", "web", "app=web"],
    ),
    "cronjobs": (
        {
            "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": TEMPLATED}},
            "status": {"lastScheduleTime": "2026-01-02T03:04:00Z", "active": [{}]},
        },
        ["x", "* * * * *", "<none>", "False", 1, "5s", AGE, "c", "web", "app=web"],
    ),
    "controllerrevisions": (
        {
            "revision": 4,
            "metadata": {
                "ownerReferences": [
                    {"kind": "DaemonSet", "apiVersion": "apps/v1", "name": "d", "controller": True}
                ]
            },
        },
        ["x", "daemonset.apps/d", 4, AGE],
    ),
    "customresourcedefinitions": ({}, ["x", "2026-01-02T03:03:35Z"]),
    "clusterroles": ({}, ["x", "2026-01-02T03:03:35Z"]),
    "roles": ({}, ["x", "2026-01-02T03:03:35Z"]),
    "limitranges": ({}, ["x", "2026-01-02T03:03:35Z"]),
    "clusterrolebindings": (
        {"roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": SUBJECTS},
        ["x", "ClusterRole/view", AGE, "ann", "ops", "ns/robot"],
    ),
    "rolebindings": (
        {"roleRef": {"kind": "Role", "name": "reader"}},
        ["x", "Role/reader", AGE, "", "", ""],
    ),
    "networkpolicies": ({"spec": {"podSelector": SELECTOR}}, ["x", "app=web", AGE]),
    "ingresses": (
        {
            "spec": {"ingressClassName": "nginx", "rules": [{"host": "a.example"}], "tls": [{}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        },
        ["x", "nginx", "a.example", "192.0.2.1", "80, 443", AGE],
    ),
    "ingressclasses": (
        {"spec": {"controller": "a/b", "parameters": {"apiGroup": "g", "kind": "K", "name": "n"}}},
        ["x", "a/b", "K.g/n", AGE],
    ),
    "ipaddresses": (
        {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}},
        ["x", "services/default/web", AGE],
    ),
    "servicecidrs": ({"spec": {"cidrs": ["10.96.0.0/16"]}}, ["x", "10.96.0.0/16", AGE]),
    "poddisruptionbudgets": (
        {"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}},
        ["x", "50%", "N/A", 1, AGE],
    ),
    "horizontalpodautoscalers": (
        {
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "web"},
                "minReplicas": 1,
                "maxReplicas": 5,
                "metrics": [{"resource": {"name": "cpu", "target": {"averageUtilization": 80}}}],
            }
        },
        ["x", "Deployment/web", "cpu: <unknown>/80%", "1", 5, 0, AGE],
    ),
    "priorityclasses": (
        {"value": 7, "preemptionPolicy": "Never"},
        ["x", 7, False, AGE, "Never"],
    ),
    "runtimeclasses": ({"handler": "runc"}, ["x", "runc", AGE]),
    "resourcequotas": (
        {"spec": {"hard": {"pods": "5", "limits.cpu": "2"}}, "status": {"used": {"pods": "1"}}},
        ["x", "pods: 1/5", "limits.cpu: 0/2", AGE],
    ),
    "podtemplates": (
        {"template": TEMPLATE | {"metadata": {"labels": {"app": "web"}}}},
        ["x", "c", "web", "app=web"],
    ),
    "persistentvolumes": (
        {
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": "ns", "name": "c"},
                "volumeMode": "Filesystem",
            },
            "status": {"phase": "Bound"},
        },
        ["x", "1Gi", "RWO", "Retain", "Bound", "ns/c", "", "<unset>", "", AGE, "Filesystem"],
    ),
    "persistentvolumeclaims": (
        {"spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}},
        ["x", "Pending", "", "", "", "fast", "<unset>", AGE, ""],
    ),
    "storageclasses": (
        {
            "provisioner": "p",
            "reclaimPolicy": "Delete",
            "volumeBindingMode": "Immediate",
            "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        },
        ["x (default)", "p", "Delete", "Immediate", False, AGE],
    ),
}


@pytest.mark.parametrize("plural", sorted(ROWS))
def test_B2_5_the_row_of(plural: str) -> None:
    value, cells = ROWS[plural]
    shown = printer(BY_PLURAL[plural].resource)
    sample = {"kind": BY_PLURAL[plural].resource.kind} | value
    sample["metadata"] = META | value.get("metadata", {})
    assert len(shown.columns) == len(cells)
    assert shown.cells(sample, NOW) == cells
