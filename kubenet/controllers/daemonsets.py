"""One pod of a DaemonSet on every node that is meant, and a way from each template to the next. *Pure.*

Each pod is made for one node, which it names in its affinity; the scheduler binds it there as any other pod.
A node never gets a second pod before the first is gone, so that host ports do not clash, unless the update
surges: then the new pod comes first, and the old one goes when it is available.

Source: Kubernetes documentation, "DaemonSet", "Perform a Rolling Update on a DaemonSet";
kube-controller-manager pkg/controller/daemon.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from kubenet.controllers.claims import claim
from kubenet.controllers.daemon_nodes import DaemonPlace, place_of
from kubenet.controllers.daemon_pods import new_pod, node_of
from kubenet.controllers.daemon_status import status_of
from kubenet.controllers.decision import Decision, seconds_since, sooner
from kubenet.controllers.pods import available_in_s
from kubenet.controllers.revisions import HASH_LABEL, forgotten, history_of, kept
from kubenet.controllers.rollout import share
from kubenet.controllers.templates import template_hash
from kubenet.model.objects import Node, Pod
from kubenet.model.resources import BY_PLURAL_KEPT, PODS
from kubenet.model.workloads import ControllerRevision, DaemonSet
from kubenet.model.writes import Write, delete_of, patch_of

DAEMONSETS = BY_PLURAL_KEPT["daemonsets"]
FAILED_LEAST_S = 10.0  # a pod that a node refuses again and again is made anew no more often


@dataclass(frozen=True, slots=True)
class OnNode:
    """What a DaemonSet has on one node, and whether it should."""

    node_name: str
    place: DaemonPlace
    new: tuple[Pod, ...]  # of the present template; neither finished nor told to go
    old: tuple[Pod, ...]
    over: tuple[Pod, ...]  # finished, not yet told to go
    going: tuple[Pod, ...]

    @property
    def pods(self) -> tuple[Pod, ...]:
        return self.new + self.old


def decide(
    daemonset: DaemonSet,
    nodes: Iterable[Node],
    pods: Sequence[Pod],
    revisions: Iterable[ControllerRevision],
    now: datetime,
) -> Decision:
    """Return what brings each node to its pod, the next step of an update, and the status.

    ``pods`` and ``revisions`` are those that the DaemonSet controls and those of its namespace that nobody
    controls.
    """
    claimed = claim(DAEMONSETS, daemonset, daemonset.spec.selector, pods)
    places = _places(daemonset, nodes, claimed.mine)
    status, again_s = status_of(daemonset, places, now)
    writes: list[Write] = []
    if status is not None:
        writes.append(patch_of(DAEMONSETS, daemonset, {"status": status}, "status"))
    if daemonset.metadata.deletion_timestamp is not None:
        return Decision(tuple(writes))
    history = history_of(DAEMONSETS, daemonset, revisions)
    if unsaid := kept(history, daemonset.spec.template):
        return Decision((*writes, *claimed.writes, *unsaid), 0.0)
    steps = _update(daemonset, places, now) if daemonset.spec.update_strategy.type == "RollingUpdate" else []
    held, due_s = _held(daemonset, places, now)
    in_use = {pod.metadata.labels.get(HASH_LABEL, "") for pod in claimed.mine}
    in_use.add(template_hash(daemonset.spec.template))
    old = forgotten(history, in_use, daemonset.spec.revision_history_limit)
    return Decision((*writes, *claimed.writes, *held, *steps, *old), sooner(again_s, due_s))


def _places(daemonset: DaemonSet, nodes: Iterable[Node], pods: Sequence[Pod]) -> list[OnNode]:
    """Return all nodes, and those that are gone but still named by a pod, ordered by name."""
    wanted = template_hash(daemonset.spec.template)
    by_node: dict[str, list[Pod]] = {}
    for pod in sorted(pods, key=_by_age):
        by_node.setdefault(node_of(pod), []).append(pod)
    places = {node.metadata.name: place_of(daemonset, node) for node in nodes}
    return [
        _on_node(name, places.get(name, DaemonPlace.GONE), by_node.get(name, []), wanted)
        for name in sorted({*places, *by_node})
    ]


def _on_node(name: str, place: DaemonPlace, pods: Sequence[Pod], wanted: str) -> OnNode:
    going = tuple(pod for pod in pods if pod.metadata.deletion_timestamp is not None)
    over = tuple(pod for pod in pods if pod not in going and pod.status.phase in ("Succeeded", "Failed"))
    live = [pod for pod in pods if pod not in going and pod not in over]
    new = tuple(pod for pod in live if pod.metadata.labels.get(HASH_LABEL) == wanted)
    # The one that serves first: whatever else is too many.
    old = sorted((pod for pod in live if pod not in new), key=lambda pod: not pod.ready)
    return OnNode(name, place, new, tuple(old), over, going)


def _held(daemonset: DaemonSet, places: Sequence[OnNode], now: datetime) -> tuple[list[Write], float | None]:
    """Return the pods to make where one lacks, and to delete where one is too many."""
    made: list[Write] = []
    gone: list[Pod] = []
    again_s: float | None = None
    for each in places:
        if each.place in (DaemonPlace.REFUSES, DaemonPlace.GONE):
            gone += each.pods + each.over
            continue
        for pod in each.over:
            left_s = FAILED_LEAST_S - seconds_since(pod.metadata.creation_timestamp, now)
            if left_s <= 0:
                gone.append(pod)
            else:
                again_s = sooner(again_s, left_s)
        gone += [*each.new[1:], *each.old[1:]]
        if each.place is DaemonPlace.WANTS and not (each.pods or each.over or each.going):
            made.append(new_pod(DAEMONSETS, daemonset, each.node_name))
    return [*made, *(delete_of(PODS, pod) for pod in gone)], again_s


def _update(daemonset: DaemonSet, places: Sequence[OnNode], now: datetime) -> list[Write]:
    """Return the next step of a rolling update over the nodes that are meant."""
    meant = [each for each in places if each.place is not DaemonPlace.GONE and each.place.keeps]
    rolling = daemonset.spec.update_strategy.rolling_update
    surge = share(rolling.max_surge, len(meant))
    if surge:
        return _surge(daemonset, meant, surge, now)
    most = max(1, share(rolling.max_unavailable, len(meant)))
    serving = [each for each in meant if any(_available(daemonset, pod, now) for pod in each.pods)]
    useless = [each.old[0] for each in meant if each.old and each not in serving]
    room = most - (len(meant) - len(serving))
    outdated = [each.old[0] for each in serving if each.old]
    return [delete_of(PODS, pod) for pod in (*useless, *outdated[: max(0, room)])]


def _surge(daemonset: DaemonSet, meant: Sequence[OnNode], surge: int, now: datetime) -> list[Write]:
    """Return the new pods to make beside old ones, and the old ones whose successor is available."""
    done = [each for each in meant if each.old and each.new and _available(daemonset, each.new[0], now)]
    # Two old ones are a surge too: the template has changed again in its middle.
    under_way = sum(len(each.pods) > 1 for each in meant)
    waiting = [each for each in meant if each.old and not each.new and not each.going]
    begun = waiting[: max(0, surge - under_way)]
    made = [new_pod(DAEMONSETS, daemonset, each.node_name) for each in begun]
    return [*made, *(delete_of(PODS, pod) for each in done for pod in each.old)]


def _available(daemonset: DaemonSet, pod: Pod, now: datetime) -> bool:
    return available_in_s(pod, daemonset.spec.min_ready_seconds, now) == 0.0


def _by_age(pod: Pod) -> tuple[bool, str, str]:
    """Pods that have their node first: of two on one node the one that waits goes."""
    return (not pod.spec.node_name, pod.metadata.creation_timestamp or "", pod.metadata.name)
