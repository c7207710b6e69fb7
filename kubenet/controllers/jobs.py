"""Pods that run to their end, until enough have succeeded or too many have failed. *Pure.*

What is counted is the pods that are still there, and never less than the status has said before: should
somebody delete a pod that has ended, at worst one more is run. A Job is work to be done at least once.

Source: Kubernetes documentation, "Jobs"; kube-controller-manager pkg/controller/job.
"""

from collections.abc import Sequence
from datetime import datetime

from kubenet.controllers.claims import claim
from kubenet.controllers.decision import Decision, seconds_since, sooner
from kubenet.controllers.job_pods import index_of, new_pod
from kubenet.controllers.job_status import Verdict, is_finished, status_of
from kubenet.controllers.job_tally import Tally, tally_of
from kubenet.controllers.pods import first_to_go
from kubenet.model.objects import Pod
from kubenet.model.resources import BY_PLURAL_KEPT, PODS
from kubenet.model.workloads import Job
from kubenet.model.writes import Write, delete_of, patch_of

JOBS = BY_PLURAL_KEPT["jobs"]
FIRST_DELAY_S, MOST_DELAY_S = 10.0, 600.0  # before a pod takes the place of one that failed


def decide(job: Job, pods: Sequence[Pod], now: datetime) -> Decision:
    """Return which pods to make or end, and the status.

    ``pods`` are those that the Job controls and those of its namespace that nobody controls.
    """
    if job.metadata.deletion_timestamp is not None:
        return Decision()
    claimed = claim(JOBS, job, job.spec.selector, pods)
    tally = tally_of(job, claimed.mine)
    if is_finished(job):
        gone, again_s = _forgotten(job, now)
        return Decision((*claimed.writes, *_ended(tally), *gone), again_s)
    verdict, due_s = _verdict(job, tally, now)
    writes: list[Write] = []
    if (status := status_of(job, tally, verdict, now)) is not None:
        writes.append(patch_of(JOBS, job, {"status": status}, "status"))
    if verdict is not Verdict.GOES_ON:
        return Decision((*writes, *claimed.writes, *_ended(tally)), due_s)
    steps, again_s = _steps(job, tally, now)
    return Decision((*writes, *claimed.writes, *steps), sooner(due_s, again_s))


def _verdict(job: Job, tally: Tally, now: datetime) -> tuple[Verdict, float | None]:
    """Return how the Job stands, and when its deadline changes that."""
    spec = job.spec
    if tally.is_enough(job):
        return Verdict.COMPLETE, None
    if tally.failed + tally.restarts > spec.backoff_limit:
        return Verdict.TOO_MANY_FAILURES, None
    if spec.suspend:
        return Verdict.SUSPENDED, None
    if spec.active_deadline_seconds is None or not job.status.start_time:
        return Verdict.GOES_ON, None
    left_s = spec.active_deadline_seconds - seconds_since(job.status.start_time, now)
    return (Verdict.GOES_ON, left_s) if left_s > 0 else (Verdict.TOO_LATE, None)


def _ended(tally: Tally) -> list[Write]:
    return [delete_of(PODS, pod) for pod in tally.active]


def _forgotten(job: Job, now: datetime) -> tuple[list[Write], float | None]:
    """Return the deletion of a finished Job whose time to live is over, or how long that is yet."""
    if job.spec.ttl_seconds_after_finished is None:
        return [], None
    ended = next(c.last_transition_time for c in job.status.conditions if c.type in ("Complete", "Failed"))
    left_s = job.spec.ttl_seconds_after_finished - seconds_since(ended, now)
    return ([delete_of(JOBS, job)], None) if left_s <= 0 else ([], left_s)


def _steps(job: Job, tally: Tally, now: datetime) -> tuple[list[Write], float | None]:
    """Return the pods to make or to end, and when pods that failed may be replaced."""
    too_many = len(tally.active) - _wanted(job, tally)
    if too_many > 0:
        going = first_to_go(tally.active, tally.active, now)[:too_many]
        return [delete_of(PODS, pod) for pod in going], None
    # One that is ending still runs: its place is taken only when it is gone.
    missing = -too_many - len(tally.ending)
    if missing <= 0:
        return [], None
    if (left_s := _delay_s(tally, now)) > 0:
        return [], left_s
    if job.spec.completion_mode != "Indexed":
        return [new_pod(JOBS, job, None)] * missing, None
    taken = {index_of(pod) for pod in (*tally.active, *tally.ending)} | tally.indexes
    free = [index for index in range(job.spec.completions or 0) if index not in taken]
    return [new_pod(JOBS, job, index) for index in free[:missing]], None


def _wanted(job: Job, tally: Tally) -> int:
    """Return how many pods should be at work."""
    spec = job.spec
    if spec.completions is None:  # the first success says that the work is done: nobody new starts
        return len(tally.active) if tally.succeeded else spec.parallelism
    return min(spec.parallelism, spec.completions - tally.succeeded)


def _delay_s(tally: Tally, now: datetime) -> float:
    """Return how long to wait yet after failures: twice as long for each."""
    if not tally.failed_at:
        return 0.0
    delay_s = min(MOST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(len(tally.failed_at) - 1, 10))
    return delay_s - seconds_since(max(tally.failed_at), now)
