"""The informer against a scripted server: what it asks, what it tells, what it ends with."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubenet.client.cache import Change
from kubenet.client.informer import Informer
from kubenet.client.transport import ApiClient
from kubenet.kernel.netns import NetNs
from kubenet.model.objects import Pod
from kubenet.model.resources import PODS
from tests.netns.client.scripted import (
    CONFIG,
    Reply,
    answer,
    drop_netns,
    event,
    fresh_netns,
    page,
    refusal,
    serving,
    watch,
)

pytestmark = pytest.mark.netns


@pytest.fixture
def netns(tmp_path: Path) -> Iterator[NetNs]:
    path = tmp_path / "netns"
    made = fresh_netns(path)
    yield made
    drop_netns(made, path)


class NoWaiting:
    """Sleeps at once and remembers for how long it was asked to."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._now_s = 0.0

    def monotonic(self) -> float:
        return self._now_s

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        self._now_s += delay_s
        await asyncio.sleep(0)


class Told:
    """What the callbacks were told, as short words."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __call__(self, change: Change[Pod]) -> None:
        verb = "gone" if change.new is None else "new" if change.old is None else "changed"
        self.words.append(f"{verb} {change.key}")


def follow(netns: NetNs, *replies: Reply, until: str) -> tuple[list[str], list[str], list[float]]:
    """Run an informer until it was told ``until``; return what it was told, what it asked, how it waited."""

    async def story() -> tuple[list[str], list[str], list[float]]:
        told, clock, enough = Told(), NoWaiting(), asyncio.Event()
        async with (
            serving(netns, *replies) as script,
            ApiClient(CONFIG, socket_factory=netns.socket) as client,
        ):
            informer = Informer(client, PODS, Pod, namespace="ns", clock=clock, jitter=lambda: 0.0)
            informer.on_change(told)
            informer.on_change(lambda change: enough.set() if told.words[-1] == until else None)
            task = asyncio.create_task(informer.run())
            async with asyncio.timeout(10):
                await enough.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            asked = [_question(dict(each.query)) for each in script.asked]
            return told.words, asked, clock.slept

    return asyncio.run(story())


def _question(query: dict[str, str]) -> str:
    if "watch" not in query:
        return f"list {query.get('continue', '')}".strip()
    assert query["allowWatchBookmarks"] == "true"
    assert query["timeoutSeconds"] == "300"
    return f"watch {query['resourceVersion']}"


def test_list_pages_then_watch_from_the_version_of_the_list(netns: NetNs) -> None:
    told, asked, _ = follow(
        netns,
        page("9", "a", continue_token="t1"),
        page("9", "b"),
        watch(
            event("ADDED", "c", "10"), event("MODIFIED", "a", "11"), event("DELETED", "b", "12"), hang=True
        ),
        until="gone ns/b",
    )
    assert told == ["new ns/a", "new ns/b", "new ns/c", "changed ns/a", "gone ns/b"]
    assert asked == ["list", "list t1", "watch 9"]


def test_a_cut_watch_resumes_where_it_was_and_repeats_nothing(netns: NetNs) -> None:
    told, asked, _ = follow(
        netns,
        page("9", "a"),
        watch(event("ADDED", "b", "10"), event("MODIFIED", "b", "11")[:20], cut=True),
        watch(event("MODIFIED", "b", "11"), hang=True),
        until="changed ns/b",
    )
    assert told == ["new ns/a", "new ns/b", "changed ns/b"]
    assert asked == ["list", "watch 9", "watch 10"]


GONE_EVENT = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n'


@pytest.mark.parametrize(
    "expired",
    [
        pytest.param(refusal(410, "Expired"), id="as a status"),
        pytest.param(
            watch(GONE_EVENT, event("ADDED", "ghost", "5")), id="as an event, with a ghost behind it"
        ),
    ],
)
def test_history_that_is_gone_is_listed_again_and_the_vanished_are_reported(
    netns: NetNs, expired: Reply
) -> None:
    told, asked, slept = follow(
        netns, page("9", "a", "b"), expired, page("9", "a"), watch(hang=True), until="gone ns/b"
    )
    assert told == ["new ns/a", "new ns/b", "gone ns/b"]
    assert asked[:3] == ["list", "watch 9", "list"]
    assert slept == [0.8]


def test_bad_answers_are_waited_out(netns: NetNs) -> None:
    told, asked, slept = follow(
        netns,
        refusal(500, "InternalError"),
        answer("not a list"),
        answer({"kind": "Status", "code": 429}, 429, {"Retry-After": "7"}),
        page("9", "a"),
        watch(hang=True),
        until="new ns/a",
    )
    assert told == ["new ns/a"]
    assert asked[:4] == ["list"] * 4
    assert slept == [0.8, 1.6, 7.0]


def test_a_bookmark_moves_the_version_of_the_next_watch(netns: NetNs) -> None:
    bookmark = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"50"}}}\n'
    _, asked, _ = follow(
        netns,
        page("9"),
        watch(bookmark),
        watch(event("ADDED", "a", "51"), hang=True),
        until="new ns/a",
    )
    assert asked == ["list", "watch 9", "watch 50"]
