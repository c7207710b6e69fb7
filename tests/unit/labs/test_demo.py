"""What the demo accepts as proof."""

import pytest

from kubenet.client.sync import SyncClient
from kubenet.model.objects import (
    Condition,
    ContainerState,
    ContainerStatus,
    Pod,
    PodStatus,
    TerminatedState,
    WaitingState,
)
from labs.demo import Demo, DemoFailed, is_round_robin, problem_of
from labs.topology import LabSpec


@pytest.mark.parametrize(
    ("order", "holds"),
    [
        pytest.param("abcdabcdabcd", True, id="three turns"),
        pytest.param("cdabcdab", True, id="begins in the middle"),
        pytest.param("abcdabdc", False, id="two swapped"),
        pytest.param("aabbccdd", False, id="even, but no rotation"),
        pytest.param("abc", False, id="too short to tell"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_round_robin_shows_each_backend_once_in_every_window(order: str, holds: bool) -> None:
    assert is_round_robin(tuple(order), backends=4) is holds


def test_a_step_that_fails_is_named_and_ends_the_demo() -> None:
    said: list[str] = []
    demo = Demo(LabSpec("t"), SyncClient("http://127.0.0.1:1"), said.append)
    with pytest.raises(DemoFailed, match=r"step 'apply the manifest' failed: .*127\.0\.0\.1:1") as raised:
        demo.run()
    assert raised.value.exit_code == 1
    assert said == []


@pytest.mark.parametrize(
    ("status", "says"),
    [
        pytest.param(
            PodStatus(
                container_statuses=(
                    ContainerStatus(
                        name="c",
                        state=ContainerState(
                            waiting=WaitingState(reason="CrashLoopBackOff", message="back-off")
                        ),
                        last_state=ContainerState(
                            terminated=TerminatedState(exit_code=1, message="no flour")
                        ),
                    ),
                )
            ),
            "no flour",
            id="the last words of a container go first",
        ),
        pytest.param(
            PodStatus(conditions=(Condition(type="PodScheduled", status="False", message="0/3 nodes"),)),
            "0/3 nodes",
            id="a condition that does not hold",
        ),
        pytest.param(PodStatus(phase="Pending"), "Pending", id="nothing but the phase"),
    ],
)
def test_why_a_pod_is_not_ready_is_put_in_words(status: PodStatus, says: str) -> None:
    assert problem_of(Pod(status=status)) == says
