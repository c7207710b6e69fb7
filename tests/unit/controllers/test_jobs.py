"""Work that ends: enough successes, too many failures, too late, suspended; and each index once."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random

import pytest

from kubenet.clock import rfc3339
from kubenet.controllers.decision import Decision
from kubenet.controllers.job_pods import index_of, parse_indexes, write_indexes
from kubenet.controllers.jobs import JOBS, decide
from kubenet.model.objects import Json, JsonValue, Pod
from kubenet.model.resources import PODS
from kubenet.model.workloads import ControllerRevision, Job
from kubenet.model.writes import Patch
from tests.unit.controllers.lagging import Server
from tests.unit.controllers.scene import Scene, image
from tests.unit.controllers.things import NOW


class Work(Scene[Job]):
    """A Job on a clock that the test moves; its pods end as the test says."""

    def __init__(self, **spec: JsonValue) -> None:
        self.now: datetime = NOW
        super().__init__(JOBS, Job, self._decide)
        selector: Json = {"matchLabels": {"app": "j"}}
        template: Json = {"metadata": {"labels": {"app": "j"}}, **image(1)}
        written: Json = {"selector": selector, "template": template, **spec}
        self.server.put(JOBS, {"metadata": {"name": "j"}, "spec": written})

    def _decide(self, each: Job, pods: Sequence[Pod], _: Sequence[ControllerRevision]) -> Decision:
        decision = decide(each, pods, self.now)
        self.again_s = decision.again_s
        return decision

    def rest(self) -> None:
        self.settle(_end_those_told_to)

    def end(self, pod: Pod, phase: str) -> None:
        condition: Json = {"type": "Ready", "status": "False", "lastTransitionTime": rfc3339(self.now)}
        status: Json = {"phase": phase, "conditions": [condition]}
        self.server.carry_out(Patch(PODS, "ns", pod.metadata.name, {"status": status}))

    def running(self) -> list[Pod]:
        return [pod for pod in self.server.typed(PODS, Pod) if pod.status.phase == "Pending"]

    def end_all(self, phase: str) -> None:
        for pod in self.running():
            self.end(pod, phase)
        self.rest()

    def skip(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.rest()

    @property
    def job(self) -> Job:
        (found,) = self.server.typed(JOBS, Job)
        return found

    def conditions(self) -> dict[str, str]:
        return {each.type: each.reason for each in self.job.status.conditions if each.status == "True"}


def _end_those_told_to(server: Server, pod: Pod) -> None:
    if pod.metadata.deletion_timestamp:
        server.gone(PODS, pod.metadata.key)


COMPLETE = {"SuccessCriteriaMet": "CompletionsReached", "Complete": "CompletionsReached"}


def test_a_job_runs_as_many_at_a_time_as_it_may_until_enough_have_succeeded() -> None:
    work = Work(completions=5, parallelism=2)
    seen = []
    work.rest()
    while work.running():
        seen.append(len(work.running()))
        work.end_all("Succeeded")
    assert seen == [2, 2, 1]
    status = work.job.status
    assert (status.succeeded, status.active, status.failed) == (5, 0, 0)
    assert work.conditions() == COMPLETE
    assert status.start_time
    assert status.completion_time


def test_without_completions_the_first_success_starts_nobody_new() -> None:
    work = Work(parallelism=3)
    work.rest()
    first, *others = work.running()
    work.end(first, "Succeeded")
    work.rest()
    assert len(work.running()) == 2
    assert work.conditions() == {}
    for each in others:
        work.end(each, "Succeeded")
    work.rest()
    assert work.conditions() == COMPLETE


def test_a_failed_pod_is_replaced_later_and_later() -> None:
    work = Work(completions=1, backoffLimit=5)
    work.rest()
    for delay_s in (10, 20, 40):
        work.end_all("Failed")
        assert work.running() == []
        assert work.again_s == delay_s
        work.skip(delay_s)
        assert len(work.running()) == 1
    assert work.job.status.failed == 3


def test_too_many_failures_end_the_job_and_its_other_pods() -> None:
    work = Work(completions=4, parallelism=2, backoffLimit=0)
    work.rest()
    work.end(work.running()[0], "Failed")
    work.rest()
    reason = "BackoffLimitExceeded"
    assert work.conditions() == {"FailureTarget": reason, "Failed": reason}
    assert work.running() == []
    assert (work.job.status.active, work.job.status.failed) == (0, 1)


def test_the_end_is_said_only_when_nothing_runs_any_more() -> None:
    work = Work(completions=2, parallelism=2, backoffLimit=0)
    work.rest()
    work.end(work.running()[0], "Failed")
    for _ in range(4):
        work.deliver()
        work.sync()
    assert list(work.conditions()) == ["FailureTarget"]
    work.rest()
    assert list(work.conditions()) == ["FailureTarget", "Failed"]


def test_a_deadline_ends_the_job() -> None:
    work = Work(completions=1, activeDeadlineSeconds=60)
    work.rest()
    assert work.again_s == 60.0
    work.skip(60)
    assert work.conditions() == {"FailureTarget": "DeadlineExceeded", "Failed": "DeadlineExceeded"}
    assert work.running() == []


def test_a_suspended_job_has_no_pods_until_it_is_resumed() -> None:
    work = Work(completions=2, parallelism=2)
    work.rest()
    work.change(suspend=True)
    work.rest()
    assert work.running() == []
    assert work.conditions() == {"Suspended": "JobSuspended"}
    assert work.job.status.start_time is None
    work.change(suspend=False)
    work.rest()
    assert len(work.running()) == 2
    assert work.conditions() == {}


def test_the_place_of_one_that_is_ending_is_taken_only_when_it_is_gone() -> None:
    work = Work(completions=9, parallelism=2)
    work.rest()
    for parallelism in (1, 2):
        work.change(parallelism=parallelism)
        for _ in range(3):
            work.deliver()
            work.sync()
    assert len(work.server.typed(PODS, Pod)) == 2
    work.rest()
    assert len(work.running()) == 2


def test_a_finished_job_goes_when_its_time_to_live_is_over() -> None:
    work = Work(completions=1, ttlSecondsAfterFinished=30)
    work.rest()
    work.end_all("Succeeded")
    assert work.again_s == 30.0
    work.skip(30)
    assert work.server.typed(JOBS, Job) == []


def test_every_index_succeeds_once_and_a_failed_one_is_run_again() -> None:
    work = Work(completions=3, parallelism=3, completionMode="Indexed")
    work.rest()
    by_index = {index_of(pod): pod for pod in work.running()}
    assert sorted(by_index) == [0, 1, 2]
    assert by_index[2].spec.hostname == "j-2"
    (container,) = by_index[2].spec.containers
    assert [(each.name, each.value) for each in container.env] == [("JOB_COMPLETION_INDEX", "2")]
    work.end(by_index[0], "Succeeded")
    work.end(by_index[1], "Failed")
    work.end(by_index[2], "Succeeded")
    work.rest()
    assert work.job.status.completed_indexes == "0,2"
    work.skip(10)
    assert [index_of(pod) for pod in work.running()] == [1]
    work.end_all("Succeeded")
    assert work.job.status.completed_indexes == "0-2"
    assert work.conditions() == COMPLETE


def test_a_pod_that_has_succeeded_counts_after_its_deletion_too() -> None:
    work = Work(completions=2, parallelism=1)
    work.rest()
    (first,) = work.running()
    work.end(first, "Succeeded")
    work.rest()
    work.server.gone(PODS, first.metadata.key)
    work.rest()
    assert work.job.status.succeeded == 1
    assert len(work.running()) == 1


@pytest.mark.parametrize("indexes", [set(), {0}, {0, 1}, {0, 1, 2}, {1, 3, 4, 5, 9}])
def test_indexes_are_read_as_they_are_written(indexes: set[int]) -> None:
    assert parse_indexes(write_indexes(indexes)) == indexes


@pytest.mark.parametrize("seed", range(30))
def test_never_more_at_work_than_allowed_nor_more_than_needed(seed: int) -> None:
    """Random walks over late caches; after every write the numbers hold."""
    chance = Random(seed)
    completions, parallelism = chance.randint(1, 6), chance.randint(1, 4)
    mode = chance.choice(["Indexed", "NonIndexed"])
    work = Work(completions=completions, parallelism=parallelism, completionMode=mode, backoffLimit=1000)
    work.check = lambda _: check_numbers(work, parallelism, completions)
    for move in chance.choices(["deliver", "sync", "end", "skip"], [8, 6, 3, 2], k=200):
        match move:
            case "deliver":
                work.deliver(chance)
            case "sync":
                work.sync()
            case "end" if work.running():
                work.end(chance.choice(work.running()), chance.choice(["Succeeded", "Failed"]))
            case "skip":
                work.now += timedelta(seconds=chance.choice([5, 60, 700]))
    for _ in range(20):
        work.skip(600)
        work.end_all("Succeeded")
    assert work.conditions() == COMPLETE
    assert work.job.status.succeeded == completions


def check_numbers(work: Work, parallelism: int, completions: int) -> None:
    pods = work.server.typed(PODS, Pod)
    done = sum(pod.status.phase == "Succeeded" for pod in pods)
    assert len(work.running()) <= min(parallelism, completions - done), "too many at work"
    live = [index_of(pod) for pod in pods if pod.status.phase != "Failed"]
    if work.job.spec.completion_mode == "Indexed":
        assert len(set(live)) == len(live), "an index twice"
