"""A pod's status, restarts and readiness, as tables."""

from collections.abc import Sequence

import msgspec
import pytest

from kubenet.model.objects import (
    Condition,
    Container,
    ContainerPort,
    HttpGet,
    ObjectMeta,
    Pod,
    PodStatus,
    Probe,
)
from kubenet.node.probe import Verdict, port_number
from kubenet.node.status import (
    ContainerView,
    Running,
    State,
    Terminated,
    Waiting,
    exit_code,
    phase,
    pod_status,
    restart_delay_s,
    starts_again,
)

OK = Terminated(0, "t0", "t1")
BAD = Terminated(1, "t0", "t1")


def _views(*states: State) -> list[ContainerView]:
    return [ContainerView(f"c{n}", "i", state) for n, state in enumerate(states)]


@pytest.mark.parametrize(
    ("views", "policy", "expected"),
    [
        pytest.param(_views(Waiting()), "Always", "Pending", id="not started"),
        pytest.param(_views(Running("t"), Waiting()), "Always", "Pending", id="one of two started"),
        pytest.param(_views(Running("t"), Running("t")), "Always", "Running", id="both run"),
        pytest.param(_views(OK), "Always", "Running", id="ended, will start again"),
        pytest.param(_views(OK), "Never", "Succeeded", id="ended well"),
        pytest.param(_views(OK, BAD), "Never", "Failed", id="one ended badly"),
        pytest.param(_views(OK, Running("t")), "Never", "Running", id="one still runs"),
        pytest.param(_views(BAD), "OnFailure", "Running", id="failed, will start again"),
        pytest.param(_views(OK), "OnFailure", "Succeeded", id="no failure, no restart"),
    ],
)
def test_the_phase_follows_from_the_containers(
    views: Sequence[ContainerView], policy: str, expected: str
) -> None:
    assert phase(views, policy) == expected


def test_a_container_in_back_off_has_been_started() -> None:
    assert phase([ContainerView("c", "i", Waiting("CrashLoopBackOff"), last=BAD)], "Always") == "Running"


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 1, False),
    ],
)
def test_the_restart_policy_decides(policy: str, code: int, again: bool) -> None:
    assert starts_again(policy, code) is again


def test_restarts_back_off_from_ten_seconds_to_five_minutes() -> None:
    assert [restart_delay_s(n) for n in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]


def test_a_signal_shows_as_a_shell_says_it() -> None:
    assert (exit_code(-9), exit_code(3)) == (137, 3)


def _conditions(pod: Pod, views: Sequence[ContainerView], now: str = "t9") -> dict[str, tuple[str, str]]:
    status = pod_status(pod, views, ["10.244.0.2"], "172.30.0.1", now)
    read = msgspec.convert(status, type=PodStatus)
    return {c.type: (c.status, c.last_transition_time or "") for c in read.conditions}


def test_a_pod_is_ready_when_all_its_containers_are() -> None:
    ready = [
        ContainerView("a", "i", Running("t"), ready=True),
        ContainerView("b", "i", Running("t"), ready=True),
    ]
    half = [ready[0], ContainerView("b", "i", Running("t"))]
    assert _conditions(Pod(), ready)["Ready"][0] == "True"
    assert _conditions(Pod(), half)["Ready"][0] == "False"
    assert _conditions(Pod(), [])["Ready"][0] == "False"


def test_a_pod_that_is_being_deleted_is_not_ready() -> None:
    going = Pod(metadata=ObjectMeta(deletion_timestamp="t"))
    assert _conditions(going, [ContainerView("a", "i", Running("t"), ready=True)])["Ready"][0] == "False"


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    before = Pod(status=PodStatus(conditions=(Condition("Ready", "True", last_transition_time="t1"),)))
    ready = [ContainerView("a", "i", Running("t"), ready=True)]
    assert _conditions(before, ready, "t9")["Ready"] == ("True", "t1")
    assert _conditions(before, _views(Waiting()), "t9")["Ready"] == ("False", "t9")


@pytest.mark.parametrize(
    ("answers", "ready"),
    [
        pytest.param([True], [True], id="ready at the first success"),
        pytest.param([True, False, False], [True, True, True], id="two failures are not enough"),
        pytest.param([True, False, False, False], [True, True, True, False], id="three are"),
        pytest.param(
            [True, False, False, True, False, False], [True] * 6, id="a success between starts the count anew"
        ),
        pytest.param([False, False, False, False], [False] * 4, id="never ready"),
    ],
)
def test_readiness_changes_after_enough_answers_of_one_kind(answers: list[bool], ready: list[bool]) -> None:
    verdict = Verdict(Probe())
    seen = []
    for answer in answers:
        verdict.add(answer)
        seen.append(verdict.ready)
    assert seen == ready


def test_a_probe_may_name_its_port() -> None:
    container = Container(name="c", ports=(ContainerPort(container_port=8080, name="http"),))
    assert HttpGet(port="http").port == "http"
    assert [port_number(port, container) for port in ("http", 80, "81", "other")] == [8080, 80, 81, None]
