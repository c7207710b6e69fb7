"""Real sockets between two namespaces: UDP and TCP as clients meet them."""

import asyncio
import shutil
import socket
import struct
from ipaddress import ip_address

import pytest

from dns.client import Server
from dns.client import query as ask_server
from dns.framing import framed
from dns.server import DnsConfig, DnsServer
from dns.transports import StreamLimits
from dns.wire import RType
from kubenet.errors import AlreadyExists, InvalidInput, TimedOut, Unreachable
from kubenet.kernel import run
from kubenet.model.objects import EndpointSlice, Service
from tests.netns.dns.world import (
    CLIENT,
    OTHER,
    OTHER6,
    PATIENCE_S,
    SERVER,
    SERVER6,
    SILENCE_S,
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


def many(count: int) -> tuple[Service, EndpointSlice]:
    hosts = [endpoint(f"10.244.{n // 250}.{n % 250 + 1}") for n in range(count)]
    return service("demo/db", "None"), endpoint_slice("demo/db-1", "db", *hosts)


def test_a_query_is_answered_from_another_namespace(world: World) -> None:
    async def case() -> None:
        async with serving(world, addresses=(SERVER, SERVER6)):
            for server in (SERVER, SERVER6):
                assert (await ask(world, server=server)).rdata == ["10.96.1.1"]
                async with stream(world, server) as connection:
                    await connection.send(framed(query(WEB)))
                    (reply,) = await connection.messages(1)
                    assert seen(reply).rdata == ["10.96.1.1"]

    on(case)


def test_B1_no_packet_stops_the_server(world: World) -> None:
    async def case() -> None:
        async with serving(world):
            with udp_socket(world) as opened:
                for message in (b"", b"\0", query(WEB)[:11], b"\x80" * 12, b"\xff" * 4000):
                    opened.send(message)
                opened.send(b"\0" * 60000)
                got = [await exchange(opened, query(WEB, ident=number)) for number in (1, 2)]
                replies = [seen(reply) for reply in got if reply]
                # The zeros, too, are a query of a kind: no question. Only that and the good ones get replies.
                assert {reply.status for reply in replies} <= {"FORMERR", "NOERROR"}
                assert len(replies) == 2
            assert (await ask(world)).rdata == ["10.96.1.1"]

    on(case)


def test_B12_a_reply_leaves_from_the_address_that_was_asked(world: World) -> None:
    """The client's sockets are connected: the kernel drops what comes from any other address."""

    async def case() -> None:
        async with serving(world, addresses=("0.0.0.0", "::")):
            for server in (SERVER, OTHER, SERVER6, OTHER6):
                assert (await ask(world, server=server)).rdata == ["10.96.1.1"]

    on(case)


@pytest.mark.parametrize("port", [7, 13, 17, 19])
def test_B13_a_port_that_nobody_asks_from_gets_no_answer(world: World, port: int) -> None:
    async def case() -> None:
        async with serving(world) as server:
            with udp_socket(world, source=(CLIENT, port)) as opened:
                assert await exchange(opened, query(WEB), SILENCE_S) is None
            assert server.listeners[0].counters.reflected == 1

    on(case)


def test_B12_two_servers_do_not_talk_to_each_other_for_ever(world: World) -> None:
    """A query forged to come from our own port is answered to ourselves, and there it ends."""

    async def case() -> None:
        async with serving(world) as server:
            with world.server.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as forger:
                forger.bind((SERVER, 0))
                message = query(WEB)
                header = struct.pack("!4H", 53, 53, 8 + len(message), 0)
                forger.sendto(header + message, (SERVER, 0))
            async with asyncio.timeout(PATIENCE_S):
                while not server.responder.counters.silent:
                    await asyncio.sleep(0.005)
            await asyncio.sleep(SILENCE_S)
            assert server.responder.counters.silent == 1

    on(case)


def test_B7_a_big_answer_is_cut_over_udp_and_whole_over_tcp(world: World) -> None:
    async def case() -> None:
        async with serving(world, *many(1000)):
            name = f"db.demo.svc.{ZONE}"
            cut = await ask(world, name, opt=PLAIN_OPT)
            assert "tc" in cut.flags
            server = Server(ip_address(SERVER))
            whole = await asyncio.to_thread(ask_server, name, server=server, open_socket=world.client.socket)
            assert whole.tcp
            assert len(whole.answers) == 1000

    on(case)


def test_B8_queries_are_pipelined_and_may_come_in_any_pieces(world: World) -> None:
    async def case() -> None:
        async with serving(world), stream(world) as connection:
            queries = b"".join(framed(query(WEB, ident=number)) for number in range(500))
            await connection.send(queries)
            replies = await connection.messages(500)
            assert [seen(reply).id for reply in replies[::50]] == list(range(0, 500, 50))
            for octet in framed(query(WEB, ident=7)):
                await connection.send(bytes((octet,)))
            (reply,) = await connection.messages(1)
            assert seen(reply).rdata == ["10.96.1.1"]

    on(case)


def test_B8_a_client_that_has_sent_all_still_gets_all_answers(world: World) -> None:
    async def case() -> None:
        async with serving(world, *many(300)), stream(world) as connection:
            await connection.send(framed(query(f"db.demo.svc.{ZONE}")) * 200)
            connection.end()
            assert len(await connection.messages(201)) == 200

    on(case)


def test_B8_a_message_that_is_no_query_gets_no_answer_and_ends_nothing(world: World) -> None:
    async def case() -> None:
        async with serving(world), stream(world) as connection:
            await connection.send(framed(b"") + framed(b"\x80" * 12) + framed(query(WEB)))
            (reply,) = await connection.messages(1)
            assert seen(reply).rdata == ["10.96.1.1"]

    on(case)


def test_B8_a_client_that_does_not_read_waits_and_loses_nothing(world: World) -> None:
    """900 answers of 16 kB do not fit the socket's buffers: the server must stop reading, not gather them."""

    async def case() -> None:
        async with serving(world, *many(1000)) as server, stream(world) as connection:
            await connection.send(framed(query(f"db.demo.svc.{ZONE}")) * 900)
            await asyncio.sleep(SILENCE_S)
            (held,) = server.streams.connections
            transport = held._transport
            assert transport is not None
            assert 0 < transport.get_write_buffer_size() < 4 << 20
            assert len(await connection.messages(900)) == 900

    on(case)


@pytest.mark.parametrize(
    ("limits", "sent"),
    [
        pytest.param(StreamLimits(idle_s=0.2), b"", id="says nothing"),
        pytest.param(StreamLimits(message_s=0.2), framed(query(WEB))[:9], id="does not finish a message"),
        pytest.param(StreamLimits(message_s=0.2), b"\0", id="does not finish a length"),
    ],
)
def test_D3_a_slow_client_is_cut_off(world: World, limits: StreamLimits, sent: bytes) -> None:
    async def case() -> None:
        async with serving(world, streams=limits), stream(world) as connection:
            await connection.send(sent)
            assert await connection.closed()

    on(case)


def test_D3_octet_by_octet_gives_no_more_time(world: World) -> None:
    async def case() -> None:
        async with serving(world, streams=StreamLimits(message_s=0.3)), stream(world) as connection:

            async def drip() -> None:
                for octet in framed(query(WEB)):
                    await connection.send(bytes((octet,)))
                    await asyncio.sleep(0.05)

            dripping = asyncio.create_task(drip())
            assert await connection.closed()
            await asyncio.wait({dripping})
            assert isinstance(dripping.exception(), OSError)

    on(case)


def test_D3_one_client_may_not_hold_all_connections(world: World) -> None:
    async def case() -> None:
        limits = StreamLimits(per_client=2)
        async with (
            serving(world, streams=limits) as server,
            stream(world) as first,
            stream(world),
            stream(world) as third,
        ):
            assert await third.closed()
            assert server.streams.turned_away == 1
            await first.send(framed(query(WEB)))
            assert len(await first.messages(1)) == 1

    on(case)


def test_D3_when_all_connections_are_taken_the_silent_one_goes(world: World) -> None:
    async def case() -> None:
        limits = StreamLimits(connections=2)
        async with serving(world, streams=limits), stream(world) as silent, stream(world) as busy:
            await busy.send(framed(query(WEB)))
            assert len(await busy.messages(1)) == 1
            async with stream(world) as new:
                await new.send(framed(query(WEB)))
                assert len(await new.messages(1)) == 1
            assert await silent.closed()

    on(case)


def test_D3_a_connection_serves_so_many_queries_and_ends(world: World) -> None:
    async def case() -> None:
        async with serving(world, streams=StreamLimits(queries=100)), stream(world) as connection:
            await connection.send(framed(query(WEB)) * 150)
            assert len(await connection.messages(150)) == 100

    on(case)


def test_a_taken_port_and_a_foreign_address_are_told(world: World) -> None:
    async def case() -> None:
        async with serving(world):
            for address, error in ((SERVER, AlreadyExists), (CLIENT, InvalidInput)):
                second = DnsServer(DnsConfig((ip_address(address),), netns=world.server))
                with pytest.raises(error, match=rf"{address} port 53"):
                    await second.listen()
                second.close()

    on(case)


def test_the_port_is_free_as_soon_as_the_server_is_closed(world: World) -> None:
    async def case() -> None:
        for _ in range(2):
            async with serving(world), stream(world) as connection:
                await connection.send(framed(query(WEB)))
                assert len(await connection.messages(1)) == 1

    on(case)


@pytest.mark.skipif(shutil.which("dig") is None, reason="dig is not installed (Debian: bind9-dnsutils)")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([WEB], ["10.96.1.1"], id="an address, with a cookie as dig does"),
        pytest.param([WEB, "+noedns"], ["10.96.1.1"], id="without EDNS"),
        pytest.param([WEB, "+tcp", "+keepalive"], ["10.96.1.1"], id="over TCP"),
        pytest.param([WEB, "+bufsize=512", "+dnssec", "+nsid"], ["10.96.1.1"], id="with options"),
        pytest.param([WEB, "AAAA"], [], id="no address of that family"),
        pytest.param([f"_http._tcp.{WEB}", "SRV"], ["0 100 80 web.demo.svc.cluster.local."], id="a port"),
        pytest.param(["-x", "10.96.1.1"], ["web.demo.svc.cluster.local."], id="a pointer"),
        pytest.param([f"dns-version.{ZONE}", "TXT"], ['"1.1.0"'], id="the schema version"),
        pytest.param([ZONE, "ANY", "+notcp"], None, id="ANY"),
    ],
)
def test_dig_reads_our_answers(world: World, arguments: list[str], expected: list[str] | None) -> None:
    async def case() -> None:
        async with serving(world):
            argv = ["dig", f"@{SERVER}", "+short", "+tries=1", "+time=3", *arguments]
            done = await asyncio.to_thread(run.run, argv, netns=world.client)
            lines = done.stdout.decode().splitlines()
            assert lines == expected if expected is not None else lines
            argv[2] = "+qr"
            whole = (await asyncio.to_thread(run.run, argv, netns=world.client)).stdout.decode()
            for complaint in ("bad packet", "malformed", "extra bytes", "mismatch", "truncated"):
                assert complaint not in whole.lower()

    on(case)


