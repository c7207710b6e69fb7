"""What clients may take of the server, and what the machine may take from it."""

import asyncio
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dns.framing import FrameReader, framed
from dns.transports import StreamLimits
from dns.wire import RType
from tests.netns.dns.world import (
    PATIENCE_S,
    SERVER,
    WEB,
    ZONE,
    World,
    ask,
    exchange,
    on,
    serving,
    stream,
    udp_socket,
)
from tests.unit.dns.world import PLAIN_OPT, endpoint, endpoint_slice, query, seen, service

pytestmark = pytest.mark.netns

OPCODES = {"IQUERY": 1, "STATUS": 2, "NOTIFY": 4, "UPDATE": 5, "DSO": 6}


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Let this process open so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_D4_without_descriptors_udp_is_answered_and_connections_wait(world: World) -> None:
    async def case() -> None:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        loop.set_exception_handler(lambda _, context: told.append(context["message"]))
        async with serving(world):
            clients = [world.client.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(12)]
            with udp_socket(world) as opened:
                with descriptors_left(2):
                    for client in clients:
                        client.setblocking(False)
                        await loop.sock_connect(client, (SERVER, 53))  # the kernel takes them all
                        await loop.sock_sendall(client, framed(query(WEB)))
                    async with asyncio.timeout(PATIENCE_S):
                        while not told:
                            await asyncio.sleep(0.01)
                    reply = await exchange(opened, query(WEB))
                    assert reply is not None
                    assert seen(reply).rdata == ["10.96.1.1"]
                assert "out of system resource" in told[0]
                for client in clients:  # the loop accepts again within a second
                    frames = FrameReader()
                    while not frames.ready:
                        frames.feed(await asyncio.wait_for(loop.sock_recv(client, 4096), PATIENCE_S))
                    assert seen(next(frames.messages())).rdata == ["10.96.1.1"]
                    client.close()

    on(case)


def test_D9_five_thousand_endpoints_in_fifty_slices(world: World) -> None:
    """Over UDP what fits, over TCP what fits there; both say that it is not all, and both hold OPT."""
    name = f"db.demo.svc.{ZONE}"
    hosts = [endpoint(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(5000)]
    slices = [endpoint_slice(f"demo/db-{n}", "db", *hosts[n::50]) for n in range(50)]
    others = [service(f"demo/s{n}", f"10.96.{n >> 8}.{n & 255}") for n in range(1000)]

    async def case() -> None:
        async with serving(world, service("demo/db", "None"), *slices, *others) as server:
            found: set[str] = set()
            for turn in range(40):
                reply = await ask(world, name, opt=PLAIN_OPT)
                assert "tc" in reply.flags
                assert reply.opt
                assert len(reply.rdata) == (1232 - 12 - len(query(name)) + 12 - 11) // 16
                found |= set(reply.rdata)
                server.feed.service(f"demo/s{turn}", service(f"demo/s{turn}", f"10.97.0.{turn}"))
                server.poke()
            assert len(found) > 73  # another part each time
            async with stream(world) as connection:
                await connection.send(framed(query(name, opt=PLAIN_OPT)))
                (whole,) = await connection.messages(1)
            assert (
                len(seen(whole).rdata) == len(set(seen(whole).rdata)) == (65535 - len(query(name)) - 11) // 16
            )
            assert "tc" in seen(whole).flags
            server.feed.endpoint_slice("demo/db-0", None)
            server.poke()
            await asyncio.sleep(0)
            assert len(server.feed._read) == 49
            assert (await ask(world, f"s7.demo.svc.{ZONE}")).rdata == ["10.97.0.7"]

    on(case)


@pytest.mark.parametrize("opcode", OPCODES.values(), ids=OPCODES)
def test_S9_D10_what_is_no_query_is_refused_on_every_transport(world: World, opcode: int) -> None:
    async def case() -> None:
        message = query(WEB, flags=opcode << 11)
        async with serving(world), stream(world) as connection:
            with udp_socket(world) as opened:
                reply = await exchange(opened, message)
            await connection.send(framed(message))
            assert await connection.messages(1) == [reply]
            assert reply is not None
            assert seen(reply).status == ("REFUSED" if opcode == 4 else "NOTIMP")
            assert len(reply) <= len(message)

    on(case)


@pytest.mark.parametrize(
    ("name", "qtype", "qclass", "status"),
    [
        pytest.param(WEB, RType.AXFR, 1, "REFUSED", id="a transfer"),
        pytest.param(ZONE, RType.IXFR, 1, "REFUSED", id="an incremental transfer"),
        pytest.param("version.bind", RType.TXT, 3, "REFUSED", id="class CH"),
        pytest.param(WEB, RType.A, 255, "REFUSED", id="class ANY"),
        pytest.param(WEB, RType.ANY, 1, "NOERROR", id="type ANY"),
        pytest.param("www.example.com", RType.A, 1, "REFUSED", id="another's name, without upstream servers"),
    ],
)
def test_S9_D10_what_is_asked_to_make_us_big_stays_small(
    world: World, name: str, qtype: int, qclass: int, status: str
) -> None:
    async def case() -> None:
        message = query(name, qtype)[:-2] + struct.pack("!H", qclass)
        hosts = [endpoint(f"10.1.0.{n}") for n in range(1, 200)]
        many = (service("demo/web", "10.96.1.1", "fd00::1"), endpoint_slice("demo/web-1", "web", *hosts))
        async with serving(world, *many), stream(world) as connection:
            with udp_socket(world) as opened:
                reply = await exchange(opened, message)
            await connection.send(framed(message))
            assert await connection.messages(1) == [reply]
            assert reply is not None
            assert seen(reply).status == status
            assert len(reply) <= 3 * len(message)

    on(case)


def test_S9_D3_connections_queries_and_those_of_one_client_are_bounded(world: World) -> None:
    async def case() -> None:
        limits = StreamLimits(connections=6, per_client=4, queries=50)
        async with serving(world, streams=limits) as server:
            async with stream(world) as first:
                await first.send(framed(query(WEB)) * 60)
                assert len(await first.messages(60)) == 50
            for _ in range(9):
                async with stream(world) as connection:
                    await connection.send(framed(query(WEB)))
                    assert len(await connection.messages(1)) == 1
            held = [stream(world) for _ in range(9)]
            for each in held:
                connection = await each.__aenter__()
                await connection.send(framed(query(WEB)))
            async with asyncio.timeout(PATIENCE_S):
                while server.streams.turned_away < 5:
                    await asyncio.sleep(0.01)
            assert len(server.streams.connections) <= 4
            for each in held:
                await each.__aexit__(None, None, None)

    on(case)
