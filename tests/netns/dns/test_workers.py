"""Several processes on one port: one watch, one page of metrics, one reload; and none of them is missed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from dns.metrics import added_up
from kubenet.kernel import run
from kubenet.kernel.run import Child
from kubenet.model.resources import SERVICES
from tests.netns.dns.test_daemon import COREFILE, cluster, page, until_ready
from tests.netns.dns.test_handover import asking
from tests.netns.dns.world import PATIENCE_S, ZONE, World, ask, on

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[3]
COUNT = 3


@asynccontextmanager
async def command(world: World, directory: Path, *options: str) -> AsyncIterator[Child]:
    argv = [sys.executable, "-m", "kubenet", "dns", "--conf", str(directory / "Corefile"), *options]
    child = run.spawn(argv, netns=world.server, cwd=ROOT, stderr=2)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate(5.0)


async def serving(world: World) -> None:
    """Return once all of the processes answer."""
    async with asyncio.timeout(4 * PATIENCE_S):
        while True:
            try:
                await until_ready(world)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                return


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def requests(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith("coredns_dns_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_workers_share_one_watch_and_all_of_them_answer(world: World, tmp_path: Path) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(COREFILE)

    async def case() -> None:
        async with cluster(world) as client, command(world, tmp_path, "--workers", str(COUNT)) as child:
            await serving(world)
            assert len(children(child.pid)) == COUNT - 1
            watches = await run_ss(world)
            assert watches == 3 + 1  # services, slices and namespaces, once; and the client of the test
            for _ in range(60):  # each from a port of its own, so that all processes get some
                assert (await ask(world)).rdata == ["10.96.1.1"]
            _, metrics = await page(world, 9153, "/metrics")
            assert requests(metrics) == 60
            assert metrics.count("# TYPE coredns_dns_requests_total counter") == 1
            await client.create(
                SERVICES, "demo", {"metadata": {"name": "new"}, "spec": {"ports": [{"port": 1}]}}
            )
            async with asyncio.timeout(PATIENCE_S):
                for _ in range(20):
                    while (await ask(world, f"new.demo.svc.{ZONE}")).status != "NOERROR":
                        await asyncio.sleep(0.01)
            corefile.write_text(
                COREFILE.replace("errors", "hosts {\n 192.0.2.7 seven.example\n fallthrough\n }")
            )
            child.signal(signal.SIGUSR1)
            async with asyncio.timeout(PATIENCE_S):
                for _ in range(20):
                    while (await ask(world, "seven.example")).rdata != ["192.0.2.7"]:
                        await asyncio.sleep(0.01)

    on(case)


async def run_ss(world: World) -> int:
    """Return how many connections to the API server are open."""
    await asyncio.sleep(0)
    found = run.run(["ss", "-Htn", "state", "established", "dport = :6443"], netns=world.server)
    return len(found.stdout.splitlines())


def test_a_worker_that_dies_is_started_again(world: World, tmp_path: Path) -> None:
    (tmp_path / "Corefile").write_text(COREFILE)

    async def case() -> None:
        async with cluster(world), command(world, tmp_path, "--workers", "2") as child:
            await serving(world)
            (worker,) = children(child.pid)
            os.kill(worker, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE_S):
                while (await page(world, 8181, "/ready"))[0] == 200:
                    await asyncio.sleep(0.01)
            await serving(world)
            assert children(child.pid) not in ([], [worker])
            for _ in range(20):
                assert (await ask(world)).rdata == ["10.96.1.1"]
            child.signal(signal.SIGTERM)
            assert await asyncio.wait_for(child.exited(), 3 * PATIENCE_S) == 0
            assert not Path(f"/proc/{worker}").exists()

    on(case)


def test_D6_a_restart_with_workers_loses_no_query(world: World, tmp_path: Path) -> None:
    (tmp_path / "Corefile").write_text(COREFILE)
    options = ("--workers", "2", "--handover", str(tmp_path / "handover"))

    async def case() -> None:
        async with cluster(world), AsyncExitStack() as running:
            old = await running.enter_async_context(command(world, tmp_path, *options))
            await serving(world)
            async with asking(world, rate=1000, seconds=4.0) as counts:
                await running.enter_async_context(command(world, tmp_path, *options))
                assert await asyncio.wait_for(old.exited(), 3 * PATIENCE_S) == 0
                await serving(world)
                assert (await ask(world)).rdata == ["10.96.1.1"]
            assert counts == {"asked": 4000, "answered": 4000, "wrong": 0}

    on(case)


def test_pages_are_added_up() -> None:
    one = '# HELP a A.\n# TYPE a counter\na{x="1"} 2\n# HELP g G.\n# TYPE g gauge\ng 5\n'
    two = '# HELP a A.\n# TYPE a counter\na{x="1"} 3\na{x="2"} 1\n# HELP g G.\n# TYPE g gauge\ng 4\n'
    assert added_up([one, two]) == (
        '# HELP a A.\n# TYPE a counter\na{x="1"} 5\na{x="2"} 1\n# HELP g G.\n# TYPE g gauge\ng 5\n'
    )