def test_our_query_tool_tells_a_silent_server_from_a_missing_one(world: World) -> None:
    def tool(port: int, *, tcp: bool = False) -> None:
        ask_server(
            WEB,
            server=Server(ip_address(SERVER), port),
            tcp=tcp,
            timeout_s=0.1,
            open_socket=world.client.socket,
        )

    with pytest.raises(Unreachable):
        tool(53)
    with pytest.raises(Unreachable):
        tool(53, tcp=True)
    with world.server.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((SERVER, 54))
        with pytest.raises(TimedOut):
            tool(54)


def test_our_query_tool_believes_only_the_answer_to_its_question(world: World) -> None:
    good = query(WEB)

    def lie(server: socket.socket) -> None:
        message, source = server.recvfrom(4096)
        head, question = message[:2], message[12:-11]
        for octets in (
            b"",
            bytes((head[0], head[1] ^ 1)) + b"\x84\0\0\x01" + bytes(6) + question,
            head + b"\x84\0\0\x01" + bytes(6) + good[12:-4] + b"\0\x1c\0\x01",
            head + b"\x84\x05\0\x01" + bytes(6) + question,
        ):
            server.sendto(octets, source)

    async def case() -> None:
        with world.server.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((SERVER, 53))
            lying = asyncio.create_task(asyncio.to_thread(lie, server))
            target = Server(ip_address(SERVER))
            result = await asyncio.to_thread(ask_server, WEB, server=target, open_socket=world.client.socket)
            await lying
            assert result.status == "REFUSED"

    on(case)


