"""Nodes: their pod ranges, their silence, and the pods they leave behind."""

from kubenet.client.writer import Writer
from kubenet.controllers import node_ranges, nodes, podgc
from kubenet.controllers.decision import Decision
from kubenet.controllers.nodes import Heartbeat
from kubenet.manager.config import ManagerConfig
from kubenet.manager.loop import ControlLoop
from kubenet.manager.watched import LEASE_NAMESPACE, NODE, Objects
from kubenet.model.objects import Node, Pod

ALL = "all nodes"  # the one key of loops that look at all nodes together
SWEEP_S = 20.0  # kube-controller-manager's period of pod garbage collection


def node_loops(objects: Objects, writer: Writer, config: ManagerConfig) -> list[ControlLoop]:
    """Return the loops, wired to the changes that concern them."""
    watch = _NodeWatch(objects)
    lifecycle = ControlLoop("nodes", watch.decide, writer, objects.clock)
    ranges = ControlLoop("node ranges", _Ranges(objects, config).decide, writer, objects.clock)
    garbage = ControlLoop("pod garbage", _Garbage(objects).decide, writer, objects.clock)
    objects.nodes.on_change(lambda each: lifecycle.add(each.metadata.name))
    objects.leases.on_change(lambda each: lifecycle.add(each.metadata.name))
    objects.pods.on_change(lambda pod: lifecycle.add(pod.spec.node_name) if watch.is_tainted(pod) else None)
    objects.nodes.on_change(lambda each: ranges.add(ALL) if not each.spec.pod_cidrs else None)
    garbage.add(ALL)
    return [lifecycle, ranges, garbage]


class _NodeWatch:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._heartbeats: dict[str, Heartbeat] = {}

    def is_tainted(self, pod: Pod) -> bool:
        """Whether a pod is on a node that sends pods away."""
        node = self._objects.nodes.get(pod.spec.node_name) if pod.spec.node_name else None
        return node is not None and any(taint.effect == nodes.NO_EXECUTE for taint in node.spec.taints)

    def decide(self, name: str) -> Decision:
        node = self._objects.nodes.get(name)
        if node is None:
            self._heartbeats.pop(name, None)
            return Decision()
        clock = self._objects.clock
        lease = self._objects.leases.get(f"{LEASE_NAMESPACE}/{name}")
        heartbeat = nodes.heard(self._heartbeats.get(name), node, lease, clock.monotonic())
        self._heartbeats[name] = heartbeat
        pods = self._objects.pods.indexed(NODE, name)
        return nodes.decide(node, heartbeat, pods, clock.monotonic(), clock.now())


class _Ranges:
    """Gives each node its part of the cluster's pod range, once."""

    def __init__(self, objects: Objects, config: ManagerConfig) -> None:
        self._objects = objects
        self._config = config

    def decide(self, key: str) -> Decision:
        del key
        found = sorted(self._objects.nodes.objects().values(), key=_by_age)
        return Decision(tuple(node_ranges.decide(found, self._config.pod_ranges)))


class _Garbage:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._missing: dict[str, float] = {}

    def decide(self, key: str) -> Decision:
        del key
        pods, now_s = self._objects.pods.objects().values(), self._objects.clock.monotonic()
        self._missing = podgc.missing_since(self._missing, pods, self._objects.nodes.objects(), now_s)
        found = podgc.decide(pods, self._missing, now_s)
        return Decision(found.writes, min(SWEEP_S, found.again_s or SWEEP_S))


def _by_age(node: Node) -> tuple[str, str]:
    return (node.metadata.creation_timestamp or "", node.metadata.name)
