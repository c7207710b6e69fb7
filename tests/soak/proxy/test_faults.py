"""The faults of tests/netns/proxy/test_faults.py, longer and larger."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.netns.proxy.faults import Traffic, manifest, proxy
from tests.netns.proxy.test_command import ran, wait_until
from tests.netns.proxy.test_faults import MODES, SETS, lock_held, once, reaches
from tests.netns.proxy.world import World

pytestmark = [pytest.mark.netns, pytest.mark.soak]


@MODES
def test_P1_killed_at_any_moment(world: World, tmp_path: Path, soak_rounds: int, mode: str) -> None:
    chance = random.Random(0)
    with proxy(world, tmp_path, mode, manifest([2], 300)) as made:
        made.start()
        wait_until(lambda: reaches(world, 2))
        with Traffic(world) as traffic:
            for _ in range(soak_rounds):
                made.say(manifest(chance.choice(SETS), chance.choice([250, 300])))
                time.sleep(chance.uniform(0.0, 0.6))
                made.end(chance.choice([signal.SIGKILL, signal.SIGTERM]))
                made.start()
                assert traffic.failures == []
            made.say(manifest([5], 300))
            wait_until(lambda: traffic.settled_on(5), 60)
        assert traffic.failures == []
        made.end(signal.SIGTERM)
    assert b" 0 written" in ran(world, *once(tmp_path, mode)).stdout


@pytest.mark.parametrize(("mode", "services"), [("nftables", 10000), ("iptables", 2000)])
def test_A7_row78_a_restart_with_many_services_writes_nothing_and_fails_nothing(
    world: World, tmp_path: Path, mode: str, services: int
) -> None:
    with proxy(world, tmp_path, mode, manifest([2, 3], services)):
        assert ran(world, *once(tmp_path, mode)).returncode == 0
        with Traffic(world) as traffic:
            again = ran(world, *once(tmp_path, mode))
        said = f"{services + 1} services, {2 * services + 2} endpoints, 0 written"
        assert again.stdout.decode().startswith(said), again
        assert traffic.failures == []


def test_P4_a_lock_that_somebody_holds_for_a_minute(world: World, tmp_path: Path) -> None:
    lock_held(world, tmp_path, 60.0)
