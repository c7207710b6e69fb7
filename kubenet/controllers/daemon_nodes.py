"""Which nodes a DaemonSet is meant for. *Pure.*

Source: Kubernetes documentation, "DaemonSet" (taints and tolerations); kube-controller-manager
pkg/controller/daemon (NodeShouldRunDaemonPod).
"""

from enum import Enum

import msgspec

from kubenet.model.objects import Node, PodSpec, Toleration
from kubenet.model.placement import means_node, required_nodes
from kubenet.model.taints import tolerates
from kubenet.model.workloads import DaemonSet

_TAINTS = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)


class DaemonPlace(Enum):
    """What a node is to a DaemonSet."""

    WANTS = "wants a pod"
    KEEPS = "keeps a pod that it has"
    REFUSES = "has no business with a pod"
    GONE = "is no node any more"

    @property
    def keeps(self) -> bool:
        return self in (DaemonPlace.WANTS, DaemonPlace.KEEPS)


def own_tolerations(spec: PodSpec) -> tuple[Toleration, ...]:
    """Return what every daemon pod tolerates: it outlives its node's troubles."""
    named = _TAINTS + ((("network-unavailable", "NoSchedule"),) if spec.host_network else ())
    return tuple(
        Toleration(key=f"node.kubernetes.io/{name}", operator="Exists", effect=effect)
        for name, effect in named
    )


def template_spec(daemonset: DaemonSet) -> PodSpec:
    """Return the pod specification of the template."""
    return msgspec.json.decode(bytes(daemonset.spec.template.spec), type=PodSpec)


def place_of(daemonset: DaemonSet, node: Node) -> DaemonPlace:
    """Return what ``node`` is to ``daemonset``: labels and affinity decide, then taints."""
    spec, meta = template_spec(daemonset), node.metadata
    named = spec.node_name in ("", meta.name)
    labelled = spec.node_selector.items() <= meta.labels.items()
    if not (named and labelled and means_node(required_nodes(spec.affinity), meta.name, meta.labels)):
        return DaemonPlace.REFUSES
    tolerations = (*spec.tolerations, *own_tolerations(spec))
    untolerated = {
        taint.effect for taint in node.spec.taints if not any(tolerates(each, taint) for each in tolerations)
    }
    if "NoExecute" in untolerated:
        return DaemonPlace.REFUSES
    return DaemonPlace.KEEPS if "NoSchedule" in untolerated else DaemonPlace.WANTS
