"""Many requests at a time, a host that reboots, an agent that is down (rows D4, N4, N6, N9)."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kubenet.kernel.netns import unpin
from tests.netns.cni.conftest import Answer, LabNode, NodeMaker, Pin, observe
from tests.netns.cni.killable import Killable, killable, links_in, until

pytestmark = pytest.mark.netns

SAME, DIFFERENT = 50, 200
CROSSINGS = 12


@pytest.fixture
def node(make_node: NodeMaker) -> Iterator[Killable]:
    """A node whose agent runs in a process of its own."""
    with killable(make_node()) as made:
        made.start()
        yield made


def test_N4_of_fifty_adds_of_one_pod_one_wins(node: Killable, pin: Pin) -> None:
    path = pin("p1")
    clean = node.truth()
    with ThreadPoolExecutor(SAME) as callers:
        answers = list(callers.map(lambda _: node.add("c1", path), range(SAME)))
    won = [answer for answer in answers if answer.code == 0]
    assert len(won) == 1
    assert {answer.error for answer in answers if answer.code} == {won_code(answers)}
    assert "eth0" in links_in(path)
    assert node.add("c2", path, ifname="eth1", runtimeConfig={}).address != won[0].address
    for ifname in ("eth0", "eth1"):
        node.node.runtime.delete("c1", ifname=ifname)
        node.node.runtime.delete("c2", ifname=ifname)
    node.settled(clean)


def won_code(answers: list[Answer]) -> int:
    """Return the code of those that came too late, which is one of our own."""
    code = next(answer.error for answer in answers if answer.code)
    assert code >= 100
    return code


def test_N4_two_hundred_pods_at_once_get_two_hundred_addresses(node: Killable, pin: Pin) -> None:
    paths = [pin(f"p{number}") for number in range(DIFFERENT)]
    clean = node.truth()
    with ThreadPoolExecutor(32) as callers:
        numbers = range(DIFFERENT)
        answers = list(
            callers.map(lambda number: node.add(f"c{number}", paths[number], runtimeConfig={}), numbers)
        )
        assert [answer.code for answer in answers] == [0] * DIFFERENT
        assert len({answer.address for answer in answers}) == DIFFERENT
        deleted = list(callers.map(lambda number: node.delete(f"c{number}").code, numbers))
    assert deleted == [0] * DIFFERENT
    node.settled(clean, within_s=20)


def test_D4_a_del_that_crosses_the_add_of_its_pod_leaves_all_or_nothing(node: Killable, pin: Pin) -> None:
    cross(node, pin("p1"), CROSSINGS)


def cross(node: Killable, path: Path, times: int) -> None:
    """Let a DEL come while the ADD of its pod is under way, a little later each time."""
    clean = node.truth()
    with ThreadPoolExecutor(2) as callers:
        for number in range(times):
            adding = callers.submit(node.add, "c1", path)
            time.sleep(0.0005 * (number % CROSSINGS))  # what is tried is every overlap there is
            assert callers.submit(node.delete, "c1").result().code == 0
            added = adding.result()
            if node.agent_has("c1"):
                assert added.code == 0
                assert "eth0" in links_in(path)
                assert node.delete("c1").code == 0
            node.settled(clean)
            assert links_in(path) == {"lo"}


def test_N6_after_a_reboot_no_address_is_held_and_late_dels_do_no_harm(
    make_node: NodeMaker, pin: Pin, tmp_path: Path
) -> None:
    before = make_node(1)
    before.start()
    addresses = {before.runtime.add(f"c{number}", pin(f"p{number}")).address for number in range(4)}
    assert len(addresses) == 4
    before.stop()
    for number in range(4):  # the machine goes, and its namespaces and links with it
        unpin(tmp_path / "netns" / f"p{number}")
    assert all_gone(before)
    (before.config.state_dir / "attachments" / "boot_id").write_text("another boot")
    before.start()
    assert before.attached() == []
    assert before.records() == set()
    for number in range(4):
        assert before.runtime.delete(f"c{number}").code == 0
    again = [before.runtime.add(f"d{number}", pin(f"q{number}")) for number in range(4)]
    assert {answer.address for answer in again} == addresses  # from the front: nothing is held


def all_gone(node: LabNode) -> bool:
    until(lambda: not node.links(), 5, lambda: "links outlive their pods")
    return True


def test_N6_on_a_new_tmpfs_there_is_nothing_to_take_over(make_node: NodeMaker, pin: Pin) -> None:
    node = make_node(1)
    node.start()
    assert node.runtime.add("c1", pin("p1")).code == 0
    node.stop()
    fresh = replace(node.config, state_dir=node.directory / "fresh")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node, "config", fresh)
        node.start()  # the state is lost, but the kernel still has the pod: its address stays taken
        assert node.runtime.add("c2", pin("p2")).address == "10.244.1.3"
        assert node.runtime.delete("c1").code == 0
        assert node.runtime.delete("c2").code == 0
        assert node.nothing_left()


def test_N9_without_an_agent_an_add_fails_at_once_and_a_del_is_done_later(node: Killable, pin: Pin) -> None:
    path, other = pin("p1"), pin("p2")
    clean = node.truth()
    assert node.add("c1", path).code == 0
    node.agent.kill()
    node.agent.wait_dead()
    began_s = time.monotonic()
    assert node.add("c2", other).error == 11
    assert time.monotonic() - began_s < 1.0
    assert node.delete("c1").code == 0
    assert node.delete("c1").code == 0
    assert "eth0" in links_in(path)
    node.start()
    node.settled(clean)
    assert links_in(path) == {"lo"}


def test_N10_a_hundred_and_ten_pods_are_drained_and_nothing_stays(node: Killable, pin: Pin) -> None:
    paths = [pin(f"p{number}") for number in range(110)]
    clean = node.truth()
    with ThreadPoolExecutor(16) as callers:
        added = callers.map(lambda n: node.add(f"c{n}", paths[n], runtimeConfig={}).code, range(110))
        assert set(added) == {0}
        assert set(callers.map(lambda n: node.delete(f"c{n}").code, range(110))) == {0}
    node.settled(clean, within_s=5)
    assert not observe(node.node.netns).neighbors
