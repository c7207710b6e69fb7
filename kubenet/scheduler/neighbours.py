"""Which nodes other pods allow or forbid: affinity, anti-affinity and spread over places. *Pure.*

A *place* is all nodes that share a value of some label, such as a zone. What the pods of all places mean to
one pod is worked out once, before its search; the filters and scores made here only look it up. A pod that
says nothing of others costs nothing.

Of a namespaceSelector only the label kubernetes.io/metadata.name is known here, which every namespace has.

Source: Kubernetes documentation, "Assigning Pods to Nodes" (inter-pod affinity), "Pod Topology Spread
Constraints"; kube-scheduler's InterPodAffinity and PodTopologySpread.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from kubenet.model.placement import PodAffinityTerm, TopologySpreadConstraint, picks
from kubenet.scheduler.filters import FITS, Filter, Reasons, has_labels
from kubenet.scheduler.views import NodeView, PodView

Place: TypeAlias = tuple[str, str | None]  # a label and its value
NAMESPACE_NAME = "kubernetes.io/metadata.name"

NOT_NEAR: Reasons = ("node(s) didn't match pod affinity rules",)
NOT_APART: Reasons = ("node(s) didn't match pod anti-affinity rules",)
UNWELCOME: Reasons = ("node(s) didn't satisfy existing pods anti-affinity rules",)
SKEWED: Reasons = ("node(s) didn't match pod topology spread constraints",)
NO_PLACE: Reasons = ("node(s) didn't match pod topology spread constraints (missing required label)",)


def neighbour_filters(pod: PodView, nodes: Sequence[NodeView], *, repelled: bool) -> tuple[Filter, ...]:
    """Return the questions that depend on other pods; ``repelled``: some bear anti-affinity."""
    found = [] if not pod.must_spread else [_spread_filter(pod, nodes)]
    if pod.must_be_near:
        found.append(_near_filter(pod, nodes))
    if pod.must_be_apart:
        found.append(_apart_filter(pod, nodes))
    if repelled:
        found.append(_welcome_filter(pod, nodes))
    return tuple(found)


def means(term: PodAffinityTerm, namespace: str, other: PodView) -> bool:
    """Whether a term of a pod in ``namespace`` means another pod."""
    if term.namespace_selector is None:
        there = other.namespace in (term.namespaces or (namespace,))
    else:
        labels = {NAMESPACE_NAME: other.namespace}
        there = other.namespace in term.namespaces or picks(term.namespace_selector, labels)
    return there and picks(term.label_selector, other.labels)


def places_of(term: PodAffinityTerm, pod: PodView, nodes: Iterable[NodeView]) -> frozenset[Place]:
    """Return the places where a pod is that a term of ``pod`` means."""
    key = term.topology_key
    return frozenset(
        (key, node.labels[key])
        for node in nodes
        if key in node.labels and any(means(term, pod.namespace, each) for each in node.usage.pods)
    )


def _near_filter(pod: PodView, nodes: Sequence[NodeView]) -> Filter:
    """All terms have to be met, by pods that all terms mean; the first of a group meets them itself."""
    terms = pod.must_be_near
    keys = {term.topology_key for term in terms}
    near: set[Place] = set()
    for node in nodes:
        if any(all(means(term, pod.namespace, each) for term in terms) for each in node.usage.pods):
            near |= {(key, node.labels[key]) for key in keys if key in node.labels}
    is_first = not near and all(means(term, pod.namespace, pod) for term in terms)

    def is_near(_: PodView, node: NodeView) -> Reasons:
        if not keys <= node.labels.keys():
            return NOT_NEAR
        return FITS if is_first or all((key, node.labels[key]) in near for key in keys) else NOT_NEAR

    return is_near


def _apart_filter(pod: PodView, nodes: Sequence[NodeView]) -> Filter:
    places = frozenset[Place]().union(*(places_of(term, pod, nodes) for term in pod.must_be_apart))
    return _outside(places, NOT_APART)


def _welcome_filter(pod: PodView, nodes: Sequence[NodeView]) -> Filter:
    """Where somebody is who does not want this pod near."""
    places = frozenset(
        (term.topology_key, node.labels[term.topology_key])
        for node in nodes
        for other in node.usage.pods
        for term in other.must_be_apart
        if term.topology_key in node.labels and means(term, other.namespace, pod)
    )
    return _outside(places, UNWELCOME)


def _outside(places: frozenset[Place], reasons: Reasons) -> Filter:
    keys = {key for key, _ in places}

    def is_outside(_: PodView, node: NodeView) -> Reasons:
        return reasons if any((key, node.labels.get(key)) in places for key in keys) else FITS

    return is_outside


def counts_of(constraint: TopologySpreadConstraint, pod: PodView, nodes: Iterable[NodeView]) -> Counter[str]:
    """Return how many pods that a constraint means each place has, among the nodes that ``pod`` may be on."""
    key = constraint.topology_key
    counts: Counter[str] = Counter()
    for node in nodes:
        if key in node.labels and not has_labels(pod, node):
            counts[node.labels[key]] += sum(
                not each.leaving
                and each.namespace == pod.namespace
                and picks(constraint.label_selector, each.labels)
                for each in node.usage.pods
            )
    return counts


def _spread_filter(pod: PodView, nodes: Sequence[NodeView]) -> Filter:
    """No place may have more than ``maxSkew`` pods more than the place with the fewest."""
    keys = {each.topology_key for each in pod.must_spread}
    whole = [node for node in nodes if keys <= node.labels.keys()]
    most: dict[str, dict[str, bool]] = {}
    for each in pod.must_spread:
        counts = counts_of(each, pod, whole)
        scarce = each.min_domains is not None and len(counts) < each.min_domains
        fewest = 0 if scarce else min(counts.values(), default=0)
        own = picks(each.label_selector, pod.labels)
        free = most.setdefault(each.topology_key, {})
        for value, count in counts.items():
            free[value] = free.get(value, True) and count + own - fewest <= each.max_skew

    def keeps_balance(_: PodView, node: NodeView) -> Reasons:
        if not keys <= node.labels.keys():
            return NO_PLACE
        return FITS if all(most[key].get(node.labels[key], False) for key in keys) else SKEWED

    return keeps_balance
