"""What a candidate decides when it reads the lease."""

import pytest

from kubenet.client.leader import Candidate, Step
from kubenet.model.objects import Lease, LeaseSpec, ObjectMeta


def _lease(holder: str, version: int) -> Lease:
    spec = LeaseSpec(holder_identity=holder, lease_duration_seconds=15)
    return Lease(metadata=ObjectMeta(name="x", resource_version=str(version)), spec=spec)


@pytest.mark.parametrize(
    ("history", "step"),
    [
        pytest.param([(0, _lease("", 1))], Step.TAKE, id="nobody has it"),
        pytest.param([(0, _lease("me", 1))], Step.RENEW, id="I have it"),
        pytest.param([(0, _lease("other", 1))], Step.WAIT, id="it is new to me, however old it says it is"),
        pytest.param([(0, _lease("other", 1)), (14.9, _lease("other", 1))], Step.WAIT, id="not yet over"),
        pytest.param([(0, _lease("other", 1)), (15, _lease("other", 1))], Step.TAKE, id="over"),
        pytest.param(
            [(0, _lease("other", 1)), (14, _lease("other", 2)), (20, _lease("other", 2))],
            Step.WAIT,
            id="renewed meanwhile",
        ),
        pytest.param(
            [(0, _lease("other", 1)), (14, _lease("third", 2)), (20, _lease("third", 2))],
            Step.WAIT,
            id="another has taken it",
        ),
    ],
)
def test_B8_8_a_candidate(history: list[tuple[float, Lease]], step: Step) -> None:
    candidate = Candidate("me")
    steps = [candidate.step(lease, now_s) for now_s, lease in history]
    assert steps[-1] is step
