"""The loop around a controller: what is tried again, and what is said."""

import asyncio
import logging

import pytest

from kubenet.client.errors import Conflict
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.client.writer import Writer
from kubenet.clock import SystemClock
from kubenet.controllers.decision import Decision
from kubenet.errors import KubenetError
from kubenet.manager.loop import ControlLoop, summary
from kubenet.model.resources import PODS, REPLICASETS
from kubenet.model.writes import Create, Delete, Patch, Write


class Decider:
    """Fails as often as it is told, then ends the story."""

    def __init__(self, *failures: Exception, again_s: float | None = None) -> None:
        self.failures = list(failures)
        self.again_s = again_s
        self.calls = 0
        self.settled = asyncio.Event()

    def __call__(self, key: str) -> Decision:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        if self.again_s is not None:
            again_s, self.again_s = self.again_s, None
            return Decision((), again_s)
        self.settled.set()
        return Decision()


def play(decider: Decider) -> None:
    async def story() -> None:
        writer = Writer(ApiClient(ClusterConfig(server="http://nowhere")))
        loop = ControlLoop("things", decider, writer, SystemClock())
        loop.add("ns/a")
        running = asyncio.create_task(loop.run())
        settled = asyncio.create_task(decider.settled.wait())
        await asyncio.wait([running, settled], timeout=5, return_when=asyncio.FIRST_COMPLETED)
        settled.cancel()
        if running.done():
            running.result()
        running.cancel()

    asyncio.run(story())


def test_a_failure_is_tried_again_and_said(caplog: pytest.LogCaptureFixture) -> None:
    decider = Decider(KubenetError("no room"))
    with caplog.at_level(logging.INFO):
        play(decider)
    assert decider.calls == 2
    assert "things: ns/a: again in 0.005 s: no room" in caplog.text


def test_being_overtaken_is_tried_again_and_is_nothing_to_speak_of(caplog: pytest.LogCaptureFixture) -> None:
    decider = Decider(Conflict(409, "Conflict", "changed"))
    with caplog.at_level(logging.INFO):
        play(decider)
    assert decider.calls == 2
    assert caplog.text == ""


def test_a_decision_may_ask_to_be_looked_at_again() -> None:
    decider = Decider(again_s=0.01)
    play(decider)
    assert decider.calls == 2


def test_a_bug_is_not_tried_again() -> None:
    decider = Decider(ZeroDivisionError("bug"))
    with pytest.raises(ExceptionGroup) as caught:
        play(decider)
    assert caught.group_contains(ZeroDivisionError)


def test_writes_in_a_few_words() -> None:
    writes: list[Write] = [
        Create(PODS, "ns", {}),
        Create(PODS, "ns", {}),
        Patch(REPLICASETS, "ns", "a", {}, "status"),
        Delete(PODS, "ns", "p", uid="u"),
    ]
    assert summary(writes) == "2 create pods, patch replicasets/status, delete pods"
