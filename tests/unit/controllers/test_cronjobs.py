"""Jobs by the clock: what schedules mean, and what becomes of missed, running and old ones."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from kubenet.clock import rfc3339
from kubenet.controllers.cron import last_due, next_due, parse
from kubenet.controllers.cronjobs import CRONJOBS, SCHEDULED_AT, decide
from kubenet.controllers.jobs import JOBS
from kubenet.errors import InvalidInput
from kubenet.model.objects import Json, JsonValue
from kubenet.model.workloads import CronJob, Job
from kubenet.model.writes import Patch
from tests.unit.controllers.lagging import Server
from tests.unit.controllers.scene import image

THURSDAY = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("* * * * *", "2026-01-01 12:01"),
        ("*/20 * * * *", "2026-01-01 12:20"),
        ("5-10/5,40 12 * * *", "2026-01-01 12:05"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("30 8 * * mon-wed", "2026-01-05 08:30"),
        ("0 0 13 * 5", "2026-01-02 00:00"),
        ("0 0 * feb *", "2026-02-01 00:00"),
        ("0 0 * * 7", "2026-01-04 00:00"),
        ("@hourly", "2026-01-01 13:00"),
        ("@weekly", "2026-01-04 00:00"),
        ("@every 1h30m", "2026-01-01 13:30"),
        ("0 0 30 2 *", None),
    ],
)
def test_when_a_schedule_is_due_next(schedule: str, expected: str | None) -> None:
    found = next_due(parse(schedule), THURSDAY, UTC, THURSDAY)
    assert (found.strftime("%Y-%m-%d %H:%M") if found else None) == expected


@pytest.mark.parametrize(
    "schedule",
    ["", "* * * *", "60 * * * *", "* * 0 * *", "*/0 * * * *", "a * * * *", "@every x", "9-5 * * * *"],
)
def test_what_is_no_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(InvalidInput):
        parse(schedule)


def test_an_hour_that_a_zone_skips_never_is_and_one_that_it_has_twice_is_once() -> None:
    spring, autumn = datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)
    half_past_two = parse("30 2 * * *")
    found = next_due(half_past_two, spring, BERLIN, spring)
    assert found == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)
    first = next_due(half_past_two, autumn, BERLIN, autumn)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert next_due(half_past_two, first, BERLIN, first) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_the_last_time_that_was_missed() -> None:
    every_day = parse("0 6 * * *")
    assert last_due(every_day, THURSDAY - timedelta(days=9), THURSDAY, UTC) == THURSDAY.replace(hour=6)
    assert last_due(every_day, THURSDAY - timedelta(hours=2), THURSDAY, UTC) is None


class Clockwork:
    """A CronJob on a clock that the test moves; its Jobs run until the test ends them."""

    def __init__(self, schedule: str = "*/10 * * * *", **spec: JsonValue) -> None:
        self.now = THURSDAY
        self.server = Server()
        template: Json = {"spec": {"template": image(1)}}
        written: Json = {"schedule": schedule, "jobTemplate": template, **spec}
        metadata: Json = {"name": "c", "creationTimestamp": rfc3339(self.now)}
        self.server.put(CRONJOBS, {"metadata": metadata, "spec": written})

    def rest(self) -> float | None:
        """Decide and write until nothing is left to write; return when to look again."""
        for _ in range(10):
            (found,) = self.server.typed(CRONJOBS, CronJob)
            decision = decide(found, self.jobs(), UTC, self.now)
            for write in decision.writes:
                self.server.carry_out(write)
            if not decision.writes:
                return decision.again_s
        raise AssertionError("it never comes to rest")

    def skip(self, minutes: float) -> list[str]:
        self.now += timedelta(minutes=minutes)
        self.rest()
        return self.at()

    def at(self) -> list[str]:
        """Return for which times there are Jobs."""
        return sorted(job.metadata.annotations[SCHEDULED_AT][11:16] for job in self.jobs())

    def jobs(self) -> Sequence[Job]:
        return self.server.typed(JOBS, Job)

    def end(self, kind: str = "Complete") -> None:
        for job in self.jobs():
            condition: Json = {"type": kind, "status": "True"}
            status: Json = {"conditions": [condition], "startTime": job.metadata.creation_timestamp}
            if kind == "Complete":
                status["completionTime"] = rfc3339(self.now)
            self.server.carry_out(Patch(JOBS, "ns", job.metadata.name, {"status": status}))
        self.rest()

    @property
    def cronjob(self) -> CronJob:
        (found,) = self.server.typed(CRONJOBS, CronJob)
        return found


def test_a_job_is_made_when_its_time_has_come_and_only_once() -> None:
    clockwork = Clockwork()
    assert clockwork.rest() == 600.0
    assert clockwork.at() == []
    assert clockwork.skip(10) == ["12:10"]
    assert clockwork.skip(5) == ["12:10"]
    assert clockwork.skip(5) == ["12:10", "12:20"]
    status = clockwork.cronjob.status
    assert status.last_schedule_time == "2026-01-01T12:20:00Z"
    assert [each.name for each in status.active] == sorted(job.metadata.name for job in clockwork.jobs())


def test_of_many_that_were_missed_the_last_is_made_up_for() -> None:
    assert Clockwork().skip(65) == ["13:00"]


def test_what_is_later_than_its_deadline_is_not_made_up_for() -> None:
    assert Clockwork(startingDeadlineSeconds=60).skip(65) == []


def test_suspended_nothing_is_made() -> None:
    assert Clockwork(suspend=True).skip(65) == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("Allow", ["12:10", "12:20"]), ("Forbid", ["12:10"]), ("Replace", ["12:20"])],
)
def test_what_becomes_of_a_job_that_still_runs(policy: str, expected: list[str]) -> None:
    clockwork = Clockwork(concurrencyPolicy=policy)
    clockwork.skip(10)
    assert clockwork.skip(10) == expected


def test_a_forbidden_job_is_made_when_the_one_before_has_ended() -> None:
    clockwork = Clockwork(concurrencyPolicy="Forbid")
    clockwork.skip(10)
    clockwork.skip(12)
    clockwork.end()
    assert clockwork.at() == ["12:10", "12:20"]


@pytest.mark.parametrize(("kind", "left"), [("Complete", 3), ("Failed", 1)])
def test_old_jobs_are_forgotten(kind: str, left: int) -> None:
    clockwork = Clockwork()
    for _ in range(6):
        clockwork.skip(10)
        clockwork.end(kind)
    assert clockwork.at() == ["12:10", "12:20", "12:30", "12:40", "12:50", "13:00"][-left:]
    assert clockwork.cronjob.status.active == ()
    assert bool(clockwork.cronjob.status.last_successful_time) == (kind == "Complete")


def test_a_job_that_was_made_but_not_said_is_not_made_again() -> None:
    clockwork = Clockwork()
    clockwork.skip(10)
    forgetful: Json = {"status": {"lastScheduleTime": None, "active": None}}
    clockwork.server.carry_out(Patch(CRONJOBS, "ns", "c", forgetful))
    clockwork.rest()
    assert clockwork.at() == ["12:10"]
    assert clockwork.cronjob.status.last_schedule_time == "2026-01-01T12:10:00Z"
