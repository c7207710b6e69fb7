"""Names that are not ours: real sockets to servers that answer, lie, cut short, or keep silent."""

import asyncio
import struct
from collections import Counter
from collections.abc import Callable

import pytest

from dns.framing import framed
from dns.upstream import FEWEST_OPEN, USES
from dns.wire import QR, RA, RD, TC, Rcode
from tests.netns.dns.world import (
    CLIENT,
    SERVER,
    WEB,
    ZONE,
    Upstream,
    World,
    ask,
    framed_in_two,
    on,
    serving,
    stream,
)
from tests.unit.dns.world import PLAIN_OPT, external, query, seen

pytestmark = pytest.mark.netns

NAME = "www.example.com"
THERE = (CLIENT, 5300)
NOBODY = (CLIENT, 5399)


def answered(message: bytes, flags: int = 0, last: int = 1) -> bytes:
    """Return a reply to ``message`` with the address 192.0.2.``last``, or an empty one for errors."""
    end = message.index(0, 12) + 5
    bare = flags & (TC | 0xF)
    record = b"" if bare else b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes((192, 0, 2, last))
    return (
        message[:2] + struct.pack("!5H", QR | RD | RA | flags, 1, not bare, 0, 0) + message[12:end] + record
    )


def plainly(message: bytes, tcp: bool) -> list[bytes]:
    return [framed(answered(message)) if tcp else answered(message)]


def test_a_name_that_is_not_ours_is_asked_upstream(world: World) -> None:
    async def case() -> None:
        with Upstream(world, plainly) as upstream:
            async with serving(world, upstreams=(THERE,)):
                reply = await ask(world, NAME, opt=PLAIN_OPT)
                assert reply.rdata == ["192.0.2.1"]
                assert reply.flags == {"qr", "rd", "ra"}
                async with stream(world) as connection:
                    await connection.send(framed(query(NAME)))
                    (over_tcp,) = await connection.messages(1)
                    assert seen(over_tcp).rdata == ["192.0.2.1"]
                assert (await ask(world)).rdata == ["10.96.1.1"]
            assert len(upstream.asked) == 2

    on(case)


def test_A10_an_external_name_is_followed_upstream(world: World) -> None:
    async def case() -> None:
        with Upstream(world, plainly):
            async with serving(world, external("demo/alias", NAME), upstreams=(THERE,)):
                reply = await ask(world, f"alias.demo.svc.{ZONE}")
                assert [line.lower() for line in reply.rdata] == [f"{NAME}.", "192.0.2.1"]

    on(case)


def test_S8_equal_queries_in_flight_are_one_upstream(world: World) -> None:
    """The upstream server keeps silent, so that they all wait."""

    async def case() -> None:
        with Upstream(world, lambda message, tcp: []) as upstream:
            async with serving(world, upstreams=(THERE,)) as server, stream(world) as connection:
                await connection.send(b"".join(framed(query(NAME, ident=n)) for n in range(300)))
                replies = await connection.messages(300)
                assert {seen(reply).status for reply in replies[::50]} == {"SERVFAIL"}
                assert server.responder.counters.forwarded == 300
            # No more than 100 are taken from one connection at a time, and each batch is tried twice.
            assert len(upstream.asked) <= 2 * 3

    on(case)


def test_S8_queries_come_from_many_ports_each_of_which_serves_a_few(world: World) -> None:
    async def case() -> None:
        with Upstream(world, plainly) as upstream:
            async with serving(world, upstreams=(THERE,)), stream(world) as connection:
                for number in range(100):
                    await connection.send(framed(query(f"n{number}.example.com")))
                    assert len(await connection.messages(1)) == 1
            assert len(set(upstream.ports)) >= FEWEST_OPEN
            assert max(Counter(upstream.ports).values()) <= USES
            steps = {b - a for a, b in zip(upstream.ports, upstream.ports[1:], strict=False)}
            assert len(steps) > 80  # not counted up

    on(case)


def lies(message: bytes) -> list[bytes]:
    good = answered(message, last=66)
    return [
        b"",
        good[:7],
        bytes((good[0] ^ 1,)) + good[1:],
        message,
        good[:13] + bytes((good[13] ^ 1,)) + good[14:],  # vww.example.com
        good[:-1],
        good[:6] + b"\xff\xff" + good[8:],
    ]


def test_D1_after_bad_datagrams_the_good_one_is_heard(world: World) -> None:
    async def case() -> None:
        with Upstream(world, lambda message, tcp: [*lies(message), answered(message)]):
            async with serving(world, upstreams=(THERE,)):
                assert (await ask(world, NAME)).rdata == ["192.0.2.1"]

    on(case)


