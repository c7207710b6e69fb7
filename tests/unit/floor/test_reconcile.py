"""The reconciler: pokes collapse, failures are retried, bugs surface."""

import asyncio
from datetime import UTC, datetime

import pytest

from kubenet.errors import KubenetError
from kubenet.reconcile import Pace, Reconciler


class FakeClock:
    """Time that passes only when someone sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return sum(self.slept)

    def now(self) -> datetime:
        return datetime.fromtimestamp(sum(self.slept), UTC)

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        await asyncio.sleep(0)


async def _run_for_a_moment(reconciler: Reconciler) -> None:
    task = asyncio.ensure_future(reconciler.run())
    for _ in range(50):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if task.done() and not task.cancelled() and (error := task.exception()):
        raise error


def test_many_pokes_are_one_sync() -> None:
    syncs = []

    async def main() -> None:
        async def sync() -> None:
            syncs.append("sync")

        reconciler = Reconciler("test", sync)
        for _ in range(10):
            reconciler.poke()
        await _run_for_a_moment(reconciler)

    asyncio.run(main())
    assert syncs == ["sync"]


def test_pokes_during_a_sync_cause_exactly_one_more() -> None:
    syncs = []

    async def main() -> None:
        async def sync() -> None:
            syncs.append("begin")
            if len(syncs) == 1:
                for _ in range(5):
                    reconciler.poke()
            await asyncio.sleep(0)

        reconciler = Reconciler("test", sync)
        reconciler.poke()
        await _run_for_a_moment(reconciler)

    asyncio.run(main())
    assert len(syncs) == 2


def test_a_failure_is_retried_with_growing_delays_until_it_works() -> None:
    clock = FakeClock()
    left = [KubenetError("no"), KubenetError("no"), KubenetError("no")]

    async def main() -> None:
        async def sync() -> None:
            if left:
                raise left.pop()

        reconciler = Reconciler("test", sync, Pace(retry_first_s=1, retry_most_s=3), clock)
        reconciler.poke()
        await _run_for_a_moment(reconciler)
        assert reconciler.failures == 0

    asyncio.run(main())
    assert clock.slept == [1, 2, 3]
    assert not left


def test_a_bug_ends_the_loop() -> None:
    async def main() -> None:
        async def sync() -> None:
            raise ZeroDivisionError

        reconciler = Reconciler("test", sync)
        reconciler.poke()
        await _run_for_a_moment(reconciler)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
