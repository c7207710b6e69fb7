"""How the pods of a Job have fared. *Pure.*

Source: Kubernetes documentation, "Jobs" (completion mode, pod back-off failure policy).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kubenet.controllers.job_pods import index_of, parse_indexes
from kubenet.model.objects import Pod
from kubenet.model.workloads import Job


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts, and the pods that still run."""

    active: tuple[Pod, ...]
    ending: tuple[Pod, ...]
    succeeded: int
    failed: int
    indexes: frozenset[int]  # of an Indexed job, those that have succeeded
    restarts: int  # of containers that start again within their pod
    failed_at: tuple[str, ...]  # when each pod that failed did so

    def is_enough(self, job: Job) -> bool:
        """Whether the work is done."""
        if job.spec.completions is None:
            return self.succeeded > 0 and not self.active and not self.ending
        return self.succeeded >= job.spec.completions


def tally_of(job: Job, pods: Sequence[Pod]) -> Tally:
    """Count ``pods``, which are all of the Job's."""
    done = [pod for pod in pods if pod.status.phase == "Succeeded"]
    # One that was told to go, by us or by a drain, did not fail.
    gone = [pod for pod in pods if pod.metadata.deletion_timestamp is not None]
    failed = [pod for pod in pods if pod.status.phase == "Failed" and pod not in gone]
    running = [pod for pod in pods if pod.status.phase not in ("Succeeded", "Failed")]
    active = tuple(pod for pod in running if pod.metadata.deletion_timestamp is None)
    indexes: frozenset[int] = frozenset()
    succeeded = max(job.status.succeeded, len(done))
    if job.spec.completion_mode == "Indexed":
        most = range(job.spec.completions or 0)
        before = parse_indexes(job.status.completed_indexes)
        indexes = frozenset(each for each in (before | {index_of(pod) for pod in done}) if each in most)
        succeeded = len(indexes)
    restarts = sum(each.restart_count for pod in active for each in pod.status.container_statuses)
    return Tally(
        active=active,
        ending=tuple(pod for pod in running if pod not in active),
        succeeded=succeeded,
        failed=max(job.status.failed, len(failed)),
        indexes=indexes,
        restarts=restarts,
        failed_at=tuple(_ended_at(pod) for pod in failed),
    )


def _ended_at(pod: Pod) -> str:
    """Return when a pod ended: its Ready condition changed last then, if it ever was ready."""
    changed = [each.last_transition_time or "" for each in pod.status.conditions]
    return max([*changed, pod.metadata.creation_timestamp or ""])
