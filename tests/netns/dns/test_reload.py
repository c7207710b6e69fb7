"""Changes of the configuration that come at the wrong moment."""

import asyncio
from pathlib import Path

import pytest

from dns.daemon import ServeConfig, serve
from tests.netns.dns.test_daemon import COREFILE, cluster, until_ready
from tests.netns.dns.world import PATIENCE_S, World, ask, on

pytestmark = pytest.mark.netns

PLAIN = COREFILE.replace("    loop\n", "")  # nobody is upstream; a probe that waits would only take time


def test_D7_a_storm_of_reloads_good_and_bad_ends_with_the_last_good_one(world: World, tmp_path: Path) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(PLAIN)

    async def case() -> None:
        stop, again, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        config = ServeConfig(corefile, netns=world.server, ready=ready)
        async with cluster(world):
            serving = asyncio.create_task(serve(config, stop, again))
            await ready.wait()
            await until_ready(world)
            for turn in range(60):
                broken = turn % 3 == 0
                hosts = f"hosts {{\n 192.0.2.{turn} turn.example\n fallthrough\n }}"
                corefile.write_text("import Corefile" if broken else PLAIN.replace("errors", hosts))
                again.set()
                if turn % 7 == 0:
                    assert (await ask(world)).rdata == ["10.96.1.1"]
                await asyncio.sleep(0)
            corefile.write_text(
                PLAIN.replace("errors", "hosts {\n 192.0.2.99 turn.example\n fallthrough\n }")
            )
            again.set()
            async with asyncio.timeout(PATIENCE_S):
                while (await ask(world, "turn.example")).rdata != ["192.0.2.99"]:
                    await asyncio.sleep(0.02)
            assert (await ask(world)).rdata == ["10.96.1.1"]
            stop.set()
            await asyncio.wait_for(serving, PATIENCE_S)

    on(case)


def test_D7_an_end_in_the_middle_of_a_reload_is_an_end(world: World, tmp_path: Path) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(PLAIN)

    async def case() -> None:
        async with cluster(world):
            for turns in range(4):
                stop, again, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
                serving = asyncio.create_task(
                    serve(ServeConfig(corefile, netns=world.server, ready=ready), stop, again)
                )
                await ready.wait()
                # Another ttl is another zone: the reload waits for its list of objects.
                text = PLAIN.replace("fallthrough in-addr", f"ttl {turns + 7}\n        fallthrough in-addr")
                corefile.write_text(text)
                again.set()
                for _ in range(turns * 3):
                    await asyncio.sleep(0)
                stop.set()
                await asyncio.wait_for(serving, PATIENCE_S)

    on(case)
