"""What becomes of a node that falls silent, and of the pods on it. *Pure.*

A node agent renews its Lease every 10 s. What counts is when *we* last saw it change, not the time written
in it: clocks of nodes differ. After 40 s of silence nobody knows how the node is: its conditions become
Unknown, it is tainted, its pods count as not ready, so that Services let go of them; they are deleted once
their tolerations for the taint run out.

Source: Kubernetes documentation, "Nodes" (heartbeats), "Taints and Tolerations" (taint based evictions);
kube-controller-manager pkg/controller/nodelifecycle.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from kubenet.clock import rfc3339
from kubenet.controllers.decision import Decision, seconds_since, sooner
from kubenet.model.objects import Condition, Json, Lease, Node, Pod, Taint
from kubenet.model.resources import NODES, PODS
from kubenet.model.taints import tolerates
from kubenet.model.writes import Patch, Write, delete_of, patch_of

SILENCE_MOST_S = 40.0  # kube-controller-manager's --node-monitor-grace-period, and the Lease's duration
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
OWN_TAINTS = (NOT_READY, UNREACHABLE, UNSCHEDULABLE)
NO_SCHEDULE, NO_EXECUTE = "NoSchedule", "NoExecute"
# What the admission plug-in DefaultTolerationSeconds gives pods that say nothing about these two taints.
DEFAULT_TOLERATION_S = 300.0
_REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The last sign of life of a node, and when we saw it first."""

    sign: tuple[str, str]
    seen_s: float


def heard(before: Heartbeat | None, node: Node, lease: Lease | None, now_s: float) -> Heartbeat:
    """Return the last sign of life, given the one known ``before``."""
    ready = _condition(node, "Ready")
    sign = (
        (lease.spec.renew_time if lease else None) or "",
        (ready.last_heartbeat_time if ready else None) or "",
    )
    return before if before and before.sign == sign else Heartbeat(sign, now_s)


def decide(node: Node, heartbeat: Heartbeat, pods: Iterable[Pod], now_s: float, now: datetime) -> Decision:
    """Return what to write about a node and the pods on it."""
    left_s = SILENCE_MOST_S - (now_s - heartbeat.seen_s)
    ready = _condition(node, "Ready")
    if left_s <= 0 and (ready is None or ready.status != "Unknown"):
        return Decision((_lost(node, now),), again_s=0.0)  # the taints follow the condition
    again_s = left_s if left_s > 0 else None
    status = ready.status if ready else None
    writes: list[Write] = []
    if (taints := _taints(node, status, now)) is not None:
        writes.append(patch_of(NODES, node, {"spec": {"taints": [*taints]}}))
    if status == "Unknown":
        writes += [_unready(pod, now) for pod in pods if pod.ready]
    evictions = _evictions(node, pods, now)
    return Decision((*writes, *evictions.writes), sooner(again_s, evictions.again_s))


def _condition(node: Node, kind: str) -> Condition | None:
    return next((c for c in node.status.conditions if c.type == kind), None)


def _lost(node: Node, now: datetime) -> Patch:
    before = {condition.type: condition for condition in node.status.conditions}
    conditions: list[Json] = []
    for kind in dict.fromkeys((*before, *_REPORTED)):
        known = before.get(kind)
        if known is not None and kind not in _REPORTED:
            conditions.append(msgspec.to_builtins(known))
            continue
        never = known is None or not known.last_heartbeat_time
        written: Json = {
            "type": kind,
            "status": "Unknown",
            "reason": "NodeStatusNeverUpdated" if never else "NodeStatusUnknown",
            "message": f"Kubelet {'never posted' if never else 'stopped posting'} node status.",
            "lastTransitionTime": rfc3339(now),
        }
        if known is not None and known.last_heartbeat_time:
            written["lastHeartbeatTime"] = known.last_heartbeat_time
        conditions.append(written)
    return patch_of(NODES, node, {"status": {"conditions": [*conditions]}}, "status")


def _taints(node: Node, ready: str | None, now: datetime) -> list[Json] | None:
    """Return all taints the node shall have, or None when it has them."""
    wanted: list[tuple[str, str]] = []
    if ready is None:
        wanted = [(NOT_READY, NO_SCHEDULE)]  # it has never said how it is
    elif ready != "True":
        key = UNREACHABLE if ready == "Unknown" else NOT_READY
        wanted = [(key, NO_SCHEDULE), (key, NO_EXECUTE)]
    if node.spec.unschedulable:
        wanted.append((UNSCHEDULABLE, NO_SCHEDULE))
    have = {(taint.key, taint.effect): taint for taint in node.spec.taints}
    if {pair for pair in have if pair[0] in OWN_TAINTS} == set(wanted):
        return None
    others = [taint for taint in node.spec.taints if taint.key not in OWN_TAINTS]
    own = [have.get(pair) or Taint(key=pair[0], effect=pair[1], time_added=rfc3339(now)) for pair in wanted]
    return [msgspec.to_builtins(taint) for taint in (*others, *own)]


def _unready(pod: Pod, now: datetime) -> Patch:
    conditions: list[Json] = []
    for condition in pod.status.conditions:
        written: Json = msgspec.to_builtins(condition)
        if condition.type == "Ready":
            written |= {"status": "False", "reason": "NodeLost", "lastTransitionTime": rfc3339(now)}
        conditions.append(written)
    return patch_of(PODS, pod, {"status": {"conditions": [*conditions]}}, "status")


def _evictions(node: Node, pods: Iterable[Pod], now: datetime) -> Decision:
    writes: list[Write] = []
    again_s: float | None = None
    for pod in pods:
        if pod.metadata.deletion_timestamp is not None:
            continue
        for taint in node.spec.taints:
            left_s = stays_s(pod, taint, now)
            if left_s is not None and left_s <= 0:
                writes.append(delete_of(PODS, pod))
                break
            again_s = sooner(again_s, left_s)
    return Decision(tuple(writes), again_s)


def stays_s(pod: Pod, taint: Taint, now: datetime) -> float | None:
    """Return how much longer a pod stays under a taint; None is for ever, 0 or less is not any more."""
    if taint.effect != NO_EXECUTE:
        return None
    matching = [each for each in pod.spec.tolerations if tolerates(each, taint)]
    limits = [each.toleration_seconds for each in matching if each.toleration_seconds is not None]
    if matching and not limits:
        return None
    if not matching:
        allowed_s = DEFAULT_TOLERATION_S if taint.key in (NOT_READY, UNREACHABLE) else 0.0
    else:
        allowed_s = float(max(0, min(limits)))
    since_s = seconds_since(taint.time_added, now) if taint.time_added else 0.0
    return allowed_s - since_s
