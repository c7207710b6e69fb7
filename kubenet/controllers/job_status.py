"""What a Job says about itself. *Pure.*

Source: Kubernetes documentation, "Jobs" (terminal conditions); API reference, JobStatus.
"""

from datetime import datetime
from enum import Enum

import msgspec

from kubenet.clock import rfc3339
from kubenet.controllers.job_pods import write_indexes
from kubenet.controllers.job_tally import Tally
from kubenet.model.objects import Condition, Json
from kubenet.model.workloads import Job, JobStatus


class Verdict(Enum):
    """How a Job stands: the conditions before and at the end, their reason and message."""

    GOES_ON = ("", "", "", "")
    SUSPENDED = ("", "", "JobSuspended", "Job suspended")
    COMPLETE = (
        "SuccessCriteriaMet",
        "Complete",
        "CompletionsReached",
        "Reached expected number of succeeded pods",
    )
    TOO_MANY_FAILURES = (
        "FailureTarget",
        "Failed",
        "BackoffLimitExceeded",
        "Job has reached the specified backoff limit",
    )
    TOO_LATE = (
        "FailureTarget",
        "Failed",
        "DeadlineExceeded",
        "Job was active longer than specified deadline",
    )


def is_finished(job: Job) -> bool:
    """Whether the Job has ended for good."""
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in job.status.conditions)


def status_of(job: Job, tally: Tally, verdict: Verdict, now: datetime) -> Json | None:
    """Return the status to write, None if it stands already."""
    have, stamp = job.status, rfc3339(now)
    suspended = verdict is Verdict.SUSPENDED
    want = JobStatus(
        active=len(tally.active),
        succeeded=tally.succeeded,
        failed=tally.failed,
        ready=sum(pod.ready for pod in tally.active),
        terminating=len(tally.ending),
        start_time=None if suspended else have.start_time or stamp,
        completed_indexes=write_indexes(tally.indexes),
        conditions=_conditions(job, tally, verdict, stamp),
    )
    ended = any(c.type == "Complete" for c in want.conditions)
    want = msgspec.structs.replace(want, completion_time=stamp if ended else None)
    return None if want == have else _json(want)


def _conditions(job: Job, tally: Tally, verdict: Verdict, stamp: str) -> tuple[Condition, ...]:
    before, at_end, reason, message = verdict.value
    kept = {c.type: c for c in job.status.conditions}
    holds = verdict is Verdict.SUSPENDED
    if holds or "Suspended" in kept:
        why = (reason, message) if holds else ("JobResumed", "Job resumed")
        _put(kept, Condition(type="Suspended", status=str(holds), reason=why[0], message=why[1]), stamp)
    over = not tally.active and not tally.ending  # the end is said when nothing runs any more
    for kind in (before, at_end if over else ""):
        if kind:
            _put(kept, Condition(type=kind, status="True", reason=reason, message=message), stamp)
    return tuple(kept.values())


def _put(kept: dict[str, Condition], condition: Condition, stamp: str) -> None:
    known = kept.get(condition.type)
    if known is None or known.status != condition.status:
        kept[condition.type] = msgspec.structs.replace(
            condition, last_transition_time=stamp, last_heartbeat_time=None
        )


def _json(status: JobStatus) -> Json:
    """All fields, nulls too: a merge patch leaves alone what it does not name."""
    return {
        "active": status.active,
        "succeeded": status.succeeded,
        "failed": status.failed,
        "ready": status.ready,
        "terminating": status.terminating,
        "startTime": status.start_time,
        "completionTime": status.completion_time,
        "completedIndexes": status.completed_indexes or None,
        "conditions": [msgspec.to_builtins(condition) for condition in status.conditions],
    }
