"""Which pod is next."""

from hypothesis import given
from hypothesis import strategies as st

from kubenet.scheduler.queue import MOST_DELAY_S, SchedulingQueue


def _taken(queue: SchedulingQueue, now_s: float = 0.0) -> list[str]:
    return list(iter(lambda: queue.take(now_s) or "", ""))


@given(st.permutations([("a", "10:02"), ("b", "10:00"), ("c", "10:01"), ("d", "10:01")]))
def test_the_oldest_is_first_in_whatever_order_they_came(pods: list[tuple[str, str]]) -> None:
    queue = SchedulingQueue()
    for key, created in pods:
        queue.add(key, created)
    assert _taken(queue) == ["b", "c", "d", "a"]


def test_a_parked_pod_waits_for_a_change() -> None:
    queue = SchedulingQueue()
    queue.add("a", "10:00")
    assert queue.take(0.0) == "a"
    queue.park("a")
    assert queue.take(99.0) is None
    queue.wake()
    assert _taken(queue) == ["a"]


def test_a_pod_that_changes_while_parked_is_ready_once() -> None:
    queue = SchedulingQueue()
    queue.add("a", "10:00")
    queue.take(0.0)
    queue.park("a")
    queue.add("a", "10:00")
    queue.wake()
    assert _taken(queue) == ["a"]


def test_a_failure_waits_longer_each_time_up_to_a_limit() -> None:
    queue = SchedulingQueue()
    queue.add("a", "10:00")
    waits = []
    for _ in range(10):
        assert queue.take(0.0) == "a" or queue.take(1000.0) == "a"
        waits.append(queue.retry("a", 0.0))
    assert waits[:4] == [0.1, 0.2, 0.4, 0.8]
    assert waits[-1] == MOST_DELAY_S
    assert queue.next_due_s() == MOST_DELAY_S
    assert queue.take(MOST_DELAY_S - 0.1) is None
    assert queue.take(MOST_DELAY_S) == "a"


def test_a_removed_pod_never_comes_back_by_itself() -> None:
    queue = SchedulingQueue()
    for key in ("ready", "parked", "delayed", "taken"):
        queue.add(key, "10:00")
    assert sorted(_taken(queue)) == ["delayed", "parked", "ready", "taken"]
    queue.park("parked")
    queue.retry("delayed", 0.0)
    queue.add("ready", "10:00")
    for key in ("ready", "parked", "delayed", "taken"):
        queue.remove(key)
    queue.park("taken")
    queue.retry("taken", 0.0)
    queue.wake()
    assert _taken(queue, 1000.0) == []
