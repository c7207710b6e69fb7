"""Pods and nodes as the scheduler sees them: values, parsed once. *Pure.*

Source: Kubernetes documentation, "Resource Management for Pods and Containers", "Taints and Tolerations".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from kubenet.model.objects import Container, Node, Pod, Taint, Toleration
from kubenet.model.placement import (
    Affinity,
    NodeSelector,
    PodAffinityTerm,
    TopologySpreadConstraint,
    required_nodes,
)
from kubenet.model.taints import tolerates
from kubenet.scheduler.quantity import amount

SCHEDULER_NAME = "default-scheduler"

# By resource name. cpu in thousandths of a core, all others in whole units (bytes, pods, devices).
Amounts: TypeAlias = Mapping[str, int]

# What a container without requests is taken to use when nodes are compared: else a node full of such pods
# would look as free as an empty one. kube-scheduler's figures.
USUAL: Amounts = {"cpu": 100, "memory": 200 * 1024**2}

ANY_ADDRESS = ("", "0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the node that a pod takes for itself."""

    protocol: str
    port: int
    ip: str

    def clashes(self, other: "HostPort") -> bool:
        """Whether both cannot be on one node."""
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        return self.ip == other.ip or self.ip in ANY_ADDRESS or other.ip in ANY_ADDRESS


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod: what it asks of a node."""

    key: str
    uid: str
    created: str = ""  # RFC 3339 in UTC: orders as text
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    node_name: str = ""
    requests: Amounts = field(default_factory=dict)
    usual: Amounts = field(default_factory=dict)  # cpu and memory, with USUAL where nothing is requested
    node_selector: Mapping[str, str] = field(default_factory=dict)
    required_nodes: NodeSelector | None = None
    affinity: Affinity | None = None
    spread: tuple[TopologySpreadConstraint, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    host_ports: tuple[HostPort, ...] = ()
    controller_uid: str = ""
    leaving: bool = False  # being deleted: it still takes room, but no longer serves

    @property
    def must_be_near(self) -> tuple[PodAffinityTerm, ...]:
        near = self.affinity.pod_affinity if self.affinity else None
        return near.required if near else ()

    @property
    def must_be_apart(self) -> tuple[PodAffinityTerm, ...]:
        apart = self.affinity.pod_anti_affinity if self.affinity else None
        return apart.required if apart else ()

    @property
    def must_spread(self) -> tuple[TopologySpreadConstraint, ...]:
        return tuple(each for each in self.spread if each.when_unsatisfiable == "DoNotSchedule")

    @property
    def needs_company(self) -> bool:
        """Whether one pod more somewhere may make a node fit that did not."""
        return bool(self.must_be_near or self.must_spread)

    def tolerates(self, taint: Taint) -> bool:
        """Whether the taint does not concern this pod."""
        return any(tolerates(toleration, taint) for toleration in self.tolerations)


@dataclass(frozen=True, slots=True)
class Usage:
    """What the pods of one node take together."""

    requested: Amounts = field(default_factory=dict)
    usual: Amounts = field(default_factory=dict)
    host_ports: tuple[HostPort, ...] = ()
    by_controller: Mapping[str, int] = field(default_factory=dict)  # pods that stay, by their owner's uid
    pods: tuple[PodView, ...] = ()

    def plus(self, pod: PodView) -> "Usage":
        """Return the usage with one pod more."""
        owned = {} if pod.leaving or not pod.controller_uid else {pod.controller_uid: 1}
        return Usage(
            total(self.requested, pod.requests),
            total(self.usual, pod.usual),
            self.host_ports + pod.host_ports,
            total(self.by_controller, owned),
            (*self.pods, pod),
        )


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node: what it is, and what its pods take."""

    name: str
    ready: bool = True
    unschedulable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    allocatable: Amounts = field(default_factory=dict)
    usage: Usage = NO_USAGE

    def holding(self, usage: Usage) -> "NodeView":
        """Return the same node with other pods on it."""
        return replace(self, usage=usage)


def total(*summands: Amounts) -> Amounts:
    """Return the sum, name by name."""
    names = {name: None for amounts in summands for name in amounts}
    return {name: sum(amounts.get(name, 0) for amounts in summands) for name in names}


def usage_of(pods: Iterable[PodView]) -> Usage:
    """Return what the pods take together."""
    usage = NO_USAGE
    for pod in pods:
        usage = usage.plus(pod)
    return usage


def pod_view(pod: Pod) -> PodView:
    """Return what the scheduler needs of a pod. Raises InvalidInput for a request that is no quantity."""
    requests = [_requests(container) for container in pod.spec.containers]
    usual = [{name: each.get(name, USUAL[name]) for name in USUAL} for each in requests]
    return PodView(
        key=pod.metadata.key,
        uid=pod.metadata.uid,
        created=pod.metadata.creation_timestamp or "",
        node_name=pod.spec.node_name,
        requests=total(*requests, {"pods": 1}),
        usual=total(*usual),
        node_selector=pod.spec.node_selector,
        required_nodes=required_nodes(pod.spec.affinity),
        affinity=pod.spec.affinity,
        spread=pod.spec.topology_spread_constraints,
        namespace=pod.metadata.namespace,
        labels=pod.metadata.labels,
        tolerations=pod.spec.tolerations,
        host_ports=tuple(_host_ports(pod)),
        controller_uid=pod.metadata.controller_uid,
        leaving=pod.metadata.deletion_timestamp is not None,
    )


def node_view(node: Node) -> NodeView:
    """Return a node without its pods. Raises InvalidInput for an amount that is no quantity."""
    amounts = node.status.allocatable or node.status.capacity
    return NodeView(
        name=node.metadata.name,
        ready=any(c.type == "Ready" and c.status == "True" for c in node.status.conditions),
        unschedulable=node.spec.unschedulable,
        labels=node.metadata.labels,
        taints=node.spec.taints,
        allocatable={name: amount(name, written) for name, written in amounts.items()},
    )


def waits_for_a_node(pod: Pod) -> bool:
    """Whether it is on us to find a node for this pod now: a gate that somebody has set holds it back."""
    return (
        not pod.spec.node_name
        and not pod.spec.scheduling_gates
        and pod.spec.scheduler_name == SCHEDULER_NAME
        and pod.metadata.deletion_timestamp is None
        and not is_finished(pod)
    )


def takes_room(pod: Pod) -> bool:
    """Whether this pod is on a node and uses it."""
    return bool(pod.spec.node_name) and not is_finished(pod)


def is_finished(pod: Pod) -> bool:
    """Whether all containers have ended for good."""
    return pod.status.phase in ("Succeeded", "Failed")


def _requests(container: Container) -> Amounts:
    """A limit without a request is a request too."""
    written = {**container.resources.limits, **container.resources.requests}
    return {name: amount(name, each) for name, each in written.items()}


def _host_ports(pod: Pod) -> Iterable[HostPort]:
    for container in pod.spec.containers:
        for port in container.ports:
            number = port.host_port or (port.container_port if pod.spec.host_network else 0)
            if number:
                yield HostPort(port.protocol, number, port.host_ip)
