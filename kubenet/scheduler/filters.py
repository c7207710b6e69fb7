"""Which nodes can take a pod at all: six questions in a fixed order, the first "no" ends it. *Pure.*

The cheap questions come first, and those that most often say no. A filter returns its reasons in the words of
kube-scheduler, because people search for them; no reasons means that the node fits.

Source: Kubernetes documentation, "Kubernetes Scheduler" (filtering); kube-scheduler's default plugins.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from kubenet.model.objects import Taint
from kubenet.model.placement import means_node
from kubenet.scheduler.views import NodeView, PodView

Reasons: TypeAlias = tuple[str, ...]
Filter: TypeAlias = Callable[[PodView, NodeView], Reasons]

FITS: Reasons = ()

# The taints that stand for a cordoned and for a dead node; DaemonSet pods tolerate them.
UNSCHEDULABLE = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
NOT_READY = Taint(key="node.kubernetes.io/not-ready", effect="NoSchedule")


def is_open(pod: PodView, node: NodeView) -> Reasons:
    """A cordoned node, or one that is not Ready, takes only pods that tolerate this."""
    if node.unschedulable and not pod.tolerates(UNSCHEDULABLE):
        return ("node(s) were unschedulable",)
    if not node.ready and not pod.tolerates(NOT_READY):
        return ("node(s) were not ready",)
    return FITS


def has_name(pod: PodView, node: NodeView) -> Reasons:
    """A pod that names its node fits nowhere else."""
    if pod.node_name and pod.node_name != node.name:
        return ("node(s) didn't match the requested node name",)
    return FITS


def is_tolerated(pod: PodView, node: NodeView) -> Reasons:
    """A taint keeps away all pods that do not tolerate it."""
    for taint in node.taints:
        if taint.effect in ("NoSchedule", "NoExecute") and not pod.tolerates(taint):
            return (f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}",)
    return FITS


def has_labels(pod: PodView, node: NodeView) -> Reasons:
    """Every label of the pod's nodeSelector is on the node, and its required affinity allows the node."""
    if all(node.labels.get(key) == value for key, value in pod.node_selector.items()) and means_node(
        pod.required_nodes, node.name, node.labels
    ):
        return FITS
    return ("node(s) didn't match Pod's node affinity/selector",)


def has_free_ports(pod: PodView, node: NodeView) -> Reasons:
    """No other pod of the node has taken one of the pod's host ports."""
    taken = node.usage.host_ports
    if any(wanted.clashes(other) for wanted in pod.host_ports for other in taken):
        return ("node(s) didn't have free ports for the requested pod ports",)
    return FITS


def has_room(pod: PodView, node: NodeView) -> Reasons:
    """The node has all that the pod requests, and room for one pod more."""
    requested, allocatable = node.usage.requested, node.allocatable
    return tuple(
        "Too many pods" if name == "pods" else f"Insufficient {name}"
        for name, wanted in pod.requests.items()
        if wanted and wanted > allocatable.get(name, 0) - requested.get(name, 0)
    )


FILTERS: tuple[Filter, ...] = (is_open, has_name, is_tolerated, has_labels, has_room, has_free_ports)


def reasons_against(pod: PodView, node: NodeView, filters: Sequence[Filter] = FILTERS) -> Reasons:
    """Return why the node cannot take the pod: what the first filter that refuses says, or nothing."""
    for each in filters:
        if reasons := each(pod, node):
            return reasons
    return FITS
