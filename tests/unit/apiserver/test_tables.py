"""What ``kubectl get`` shows of every kind: one golden file a kind, wide columns marked with a star."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kubenet.apiserver import kinds
from kubenet.apiserver.table import printer
from tests.unit.apiserver.test_more_tables import ROWS

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Value = Any


def ago(**time: float) -> str:
    return (NOW - timedelta(**time)).strftime("%Y-%m-%dT%H:%M:%SZ")


def meta(name: str, made: str = "", **more: Value) -> Value:
    return {"metadata": {"name": name, "creationTimestamp": made or ago(minutes=5)} | more}


def pod(name: str, *states: Value, phase: str = "Running", **metadata: Value) -> Value:
    containers = [{"name": f"c{index}"} for index in range(max(1, len(states)))]
    statuses = [{"name": f"c{index}", "restartCount": 0} | state for index, state in enumerate(states)]
    status = {"phase": phase, "containerStatuses": statuses}
    return meta(name, **metadata) | {"spec": {"containers": containers}, "status": status}


RUNNING = {"ready": True, "state": {"running": {}}}
UNREADY = {"ready": False, "state": {"running": {}}}
DONE = {"ready": False, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
CRASHED = {
    "ready": False,
    "restartCount": 3,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1, "finishedAt": ago(seconds=42)}},
}


def with_init(value: Value, *states: Value) -> Value:
    value["spec"]["initContainers"] = [{"name": f"i{index}"} for index in range(len(states))]
    value["status"]["initContainerStatuses"] = list(states)
    return value


TEMPLATE = {"spec": {"containers": [{"name": "web", "image": "web:1"}, {"name": "log", "image": "log:2"}]}}
SELECTOR = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}

SAMPLES: dict[str, list[Value]] = {
    "pods": [
        pod("running", RUNNING),
        pod("running-of-two", RUNNING, UNREADY),
        pod("pending", phase="Pending"),
        pod("crashing", CRASHED),
        pod("done", DONE, phase="Succeeded"),
        pod("half-done", RUNNING, DONE),
        pod("failed", {"state": {"terminated": {"exitCode": 3}}}, phase="Failed"),
        pod("killed", {"state": {"terminated": {"exitCode": 137, "signal": 9}}}, phase="Failed"),
        pod("going", RUNNING, deletionTimestamp=ago(seconds=1)),
        pod("evicted", phase="Failed") | {"status": {"phase": "Failed", "reason": "Evicted"}},
        with_init(
            pod("starting", phase="Pending"), DONE, {"state": {"waiting": {"reason": "PodInitializing"}}}
        ),
        with_init(pod("stuck", phase="Pending"), {"state": {"waiting": {"reason": "ErrImagePull"}}}),
        with_init(
            pod("broken", phase="Pending"), {"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}
        ),
        with_init(pod("begun", RUNNING), DONE),
        meta("placed")
        | {
            "spec": {"containers": [{}], "nodeName": "n1", "readinessGates": [{"conditionType": "x"}]},
            "status": {"phase": "Pending", "podIP": "10.244.0.5", "nominatedNodeName": "n2"},
        },
    ],
    "services": [
        meta("web")
        | {
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "10.96.1.1",
                "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
                "selector": {"tier": "front", "app": "web"},
            }
        },
        meta("headless") | {"spec": {"type": "ClusterIP", "clusterIP": "None"}},
        meta("node")
        | {
            "spec": {
                "type": "NodePort",
                "clusterIP": "10.96.1.2",
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}],
                "externalIPs": ["192.0.2.1"],
            }
        },
        meta("waiting") | {"spec": {"type": "LoadBalancer", "clusterIP": "10.96.1.3"}},
        meta("balanced")
        | {
            "spec": {"type": "LoadBalancer", "clusterIP": "10.96.1.4"},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}, {"hostname": "lb.example"}]}},
        },
        meta("elsewhere") | {"spec": {"type": "ExternalName", "externalName": "db.example"}},
    ],
    "deployments": [
        meta("web", ago(days=3, hours=4))
        | {
            "spec": {"replicas": 3, "selector": SELECTOR, "template": TEMPLATE},
            "status": {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2},
        },
        meta("new") | {"spec": {"replicas": 0}},
    ],
    "replicasets": [
        meta("web-1")
        | {
            "spec": {"replicas": 3, "selector": SELECTOR, "template": TEMPLATE},
            "status": {"replicas": 2, "readyReplicas": 1},
        },
        meta("new") | {"spec": {}},
    ],
    "nodes": [
        meta("n1", labels={"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/edge": ""})
        | {
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "172.30.0.1"}],
                "nodeInfo": {
                    "kubeletVersion": "v1.33.0",
                    "osImage": "Debian GNU/Linux 12",
                    "kernelVersion": "6.1.0",
                    "containerRuntimeVersion": "kubenet://0.1",
                },
            }
        },
        meta("n2")
        | {
            "spec": {"unschedulable": True},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
        },
        meta("n3"),
    ],
    "namespaces": [
        meta("default", ago(days=400)) | {"status": {"phase": "Active"}},
        meta("going") | {"status": {"phase": "Terminating"}},
    ],
    "configmaps": [meta("a") | {"data": {"x": "1"}, "binaryData": {"y": "AA=="}}, meta("empty")],
    "secrets": [meta("a") | {"type": "Opaque", "data": {"x": "AA=="}}],
    "serviceaccounts": [meta("default")],
    "leases": [meta("leader") | {"spec": {"holderIdentity": "n1"}}, meta("free")],
    "endpoints": [
        meta("web")
        | {
            "subsets": [
                {
                    "addresses": [{"ip": f"10.244.0.{last}"} for last in range(1, 4)],
                    "notReadyAddresses": [{"ip": "10.244.0.9"}],
                    "ports": [{"port": 8080}, {"port": 9090}],
                }
            ]
        },
        meta("six") | {"subsets": [{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}]},
        meta("none"),
    ],
    "endpointslices": [
        meta("web-abc")
        | {
            "addressType": "IPv4",
            "endpoints": [{"addresses": [f"10.244.0.{last}"]} for last in range(1, 6)],
            "ports": [{"port": 8080}, {"name": "any"}],
        },
        meta("empty") | {"addressType": "IPv6", "endpoints": [], "ports": []},
    ],
    "events": [
        meta("web.1")
        | {
            "involvedObject": {"kind": "Pod", "name": "web-1", "fieldPath": "spec.containers{c}"},
            "type": "Warning",
            "reason": "BackOff",
            "message": "Back-off restarting\n",
            "source": {"component": "kubelet", "host": "n1"},
            "count": 7,
            "firstTimestamp": ago(hours=2),
            "lastTimestamp": ago(seconds=30),
        },
        meta("web.2")
        | {
            "involvedObject": {"kind": "Service", "name": "web"},
            "type": "Normal",
            "reason": "Made",
            "reportingComponent": "kubenet",
            "eventTime": "2026-01-02T03:03:35.123456Z",
        },
        meta("web.3"),
    ],
}


@pytest.mark.parametrize("plural", sorted(SAMPLES))
def test_B2_5_the_table_of(plural: str, golden: Callable[[str, str], None]) -> None:
    shown = printer(kinds.BY_PLURAL[plural].resource)
    titles = [f"{column.name}{'*' if column.wide else ''}" for column in shown.columns]
    rows = [[str(cell) for cell in shown.cells(value, NOW)] for value in SAMPLES[plural]]
    assert all(len(row) == len(titles) for row in rows)
    lines = [" | ".join(row) for row in (titles, *rows)]
    golden(f"table_{plural}", "\n".join(lines) + "\n")


def test_B2_5_every_served_kind_has_a_table_of_its_own() -> None:
    assert {kind.plural for kind in kinds.ALL} == set(SAMPLES) | set(ROWS)


@pytest.mark.parametrize("kind", [pytest.param(kind, id=kind.plural) for kind in kinds.ALL])
def test_a_table_of_an_empty_object_is_no_error(kind: Any) -> None:
    shown = printer(kind.resource)
    assert len(shown.cells({}, NOW)) == len(shown.columns)