def test_types_are_asked_as_named(world: World) -> None:
    async def case() -> None:
        async with serving(world):
            target = Server(ip_address(SERVER))
            for name, rtype, content in (
                (WEB, "A", "10.96.1.1"),
                ("10.96.1.1", "ptr", f"{WEB}."),
                (f"dns-version.{ZONE}", f"TYPE{int(RType.TXT)}", '"1.1.0"'),
            ):
                result = await asyncio.to_thread(
                    ask_server, name, rtype, server=target, open_socket=world.client.socket
                )
                assert [record.content for record in result.answers] == [content]

    on(case)


@pytest.mark.parametrize("asked", [pytest.param(SERVER, id="first"), pytest.param(OTHER, id="second")])
def test_B12_a_burst_is_answered_whole_from_the_address_that_was_asked(world: World, asked: str) -> None:
    """More queries than are read one by one; the client's socket hears the address it asks and no other."""
    await_all = 150

    async def case() -> None:
        loop = asyncio.get_running_loop()
        async with serving(world, addresses=("0.0.0.0", "::")):
            for address in (asked, SERVER6 if asked == SERVER else OTHER6):
                with udp_socket(world, address) as opened:
                    for ident in range(await_all):
                        opened.send(query(WEB if ident % 3 else f"missing.{ZONE}", ident=ident))
                    opened.send(b"\0")  # no query
                    answered: set[int] = set()
                    while len(answered) < await_all:
                        reply = seen(await asyncio.wait_for(loop.sock_recv(opened, 4096), PATIENCE_S))
                        assert reply.rdata == (["10.96.1.1"] if reply.id % 3 else [])
                        answered.add(reply.id)

    on(case)
