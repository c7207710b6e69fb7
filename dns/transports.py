"""The sockets clients talk to: UDP drained in batches, TCP with pipelining and limits.

UDP: one wake-up of the loop reads up to 64 datagrams (asyncio's own datagram transport costs eight times as
much a query), the kernel's buffer is the only queue. A packet that cannot be answered costs a count and
nothing else. A socket bound to all addresses answers from the address that was asked, which only IP_PKTINFO
tells.

TCP: what a client can make us hold is bounded everywhere: connections, those of one client, queries under
way, queries in all, how long it may think, and how long it may take to send a message or to read one.

Source: RFC 7766 (pipelining, idle connections), RFC 1122 section 4.1.3.5 (UDP source address), ip(7),
ipv6(7).
"""

import asyncio
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Protocol, TypeAlias

from dns.framing import FrameReader, framed
from dns.mmsg import SLOT_BYTES, Datagrams, available
from dns.respond import Forwarding, Messages, Quick, Response
from dns.tally import UDP, UDP6, Meter, way_of
from kubenet.errors import KubenetError

BATCH = 64  # datagrams, or messages of one connection, between two looks at everything else
FIRST = 4  # datagrams read one by one; more are worth the call that reads many
DATAGRAM_BYTES = SLOT_BYTES  # no query is longer; what is cut here is malformed
RECEIVE_BUFFER_BYTES = 4 << 20
SWEEP_S = 0.5
LAST_IDLE_S = 2.0  # of connections, when we are about to end

# Nobody asks from these: echo, daytime, quotd, chargen would answer us, and nothing can be sent to 0.
REFLECTORS = frozenset((0, 7, 13, 17, 19))
REFLECTORS_MOST = 255

SO_RCVBUFFORCE = 33  # asm-generic/socket.h
IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # named by Python 3.12

Reply: TypeAlias = Callable[[bytes], None]  # sends one message to the client that asked
ForwardTo: TypeAlias = Callable[[Forwarding, Reply], None]
Source: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
Ancillary: TypeAlias = list[tuple[int, int, bytes]]


class Answers(Protocol):
    """Who knows the answers."""

    @property
    def quick(self) -> Quick | None:
        """What may be asked first: it answers what is ordinary, and counts it."""
        ...

    def respond(self, message: bytes, *, stream: bool, client: str, port: int = 0) -> Response | None:
        """Return the reply, what to ask upstream for it, or None for silence."""
        ...

    def pass_on(self, message: bytes, way: int, send: Reply) -> bool:
        """Return whether it is a plain question for upstream servers, whose answer ``send`` gets."""
        ...

    def respond_slowly(self, message: bytes, *, stream: bool, client: str, port: int) -> Response | None:
        """Return the same, when ``quick`` did not know."""
        ...


@dataclass(slots=True)
class UdpCounters:
    """What happened to datagrams that were not simply answered."""

    reflected: int = 0  # came from a port that nobody asks from
    failed: int = 0  # an expected error while answering
    unsent: int = 0  # the kernel did not take the reply


