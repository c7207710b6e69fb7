"""Where a pod says it wants to be, and which nodes and labels that means. *Pure.*

Source: Kubernetes documentation, "Assigning Pods to Nodes", "Labels and Selectors", "Pod Topology Spread
Constraints"; API reference, NodeSelectorRequirement.
"""

from collections.abc import Mapping, Sequence

import msgspec

from kubenet.model.read import Read

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


class LabelExpression(Read, frozen=True):
    key: str
    operator: str  # In, NotIn, Exists, DoesNotExist; of nodes Gt and Lt too
    values: tuple[str, ...] = ()


class LabelSelector(Read, frozen=True):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelExpression, ...] = ()


class NodeSelectorTerm(Read, frozen=True):
    """All of it has to be met."""

    match_expressions: tuple[LabelExpression, ...] = ()
    match_fields: tuple[LabelExpression, ...] = ()


class NodeSelector(Read, frozen=True):
    """One of the terms has to be met."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] = ()


class PreferredNodes(Read, frozen=True):
    weight: int
    preference: NodeSelectorTerm = NodeSelectorTerm()


class NodeAffinity(Read, frozen=True):
    required: NodeSelector | None = msgspec.field(name=_REQUIRED, default=None)
    preferred: tuple[PreferredNodes, ...] = msgspec.field(name=_PREFERRED, default=())


class PodAffinityTerm(Read, frozen=True):
    """Pods that are meant, and how near is near: a label that nodes of one place share."""

    topology_key: str
    label_selector: LabelSelector | None = None  # None means no pod, an empty one every pod
    namespaces: tuple[str, ...] = ()
    namespace_selector: LabelSelector | None = None


class WeightedPodAffinityTerm(Read, frozen=True):
    weight: int
    pod_affinity_term: PodAffinityTerm


class PodAffinity(Read, frozen=True):
    required: tuple[PodAffinityTerm, ...] = msgspec.field(name=_REQUIRED, default=())
    preferred: tuple[WeightedPodAffinityTerm, ...] = msgspec.field(name=_PREFERRED, default=())


class Affinity(Read, frozen=True):
    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None


class SchedulingGate(Read, frozen=True):
    name: str = ""


class TopologySpreadConstraint(Read, frozen=True):
    topology_key: str
    max_skew: int = 1
    when_unsatisfiable: str = "DoNotSchedule"
    label_selector: LabelSelector | None = None
    min_domains: int | None = None


def meets(expression: LabelExpression, labels: Mapping[str, str]) -> bool:
    """Whether ``labels`` meet one requirement; an operator that the API refuses is met by nothing."""
    have, wanted = labels.get(expression.key), expression.values
    match expression.operator:
        case "In":
            return have in wanted
        case "NotIn":
            return have not in wanted
        case "Exists":
            return have is not None
        case "DoesNotExist":
            return have is None
        case "Gt":
            return _is_greater(have, wanted[0] if wanted else None)
        case "Lt":
            return _is_greater(wanted[0] if wanted else None, have)
        case _:
            return False


def _is_greater(left: str | None, right: str | None) -> bool:
    numbers = [int(text) for text in (left, right) if text and text.lstrip("-").isdecimal()]
    return len(numbers) == 2 and numbers[0] > numbers[1]


def picks(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether the selector of a query means ``labels``: an empty one means all, None means nothing."""
    if selector is None:
        return False
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        meets(expression, labels) for expression in selector.match_expressions
    )


def required_nodes(affinity: Affinity | None) -> NodeSelector | None:
    """Return the nodes that a pod insists on; None means that it takes any."""
    return affinity.node_affinity.required if affinity and affinity.node_affinity else None


def means_node(selector: NodeSelector | None, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a required node affinity allows a node; None allows every node, no term none."""
    if selector is None:
        return True
    return any(is_met(term, name, labels) for term in selector.node_selector_terms)


def is_met(term: NodeSelectorTerm, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a node meets a whole term; an empty term is met by none."""
    if not term.match_expressions and not term.match_fields:
        return False
    fields = {"metadata.name": name}
    return all(meets(each, labels) for each in term.match_expressions) and all(
        meets(each, fields) for each in term.match_fields
    )


def only_node(selector: NodeSelector | None) -> str:
    """Return the one node that a required affinity names by its field; empty if it names none."""
    terms: Sequence[NodeSelectorTerm] = selector.node_selector_terms if selector else ()
    for term in terms:
        for field in term.match_fields:
            if (field.key, field.operator) == ("metadata.name", "In") and len(field.values) == 1:
                return field.values[0]
    return ""
