"""A Job whenever a schedule is due. *Pure.*

Of several times that were missed only the last is made up for. A Job's name holds its time: none has two.

Source: Kubernetes documentation, "CronJob"; kube-controller-manager pkg/controller/cronjob.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo

import msgspec

from kubenet.clock import rfc3339
from kubenet.controllers.cron import Every, Times, last_due, next_due, parse
from kubenet.controllers.decision import Decision, moment
from kubenet.controllers.job_status import is_finished
from kubenet.controllers.jobs import JOBS
from kubenet.controllers.templates import owned_by, template_json
from kubenet.model.objects import Json, ObjectReference
from kubenet.model.resources import BY_PLURAL_KEPT
from kubenet.model.workloads import CronJob, CronJobStatus, Job
from kubenet.model.writes import Create, Write, delete_of, patch_of

CRONJOBS = BY_PLURAL_KEPT["cronjobs"]
SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
NAME_MOST = 52  # of a CronJob; its Jobs add 11 characters


def decide(cronjob: CronJob, jobs: Sequence[Job], zone: tzinfo, now: datetime) -> Decision:
    """Return the Job to make, those to forget, and the status; ``jobs`` are those that the CronJob controls.

    Raises InvalidInput for a schedule that is none.
    """
    if cronjob.metadata.deletion_timestamp is not None:
        return Decision()
    active = [job for job in jobs if not is_finished(job) and job.metadata.deletion_timestamp is None]
    due, again_s = _due(cronjob, zone, now)
    steps: list[Write] = []
    if due and (cronjob.spec.concurrency_policy != "Forbid" or not active):
        steps = _start(cronjob, jobs, active, due)
    elif due:
        due = None  # looked at again when the one that runs has ended
    writes = [*steps, *_forgotten(cronjob, jobs)]
    if (status := _status(cronjob, jobs, active, due)) is not None:
        writes.append(patch_of(CRONJOBS, cronjob, {"status": status}, "status"))
    return Decision(tuple(writes), again_s)


def _due(cronjob: CronJob, zone: tzinfo, now: datetime) -> tuple[datetime | None, float | None]:
    """Return the time that a Job is to be made for, and in how many seconds the next comes."""
    spec = cronjob.spec
    if spec.suspend:
        return None, None
    schedule: Times | Every = parse(spec.schedule)
    before = moment(cronjob.status.last_schedule_time) or moment(cronjob.metadata.creation_timestamp) or now
    since = before
    if spec.starting_deadline_seconds is not None:
        since = max(before, now - timedelta(seconds=spec.starting_deadline_seconds))
    if isinstance(schedule, Every):
        since = before
    following = next_due(schedule, now, zone, before)
    again_s = (following - now).total_seconds() if following else None
    return last_due(schedule, since, now, zone), again_s


def _start(cronjob: CronJob, jobs: Sequence[Job], active: Sequence[Job], due: datetime) -> list[Write]:
    name = f"{cronjob.metadata.name[:NAME_MOST]}-{int(due.timestamp()) // 60}"
    if any(job.metadata.name == name for job in jobs):
        return []  # made, but not said in the status
    replaced = active if cronjob.spec.concurrency_policy == "Replace" else ()
    return [*(delete_of(JOBS, job) for job in replaced), _new_job(cronjob, name, due)]


def _new_job(cronjob: CronJob, name: str, due: datetime) -> Create:
    body = template_json(cronjob.spec.job_template)
    metadata = body["metadata"]
    assert isinstance(metadata, dict)
    noted = cronjob.spec.job_template.metadata.annotations
    metadata |= {
        "name": name,
        "namespace": cronjob.metadata.namespace,
        "annotations": {**noted, SCHEDULED_AT: rfc3339(due)},
        "ownerReferences": [*owned_by(CRONJOBS, cronjob)],
    }
    return Create(
        JOBS, cronjob.metadata.namespace, {"apiVersion": JOBS.api_version, "kind": JOBS.kind, **body}
    )


def _forgotten(cronjob: CronJob, jobs: Sequence[Job]) -> list[Write]:
    """Return the deletion of the oldest finished Jobs beyond the limits of the history."""
    found: list[Write] = []
    limits = (
        ("Complete", cronjob.spec.successful_jobs_history_limit),
        ("Failed", cronjob.spec.failed_jobs_history_limit),
    )
    for kind, most in limits:
        ended = sorted((job for job in jobs if _ended_as(job, kind)), key=_by_age)
        found += [delete_of(JOBS, job) for job in ended[: max(0, len(ended) - most)]]
    return found


def _ended_as(job: Job, kind: str) -> bool:
    ended = any(each.type == kind and each.status == "True" for each in job.status.conditions)
    return ended and job.metadata.deletion_timestamp is None


def _by_age(job: Job) -> tuple[str, str]:
    return (job.status.start_time or job.metadata.creation_timestamp or "", job.metadata.name)


def _status(
    cronjob: CronJob, jobs: Sequence[Job], active: Sequence[Job], due: datetime | None
) -> Json | None:
    """Return the status to write, None if it stands already."""
    have = cronjob.status
    ended = [job.status.completion_time for job in jobs if job.status.completion_time]
    want = CronJobStatus(
        active=tuple(_reference(job) for job in sorted(active, key=lambda each: each.metadata.name)),
        last_schedule_time=rfc3339(due) if due else have.last_schedule_time,
        last_successful_time=max([*ended, have.last_successful_time or ""]) or None,
    )
    if want == have:
        return None
    return {
        "active": [{**msgspec.to_builtins(each), "apiVersion": JOBS.api_version} for each in want.active],
        "lastScheduleTime": want.last_schedule_time,
        "lastSuccessfulTime": want.last_successful_time,
    }


def _reference(job: Job) -> ObjectReference:
    meta = job.metadata
    return ObjectReference(kind=JOBS.kind, namespace=meta.namespace, name=meta.name, uid=meta.uid)