class UdpListener:
    """Answers the datagrams of one bound socket."""

    def __init__(
        self, bound: socket.socket, responder: Answers, forward: ForwardTo, meter: Meter | None = None
    ) -> None:
        self.counters = UdpCounters()
        self._socket = bound
        self._responder = responder
        self._forward = forward
        self._meter = meter
        self._way = UDP6 if bound.family == socket.AF_INET6 else UDP
        self._busy = False  # whether many came at the last wake-up
        self._outbox: list[tuple[Source, Ancillary, bytes]] = []
        self._loop = asyncio.get_running_loop()
        bound.setblocking(False)
        _widen(bound)
        self._everywhere = bound.getsockname()[0] in ("0.0.0.0", "::")
        if self._everywhere:
            _ask_for_destination(bound)
        self._datagrams = Datagrams(bound, ancillary=self._everywhere) if available() else None
        self._loop.add_reader(bound.fileno(), self._drain)

    def stop(self) -> None:
        """Read no more queries; those that wait for upstream servers are still answered."""
        self._loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        """Stop answering; the socket is closed."""
        if self._socket.fileno() != -1:
            self._flush()
            self.stop()
            self._socket.close()

    def _drain(self) -> None:
        """Answer what waits: one by one where there is little, else many with one call."""
        if self._datagrams and self._busy:
            self._busy = self._drain_many(self._datagrams) >= FIRST
            return
        for _ in range(FIRST if self._datagrams else BATCH):
            try:
                message, ancillary, source = self._receive()
            except BlockingIOError:
                return
            except OSError:  # an error of an earlier reply; the socket is fine
                self.counters.unsent += 1
                return
            self._answer(message, source, ancillary)
        if self._datagrams:
            self._busy = self._drain_many(self._datagrams) >= FIRST

    def _receive(self) -> tuple[bytes, Ancillary, Source]:
        if not self._everywhere:
            message, source = self._socket.recvfrom(DATAGRAM_BYTES)
            return message, [], source
        message, ancillary, _, source = self._socket.recvmsg(DATAGRAM_BYTES, 64)
        return message, _answer_from(ancillary), source

    def _drain_many(self, datagrams: Datagrams) -> int:
        """Answer what waits, with one call to receive it and one to reply; return how many came."""
        meter, began = self._meter, self._loop.time()
        try:
            count = datagrams.receive()
        except OSError:
            self.counters.unsent += 1
            return 0
        datagrams.answer(count, self._responder.quick, self._way, self._answer_slot)
        sizes = datagrams.sizes(count)
        self.counters.unsent += datagrams.flush()
        if meter:
            meter.many("udp", *sizes, self._loop.time() - began)
        return count

    def _answer_slot(self, slot: int) -> None:
        datagrams = self._datagrams
        assert datagrams is not None
        source, message = datagrams.source(slot), datagrams.message(slot)
        ancillary = _answer_from(datagrams.ancillary(slot)) if self._everywhere else []
        send = partial(self._send_soon, source, ancillary)
        if source[1] > REFLECTORS_MOST and self._responder.pass_on(message, self._way, send):
            return
        reply = self._reply_to(message, source)
        if type(reply) is bytes:
            datagrams.reply(slot, reply)
        elif isinstance(reply, Forwarding):
            self._forward(reply, send)

    def _answer(self, message: bytes, source: Source, ancillary: Ancillary) -> None:
        began = self._loop.time()
        quick = self._responder.quick
        reply: Response | None = None
        if quick and source[1] > REFLECTORS_MOST:
            reply = quick(message, self._way)
        if reply is None:
            send = partial(self._send_soon, source, ancillary)
            if source[1] > REFLECTORS_MOST and self._responder.pass_on(message, self._way, send):
                return
            reply = self._reply_to(message, source)
        if type(reply) is bytes:
            self._send(source, ancillary, reply)
            if self._meter:
                self._meter.one("udp", len(message), len(reply), self._loop.time() - began)
        elif isinstance(reply, Forwarding):
            self._forward(reply, partial(self._send_soon, source, ancillary))

    def _reply_to(self, message: bytes, source: Source) -> Response | None:
        if source[1] in REFLECTORS:
            self.counters.reflected += 1
            return None
        try:
            return self._responder.respond_slowly(message, stream=False, client=source[0], port=source[1])
        except KubenetError:
            self.counters.failed += 1
            return None

    def _send_soon(self, source: Source, ancillary: Ancillary, reply: bytes) -> None:
        """Send with all others of this turn of the loop, so that a client is woken once for many."""
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append((source, ancillary, reply))

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        for source, ancillary, reply in outbox:
            self._send(source, ancillary, reply)

    def _send(self, source: Source, ancillary: Ancillary, reply: bytes) -> None:
        try:
            if ancillary:
                self._socket.sendmsg((reply,), ancillary, 0, source)
            else:
                self._socket.sendto(reply, source)
        except OSError:  # buffer full, filtered, no way back: the client asks again
            self.counters.unsent += 1


