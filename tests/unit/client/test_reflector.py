"""What to ask next, after everything that can happen (B8.1)."""

import pytest

from kubenet.client.reflector import (
    BACKOFF_FIRST_S,
    BACKOFF_MOST_S,
    PAGE_SIZE,
    Action,
    Backoff,
    Broken,
    Ended,
    Event,
    EventKind,
    Garbage,
    Input,
    List,
    Page,
    Put,
    Reflector,
    Refused,
    Remove,
    Replace,
    Watch,
)
from kubenet.model.objects import KubeObject, ObjectMeta

A = KubeObject(metadata=ObjectMeta(name="a", resource_version="7"))
B = KubeObject(metadata=ObjectMeta(name="b", resource_version="9"))
WHOLE_LIST, PAGED_LIST = 0, PAGE_SIZE


def watching(resource_version: str = "10") -> Reflector[KubeObject]:
    """A reflector that has listed and now watches; its watch has brought nothing yet."""
    reflector: Reflector[KubeObject] = Reflector()
    reflector.receive(Page([A], resource_version), 0.0, 0.0)
    return reflector


def after(reflector: Reflector[KubeObject], *inputs: "Input[KubeObject]", now_s: float = 0.5) -> Action:
    for each in inputs:
        reflector.receive(each, now_s, 0.0)
    return reflector.action


def bookmark(resource_version: str) -> Event[KubeObject]:
    return Event(EventKind.BOOKMARK, resource_version)


def test_B8_1_begins_with_a_paged_list_at_once() -> None:
    assert Reflector[KubeObject]().action == List(0.0, PAGED_LIST, "")


@pytest.mark.parametrize(
    ("inputs", "action"),
    [
        pytest.param([Page([A], "10")], Watch(0.0, "10", 300), id="last page: watch from the list's version"),
        pytest.param([Page([A], "10", "t1")], List(0.0, PAGED_LIST, "t1"), id="page: the next one at once"),
        pytest.param([Page([A], "10", "t1"), Page([B], "10")], Watch(0.0, "10", 300), id="both pages: watch"),
        pytest.param(
            [Page([A], "10", "t1"), Refused(410)], List(0.8, WHOLE_LIST), id="410 on continue: all at once"
        ),
        pytest.param(
            [Page([A], "10", "t1"), Refused(500)], List(0.8, PAGED_LIST), id="500 midway: from the start"
        ),
        pytest.param([Refused(410)], List(0.8, PAGED_LIST), id="410 on the first page"),
        pytest.param([Refused(401)], List(0.8, PAGED_LIST), id="401"),
        pytest.param([Refused(403)], List(0.8, PAGED_LIST), id="403"),
        pytest.param([Refused(404)], List(0.8, PAGED_LIST), id="404: the kind is not served yet"),
        pytest.param([Refused(500)], List(0.8, PAGED_LIST), id="500"),
        pytest.param([Refused(429, 17.0)], List(17.0, PAGED_LIST), id="429 waits as long as it is told"),
        pytest.param(
            [Refused(429, 0.1)], List(0.8, PAGED_LIST), id="429 with a short wait: our own is longer"
        ),
        pytest.param([Broken()], List(0.8, PAGED_LIST), id="no connection"),
        pytest.param([Garbage()], List(0.8, PAGED_LIST), id="not a list"),
        pytest.param(
            [Broken(), Broken(), Broken()], List(3.2, PAGED_LIST), id="three failures: the wait doubles"
        ),
    ],
)
def test_B8_1_while_listing(inputs: "list[Input[KubeObject]]", action: Action) -> None:
    assert after(Reflector(), *inputs) == action


