"""Keep as many pods as a ReplicaSet wants. *Pure.*

Counting is safe because the caller reads through its own writes (``kubenet.client.recent``): a pod made a
moment ago is among ``pods`` even when the watch has not brought it yet.

Source: Kubernetes documentation, "ReplicaSet"; kube-controller-manager pkg/controller/replicaset.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from kubenet.controllers.claims import claim
from kubenet.controllers.decision import Decision, sooner
from kubenet.controllers.pods import available_in_s, first_to_go, is_active
from kubenet.controllers.templates import named_pod
from kubenet.model.objects import Json, Pod, ReplicaSet, ReplicaSetStatus
from kubenet.model.resources import PODS, REPLICASETS, Resource
from kubenet.model.writes import Create, Write, delete_of, patch_of

BURST = 500  # pods made or deleted in one go; the rest follows when these are done


def decide(
    replicaset: ReplicaSet,
    pods: Sequence[Pod],
    siblings: Iterable[Pod],
    now: datetime,
    resource: Resource = REPLICASETS,
) -> Decision:
    """Return what brings the pods of ``replicaset`` to their number and its status to the truth.

    ``pods`` are those that it controls and those of its namespace that nobody controls; ``siblings`` are
    pods of the same Deployment, which only matter for the choice of whom to delete. ``resource`` says
    what the ReplicaSet is really called: a ReplicationController wants the same.
    """
    claimed = claim(resource, replicaset, replicaset.spec.selector, pods)
    ending = replicaset.metadata.deletion_timestamp is not None
    # An orphan counts in the status only when it is ours.
    uid = replicaset.metadata.uid
    active = [pod for pod in claimed.mine if is_active(pod) and pod.metadata.controller_uid == uid]
    writes: list[Write] = []
    status, again_s = _status(replicaset, active, now)
    if status != replicaset.status:
        body: Json = {"status": _status_json(status)}
        writes.append(patch_of(resource, replicaset, body, "status"))
    if not ending:
        writes += claimed.writes
        writes += _scale(resource, replicaset, [pod for pod in claimed.mine if is_active(pod)], siblings, now)
    return Decision(tuple(writes), again_s)


def _scale(
    resource: Resource,
    replicaset: ReplicaSet,
    active: Sequence[Pod],
    siblings: Iterable[Pod],
    now: datetime,
) -> list[Write]:
    missing = replicaset.spec.replicas - len(active)
    if missing >= 0:
        return [_new_pod(resource, replicaset)] * min(missing, BURST)
    going = first_to_go(active, siblings, now)[: min(-missing, BURST)]
    return [delete_of(PODS, pod) for pod in going]


def _new_pod(resource: Resource, replicaset: ReplicaSet) -> Create:
    body = named_pod(resource, replicaset, replicaset.spec.template)
    return Create(PODS, replicaset.metadata.namespace, body)


def _status(
    replicaset: ReplicaSet, active: Sequence[Pod], now: datetime
) -> tuple[ReplicaSetStatus, float | None]:
    """Return the status, and when a ready pod will count as available."""
    waits = [available_in_s(pod, replicaset.spec.min_ready_seconds, now) for pod in active]
    template_labels = replicaset.spec.template.metadata.labels.items()
    again_s: float | None = None
    for wait_s in waits:
        again_s = sooner(again_s, wait_s or None)
    status = ReplicaSetStatus(
        replicas=len(active),
        fully_labeled_replicas=sum(template_labels <= pod.metadata.labels.items() for pod in active),
        ready_replicas=sum(pod.ready for pod in active),
        available_replicas=sum(wait_s == 0.0 for wait_s in waits),
        observed_generation=replicaset.metadata.generation,
    )
    return status, again_s


def _status_json(status: ReplicaSetStatus) -> Json:
    """All fields, zeros too: a merge patch leaves alone what it does not name."""
    return {
        "replicas": status.replicas,
        "fullyLabeledReplicas": status.fully_labeled_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "observedGeneration": status.observed_generation,
    }