def _widen(bound: socket.socket) -> None:
    """Let the socket hold a burst; beyond net.core.rmem_max only if we may (CAP_NET_ADMIN)."""
    try:
        bound.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def _ask_for_destination(bound: socket.socket) -> None:
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def _answer_from(ancillary: Ancillary) -> Ancillary:
    """Return what to send along so that a reply leaves from the address that a query came to."""
    for level, kind, content in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, content)]
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            # struct in_pktinfo: interface, source to use, destination. Interface 0 leaves the way to the
            # routes.
            return [(level, kind, struct.pack("=I4s4x", 0, content[4:8]))]
    return []


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What TCP clients may take of us."""

    connections: int = 256
    per_client: int = 16  # connections from one address
    queries: int = 65536  # on one connection
    in_flight: int = 100  # of one connection, waiting for upstream servers
    idle_s: float = 10.0  # between two messages
    message_s: float = 5.0  # to send one, or to read what we send


class StreamServer:
    """Answers the connections of any number of listening sockets."""

    def __init__(
        self,
        responder: Answers,
        forward: ForwardTo,
        limits: StreamLimits = StreamLimits(),
        meter: Meter | None = None,
    ) -> None:
        self.limits = limits
        self.meter = meter
        self.responder = responder
        self.forward = forward
        self.connections: dict[StreamConnection, None] = {}  # oldest first
        self.turned_away = 0
        self.failed = 0  # expected errors while answering
        self._of_client: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.get_running_loop()
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    async def listen(self, listening: socket.socket, context: ssl.SSLContext | None = None) -> None:
        """Take connections from a bound socket; with a ``context`` they are encrypted."""
        server = await self._loop.create_server(
            partial(StreamConnection, self),
            sock=listening,
            backlog=256,
            ssl=context,
            ssl_handshake_timeout=self.limits.message_s if context else None,
        )
        self._servers.append(server)

    def drain(self) -> None:
        """Take no more connections; those that are open end once they have been idle for a moment."""
        self.limits = replace(self.limits, idle_s=min(self.limits.idle_s, LAST_IDLE_S))
        for server in self._servers:
            server.close()

    def close(self) -> None:
        """Close all sockets and connections."""
        self._sweeper.cancel()
        for server in self._servers:
            server.close()
        for connection in tuple(self.connections):
            connection.abort()

    def admit(self, connection: "StreamConnection") -> bool:
        """Return whether a new connection may stay; the longest silent one may have to go for it."""
        if self._of_client[connection.client] >= self.limits.per_client:
            self.turned_away += 1
            return False
        if len(self.connections) >= self.limits.connections:
            self.turned_away += 1
            min(self.connections, key=lambda each: each.active_at).abort()
        self.connections[connection] = None
        self._of_client[connection.client] += 1
        return True

    def forget(self, connection: "StreamConnection") -> None:
        """The connection is over."""
        if connection in self.connections:
            del self.connections[connection]
            self._of_client[connection.client] -= 1
            if not self._of_client[connection.client]:
                del self._of_client[connection.client]

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in [each for each in self.connections if each.overdue(now)]:
            connection.abort()
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)


class StreamConnection(asyncio.Protocol):
    """One client's connection. Answers go out as they are ready, not as they were asked."""

    def __init__(self, server: StreamServer) -> None:
        self.client = ""
        self.port = 0
        self.active_at = 0.0
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._frames = FrameReader()
        self._partial_since: float | None = None
        self._full_since: float | None = None  # the client does not read
        self._in_flight = 0
        self._left = server.limits.queries
        self._scheduled = False
        self._ended = False  # the client sends no more
        self._waiting: list[Iterator[bytes]] = []  # long replies that wait for the client to read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername") or ("", 0)
        self.client, self.port = str(peer[0]), int(peer[1])
        self.active_at = self._loop.time()
        if not self._server.admit(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop passes it
        self._transport = None
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        self.active_at = self._loop.time()
        self._frames.feed(data)
        self._serve()

    def eof_received(self) -> bool:
        self._ended = True
        self._serve()
        # What was asked is still answered; _settle closes. TLS knows no half of a connection.
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is None

    def pause_writing(self) -> None:
        self._full_since = self._loop.time()

    def resume_writing(self) -> None:
        self._full_since = None
        waiting, self._waiting = self._waiting, []
        for messages in waiting:
            self._give(messages)
        self._serve()

    def overdue(self, now: float) -> bool:
        """Return whether the client has taken longer than it may."""
        limits = self._server.limits
        for since in (self._partial_since, self._full_since):
            if since is not None and now - since > limits.message_s:
                return True
        return not self._in_flight and now - self.active_at > limits.idle_s

    def abort(self) -> None:
        """Drop the connection at once."""
        if self._transport:
            self._transport.abort()
        self._server.forget(self)

    def _serve(self) -> None:
        """Answer what is there, a bounded piece at a time."""
        self._scheduled = False
        taken = self._answer_some() if self._may_serve() else 0
        self._left -= taken
        if taken or self._frames.ready:
            self._partial_since = None
        if taken == BATCH:
            self._serve_soon()
        self._settle()

    def _answer_some(self) -> int:
        """Answer what is there, up to a batch; return how many messages that were."""
        began = self._loop.time()
        replies: list[bytes] = []
        sizes: list[int] = []
        quick, way = self._server.responder.quick, way_of(self.client, stream=True)
        for message in islice(self._frames.messages(), min(BATCH, self._left)):
            sizes.append(len(message))
            reply = quick(message, way) if quick else None
            if reply is not None:
                replies.append(framed(reply))
                continue
            self._answer(message, replies)
            if self._in_flight >= self._server.limits.in_flight:
                break
        if replies:
            self._write(b"".join(replies))
            if self._server.meter:
                lengths = [len(each) - 2 for each in replies]
                self._server.meter.many("tcp", sizes, lengths, self._loop.time() - began)
        return len(sizes)

    def _serve_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._serve)

    def _may_serve(self) -> bool:
        free = self._in_flight < self._server.limits.in_flight
        return self._open and self._full_since is None and free and self._left > 0

    @property
    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _write(self, framed_replies: bytes) -> None:
        if self._transport and self._open:
            self._transport.write(framed_replies)

    def _answer(self, message: bytes, replies: list[bytes]) -> None:
        try:
            reply = self._server.responder.respond_slowly(
                message, stream=True, client=self.client, port=self.port
            )
            if isinstance(reply, Forwarding):
                self._in_flight += 1
                self._server.forward(reply, self._deliver)
            elif isinstance(reply, Messages):
                self._in_flight += 1
                self._give(reply.messages)
            elif reply is not None:
                replies.append(framed(reply))
        except KubenetError:
            self._server.failed += 1

    def _give(self, messages: Iterator[bytes]) -> None:
        """Send the next message of a long reply; the one after it when the client has read."""
        if not self._open:
            self._in_flight -= 1
            return
        if self._full_since is not None:
            self._waiting.append(messages)
            return
        message = next(messages, None)
        if message is None:
            self._in_flight -= 1
            self._serve_soon()
            return
        self.active_at = self._loop.time()
        self._write(framed(message))
        self._loop.call_soon(self._give, messages)

    def _deliver(self, reply: bytes) -> None:
        self._in_flight -= 1
        self.active_at = self._loop.time()
        self._write(framed(reply))
        self._serve_soon()

    def _settle(self) -> None:
        """Close, read on, or wait, as the state asks for."""
        if self._transport is None or not self._open:
            return
        over = self._left <= 0 or (self._ended and not self._frames.ready)
        if over and not self._scheduled and not self._in_flight:
            self._transport.close()
        elif self._scheduled or not self._may_serve():
            self._transport.pause_reading()
        else:
            if self._frames.partial and self._partial_since is None:
                self._partial_since = self._loop.time()
            self._transport.resume_reading()
