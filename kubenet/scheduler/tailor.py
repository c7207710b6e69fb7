"""A scheduler's profile for one pod: with the questions and scores that its own wishes add. *Pure.*

A wish that somebody has written down weighs more than anything that is assumed of all pods.

Source: Kubernetes documentation, "Assigning Pods to Nodes" (preferred affinity, weights from 1 to 100).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kubenet.model.placement import TopologySpreadConstraint, is_met
from kubenet.scheduler.neighbours import Place, counts_of, neighbour_filters, places_of
from kubenet.scheduler.scores import BEST, Score, fewest
from kubenet.scheduler.select import DEFAULT, Profile
from kubenet.scheduler.views import NodeView, PodView

WISH = 4.0  # the weight of one kind of wish; that of any score of SCORES is less


def tailored(
    pod: PodView, nodes: Sequence[NodeView], *, repelled: bool, profile: Profile = DEFAULT
) -> Profile:
    """Return how to decide on ``pod``; ``repelled`` says whether any pod on a node bears anti-affinity."""
    if pod.affinity is None and not pod.spread and not repelled:
        return profile
    filters = neighbour_filters(pod, nodes, repelled=repelled)
    scores = _wishes(pod, nodes)
    if not filters and not scores:
        return profile
    more = tuple((score, WISH) for score in scores)
    return replace(profile, filters=profile.filters + filters, scores=profile.scores + more)


def _wishes(pod: PodView, nodes: Sequence[NodeView]) -> list[Score]:
    found: list[Score] = []
    if pod.affinity and pod.affinity.node_affinity and pod.affinity.node_affinity.preferred:
        found.append(_preferred_nodes)
    if weights := _weighted_places(pod, nodes):
        found.append(_near_preferred(weights))
    found += [_evenly(each, pod, nodes) for each in pod.spread if each.when_unsatisfiable != "DoNotSchedule"]
    return found


def _preferred_nodes(pod: PodView, nodes: Sequence[NodeView]) -> Sequence[float]:
    affinity = pod.affinity.node_affinity if pod.affinity else None
    preferred = affinity.preferred if affinity else ()
    return _scaled(
        [
            sum(each.weight for each in preferred if is_met(each.preference, node.name, node.labels))
            for node in nodes
        ]
    )


def _weighted_places(pod: PodView, nodes: Sequence[NodeView]) -> Mapping[Place, int]:
    """Return what the preferred terms add to each place: to be near counts for it, to be apart against."""
    weights: Counter[Place] = Counter()
    if pod.affinity is None:
        return weights
    for affinity, sign in ((pod.affinity.pod_affinity, 1), (pod.affinity.pod_anti_affinity, -1)):
        for each in affinity.preferred if affinity else ():
            for place in places_of(each.pod_affinity_term, pod, nodes):
                weights[place] += sign * each.weight
    return weights


def _near_preferred(weights: Mapping[Place, int]) -> Score:
    keys = {key for key, _ in weights}

    def near(_: PodView, nodes: Sequence[NodeView]) -> Sequence[float]:
        return _scaled([sum(weights.get((key, node.labels.get(key)), 0) for key in keys) for node in nodes])

    return near


def _evenly(constraint: TopologySpreadConstraint, pod: PodView, nodes: Sequence[NodeView]) -> Score:
    counts = counts_of(constraint, pod, nodes)
    most = max(counts.values(), default=0)

    def evenly(_: PodView, feasible: Sequence[NodeView]) -> Sequence[float]:
        places = [node.labels.get(constraint.topology_key) for node in feasible]
        return fewest([most if place is None else counts[place] for place in places])

    return evenly


def _scaled(points: Sequence[int]) -> Sequence[float]:
    """Return 0 for the least there is, 100 for the most, and a straight line between."""
    least, most = min(points, default=0), max(points, default=0)
    return [BEST * (each - least) / (most - least) if most > least else 0.0 for each in points]
