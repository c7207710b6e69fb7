"""Pods with names of their own, made and ended in order, and updated from the highest down. *Pure.*

A pod's name is its identity: web-1 is made again only when the old web-1 is gone, wherever it ran, since two
of them at once could write the same data. In order, nothing is made, ended or updated as long as some other
pod is not available.

Source: Kubernetes documentation, "StatefulSets"; kube-controller-manager pkg/controller/statefulset.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from kubenet.controllers.claims import claim
from kubenet.controllers.decision import Decision, sooner
from kubenet.controllers.pods import available_in_s
from kubenet.controllers.revisions import (
    HASH_LABEL,
    History,
    forgotten,
    history_of,
    kept,
    revision_name,
    template_in,
)
from kubenet.controllers.stateful_pods import new_pod, ordinal_of
from kubenet.controllers.stateful_status import Revisions, status_of
from kubenet.model.objects import Pod, PodTemplate
from kubenet.model.resources import BY_PLURAL_KEPT, PODS
from kubenet.model.workloads import ControllerRevision, StatefulSet
from kubenet.model.writes import Write, delete_of, patch_of

STATEFULSETS = BY_PLURAL_KEPT["statefulsets"]


@dataclass(frozen=True, slots=True)
class Members:
    """The pods of a StatefulSet by ordinal, and which of them are available."""

    wanted: range
    pods: Mapping[int, Pod]
    available: frozenset[int]

    @property
    def condemned(self) -> list[int]:
        """Ordinals that should not be, the highest first."""
        return sorted((ordinal for ordinal in self.pods if ordinal not in self.wanted), reverse=True)

    def is_going(self, ordinal: int) -> bool:
        return self.pods[ordinal].metadata.deletion_timestamp is not None

    def is_over(self, ordinal: int) -> bool:
        return self.pods[ordinal].status.phase in ("Succeeded", "Failed")


def decide(
    statefulset: StatefulSet, pods: Sequence[Pod], revisions: Iterable[ControllerRevision], now: datetime
) -> Decision:
    """Return the next step towards the wanted pods, and the status.

    ``pods`` and ``revisions`` are those that the StatefulSet controls and those of its namespace that nobody
    controls; of the latter only those that bear one of its names are taken up.
    """
    named = [pod for pod in pods if ordinal_of(statefulset, pod) is not None]
    claimed = claim(STATEFULSETS, statefulset, statefulset.spec.selector, named)
    history = history_of(STATEFULSETS, statefulset, revisions)
    members, again_s = _members(statefulset, claimed.mine, now)
    versions = _versions(statefulset, history)
    status = status_of(statefulset, list(members.pods.values()), len(members.available), versions)
    writes: list[Write] = []
    if status is not None:
        writes.append(patch_of(STATEFULSETS, statefulset, {"status": status}, "status"))
    if statefulset.metadata.deletion_timestamp is not None:
        return Decision(tuple(writes))
    if unsaid := kept(history, statefulset.spec.template):
        return Decision((*writes, *claimed.writes, *unsaid), 0.0)
    steps = _steps(statefulset, members, versions, history)
    in_use = {pod.metadata.labels.get(HASH_LABEL, "") for pod in claimed.mine}
    spared = {name.removeprefix(f"{statefulset.metadata.name}-") for name in (*in_use, *versions.names)}
    old = forgotten(history, spared, statefulset.spec.revision_history_limit)
    return Decision((*writes, *claimed.writes, *steps, *old), again_s)


def _members(statefulset: StatefulSet, pods: Iterable[Pod], now: datetime) -> tuple[Members, float | None]:
    """Return the members, and when another one becomes available."""
    start = statefulset.spec.ordinals.start
    by_ordinal = {}
    available: set[int] = set()
    again_s: float | None = None
    for pod in pods:
        if (ordinal := ordinal_of(statefulset, pod)) is None:
            continue
        by_ordinal[ordinal] = pod
        wait_s = available_in_s(pod, statefulset.spec.min_ready_seconds, now)
        if wait_s == 0.0 and pod.metadata.deletion_timestamp is None:
            available.add(ordinal)
        again_s = sooner(again_s, wait_s or None)
    wanted = range(start, start + statefulset.spec.replicas)
    return Members(wanted, dict(sorted(by_ordinal.items())), frozenset(available)), again_s


def _versions(statefulset: StatefulSet, history: History) -> Revisions:
    update = revision_name(statefulset, statefulset.spec.template)
    names = {each.metadata.name for each in history.kept}
    current = statefulset.status.current_revision
    return Revisions(current if current in names else update, update)


def _steps(
    statefulset: StatefulSet, members: Members, versions: Revisions, history: History
) -> Sequence[Write]:
    in_order = statefulset.spec.pod_management_policy != "Parallel"
    wanted: list[Write] = []
    for ordinal in members.wanted:
        step = _kept_up(statefulset, members, ordinal, versions, history)
        wanted += step
        if in_order and (step or ordinal not in members.available):
            return [*wanted, *_first_condemned_unwell(members)]
    if gone := _condemned(members, in_order=in_order):
        return [*wanted, *gone]
    if wanted or members.condemned or statefulset.spec.update_strategy.type != "RollingUpdate":
        return wanted
    return _updated(statefulset, members, versions)


def _kept_up(
    statefulset: StatefulSet, members: Members, ordinal: int, versions: Revisions, history: History
) -> list[Write]:
    """Return what makes one wanted pod be there: made if it is not, deleted if it has ended."""
    pod = members.pods.get(ordinal)
    if pod is None:
        name = versions.of_ordinal(statefulset, ordinal)
        return [new_pod(STATEFULSETS, statefulset, ordinal, _template(statefulset, history, name), name)]
    if members.is_over(ordinal) and not members.is_going(ordinal):
        return [delete_of(PODS, pod)]
    return []


def _template(statefulset: StatefulSet, history: History, name: str) -> PodTemplate:
    if name == revision_name(statefulset, statefulset.spec.template):
        return statefulset.spec.template
    return next(template_in(each) for each in history.kept if each.metadata.name == name)


def _first_condemned_unwell(members: Members) -> list[Write]:
    """A pod that should not be and has ended may go at once: nobody counts on it."""
    return [
        delete_of(PODS, members.pods[ordinal])
        for ordinal in members.condemned
        if members.is_over(ordinal) and not members.is_going(ordinal)
    ]


def _condemned(members: Members, *, in_order: bool) -> list[Write]:
    """Return the deletion of pods that should not be: all of them, or in order the highest."""
    if not in_order:
        staying = [each for each in members.condemned if not members.is_going(each)]
        return [delete_of(PODS, members.pods[each]) for each in staying]
    if not members.condemned or any(members.is_going(each) for each in members.condemned):
        return []
    unwell = [each for each in members.condemned if each not in members.available]
    # One that is not available holds up the others until it is, or is the one to go.
    highest = members.condemned[0]
    return [] if unwell and unwell[-1] != highest else [delete_of(PODS, members.pods[highest])]


def _updated(statefulset: StatefulSet, members: Members, versions: Revisions) -> list[Write]:
    """Return the deletion of the highest pod that is not of the new template, if all others are well.

    One that is not available goes before those that are: it serves nobody.
    """
    partition = statefulset.spec.update_strategy.rolling_update.partition
    meant = [each for each in reversed(members.wanted) if each >= partition]
    if any(members.is_going(each) for each in meant):
        return []
    unwell = [each for each in meant if each not in members.available]
    labels = {each: members.pods[each].metadata.labels.get(HASH_LABEL) for each in meant}
    outdated = [each for each in unwell or meant if labels[each] != versions.update]
    return [delete_of(PODS, members.pods[each]) for each in outdated[:1]]
