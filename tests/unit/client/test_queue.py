"""Keys waiting for work (B8.4)."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.client.queue import KeySchedule, RetryPace, WorkQueue


def test_B8_4_a_key_added_often_while_worked_on_runs_exactly_once_more() -> None:
    schedule = KeySchedule()
    schedule.add("a")
    assert schedule.take(0.0) == "a"
    for _ in range(5):
        schedule.add("a")
    assert schedule.take(0.0) is None, "never twice at a time"
    schedule.done("a")
    assert schedule.take(0.0) == "a"
    schedule.done("a")
    assert schedule.take(0.0) is None
    assert schedule.idle


def test_B8_4_waiting_keys_are_given_once_and_in_order() -> None:
    schedule = KeySchedule()
    for key in "abab":
        schedule.add(key)
    assert [schedule.take(0.0), schedule.take(0.0), schedule.take(0.0)] == ["a", "b", None]


@pytest.mark.parametrize(
    ("failures", "delay_s"),
    [
        pytest.param(1, 0.005, id="first failure: 5 ms"),
        pytest.param(2, 0.010, id="second: doubled"),
        pytest.param(11, 5.12, id="eleventh"),
        pytest.param(18, 655.36, id="eighteenth"),
        pytest.param(19, 1000.0, id="then the limit"),
        pytest.param(10_000, 1000.0, id="for ever"),
    ],
)
def test_B8_4_waits_of_one_key_double(failures: int, delay_s: float) -> None:
    assert RetryPace().delay_s(failures) == delay_s


def test_B8_4_forget_starts_anew() -> None:
    schedule = KeySchedule()
    waits = [schedule.retry("a", 0.0), schedule.retry("a", 0.0)]
    schedule.forget("a")
    assert [*waits, schedule.retry("a", 0.0)] == [0.005, 0.01, 0.005]


def test_B8_4_all_keys_share_ten_retries_a_second_after_a_burst_of_a_hundred() -> None:
    schedule = KeySchedule()
    waits = [schedule.retry(f"key {n}", 100.0) for n in range(103)]
    assert waits[:100] == [0.005] * 100
    assert waits[100:] == [pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.3)]
    assert schedule.retry("later", 200.0) == 0.005, "the bucket fills up again"


def test_B8_4_a_delayed_key_comes_at_its_time_and_the_soonest_time_counts() -> None:
    schedule = KeySchedule()
    schedule.add_at("a", 5.0)
    schedule.add_at("a", 3.0)
    schedule.add_at("a", 9.0)
    assert schedule.next_due_s() == 3.0
    assert [schedule.take(2.9), schedule.take(3.0)] == [None, "a"]
    schedule.done("a")
    assert schedule.take(100.0) is None


steps = st.lists(
    st.tuples(st.sampled_from(["add", "take", "done", "retry"]), st.sampled_from("abc")), max_size=60
)


@given(steps)
def test_B8_4_an_added_key_is_always_run_after_it_was_added(history: list[tuple[str, str]]) -> None:
    schedule, owed, running = KeySchedule(), set[str](), set[str]()
    for now_s, (step, key) in enumerate(history):
        if step == "add":
            schedule.add(key)
            owed.add(key)
        elif step == "retry":
            schedule.retry(key, float(now_s))
            owed.add(key)
        elif step == "done":
            running.discard(key)
            schedule.done(key)
        elif (taken := schedule.take(float(now_s))) is not None:
            assert taken not in running, "two workers on one key"
            running.add(taken)
            owed.discard(taken)
    for key in sorted(running):
        schedule.done(key)
    while (taken := schedule.take(1e9)) is not None:
        owed.discard(taken)
        schedule.done(taken)
    assert not owed
    assert schedule.idle


def test_B8_4_shutdown_gives_out_what_is_ready_and_then_ends_every_worker() -> None:
    async def story() -> list[str | None]:
        queue = WorkQueue()
        queue.add("a")
        queue.add("b")
        queue.shut_down()
        queue.add("too late")
        return [await queue.get() for _ in range(4)]

    assert asyncio.run(story()) == ["a", "b", None, None]


def test_a_worker_that_waits_is_woken_by_an_add_and_by_a_delayed_key() -> None:
    async def story() -> list[str | None]:
        queue = WorkQueue()
        workers = [asyncio.create_task(queue.get()) for _ in range(2)]
        await asyncio.sleep(0)
        queue.add_after("later", 0.01)
        queue.add("now")
        return list(await asyncio.gather(*workers))

    assert sorted(asyncio.run(story()), key=str) == ["later", "now"]


def test_a_shutdown_wakes_every_waiting_worker() -> None:
    async def story() -> list[str | None]:
        queue = WorkQueue()
        workers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.shut_down()
        return list(await asyncio.gather(*workers))

    assert asyncio.run(story()) == [None, None, None]
