"""Restarts and reloads, one after the other, under 5,000 queries a second."""

import asyncio
from pathlib import Path

import pytest

from tests.netns.dns.test_daemon import COREFILE, cluster, until_ready
from tests.netns.dns.test_handover import RATE, asking, servers, started
from tests.netns.dns.world import PATIENCE_S, World

pytestmark = pytest.mark.soak

A_ROUND_S = 1.0


def test_D6_P9_restarts_and_reloads_lose_no_query(world: World, tmp_path: Path, soak_rounds: int) -> None:
    seconds = soak_rounds * A_ROUND_S

    async def case() -> None:
        async with cluster(world), servers(world, tmp_path) as running:
            running.append(await started(world, tmp_path))
            await until_ready(world)
            async with asking(world, seconds=seconds) as counts:
                for number in range(soak_rounds):
                    (tmp_path / "Corefile").write_text(f"{COREFILE}# {number}\n")
                    running[-1].again.set()
                    await asyncio.sleep(A_ROUND_S / 2)
                    running.append(await started(world, tmp_path))
                    await asyncio.wait_for(running[-2].task, PATIENCE_S)
                    running.pop(0)
            assert counts == {"asked": RATE * seconds, "answered": RATE * seconds, "wrong": 0}

    asyncio.run(case())
