"""A restart: the successor answers from the sockets of the server that runs, and no query is lost."""

import asyncio
import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dns.daemon import ServeConfig, serve
from dns.framing import framed
from dns.handover import Offer, succeed
from kubenet.errors import InvalidInput
from kubenet.kernel import run
from tests.netns.dns.test_daemon import COREFILE, cluster, until_ready
from tests.netns.dns.world import PATIENCE_S, SERVER, WEB, World, ask, on, stream
from tests.unit.dns.world import query, seen

pytestmark = pytest.mark.netns

RATE, SECONDS = 5000, 2.0


class Running:
    """One server, as the command runs it."""

    def __init__(self, config: ServeConfig) -> None:
        self.again, self.stop = asyncio.Event(), asyncio.Event()
        self.ready = config.ready or asyncio.Event()
        self.task = asyncio.create_task(serve(config, self.stop, self.again))


@asynccontextmanager
async def servers(world: World, directory: Path, text: str = COREFILE) -> AsyncIterator[list[Running]]:
    """Give a list to which the test adds; all end with it."""
    running: list[Running] = []
    (directory / "Corefile").write_text(text)
    try:
        yield running
    finally:
        for each in running:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in running), return_exceptions=True)


def begun(world: World, directory: Path) -> Running:
    handover, ready = directory / "handover", asyncio.Event()
    return Running(ServeConfig(directory / "Corefile", netns=world.server, handover=handover, ready=ready))


async def started(world: World, directory: Path) -> Running:
    running = begun(world, directory)
    await asyncio.wait_for(running.ready.wait(), PATIENCE_S)
    return running


@asynccontextmanager
async def asking(world: World, rate: int = RATE, seconds: float = SECONDS) -> AsyncIterator[dict[str, int]]:
    """Ask all the time from another process; the counts are there at the end."""
    out, into = os.pipe()
    argv = [sys.executable, "-m", "tests.netns.dns.steady", SERVER, str(rate), str(seconds), WEB, "10.96.1.1"]
    child = run.spawn(argv, netns=world.client, stdout=into, cwd=Path(__file__).parents[3])
    os.close(into)
    counts: dict[str, int] = {}
    loop = asyncio.get_running_loop()
    with os.fdopen(out, encoding="ascii") as lines:
        try:
            assert await loop.run_in_executor(None, lines.readline) == "go\n"
            yield counts
            counts.update(json.loads(await loop.run_in_executor(None, lines.readline)))
            await child.exited()
        finally:
            if child.poll() is None:
                child.terminate(1.0)


def test_D6_a_restart_loses_no_query(world: World, tmp_path: Path) -> None:
    """Three successors, one after the other, at 5,000 queries a second."""

    async def case() -> None:
        async with cluster(world), servers(world, tmp_path) as running:
            running.append(await started(world, tmp_path))
            await until_ready(world)
            async with asking(world) as counts:
                for _ in range(3):
                    running.append(await started(world, tmp_path))
                    await asyncio.wait_for(running[-2].task, PATIENCE_S)
            assert not running[-1].task.done()
            assert counts["asked"] == RATE * SECONDS
            assert counts["asked"] - counts["answered"] == 0
            assert counts["wrong"] == 0

    on(case)


def test_P9_D6_a_reload_loses_no_query_at_5000_a_second(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        async with cluster(world), servers(world, tmp_path) as running:
            running.append(await started(world, tmp_path))
            await until_ready(world)
            async with asking(world) as counts:
                for turn in range(10):
                    hosts = f"hosts {{\n 192.0.2.{turn} turn.example\n fallthrough\n }}"
                    (tmp_path / "Corefile").write_text(COREFILE.replace("errors", hosts))
                    running[0].again.set()
                    async with asyncio.timeout(PATIENCE_S):
                        while (await ask(world, "turn.example")).rdata != [f"192.0.2.{turn}"]:
                            await asyncio.sleep(0.01)
            assert counts == {"asked": RATE * SECONDS, "answered": RATE * SECONDS, "wrong": 0}

    on(case)


def test_D6_an_open_connection_is_served_to_its_end_by_the_old_server(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        async with cluster(world), servers(world, tmp_path) as running:
            running.append(await started(world, tmp_path))
            await until_ready(world)
            async with stream(world) as connection:
                await connection.send(framed(query(WEB)))
                assert len(await connection.messages(1)) == 1
                running.append(await started(world, tmp_path))
                await connection.send(framed(query(WEB)))
                (reply,) = await connection.messages(1)
                assert seen(reply).rdata == ["10.96.1.1"]
                assert await connection.closed()
            await asyncio.wait_for(running[0].task, PATIENCE_S)
            async with stream(world) as connection:
                await connection.send(framed(query(WEB)))
                assert len(await connection.messages(1)) == 1

    on(case)


def test_D6_a_successor_that_fails_changes_nothing(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        async with cluster(world), servers(world, tmp_path) as running:
            running.append(await started(world, tmp_path))
            await until_ready(world)
            (tmp_path / "Corefile").write_text("nonsense {\n")
            failing = begun(world, tmp_path)
            with pytest.raises(InvalidInput):
                await asyncio.wait_for(failing.task, PATIENCE_S)
            assert not running[0].task.done()
            assert (await ask(world)).rdata == ["10.96.1.1"]
            (tmp_path / "Corefile").write_text(COREFILE)
            running.append(await started(world, tmp_path))
            await asyncio.wait_for(running[0].task, PATIENCE_S)
            assert (await ask(world)).rdata == ["10.96.1.1"]

    on(case)


def test_the_sockets_are_for_our_user_alone(tmp_path: Path) -> None:
    async def case() -> None:
        path = tmp_path / "handover"
        assert await succeed(path) is None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.bind(("127.0.0.1", 0))
            name = ("127.0.0.1", ours.getsockname()[1], int(socket.SOCK_DGRAM))
            offer = Offer(path, lambda: {name: ours})
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            successor = await succeed(path)
            assert successor is not None
            assert successor.sockets[name].getsockname() == ours.getsockname()
            successor.close()
            again = await succeed(path)
            assert again is not None
            again.taken()
            await asyncio.wait_for(offer.taken.wait(), PATIENCE_S)
            offer.close()
            assert await succeed(path) is None  # a path that nobody listens at is no predecessor
            next_one = Offer(path, dict)
            offer.close()
            assert path.exists()  # it is the successor's
            next_one.close()
            assert not path.exists()
        with pytest.raises(InvalidInput, match="handover: No such file or directory"):
            Offer(tmp_path / "missing" / "handover", dict)
        with pytest.raises(InvalidInput, match="no directory that may be written to"):
            await succeed(tmp_path / "missing" / "handover")

    on(case)
