"""The node for a pod: filter until enough fit, score those, take the best. *Pure.*

The best of the first hundred that fit is nearly as good as the best of all: the mean score of the chosen
node falls by a hundredth, and the work no longer grows with the cluster. kube-scheduler looks for 50 % of the
nodes minus 1 % for each 125 of them, at least 5 % and at least 100; at 5000 nodes that is 500, and five times
the work of stopping at 100. The search goes on where the last one ended (``start``), so that every node has
its turn.

Neither chance nor time is in here: ``tie``, from 0 up to but not including 1, says which of the equally best.

Source: Kubernetes documentation, "Scheduler Performance Tuning" (percentageOfNodesToScore).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kubenet.scheduler.filters import FILTERS, Filter, reasons_against
from kubenet.scheduler.scores import SCORES, Score, weighted_sums
from kubenet.scheduler.views import NodeView, PodView


@dataclass(frozen=True, slots=True)
class Profile:
    """How a scheduler decides."""

    filters: tuple[Filter, ...] = FILTERS
    scores: tuple[tuple[Score, float], ...] = SCORES
    wanted: int = 100  # nodes that fit; then the search ends


@dataclass(frozen=True, slots=True)
class Chosen:
    """The pod goes to this node."""

    node_name: str
    examined: int  # nodes that were filtered: the next search starts this much further
    feasible: int
    score: float


@dataclass(frozen=True, slots=True)
class Nowhere:
    """No node can take the pod."""

    examined: int
    reasons: Mapping[str, int]  # each with the number of nodes that it holds for

    @property
    def message(self) -> str:
        """The sentence that kube-scheduler would write."""
        if not self.examined:
            return "no nodes available to schedule pods"
        parts = sorted(f"{count} {reason}" for reason, count in self.reasons.items())
        return f"0/{self.examined} nodes are available: {', '.join(parts)}."


Decision: TypeAlias = Chosen | Nowhere

DEFAULT = Profile()


def choose(
    pod: PodView, nodes: Sequence[NodeView], start: int = 0, tie: float = 0.0, profile: Profile = DEFAULT
) -> Decision:
    """Return the best node among the first that fit, searched from index ``start`` around."""
    feasible: list[NodeView] = []
    reasons: Counter[str] = Counter()
    examined = 0
    while examined < len(nodes) and len(feasible) < profile.wanted:
        node = nodes[(start + examined) % len(nodes)]
        examined += 1
        if against := reasons_against(pod, node, profile.filters):
            reasons.update(against)
        else:
            feasible.append(node)
    if not feasible:
        return Nowhere(examined, dict(reasons))
    return _best(pod, feasible, examined, tie, profile)


def _best(pod: PodView, feasible: Sequence[NodeView], examined: int, tie: float, profile: Profile) -> Chosen:
    sums = weighted_sums(pod, feasible, profile.scores)
    best = max(sums)
    # Sorted, so that the choice among equals does not depend on where the search began.
    equals = sorted(node.name for node, points in zip(feasible, sums, strict=True) if points == best)
    return Chosen(equals[int(tie * len(equals))], examined, len(feasible), best)
