"""Which of the nodes that fit is best: each score gives 0 to 100, a weighted sum decides. *Pure.*

Source: Kubernetes documentation, "Kubernetes Scheduler" (scoring); kube-scheduler's NodeResourcesFit
(LeastAllocated), NodeResourcesBalancedAllocation, PodTopologySpread, TaintToleration.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from kubenet.scheduler.views import Amounts, NodeView, PodView

# All nodes at once: some scores are relative to the best or the worst of them.
Score: TypeAlias = Callable[[PodView, Sequence[NodeView]], Sequence[float]]

BEST = 100.0


def least_allocated(pod: PodView, nodes: Sequence[NodeView]) -> Sequence[float]:
    """The more cpu and memory stays free, the better."""
    return [_least_allocated(pod, node) for node in nodes]


def balanced_allocation(pod: PodView, nodes: Sequence[NodeView]) -> Sequence[float]:
    """The nearer cpu and memory are to running out together, the better: else one is left over unusable."""
    return [_balanced_allocation(pod, node) for node in nodes]


def spread(pod: PodView, nodes: Sequence[NodeView]) -> Sequence[float]:
    """The fewer pods of the same owner, the better: one node that dies takes few of them along."""
    counts = [node.usage.by_controller.get(pod.controller_uid, 0) for node in nodes]
    return fewest(counts)


def preferred(pod: PodView, nodes: Sequence[NodeView]) -> Sequence[float]:
    """The fewer taints that ask pods to stay away (PreferNoSchedule), the better."""
    return fewest([_unwanted(pod, node) if node.taints else 0 for node in nodes])


# The spread weighs more than both allocations together, so that among few replicas an empty node always wins.
SCORES: tuple[tuple[Score, float], ...] = (
    (least_allocated, 1.0),
    (balanced_allocation, 1.0),
    (spread, 3.0),
    (preferred, 3.0),
)


def weighted_sums(
    pod: PodView, nodes: Sequence[NodeView], scores: Sequence[tuple[Score, float]] = SCORES
) -> Sequence[float]:
    """Return the sum of all scores times their weights, node by node."""
    sums = [0.0] * len(nodes)
    for score, weight in scores:
        for place, points in enumerate(score(pod, nodes)):
            sums[place] += weight * points
    return sums


def _least_allocated(pod: PodView, node: NodeView) -> float:
    cpu = _used(node.usage.usual, pod.usual, node.allocatable, "cpu")
    memory = _used(node.usage.usual, pod.usual, node.allocatable, "memory")
    return BEST * (1 - (cpu + memory) / 2)


def _balanced_allocation(pod: PodView, node: NodeView) -> float:
    cpu = _used(node.usage.requested, pod.requests, node.allocatable, "cpu")
    memory = _used(node.usage.requested, pod.requests, node.allocatable, "memory")
    return BEST * (1 - abs(cpu - memory) / 2)  # the standard deviation of two numbers


def _used(have: Amounts, more: Amounts, allocatable: Amounts, name: str) -> float:
    """Return which part of a resource is used with the pod on the node: 0 to 1."""
    most = allocatable.get(name, 0)
    return min(1.0, (have.get(name, 0) + more.get(name, 0)) / most) if most else 1.0


def _unwanted(pod: PodView, node: NodeView) -> int:
    return sum(taint.effect == "PreferNoSchedule" and not pod.tolerates(taint) for taint in node.taints)


def fewest(counts: Sequence[int]) -> Sequence[float]:
    """Return 100 for none, 0 for the most there are, and a straight line between."""
    most = max(counts, default=0)
    return [BEST * (most - count) / most for count in counts] if most else [BEST] * len(counts)
