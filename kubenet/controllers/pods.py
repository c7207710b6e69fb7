"""Questions about pods that several controllers ask. *Pure.*

Source: Kubernetes documentation, "Pod Lifecycle"; kube-controller-manager controller_utils.go (whom to
delete).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from kubenet.controllers.decision import seconds_since
from kubenet.model.objects import Condition, Pod

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


def is_active(pod: Pod) -> bool:
    """Whether a pod counts: it has neither finished nor been told to go."""
    return pod.status.phase not in ("Succeeded", "Failed") and pod.metadata.deletion_timestamp is None


def ready_condition(pod: Pod) -> Condition | None:
    """Return the pod's Ready condition."""
    return next((c for c in pod.status.conditions if c.type == "Ready"), None)


def available_in_s(pod: Pod, min_ready_s: int, now: datetime) -> float | None:
    """Return in how many seconds a pod counts as available: 0 if it does now, None if it is not ready."""
    ready = ready_condition(pod)
    if ready is None or ready.status != "True":
        return None
    if min_ready_s <= 0:
        return 0.0
    return max(0.0, min_ready_s - seconds_since(ready.last_transition_time, now))


def first_to_go(pods: Iterable[Pod], neighbours: Iterable[Pod], now: datetime) -> Sequence[Pod]:
    """Return ``pods`` in the order in which a scale-down deletes them: the least useful first.

    ``neighbours`` are pods of the same workload (``pods`` included): of equal pods those go first that share
    their node with the most of them.
    """
    on_node = Counter(pod.spec.node_name for pod in neighbours)

    def rank(pod: Pod) -> tuple[object, ...]:
        ready = ready_condition(pod)
        ready_s = seconds_since(ready.last_transition_time if ready else None, now) if pod.ready else 0.0
        return (
            bool(pod.spec.node_name),  # never placed, never missed
            _PHASE_RANK.get(pod.status.phase, 1),
            pod.ready,
            _deletion_cost(pod),
            -on_node[pod.spec.node_name],
            ready_s,  # ready for a short time: few clients have found it
            -sum(status.restart_count for status in pod.status.container_statuses),
            seconds_since(pod.metadata.creation_timestamp, now),  # young before old
            pod.metadata.name,
        )

    return sorted(pods, key=rank)


def _deletion_cost(pod: Pod) -> int:
    text = pod.metadata.annotations.get(DELETION_COST, "0")
    return int(text) if text.lstrip("-").isdecimal() else 0
