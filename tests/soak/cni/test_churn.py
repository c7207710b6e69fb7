"""Pods come and go, orders cross, and afterwards all is as it was before (D4, N10)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.netns.cni.conftest import NodeMaker, Pin
from tests.netns.cni.killable import Killable, killable
from tests.netns.cni.test_concurrency import cross

pytestmark = pytest.mark.soak

PODS = 8
GROWTH_MOST_BYTES = 8 << 20


@pytest.fixture
def node(make_node: NodeMaker) -> Iterator[Killable]:
    """A node whose agent runs in a process of its own."""
    with killable(make_node()) as made:
        made.start()
        yield made


def test_N10_pods_that_come_and_go_leave_the_agent_as_it_was(
    node: Killable, pin: Pin, soak_rounds: int
) -> None:
    paths = [pin(f"p{number}") for number in range(PODS)]
    clean = node.truth()
    with ThreadPoolExecutor(PODS) as callers:

        def churn(rounds: int) -> None:
            def life(number: int) -> None:
                assert node.add(f"c{number}", paths[number], runtimeConfig={}).code == 0
                assert node.delete(f"c{number}").code == 0

            for _ in range(rounds):
                list(callers.map(life, range(PODS)))
            node.settled(clean)

        churn(50)
        process = Path(f"/proc/{node.agent.pid}")
        files, threads, rss_bytes = held(process)
        churn(soak_rounds)
    assert held(process)[:2] == (files, threads)
    assert held(process)[2] - rss_bytes < GROWTH_MOST_BYTES


def test_D4_dels_cross_the_adds_of_their_pods(node: Killable, pin: Pin, soak_rounds: int) -> None:
    cross(node, pin("p1"), max(200, soak_rounds // 5))


def held(process: Path) -> tuple[int, int, int]:
    """Return how many descriptors and threads a process has, and how many bytes of memory."""
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    files = len(list((process / "fd").iterdir()))
    return files, int(status["Threads"]), int(status["VmRSS"].split()[0]) * 1024
