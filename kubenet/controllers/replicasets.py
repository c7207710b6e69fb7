"""Keep as many pods as a ReplicaSet wants. *Pure.*

Counting is safe because the caller reads through its own writes (``kubenet.client.recent``): a pod made a
moment ago is among ``pods`` even when the watch has not brought it yet.

Source: Kubernetes documentation, "ReplicaSet"; kube-controller-manager pkg/controller/replicaset.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from kubenet.controllers.decision import Decision, sooner
from kubenet.controllers.pods import available_in_s, first_to_go, is_active
from kubenet.controllers.selectors import selects
from kubenet.controllers.templates import owned_by, template_json
from kubenet.model.objects import Json, Pod, ReplicaSet, ReplicaSetStatus
from kubenet.model.resources import PODS, REPLICASETS
from kubenet.model.writes import Create, Patch, Write, delete_of, patch_of

BURST = 500  # pods made or deleted in one go; the rest follows when these are done
# A generated name adds 5 characters; what is longer the API cuts, and two sets would share a prefix.
NAME_PREFIX_MOST = 58


def decide(replicaset: ReplicaSet, pods: Sequence[Pod], siblings: Iterable[Pod], now: datetime) -> Decision:
    """Return what brings the pods of ``replicaset`` to their number and its status to the truth.

    ``pods`` are those that it controls and those of its namespace that nobody controls; ``siblings`` are
    pods of the same Deployment, which only matter for the choice of whom to delete.
    """
    mine = [pod for pod in pods if pod.metadata.controller_uid == replicaset.metadata.uid]
    orphans = [pod for pod in pods if not pod.metadata.controller_uid]
    strays = [pod for pod in mine if not selects(replicaset.spec.selector, pod.metadata.labels)]
    ending = replicaset.metadata.deletion_timestamp is not None
    adopted = [] if ending else [pod for pod in orphans if is_active(pod) and _matches(replicaset, pod)]
    active = [pod for pod in mine if is_active(pod) and _matches(replicaset, pod)]
    writes: list[Write] = []
    status, again_s = _status(replicaset, active, now)
    if status != replicaset.status:
        body: Json = {"status": _status_json(status)}
        writes.append(patch_of(REPLICASETS, replicaset, body, "status"))
    if not ending:
        writes += [_release(replicaset, pod) for pod in strays if is_active(pod)]
        writes += [_adopt(replicaset, pod) for pod in adopted]
        writes += _scale(replicaset, [*active, *adopted], siblings, now)
    return Decision(tuple(writes), again_s)


def _scale(
    replicaset: ReplicaSet, active: Sequence[Pod], siblings: Iterable[Pod], now: datetime
) -> list[Write]:
    missing = replicaset.spec.replicas - len(active)
    if missing >= 0:
        return [_new_pod(replicaset)] * min(missing, BURST)
    going = first_to_go(active, siblings, now)[: min(-missing, BURST)]
    return [delete_of(PODS, pod) for pod in going]


def _new_pod(replicaset: ReplicaSet) -> Create:
    meta = replicaset.metadata
    body = template_json(replicaset.spec.template)
    metadata = body["metadata"]
    assert isinstance(metadata, dict)
    metadata |= {
        "generateName": meta.name[:NAME_PREFIX_MOST].rstrip("-.") + "-",
        "namespace": meta.namespace,
        "ownerReferences": [*owned_by(REPLICASETS, replicaset)],
    }
    return Create(PODS, meta.namespace, {"apiVersion": "v1", "kind": "Pod", **body})


def _matches(replicaset: ReplicaSet, pod: Pod) -> bool:
    same_namespace = pod.metadata.namespace == replicaset.metadata.namespace
    return same_namespace and selects(replicaset.spec.selector, pod.metadata.labels)


def _adopt(replicaset: ReplicaSet, pod: Pod) -> Patch:
    others: list[Json] = [msgspec.to_builtins(owner) for owner in pod.metadata.owner_references]
    owners: Json = {"ownerReferences": [*others, *owned_by(REPLICASETS, replicaset)]}
    return patch_of(PODS, pod, {"metadata": owners})


def _release(replicaset: ReplicaSet, pod: Pod) -> Patch:
    """Somebody has changed the pod's labels to take it out of service: let it be."""
    others = [owner for owner in pod.metadata.owner_references if owner.uid != replicaset.metadata.uid]
    left: Json = {"ownerReferences": [msgspec.to_builtins(owner) for owner in others]}
    return patch_of(PODS, pod, {"metadata": left})


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
