"""The server on a node's link-local address: what is tracked, what a flood costs others, what stays."""

import asyncio
import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from dns.daemon import ServeConfig
from dns.nodelocal import TABLE, NodeLocal
from kubenet.errors import InvalidInput
from kubenet.kernel import run
from tests.netns.dns.test_daemon import COREFILE, cluster, until_ready
from tests.netns.dns.test_handover import Running, servers
from tests.netns.dns.world import CLIENT, PATIENCE_S, SERVER, WEB, World, ask, exchange, on
from tests.unit.dns.world import query, seen

pytestmark = pytest.mark.netns

LOCAL, LOCAL6 = "169.254.20.10", "fd00:20::10"
TEXT = COREFILE.replace(f"bind {SERVER}\n", f"bind {SERVER} {LOCAL} {LOCAL6}\n")
NEIGHBOR = "172.31.0.9"  # another pod of the node
TRACKING = "table ip tracking { chain input { type filter hook input priority 0; ct state new counter; }; }"


def config(world: World, directory: Path, *, per_client_s: int = 10_000, name: str = "a") -> ServeConfig:
    return ServeConfig(
        directory / "Corefile",
        netns=world.server,
        ready=asyncio.Event(),
        handover=directory / "handover",
        node_local=NodeLocal((ip_address(LOCAL), ip_address(LOCAL6)), per_client_s=per_client_s),
    )


def reach(world: World) -> None:
    """Let the client ask at the node-local addresses, and be two pods."""
    for argv in (
        ["ip", "route", "add", LOCAL, "via", SERVER],
        ["ip", "-6", "route", "add", LOCAL6, "via", "fd00:31::2"],
        ["ip", "address", "add", f"{NEIGHBOR}/24", "dev", "eth0"],
    ):
        run.run(argv, netns=world.client)


def tracked(world: World) -> str:
    return run.run(["conntrack", "-L"], netns=world.server).stdout.decode()


def left(world: World) -> str:
    """Return what of ours is in the node's namespace."""
    tables = run.run(["nft", "list", "tables"], netns=world.server).stdout.decode()
    addresses = run.run(["ip", "-o", "address", "show", "dev", "lo"], netns=world.server).stdout.decode()
    return "\n".join(line for line in (tables + addresses).splitlines() if TABLE in line or "20" in line)


async def started(running: list[Running], config: ServeConfig) -> Running:
    running.append(Running(config))
    await asyncio.wait_for(running[-1].ready.wait(), PATIENCE_S)
    return running[-1]


def test_C4_node_local_queries_are_not_tracked_and_nothing_stays_behind(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        run.run(["nft", TRACKING], netns=world.server)
        reach(world)
        before = left(world)
        async with cluster(world), servers(world, tmp_path, TEXT) as running:
            server = await started(running, config(world, tmp_path))
            await until_ready(world)
            assert (await ask(world)).rdata == ["10.96.1.1"]
            assert f"dst={SERVER} sport" in tracked(world)  # an ordinary address is tracked
            for local in (LOCAL, LOCAL6):
                assert (await ask(world, server=local)).rdata == ["10.96.1.1"]
            assert LOCAL not in tracked(world)
            successor = await started(running, config(world, tmp_path))
            await asyncio.wait_for(server.task, PATIENCE_S)
            assert (await ask(world, server=LOCAL)).rdata == ["10.96.1.1"]
            assert TABLE in left(world)
            successor.stop.set()
            await asyncio.wait_for(successor.task, PATIENCE_S)
        assert left(world) == before

    on(case)


def test_D2_a_flood_of_one_pod_is_the_loss_of_that_pod_alone(world: World, tmp_path: Path) -> None:
    """Names that are never the same, from one address; the other asks in between and misses nothing."""

    async def case() -> None:
        reach(world)
        async with cluster(world), servers(world, tmp_path, TEXT) as running:
            await started(running, config(world, tmp_path, per_client_s=100))
            await until_ready(world)
            with (
                world.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood,
                world.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as pod,
            ):
                for opened, source in ((flood, CLIENT), (pod, NEIGHBOR)):
                    opened.setblocking(False)
                    opened.bind((source, 0))
                    opened.connect((LOCAL, 53))
                for number in range(50):
                    for each in range(200):
                        flood.send(query(f"x{number}-{each}.demo.svc.cluster.local"))
                    reply = await exchange(pod, query(WEB))
                    assert reply is not None
                    assert seen(reply).rdata == ["10.96.1.1"]
            listed = run.run(["nft", "list", "table", "inet", TABLE], netns=world.server).stdout.decode()
            dropped = [
                int(line.split("packets ")[-1].split()[0]) for line in listed.splitlines() if "drop" in line
            ]
            assert max(dropped) > 9000

    on(case)


def test_an_address_that_cannot_be_node_local_is_refused(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        (tmp_path / "Corefile").write_text(TEXT)
        wrong = ServeConfig(
            tmp_path / "Corefile", netns=world.server, node_local=NodeLocal((ip_address("127.0.0.1"),))
        )
        with pytest.raises(InvalidInput, match="needs addresses such as"):
            await Running(wrong).task

    on(case)
