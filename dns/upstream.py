"""Carries out what ``dns.forward`` decides: sockets to upstream servers, and a clock.

Every try over UDP has a socket to itself, connected, with a port of the kernel's choice: the kernel then
drops what comes from elsewhere, and reports a closed port at once. A socket whose try was answered may serve
a few more, drawn by chance from those that are open, for opening one costs as much as asking; one whose try
was given up is closed, so that a late answer is nobody's.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic

from dns.forward import (
    Action,
    Ask,
    Close,
    Deliver,
    Forwarder,
    Refuse,
    SendTcp,
    SendUdp,
    Upstream,
    WaiterT,
)
from dns.relay import UpstreamReply
from dns.streams import SocketFactory, StreamConfig, UpstreamStreams

TICK_S = 0.05  # how exact the patience of the forwarder is
READ_BYTES = 65535
BATCH = 16  # datagrams read from one socket in a row
USES = 4  # of one socket
FEWEST_OPEN = 64  # to one server, unused, before one of them is used again


@dataclass(slots=True)
class _Port:
    """A connected socket."""

    socket: socket.socket
    upstream: Upstream
    attempt: int = -1  # which try it serves now
    uses: int = 0


class UpstreamSockets(Generic[WaiterT]):
    """The forwarder's hands. ``deliver`` gets each waiter and its reply, ``refuse`` who is one too many."""

    def __init__(
        self,
        forwarder: Forwarder[WaiterT],
        open_socket: SocketFactory,
        deliver: Callable[[WaiterT, UpstreamReply | None], None],
        refuse: Callable[[WaiterT], None],
        streams: StreamConfig | None = None,
    ) -> None:
        self._forwarder = forwarder
        self._open_socket = open_socket
        self._deliver = deliver
        self._refuse = refuse
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[int, _Port] = {}  # by attempt
        self._unused: dict[Upstream, list[_Port]] = {}
        self._outbox: list[tuple[int, _Port, bytes]] = []
        self._streams: dict[int, asyncio.Task[None]] = {}
        self.connections = UpstreamStreams(streams or StreamConfig(), open_socket)
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, ask: Ask, waiter: WaiterT, *, stream: bool) -> None:
        """Have ``ask`` answered to ``waiter``, sooner or later."""
        self._perform(self._forwarder.ask(ask, waiter, self._loop.time(), stream=stream))
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick)

    def close(self) -> None:
        """Close all sockets; nobody is answered any more."""
        for attempt in (*self._sockets, *self._streams):
            self._close(attempt)
        for ports in self._unused.values():
            for port in ports:
                self._shut(port)
        self._unused.clear()
        self.connections.close()
        if self._timer:
            self._timer.cancel()

    def _tick(self) -> None:
        self._perform(self._forwarder.expire(self._loop.time()))
        again = self._forwarder.busy
        self._timer = self._loop.call_later(TICK_S, self._tick) if again else None

    def _perform(self, actions: Iterable[Action[WaiterT]]) -> None:
        waiting = deque(actions)
        while waiting:
            action = waiting.popleft()
            match action:
                case SendUdp():
                    waiting.extend(self._send_udp(action))
                case SendTcp(attempt, upstream, message):
                    task = self._loop.create_task(self._over_tcp(attempt, upstream, message))
                    self._streams[attempt] = task
                case Close(attempt, answered):
                    self._close(attempt, answered=answered)
                case Deliver(waiters, reply):
                    for waiter in waiters:
                        self._deliver(waiter, reply)
                case Refuse(waiter):
                    self._refuse(waiter)

    def _send_udp(self, action: SendUdp) -> Iterable[Action[WaiterT]]:
        try:
            port = self._port_to(action.upstream)
        except OSError:  # no route, no descriptor left, forbidden
            return self._forwarder.failed(action.attempt, self._loop.time())
        port.attempt = action.attempt
        port.uses += 1
        self._sockets[action.attempt] = port
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append((action.attempt, port, action.message))
        return ()

    def _flush(self) -> None:
        """Send what has been gathered in this turn of the loop.

        One after the other, for a server that sleeps between two queries has to be woken for each, which
        costs more than all the rest.
        """
        outbox, self._outbox = self._outbox, []
        for attempt, port, message in outbox:
            if port.attempt != attempt:
                continue  # closed meanwhile
            try:
                port.socket.send(message)
            except OSError:
                self._perform(self._forwarder.failed(attempt, self._loop.time()))

    def _port_to(self, upstream: Upstream) -> _Port:
        unused = self._unused.get(upstream)
        if unused and len(unused) >= FEWEST_OPEN:
            index = self._forwarder.draw(len(unused))
            unused[index], unused[-1] = unused[-1], unused[index]
            return unused.pop()
        connection = self._open_socket(_family(upstream), socket.SOCK_DGRAM)
        try:
            connection.setblocking(False)
            connection.connect((str(upstream.address), upstream.port))
        except OSError:
            connection.close()
            raise
        port = _Port(connection, upstream)
        self._loop.add_reader(connection.fileno(), self._readable, port)
        return port

    def _readable(self, port: _Port) -> None:
        for _ in range(BATCH):
            try:
                message = port.socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there (ICMP), or the way broke
                if port.attempt < 0:
                    self._drop(port)
                else:
                    self._perform(self._forwarder.failed(port.attempt, self._loop.time()))
                return
            if port.attempt < 0:  # to nothing that is asked: whoever sends it goes on to nobody
                self._drop(port)
                return
            self._perform(self._forwarder.received(port.attempt, message, self._loop.time()))
            if port.attempt < 0:
                return

    async def _over_tcp(self, attempt: int, upstream: Upstream, message: bytes) -> None:
        try:
            reply = await self.connections.exchange(upstream, message)
        except OSError:
            reply = None
        self._streams.pop(attempt, None)
        now = self._loop.time()
        if reply is None:
            self._perform(self._forwarder.failed(attempt, now))
        else:
            self._perform(self._forwarder.received(attempt, reply, now))

    def _close(self, attempt: int, *, answered: bool = False) -> None:
        if task := self._streams.pop(attempt, None):
            task.cancel()
        port = self._sockets.pop(attempt, None)
        if port is None:
            return
        port.attempt = -1
        if answered and port.uses < USES:
            self._unused.setdefault(port.upstream, []).append(port)
        else:
            self._shut(port)

    def _drop(self, port: _Port) -> None:
        """Close a socket that is not in use."""
        unused = self._unused.get(port.upstream, [])
        if port in unused:
            unused.remove(port)
        self._shut(port)

    def _shut(self, port: _Port) -> None:
        if port.socket.fileno() != -1:
            self._loop.remove_reader(port.socket.fileno())
            port.socket.close()


def _family(upstream: Upstream) -> socket.AddressFamily:
    return socket.AF_INET if upstream.address.version == 4 else socket.AF_INET6
