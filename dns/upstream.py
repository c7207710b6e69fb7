"""Carries out what ``dns.forward`` decides: sockets to upstream servers, and a clock.

Every try over UDP has a socket to itself, connected, with a port of the kernel's choice: the kernel then
drops what comes from elsewhere, and reports a closed port at once. A socket whose try was answered may serve
a few more, drawn by chance from those that are open, for opening one costs as much as asking; one whose try
was given up is closed, so that a late answer is nobody's.
"""

import asyncio
import select
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic

from dns.asks import Ask, Passer, Plain
from dns.forward import Action, Close, Deliver, Forwarder, Refuse, SendTcp, SendUdp, Upstream, WaiterT
from dns.relay import UpstreamReply
from dns.streams import SocketFactory, StreamConfig, UpstreamStreams

TICK_S = 0.05  # how exact the patience of the forwarder is
READ_BYTES = 65535
BATCH_PORTS = 64  # sockets read from in a row
BATCH = 16  # datagrams read from one socket in a row
USES = 4  # of one socket
FEWEST_OPEN = 64  # to one server, unused, before one of them is used again


@dataclass(slots=True, eq=False)
class _Port(Generic[WaiterT]):
    """A connected socket."""

    socket: socket.socket
    unused: "list[_Port[WaiterT]]"  # where it waits for its next use
    attempt: int = -1  # which try it serves now
    uses: int = 0
    plain: Plain[WaiterT] | None = None  # the plain question that try is for


class UpstreamSockets(Generic[WaiterT]):
    """The forwarder's hands. ``deliver`` gets each waiter and its reply, ``refuse`` who is one too many."""

    def __init__(
        self,
        forwarder: Forwarder[WaiterT],
        open_socket: SocketFactory,
        deliver: Callable[[WaiterT, UpstreamReply | None], None],
        refuse: Callable[[WaiterT], None],
        streams: StreamConfig | None = None,
        deliver_plain: Callable[[Plain[WaiterT], UpstreamReply], None] | None = None,
    ) -> None:
        self._forwarder = forwarder
        self._open_socket = open_socket
        self._deliver = deliver
        self._deliver_plain = deliver_plain
        self._refuse = refuse
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[int, _Port[WaiterT]] = {}  # by attempt
        self._unused: dict[Upstream, list[_Port[WaiterT]]] = {each: [] for each in forwarder.upstreams}
        # The same lists and where their sockets are connected to, by the number of the server.
        self._servers = [
            (self._unused[each], _family(each), (str(each.address), each.port))
            for each in forwarder.upstreams
        ]
        self._outbox: list[tuple[int, _Port[WaiterT], bytes]] = []
        # One for all sockets: the loop would take as long over each of them as the answer itself.
        self._ready = select.epoll()
        self._ports: dict[int, _Port[WaiterT]] = {}  # by descriptor
        self._loop.add_reader(self._ready.fileno(), self._read)
        self._streams: dict[int, asyncio.Task[None]] = {}
        self.connections = UpstreamStreams(streams or StreamConfig(), open_socket)
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, ask: Ask, waiter: WaiterT, *, stream: bool) -> None:
        """Have ``ask`` answered to ``waiter``, sooner or later."""
        self._perform(self._forwarder.ask(ask, waiter, self._loop.time(), stream=stream))
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick)

    def pass_on(self, key: bytes, passer: Passer[WaiterT]) -> bool:
        """Have a plain question answered to ``passer``; False if that takes more than the ordinary way."""
        asked = self._forwarder.pass_on(key, passer, passer.began)
        if isinstance(asked, bool):
            return asked
        plain, message = asked
        try:
            port = self._port_to(plain.server)
        except OSError:  # no route, no descriptor left, forbidden
            self._forwarder.widen(plain)
            self._perform(self._forwarder.failed(plain.attempt, self._loop.time()))
        else:
            port.plain = plain
            self._send_soon(plain.attempt, port, message)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick)
        return True

    def close(self) -> None:
        """Close all sockets; nobody is answered any more."""
        for attempt in (*self._sockets, *self._streams):
            self._close(attempt)
        for ports in self._unused.values():
            for port in ports:
                self._shut(port)
            ports.clear()
        if not self._ready.closed:
            self._loop.remove_reader(self._ready.fileno())
            self._ready.close()
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
            port = self._port_to(self._forwarder.upstreams.index(action.upstream))
        except OSError:  # no route, no descriptor left, forbidden
            return self._forwarder.failed(action.attempt, self._loop.time())
        self._send_soon(action.attempt, port, action.message)
        return ()

    def _send_soon(self, attempt: int, port: _Port[WaiterT], message: bytes) -> None:
        port.attempt = attempt
        port.uses += 1
        self._sockets[attempt] = port
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append((attempt, port, message))

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
                self._widen(port)
                self._perform(self._forwarder.failed(attempt, self._loop.time()))

    def _port_to(self, server: int) -> _Port[WaiterT]:
        unused, family, address = self._servers[server]
        if len(unused) >= FEWEST_OPEN:
            index = self._forwarder.draw(len(unused))
            unused[index], unused[-1] = unused[-1], unused[index]
            return unused.pop()
        connection = self._open_socket(family, socket.SOCK_DGRAM)
        try:
            connection.setblocking(False)
            connection.connect(address)
            self._ready.register(connection, select.EPOLLIN)
        except OSError:
            connection.close()
            raise
        port = self._ports[connection.fileno()] = _Port(connection, unused)
        return port

    def _read(self) -> None:
        """Read what has come, from some sockets at a time."""
        for descriptor, _ in self._ready.poll(0, BATCH_PORTS):
            port = self._ports.get(descriptor)
            if port is not None:
                self._readable(port)

    def _plainly(self, port: _Port[WaiterT], plain: Plain[WaiterT], message: bytes) -> bool:
        """Return whether ``message`` is the ordinary answer to a plain question, which is over then."""
        reply = self._forwarder.plainly_answered(plain, message, self._loop.time())
        port.plain = None
        if reply is None:
            return False
        self._close(plain.attempt, answered=True)
        if self._deliver_plain:
            self._deliver_plain(plain, reply)
        return True

    def _widen(self, port: _Port[WaiterT]) -> None:
        if port.plain is not None:
            self._forwarder.widen(port.plain)
            port.plain = None

    def _readable(self, port: _Port[WaiterT]) -> None:
        for _ in range(BATCH):
            try:
                message = port.socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there (ICMP), or the way broke
                if port.attempt < 0:
                    self._drop(port)
                else:
                    self._widen(port)
                    self._perform(self._forwarder.failed(port.attempt, self._loop.time()))
                return
            if port.attempt < 0:  # to nothing that is asked: whoever sends it goes on to nobody
                self._drop(port)
                return
            plain = port.plain
            if plain is not None and self._forwarder.is_plain(plain) and self._plainly(port, plain, message):
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
        port.attempt, port.plain = -1, None
        if answered and port.uses < USES:
            port.unused.append(port)
        else:
            self._shut(port)

    def _drop(self, port: _Port[WaiterT]) -> None:
        """Close a socket that is not in use."""
        if port in port.unused:
            port.unused.remove(port)
        self._shut(port)

    def _shut(self, port: _Port[WaiterT]) -> None:
        if self._ports.pop(port.socket.fileno(), None) is not None:
            port.socket.close()  # which takes it out of the epoll too


def _family(upstream: Upstream) -> socket.AddressFamily:
    return socket.AF_INET if upstream.address.version == 4 else socket.AF_INET6
