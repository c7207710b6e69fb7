"""A thousand kills at random steps; each step refused with each code: nothing is left (A5, N1, N2)."""

import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.netns.cni.conftest import Answer, NodeMaker, Pin
from tests.netns.cni.killable import Killable, killable, links_in
from tests.netns.cni.test_crash import CODES, refuse_adds, refuse_dels, refuse_starts

pytestmark = pytest.mark.soak

PODS = 6
STEPS_MOST = 120  # of three requests at a time; a start has some 60
TRUTH_EVERY = 10


@pytest.fixture
def node(make_node: NodeMaker) -> Iterator[Killable]:
    """A node whose agent runs in a process of its own."""
    with killable(make_node()) as made:
        made.start()
        yield made


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.__getitem__)
def test_A2_N2_each_step_of_an_add_refused_with_each_code(node: Killable, pin: Pin, code: int) -> None:
    refuse_adds(node, pin("p1"), [code])


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.__getitem__)
def test_D1_N2_each_step_of_a_del_refused_with_each_code(node: Killable, pin: Pin, code: int) -> None:
    refuse_dels(node, pin("p1"), [code])


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.__getitem__)
def test_A5_N2_each_step_of_a_start_refused_with_each_code(node: Killable, pin: Pin, code: int) -> None:
    refuse_starts(node, pin("p1"), [code], every=1)


@dataclass
class Pods:
    """What a runtime believes: which pods it has, and with which addresses."""

    node: Killable
    paths: Sequence[Path]
    attached: dict[str, str] = field(default_factory=dict)

    def turn(self, number: int) -> None:
        """ADD the pod if it is not there, DEL it if it is; DEL it too when its ADD failed, as runtimes do."""
        container_id = f"c{number}"
        if container_id in self.attached:
            # What was asked for is done, now or when there is an agent again.
            assert self.node.delete(container_id).code == 0
            del self.attached[container_id]
            return
        answer = self.add(number)
        if answer.code == 0:
            self.attached[container_id] = answer.address
        else:
            assert answer.error
            assert self.node.delete(container_id).code == 0

    def add(self, number: int) -> Answer:
        ports = {"hostPort": 9000 + number, "containerPort": 80, "protocol": "udp" if number % 2 else "tcp"}
        conf: dict[str, Any] = (
            {"runtimeConfig": {"portMappings": [ports]}} if number % 3 else {"runtimeConfig": {}}
        )
        return self.node.add(f"c{number}", self.paths[number], **conf)

    def agree(self) -> None:
        """The agent and the kernel say the same."""
        addresses = list(self.attached.values())
        assert len(set(addresses)) == len(addresses), f"an address was given twice: {addresses}"
        for number, path in enumerate(self.paths):
            if f"c{number}" in self.attached:
                assert "eth0" in links_in(path), f"c{number} has lost its interface"
        assert sum(self.node.agent_has(f"c{number}") for number in range(len(self.paths))) == len(
            self.attached
        )

    def end(self, clean: dict[str, object], *, by_gc: bool) -> None:
        """Delete all pods; nothing is left then."""
        if by_gc:
            assert self.node.collect().code == 0
        for number in range(len(self.paths)):
            assert self.node.delete(f"c{number}").code == 0
        self.attached.clear()
        self.node.settled(clean)
        assert all(links_in(path) == {"lo"} for path in self.paths)


def test_A5_N1_agents_killed_at_random_steps_leave_nothing(
    node: Killable, pin: Pin, soak_rounds: int
) -> None:
    random = Random(20)
    pods = Pods(node, [pin(f"p{number}") for number in range(PODS)])
    clean = node.truth()
    killed = 0
    with ThreadPoolExecutor(3) as callers:
        while killed < soak_rounds:
            node.agent.expect(kill_at=random.randint(1, STEPS_MOST))
            while node.agent.alive:
                list(callers.map(pods.turn, random.sample(range(PODS), 3)))
            node.agent.wait_dead()
            killed += 1
            while not node.start(kill_at=random.choice((0, 0, random.randint(1, 60)))):
                killed += 1
            if killed % TRUTH_EVERY == 0:
                pods.agree()
            if killed % (10 * TRUTH_EVERY) == 0:
                pods.end(clean, by_gc=bool(random.getrandbits(1)))
    pods.end(clean, by_gc=False)
    print(f"{killed} kills, nothing left")