@pytest.mark.parametrize(
    ("inputs", "action"),
    [
        pytest.param(
            [Event(EventKind.ADDED, "12", B), Ended()], Watch(0.0, "12", 300), id="end: from the last event"
        ),
        pytest.param([bookmark("15"), Ended()], Watch(0.0, "15", 300), id="only a bookmark, then the end"),
        pytest.param([Ended()], Watch(0.8, "10", 300), id="an end at once is a failure: no hot loop"),
        pytest.param([Broken()], Watch(0.8, "10", 300), id="reset or half a line: same version again"),
        pytest.param(
            [Event(EventKind.MODIFIED, "12", B), Broken()], Watch(0.8, "12", 300), id="reset after an event"
        ),
        pytest.param([Refused(410)], List(0.8, PAGED_LIST), id="410 as status or as event: list"),
        pytest.param([bookmark("15"), Refused(410)], List(0.8, PAGED_LIST), id="410 after a bookmark"),
        pytest.param(
            [Refused(410), Page([], "20")], Watch(0.0, "20", 300), id="410, then a list: its version"
        ),
        pytest.param([Refused(401)], Watch(0.8, "10", 300), id="401: the watch stays where it is"),
        pytest.param([Refused(403)], Watch(0.8, "10", 300), id="403"),
        pytest.param([Refused(429, 9.0)], Watch(9.0, "10", 300), id="429 waits as long as it is told"),
        pytest.param([Refused(500)], Watch(0.8, "10", 300), id="500: no relist storm"),
        pytest.param(
            [Refused(504, None, True)], List(0.8, PAGED_LIST), id="the server never was at our version"
        ),
        pytest.param([Refused(400)], List(0.8, PAGED_LIST), id="400: our version means nothing there"),
        pytest.param([Garbage()], Watch(0.8, "10", 300), id="a garbage line: same version again"),
        pytest.param(
            [Garbage(), Garbage()], List(1.6, PAGED_LIST), id="garbage twice at one place: step over it"
        ),
        pytest.param(
            [Garbage(), bookmark("11"), Garbage()],
            Watch(1.6, "11", 300),
            id="garbage at two places: watch on",
        ),
    ],
)
def test_B8_1_while_watching(inputs: "list[Input[KubeObject]]", action: Action) -> None:
    assert after(watching(), *inputs) == action


def test_B8_1_a_quiet_watch_that_ran_its_time_is_renewed_at_once() -> None:
    assert after(watching(), Ended(), now_s=300.0) == Watch(0.0, "10", 300)


def test_events_become_changes_of_the_cache() -> None:
    reflector = watching()
    assert reflector.receive(Event(EventKind.ADDED, "12", B), 0.0, 0.0) == Put(B)
    assert reflector.receive(Event(EventKind.MODIFIED, "13", B), 0.0, 0.0) == Put(B)
    assert reflector.receive(Event(EventKind.DELETED, "14", B), 0.0, 0.0) == Remove(B)
    assert reflector.receive(bookmark("15"), 0.0, 0.0) is None
    assert reflector.resource_version == "15"


def test_all_pages_replace_the_cache_together() -> None:
    reflector: Reflector[KubeObject] = Reflector()
    assert reflector.receive(Page([A], "10", "t1"), 0.0, 0.0) is None
    assert reflector.receive(Page([B], "10"), 0.0, 0.0) == Replace([A, B], "10")


def test_pages_of_a_list_that_failed_do_not_come_back() -> None:
    reflector: Reflector[KubeObject] = Reflector()
    reflector.receive(Page([A], "10", "t1"), 0.0, 0.0)
    reflector.receive(Refused(410), 0.0, 0.0)
    assert reflector.receive(Page([B], "12"), 0.0, 0.0) == Replace([B], "12")


def test_jitter_spreads_waits_and_watch_ends() -> None:
    reflector = watching()
    reflector.receive(Broken(), 0.0, 0.5)
    assert reflector.action == Watch(BACKOFF_FIRST_S * 1.5, "10", 450)


def test_waits_double_up_to_the_limit_and_start_anew_after_quiet_minutes() -> None:
    backoff = Backoff()
    waits = [backoff.delay_s(float(second), 0.0) for second in range(8)]
    assert waits == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, BACKOFF_MOST_S, BACKOFF_MOST_S]
    assert backoff.delay_s(7 + 119.0, 0.0) == BACKOFF_MOST_S
    assert backoff.delay_s(7 + 119.0 + 121.0, 0.0) == BACKOFF_FIRST_S


def test_no_wait_exceeds_the_limit_however_the_jitter_falls() -> None:
    backoff = Backoff()
    assert max(backoff.delay_s(0.0, 0.999) for _ in range(10)) == BACKOFF_MOST_S


def test_an_answer_to_a_question_not_asked_is_a_bug() -> None:
    with pytest.raises(RuntimeError, match="Ended while listing"):
        Reflector[KubeObject]().receive(Ended(), 0.0, 0.0)
    with pytest.raises(RuntimeError, match="Page while watching"):
        watching().receive(Page([], "1"), 0.0, 0.0)
