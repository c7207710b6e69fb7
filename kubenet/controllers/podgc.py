"""Pods that nobody will ever end: their node is gone, or they ended before they had one. *Pure.*

Source: kube-controller-manager pkg/controller/podgc.
"""

from collections.abc import Collection, Iterable, Mapping

from kubenet.controllers.decision import Decision, sooner
from kubenet.model.objects import Pod
from kubenet.model.resources import PODS
from kubenet.model.writes import Write, delete_of

# A node object may be deleted and made again while its node runs on; pods survive that.
GONE_LEAST_S = 40.0


def missing_since(
    before: Mapping[str, float], pods: Iterable[Pod], nodes: Collection[str], now_s: float
) -> dict[str, float]:
    """Return since when nodes that pods name have been missing, given what was known ``before``."""
    named = {pod.spec.node_name for pod in pods if pod.spec.node_name}
    return {name: before.get(name, now_s) for name in named if name not in nodes}


def decide(pods: Iterable[Pod], missing: Mapping[str, float], now_s: float) -> Decision:
    """Return the deletions; ``missing`` says since when nodes have been gone."""
    writes: list[Write] = []
    again_s: float | None = None
    for pod in pods:
        node = pod.spec.node_name
        if not node and pod.metadata.deletion_timestamp is not None:
            writes.append(delete_of(PODS, pod, grace_s=0))
        elif node in missing:
            left_s = GONE_LEAST_S - (now_s - missing[node])
            if left_s <= 0:
                writes.append(delete_of(PODS, pod, grace_s=0))
            else:
                again_s = sooner(again_s, left_s)
    return Decision(tuple(writes), again_s)
