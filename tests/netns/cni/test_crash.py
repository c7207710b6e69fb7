"""Agents that are killed, or whose kernel, disk or callers refuse, at each step of ADD and DEL (N1, N2).

A step is a system call that changes something (``tests.netns.steps``). Which there are is found out by
watching one ADD and one DEL: of a pod of both families, with a TCP and a UDP port of the node.
"""

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.netns.cni.conftest import NodeMaker, Pin
from tests.netns.cni.killable import Killable, killable, links_in, until
from tests.netns.steps import Plan

pytestmark = pytest.mark.netns

CODES = (errno.ENOSPC, errno.EBUSY, errno.ENOBUFS, errno.EEXIST, errno.ENODEV, errno.EPERM)


@pytest.fixture
def node(make_node: NodeMaker) -> Iterator[Killable]:
    """A node whose agent runs in a process of its own."""
    with killable(make_node()) as made:
        made.start()
        yield made


def steps_of_an_add(node: Killable, path: Path) -> Sequence[str]:
    """ADD a pod and return the steps of that."""
    plan = node.agent.expect()
    assert node.add("c1", path).code == 0
    return plan.seen


def steps_of_a_del(node: Killable, clean: dict[str, object]) -> Sequence[str]:
    """DEL the pod and return the steps of that, to the last that is done behind the answer."""
    plan = node.agent.expect()
    assert node.delete("c1").code == 0
    node.settled(clean)
    return plan.seen


def clear_up(node: Killable, number: int) -> None:
    """What a runtime does after a failure: a DEL, or a GC that does not know the pod."""
    answer = node.delete("c1") if number % 2 else node.collect()
    assert answer.code == 0, answer
    assert node.delete("c1").code == 0


def test_A5_N2_an_agent_that_is_refused_while_it_takes_over_does_no_harm(node: Killable, pin: Pin) -> None:
    refuse_starts(node, pin("p1"), CODES, every=3)


def refuse_starts(node: Killable, path: Path, codes: Sequence[int], every: int) -> None:
    """Let steps of a start fail, with one code after the other; a pod lives through all of it."""
    clean = node.truth()
    assert node.add("c1", path).code == 0
    attached = node.truth()
    number = 1
    while True:
        node.agent.kill()
        node.agent.wait_dead()
        ready = node.start(fail_at=number, code=codes[number % len(codes)])
        if ready and not node.agent.refused:
            break
        if not ready:
            node.start()
        node.settled(attached)
        number += every
    assert number > 30  # how often a table is read depends on what moves meanwhile
    assert node.delete("c1").code == 0
    node.settled(clean)


def survived(node: Killable, plan: Plan) -> bool:
    """Return whether the agent lives, as it must after every failure but one; else there is a new one.

    A thread that cannot return to its own namespace ends the agent: it must not go on in a pod's.
    """
    done = plan.seen[: plan.fail_at]
    if done[-1] == "setns" and done.count("setns") % 2 == 0:
        node.agent.wait_dead()
        node.start()
        return False
    assert node.agent.alive, done[-1]
    return True


def test_A5_N1_an_agent_killed_at_any_step_of_an_add_leaves_nothing(node: Killable, pin: Pin) -> None:
    path = pin("p1")
    clean = node.truth()
    steps = len(steps_of_an_add(node, path))
    assert steps > 20
    steps_of_a_del(node, clean)
    for number in range(1, steps + 2):
        plan = node.agent.expect(kill_at=number)
        answer = node.add("c1", path)
        assert (answer.code == 0) == ("answer" in plan.seen[: number - 1]), f"step {number}: {answer}"
        node.restart()
        clear_up(node, number)
        node.settled(clean)
        assert links_in(path) == {"lo"}, f"step {number}"
    assert node.add("c1", path).code == 0


def test_A5_N1_an_agent_killed_at_any_step_of_a_del_leaves_nothing(node: Killable, pin: Pin) -> None:
    path = pin("p1")
    clean = node.truth()
    steps_of_an_add(node, path)
    steps = len(steps_of_a_del(node, clean))
    assert steps > 10
    for number in range(1, steps + 2):
        assert node.add("c1", path).code == 0, f"step {number}"
        node.agent.expect(kill_at=number)
        assert node.delete("c1").code == 0, f"step {number}"  # a shim without an agent puts it off
        node.restart()
        clear_up(node, number)
        node.settled(clean)
        assert links_in(path) == {"lo"}, f"step {number}"


def test_A5_N1_an_agent_killed_while_it_takes_over_does_no_harm(node: Killable, pin: Pin) -> None:
    path, other = pin("p1"), pin("p2")
    clean = node.truth()
    address = node.add("c1", path).address
    attached = node.truth()
    number = 1
    while True:
        node.agent.kill()
        node.agent.wait_dead()
        assert node.add("c2", other, runtimeConfig={}).error == 11
        if node.start(kill_at=number):
            break
        node.start()
        node.settled(attached)
        number += 3
    assert number > 30  # how often a table is read depends on what moves meanwhile
    assert node.add("c2", other, runtimeConfig={}).address != address
    for container_id in ("c1", "c2"):
        assert node.delete(container_id).code == 0
    node.settled(clean)


def test_A2_N2_an_add_that_is_refused_at_any_step_leaves_nothing(node: Killable, pin: Pin) -> None:
    refuse_adds(node, pin("p1"), CODES)


def test_D1_N2_a_del_that_is_refused_at_any_step_can_be_repeated(node: Killable, pin: Pin) -> None:
    refuse_dels(node, pin("p1"), CODES)


def refuse_adds(node: Killable, path: Path, codes: Sequence[int]) -> None:
    """Let each step of an ADD fail once, with one code after the other."""
    clean = node.truth()
    steps = len(steps_of_an_add(node, path))
    steps_of_a_del(node, clean)
    for number in range(1, steps + 1):
        plan = node.agent.expect(fail_at=number, code=codes[number % len(codes)])
        answer = node.add("c1", path)
        where = f"step {number}, {plan.seen[-1]}"
        if not plan.is_done():  # the names of a dead pod are free at once, or a step later
            assert answer.code == 0, where
        elif survived(node, plan) and answer.code:
            assert answer.error, where
            node.settled(clean)
            assert links_in(path) == {"lo"}, where
        node.agent.expect()
        clear_up(node, number)
        node.settled(clean)
    assert node.add("c1", path).code == 0


def refuse_dels(node: Killable, path: Path, codes: Sequence[int]) -> None:
    """Let each step of a DEL fail once, with one code after the other."""
    clean = node.truth()
    steps_of_an_add(node, path)
    steps = len(steps_of_a_del(node, clean))
    for number in range(1, steps + 1):
        assert node.add("c1", path).code == 0, f"step {number}"
        plan = node.agent.expect(fail_at=number, code=codes[number % len(codes)])
        node.delete("c1")
        until(plan.is_done, 5, lambda: "steps of a DEL were left out")
        where = f"step {number}, {plan.seen[number - 1]}"
        if survived(node, plan) and plan.seen[number - 1] == "answer":
            node.restart()  # the shim has put it off: that is done by the next agent, or half a minute later
        assert node.delete("c1").code == 0, where
        node.settled(clean)
        assert links_in(path) == {"lo"}, where
