"""What a StatefulSet says about itself, and which of its two templates is whose. *Pure.*

Source: Kubernetes API reference, StatefulSetStatus; "StatefulSets" (partitioned rolling updates).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kubenet.controllers.revisions import HASH_LABEL
from kubenet.model.objects import Json, Pod
from kubenet.model.workloads import StatefulSet, StatefulSetStatus


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revision that an update comes from, and the one that it goes to; equal when there is none."""

    current: str
    update: str

    @property
    def names(self) -> tuple[str, str]:
        return self.current, self.update

    def of_ordinal(self, statefulset: StatefulSet, ordinal: int) -> str:
        """Return the revision that a pod is made of: below the partition the one before the update."""
        update = statefulset.spec.update_strategy
        partition = update.rolling_update.partition if update.type == "RollingUpdate" else 0
        return self.current if ordinal < partition else self.update


def status_of(
    statefulset: StatefulSet, pods: Sequence[Pod], available: int, revisions: Revisions
) -> Json | None:
    """Return the status to write, None if it stands already."""
    alive = [pod for pod in pods if pod.metadata.deletion_timestamp is None]
    labels = [pod.metadata.labels.get(HASH_LABEL) for pod in alive]
    wanted, updated = statefulset.spec.replicas, labels.count(revisions.update)
    ready = sum(pod.ready for pod in alive)
    rolling = statefulset.spec.update_strategy.type == "RollingUpdate"
    complete = rolling and updated == ready == len(pods) == wanted
    current = revisions.update if complete else revisions.current
    want = StatefulSetStatus(
        replicas=len(pods),
        ready_replicas=ready,
        available_replicas=available,
        current_replicas=labels.count(current),
        updated_replicas=updated,
        current_revision=current,
        update_revision=revisions.update,
        observed_generation=statefulset.metadata.generation,
    )
    return None if want == statefulset.status else _json(want)


def _json(status: StatefulSetStatus) -> Json:
    """All fields, zeros too: a merge patch leaves alone what it does not name."""
    return {
        "replicas": status.replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "currentReplicas": status.current_replicas,
        "updatedReplicas": status.updated_replicas,
        "currentRevision": status.current_revision,
        "updateRevision": status.update_revision,
        "observedGeneration": status.observed_generation,
    }