def test_D1_an_answer_from_another_port_is_not_heard(world: World) -> None:
    """The attacker knows everything but sends from elsewhere."""

    async def case() -> None:
        def from_elsewhere(message: bytes, tcp: bool) -> list[bytes]:
            with world.client.socket(2, 2) as other:
                other.sendto(answered(message, last=66), (SERVER, upstream.ports[-1]))
            return [answered(message)]

        upstream = Upstream(world, from_elsewhere)
        with upstream:
            async with serving(world, upstreams=(THERE,)):
                assert (await ask(world, NAME)).rdata == ["192.0.2.1"]

    on(case)


def cut(message: bytes, tcp: bool) -> list[bytes]:
    return framed_in_two(answered(message)) if tcp else [answered(message, TC)]


def test_D1_a_truncated_answer_is_fetched_over_tcp_for_a_tcp_client(world: World) -> None:
    async def case() -> None:
        with Upstream(world, cut) as upstream:
            async with serving(world, upstreams=(THERE,)), stream(world) as connection:
                await connection.send(framed(query(NAME)))
                (reply,) = await connection.messages(1)
                assert seen(reply).rdata == ["192.0.2.1"]
                assert [tcp for _, tcp in upstream.asked] == [False, True]
                assert "tc" in (await ask(world, NAME)).flags

    on(case)


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(lambda message: [], id="closed at once"),
        pytest.param(lambda message: [framed(answered(message))[:20]], id="closed in the middle"),
        pytest.param(lambda message: [framed(b"\xff" * 30)], id="garbage"),
        pytest.param(lambda message: [b"\0\0"], id="an empty message"),
    ],
)
def test_D1_a_broken_stream_is_servfail(world: World, broken: Callable[[bytes], list[bytes]]) -> None:
    def half(message: bytes, tcp: bool) -> list[bytes]:
        return broken(message) if tcp else [answered(message, TC)]

    async def case() -> None:
        with Upstream(world, half):
            async with serving(world, upstreams=(THERE,)), stream(world) as connection:
                await connection.send(framed(query(NAME)))
                (reply,) = await connection.messages(1)
                assert seen(reply).status == "SERVFAIL"

    on(case)


def test_D1_a_silent_server_is_servfail_and_the_loop_goes_on(world: World) -> None:
    async def case() -> None:
        with Upstream(world, lambda message, tcp: []) as upstream:
            async with serving(world, upstreams=(THERE,)):
                waiting = asyncio.create_task(ask(world, NAME))
                assert (await ask(world)).rdata == ["10.96.1.1"]
                assert not waiting.done()
                assert (await waiting).status == "SERVFAIL"
            assert len(upstream.asked) == 2

    on(case)


def test_D1_a_server_that_is_not_there_is_left_for_the_next(world: World) -> None:
    async def case() -> None:
        with Upstream(world, plainly):
            async with serving(world, upstreams=(NOBODY, THERE)):
                for number in range(8):
                    assert (await ask(world, f"n{number}.example.com")).rdata == ["192.0.2.1"]

    on(case)


@pytest.mark.parametrize("rcode", [Rcode.REFUSED, Rcode.NXDOMAIN])
def test_D1_what_all_servers_say_is_what_the_client_hears(world: World, rcode: Rcode) -> None:
    async def case() -> None:
        with Upstream(world, lambda message, tcp: [answered(message, rcode)]):
            async with serving(world, upstreams=(THERE,)):
                assert (await ask(world, NAME)).status == rcode.name

    on(case)


def test_S8_a_server_that_writes_names_in_its_own_case_is_asked_over_tcp_once(world: World) -> None:
    def small(message: bytes, tcp: bool) -> list[bytes]:
        end = message.index(0, 12)
        return plainly(message[:12] + message[12:end].lower() + message[end:], tcp)

    async def case() -> None:
        with Upstream(world, small) as upstream:
            async with serving(world, upstreams=(THERE,)):
                for number in range(3):
                    assert (await ask(world, f"number{number}.example.com")).rdata == ["192.0.2.1"]
            assert [tcp for _, tcp in upstream.asked] == [False, True, False, False]

    on(case)


def test_B8_answers_do_not_wait_for_each_other(world: World) -> None:
    async def case() -> None:
        with Upstream(world, lambda message, tcp: []):
            async with serving(world, upstreams=(THERE,)), stream(world) as connection:
                await connection.send(framed(query(NAME, ident=1)) + framed(query(WEB, ident=2)))
                connection.end()
                replies = await connection.messages(3)
                assert [seen(reply).id for reply in replies] == [2, 1]

    on(case)
