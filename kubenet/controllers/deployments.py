"""One ReplicaSet for every template a Deployment has had, and a way from each to the next. *Pure.*

A ReplicaSet's name holds the hash of its template, so two tries to make it meet in one name; every change of
size carries the resourceVersion it was decided on, so a decision on an old state is refused, not carried out.

Source: Kubernetes documentation, "Deployments"; kube-controller-manager pkg/controller/deployment.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from kubenet.controllers.decision import Decision
from kubenet.controllers.deployment_status import status_of
from kubenet.controllers.rollout import new_set_size, old_set_sizes, room
from kubenet.controllers.selectors import selects
from kubenet.controllers.templates import (
    HASH_LABEL,
    owned_by,
    selector_json,
    template_hash,
    template_json,
    template_key,
)
from kubenet.model.objects import Deployment, Json, Pod, ReplicaSet
from kubenet.model.resources import DEPLOYMENTS, REPLICASETS
from kubenet.model.writes import Create, Write, delete_of, patch_of

REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"


@dataclass(frozen=True, slots=True)
class Sets:
    """The ReplicaSets of a Deployment: the one of its present template, if there is one, and the others."""

    new: ReplicaSet | None
    old: tuple[ReplicaSet, ...]

    @property
    def all(self) -> tuple[ReplicaSet, ...]:
        return (self.new, *self.old) if self.new else self.old


def decide(
    deployment: Deployment, replicasets: Sequence[ReplicaSet], pods: Iterable[Pod], now: datetime
) -> Decision:
    """Return the next step towards the Deployment's template and number, and its status.

    ``replicasets`` are those that it controls and those of its namespace that nobody controls; ``pods`` are
    theirs, those that are ending included. No object is written twice in one step: the second write would be
    refused, since the first has made a new version.
    """
    if deployment.metadata.deletion_timestamp is not None:
        return Decision()
    if orphans := [each for each in replicasets if _is_lost(deployment, each)]:
        return Decision(tuple(_adoption(deployment, each) for each in orphans))
    sets = _sorted_out(deployment, replicasets)
    status, again_s = status_of(deployment, sets.new, sets.all, now)
    revision = _next_revision(sets)
    own: list[Write] = []
    if status is not None:
        own.append(patch_of(DEPLOYMENTS, deployment, {"status": status}, "status"))
    elif sets.new and deployment.metadata.annotations.get(REVISION) != str(revision):
        note: Json = {"annotations": {REVISION: str(revision)}}
        own.append(patch_of(DEPLOYMENTS, deployment, {"metadata": note}))
    return Decision((*own, *_steps(deployment, sets, list(pods), revision)), again_s)


def _is_lost(deployment: Deployment, replicaset: ReplicaSet) -> bool:
    """Whether a ReplicaSet without a controller is one of ours, left by an earlier Deployment of the name."""
    meta = replicaset.metadata
    alive = meta.deletion_timestamp is None and not meta.controller_uid
    return alive and selects(deployment.spec.selector, meta.labels)


def _adoption(deployment: Deployment, replicaset: ReplicaSet) -> Write:
    others: list[Json] = [msgspec.to_builtins(owner) for owner in replicaset.metadata.owner_references]
    owners: Json = {"ownerReferences": [*others, *owned_by(DEPLOYMENTS, deployment)]}
    return patch_of(REPLICASETS, replicaset, {"metadata": owners})


def _sorted_out(deployment: Deployment, replicasets: Iterable[ReplicaSet]) -> Sets:
    mine = sorted(
        (
            each
            for each in replicasets
            if each.metadata.controller_uid == deployment.metadata.uid
            and each.metadata.deletion_timestamp is None
        ),
        key=lambda each: (each.metadata.creation_timestamp or "", each.metadata.name),
    )
    wanted = template_key(deployment.spec.template)
    new = next((each for each in mine if template_key(each.spec.template) == wanted), None)
    return Sets(new, tuple(each for each in mine if each is not new))


def _steps(deployment: Deployment, sets: Sets, pods: Sequence[Pod], revision: int) -> list[Write]:
    if deployment.spec.paused:
        return _resized(deployment, sets, _paused_sizes(deployment, sets))
    if deployment.spec.strategy.type == "Recreate" and _old_ones_linger(sets, pods):
        return _resized(deployment, sets, {each.metadata.key: 0 for each in sets.old})
    if sets.new is None:
        size = new_set_size(deployment, 0, sets.all)
        return [_new_set(deployment, size, revision)]
    if renumbered := _renumbered(deployment, sets.new, revision):
        return renumbered
    size = new_set_size(deployment, sets.new.spec.replicas, sets.all)
    if size != sets.new.spec.replicas:
        sizes = {sets.new.metadata.key: size}
    else:
        sizes = dict(old_set_sizes(deployment, sets.new, sets.old))
    return [*_resized(deployment, sets, sizes), *_forgotten(deployment, sets)]


def _old_ones_linger(sets: Sets, pods: Sequence[Pod]) -> bool:
    """Whether something of an old template still runs or will: Recreate waits for its very end."""
    uids = {each.metadata.uid for each in sets.old}
    lingering = any(
        pod.metadata.controller_uid in uids and pod.status.phase not in ("Succeeded", "Failed")
        for pod in pods
    )
    return lingering or any(each.spec.replicas or each.status.replicas for each in sets.old)


def _paused_sizes(deployment: Deployment, sets: Sets) -> dict[str, int]:
    """Paused, only the number is followed: by the newest set that has pods, or the newest of all."""
    busy = [each for each in sets.all if each.spec.replicas] or list(sets.all)
    if not busy:
        return {}
    newest = max(busy, key=_revision)
    others = sum(each.spec.replicas for each in sets.all if each is not newest)
    return {newest.metadata.key: max(0, deployment.spec.replicas - others)}


def _resized(deployment: Deployment, sets: Sets, sizes: dict[str, int]) -> list[Write]:
    changed = [(each, sizes[each.metadata.key]) for each in sets.all if each.metadata.key in sizes]
    notes: Json = {"annotations": {**_size_notes(deployment)}}
    return [
        patch_of(REPLICASETS, each, {"metadata": notes, "spec": {"replicas": size}})
        for each, size in changed
        if size != each.spec.replicas
    ]


def _new_set(deployment: Deployment, size: int, revision: int) -> Create:
    meta, template = deployment.metadata, deployment.spec.template
    label = {HASH_LABEL: template_hash(template)}
    metadata: Json = {
        "name": f"{meta.name}-{label[HASH_LABEL]}",
        "namespace": meta.namespace,
        "labels": {**template.metadata.labels, **label},
        "annotations": {REVISION: str(revision), **_size_notes(deployment)},
        "ownerReferences": [*owned_by(DEPLOYMENTS, deployment)],
    }
    spec: Json = {
        "replicas": size,
        "minReadySeconds": deployment.spec.min_ready_seconds,
        "selector": selector_json(deployment.spec.selector, **label),
        "template": template_json(template, **label),
    }
    body: Json = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec}
    return Create(REPLICASETS, meta.namespace, body)


def _size_notes(deployment: Deployment) -> dict[str, str]:
    wanted = deployment.spec.replicas
    return {DESIRED: str(wanted), MOST: str(wanted + room(deployment).surge)}


def _revision(replicaset: ReplicaSet) -> int:
    text = replicaset.metadata.annotations.get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def _next_revision(sets: Sets) -> int:
    """Return the newest set's number: above all others, as a template rolled back to is newest again."""
    highest_old = max((_revision(each) for each in sets.old), default=0)
    have = _revision(sets.new) if sets.new else 0
    return have if have > highest_old else highest_old + 1


def _renumbered(deployment: Deployment, new: ReplicaSet, revision: int) -> list[Write]:
    changes: Json = {}
    if _revision(new) != revision:
        changes["metadata"] = {"annotations": {REVISION: str(revision)}}
    if new.spec.min_ready_seconds != deployment.spec.min_ready_seconds:
        changes["spec"] = {"minReadySeconds": deployment.spec.min_ready_seconds}
    return [patch_of(REPLICASETS, new, changes)] if changes else []


def _forgotten(deployment: Deployment, sets: Sets) -> list[Write]:
    """Delete the oldest empty sets beyond the history limit, once everything runs on the new one."""
    new, wanted = sets.new, deployment.spec.replicas
    if new is None or new.status.available_replicas < wanted or any(each.spec.replicas for each in sets.old):
        return []
    empty = [each for each in sets.old if not each.status.replicas]
    too_many = len(sets.old) - deployment.spec.revision_history_limit
    return [delete_of(REPLICASETS, each) for each in sorted(empty, key=_revision)[: max(0, too_many)]]
