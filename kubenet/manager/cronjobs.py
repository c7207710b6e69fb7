"""CronJobs: which keys a change concerns, and what a decision gets to read."""

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from kubenet.client.writer import Writer
from kubenet.controllers import cronjobs
from kubenet.controllers.decision import Decision
from kubenet.errors import InvalidInput
from kubenet.manager.loop import ControlLoop
from kubenet.manager.watched import CONTROLLER, Objects, controller_key
from kubenet.model.workloads import Job


def cronjob_loops(objects: Objects, writer: Writer) -> list[ControlLoop]:
    """Return the loop, wired to the changes that concern it."""

    def decide(key: str) -> Decision:
        cronjob = objects.cronjobs.get(key)
        if cronjob is None:
            return Decision()
        jobs = objects.jobs.indexed(CONTROLLER, cronjob.metadata.uid)
        return cronjobs.decide(cronjob, jobs, _zone(cronjob.spec.time_zone), objects.clock.now())

    loop = ControlLoop("cronjobs", decide, writer, objects.clock)

    def job_changed(job: Job) -> None:
        if key := controller_key(job, "CronJob"):
            loop.add(key)

    objects.cronjobs.on_change(lambda each: loop.add(each.metadata.key))
    objects.jobs.on_change(job_changed)
    return [loop]


def _zone(name: str | None) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"time zone {name!r} is not known here", "install tzdata") from error
