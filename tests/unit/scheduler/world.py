"""Nodes and pods for the tests of the scheduler, as short to write as they are to read."""

from collections.abc import Mapping

import msgspec

from kubenet.model.objects import (
    Condition,
    Container,
    ContainerPort,
    Json,
    Node,
    NodeSpec,
    NodeStatus,
    ObjectMeta,
    OwnerReference,
    Pod,
    PodSpec,
    PodStatus,
    ResourceRequirements,
    Taint,
    Toleration,
)
from kubenet.model.placement import Affinity, SchedulingGate, TopologySpreadConstraint
from kubenet.scheduler.views import NodeView, PodView, node_view, pod_view

ROOM: Mapping[str, str | int] = {"cpu": "4", "memory": "8Gi", "pods": "110"}


def node(
    name: str = "n1",
    *,
    ready: bool = True,
    unschedulable: bool = False,
    labels: Mapping[str, str] | None = None,
    taints: tuple[Taint, ...] = (),
    room: Mapping[str, str | int] = ROOM,
) -> Node:
    return Node(
        metadata=ObjectMeta(name=name, labels=dict(labels or {})),
        spec=NodeSpec(unschedulable=unschedulable, taints=taints),
        status=NodeStatus(
            conditions=(Condition(type="Ready", status="True" if ready else "False"),),
            allocatable=dict(room),
        ),
    )


def pod(
    name: str = "web",
    *,
    cpu: str = "",
    memory: str = "",
    owner: str = "",
    on: str = "",
    host_port: int = 0,
    tolerations: tuple[Toleration, ...] = (),
    selector: Mapping[str, str] | None = None,
    created: str = "2024-05-01T10:00:00Z",
    phase: str = "Pending",
    conditions: tuple[Condition, ...] = (),
    deleted: str | None = None,
    scheduler_name: str = "default-scheduler",
    uid: str = "",
    labels: Mapping[str, str] | None = None,
    namespace: str = "default",
    affinity: Json | None = None,
    gates: tuple[str, ...] = (),
    spread: tuple[TopologySpreadConstraint, ...] = (),
) -> Pod:
    requests: dict[str, str | int | float] = {
        key: each for key, each in (("cpu", cpu), ("memory", memory)) if each
    }
    ports = (ContainerPort(container_port=80, host_port=host_port),) if host_port else ()
    owners = (OwnerReference(uid=owner, controller=True),) if owner else ()
    return Pod(
        metadata=ObjectMeta(
            name=name,
            namespace=namespace,
            labels=dict(labels or {}),
            uid=uid or f"uid-{name}",
            resource_version="7",
            creation_timestamp=created,
            deletion_timestamp=deleted,
            owner_references=owners,
        ),
        spec=PodSpec(
            containers=(Container(name="c", ports=ports, resources=ResourceRequirements(requests=requests)),),
            node_name=on,
            node_selector=dict(selector or {}),
            affinity=msgspec.convert(affinity, Affinity) if affinity else None,
            topology_spread_constraints=spread,
            scheduling_gates=tuple(SchedulingGate(name=each) for each in gates),
            tolerations=tolerations,
            scheduler_name=scheduler_name,
        ),
        status=PodStatus(phase=phase, conditions=conditions),
    )


def views(*nodes: Node) -> tuple[NodeView, ...]:
    return tuple(node_view(each) for each in nodes)


def holding(view: NodeView, *pods: Pod) -> NodeView:
    usage = view.usage
    for each in pods:
        usage = usage.plus(pod_view(each))
    return view.holding(usage)


def wanted(each: Pod) -> PodView:
    return pod_view(each)
