"""Carries out what ``dns.forward`` decides: sockets to upstream servers, and a clock.

Every try over UDP has a socket of its own, connected, with a port of the kernel's choice: the kernel then
drops what comes from elsewhere, and reports a closed port at once.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterable
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
        self._sockets: dict[int, socket.socket] = {}
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
                case Close(attempt):
                    self._close(attempt)
                case Deliver(waiters, reply):
                    for waiter in waiters:
                        self._deliver(waiter, reply)
                case Refuse(waiter):
                    self._refuse(waiter)

    def _send_udp(self, action: SendUdp) -> Iterable[Action[WaiterT]]:
        try:
            connection = self._connected(action.upstream)
        except OSError:  # no route, no descriptor left, forbidden
            return self._forwarder.failed(action.attempt, self._loop.time())
        self._sockets[action.attempt] = connection
        try:
            connection.send(action.message)
        except OSError:
            return self._forwarder.failed(action.attempt, self._loop.time())
        self._loop.add_reader(connection.fileno(), self._readable, action.attempt)
        return ()

    def _connected(self, upstream: Upstream) -> socket.socket:
        connection = self._open_socket(_family(upstream), socket.SOCK_DGRAM)
        try:
            connection.setblocking(False)
            connection.connect((str(upstream.address), upstream.port))
        except OSError:
            connection.close()
            raise
        return connection

    def _readable(self, attempt: int) -> None:
        for _ in range(BATCH):
            connection = self._sockets.get(attempt)
            if connection is None:
                return
            try:
                message = connection.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there (ICMP), or the way broke
                self._perform(self._forwarder.failed(attempt, self._loop.time()))
                return
            self._perform(self._forwarder.received(attempt, message, self._loop.time()))

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

    def _close(self, attempt: int) -> None:
        if task := self._streams.pop(attempt, None):
            task.cancel()
        if connection := self._sockets.pop(attempt, None):
            self._loop.remove_reader(connection.fileno())
            connection.close()


def _family(upstream: Upstream) -> socket.AddressFamily:
    return socket.AF_INET if upstream.address.version == 4 else socket.AF_INET6
