"""Who answers whom: echo requests between many namespaces at once, from one thread."""

import os
import select
import socket
import struct
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address

from kubenet.kernel.netns import NetNs
from kubenet.model.packet import ECHO, ECHO_REPLY, decode

PATIENCE_S = 0.25  # after the last answer
TRIES = 2
HEADERS_BYTES = 28  # IPv4 and ICMP
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2  # linux/in.h
_SO_RCVBUFFORCE = 33
_QUEUE_BYTES = 1 << 20
_BURST = 64  # sent before answers are looked at
_HEAD = struct.Struct("!BBHHH")


@dataclass(frozen=True, slots=True)
class End:
    """A namespace with its address."""

    name: str
    ip: IPv4Address
    netns: NetNs


Pair = tuple[str, str]


class Echoes:
    """A raw socket in each namespace."""

    def __init__(self, ends: Sequence[End], *, size_bytes: int = 0) -> None:
        """Open the sockets. With a size, packets have it and are not to be fragmented."""
        self._ends = {end.name: end for end in ends}
        self._names = {end.ip: end.name for end in ends}
        self._size_bytes = size_bytes
        self._ident = int.from_bytes(os.urandom(2), "big")
        self._answered: set[Pair] = set()
        with ExitStack() as undo:
            self._poller = select.epoll()
            undo.callback(self._poller.close)
            self._sockets: dict[str, socket.socket] = {}
            for end in ends:
                self._sockets[end.name] = undo.enter_context(self._open(end))
            self._undo = undo.pop_all()
        self._by_fd = {made.fileno(): name for name, made in self._sockets.items()}

    def _open(self, end: End) -> socket.socket:
        made = end.netns.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE_BYTES)
        if self._size_bytes:
            made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
        self._poller.register(made.fileno(), select.EPOLLIN)
        return made

    def answered(self, pairs: Collection[Pair]) -> set[Pair]:
        """Send from the first of each pair to the second; return the pairs that got an answer."""
        for _ in range(TRIES):
            left = [pair for pair in pairs if pair not in self._answered]
            for number, (source, to) in enumerate(left):
                self._send(self._sockets[source], self._ends[to].ip)
                if number % _BURST == _BURST - 1:
                    self._receive(0)
            deadline = time.monotonic() + PATIENCE_S
            while len(self._answered) < len(pairs) and time.monotonic() < deadline:
                if self._receive(PATIENCE_S):
                    deadline = time.monotonic() + PATIENCE_S
        return self._answered

    def _send(self, made: socket.socket, to: IPv4Address) -> None:
        payload = bytes(max(8, self._size_bytes - HEADERS_BYTES) & ~1)  # an even number, for the sum below
        # The sum of 16-bit words; the payload is zeroes (RFC 1071).
        total = (ECHO << 8) + self._ident + 1
        total = (total & 0xFFFF) + (total >> 16)
        try:
            made.sendto(_HEAD.pack(ECHO, 0, ~total & 0xFFFF, self._ident, 1) + payload, (str(to), 0))
        except OSError:
            pass  # no route, or too large for the link: no answer will come

    def _receive(self, timeout_s: float) -> int:
        """Take what is there; return how many answers it were."""
        count = 0
        for fd, _ in self._poller.poll(timeout_s):
            name = self._by_fd[fd]
            while True:
                try:
                    raw = self._sockets[name].recv(2048)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # an error about one of our packets
                packet = decode(raw)
                if packet is None or packet.icmp_type != ECHO_REPLY or packet.flow.source_port != self._ident:
                    continue
                sender = self._names.get(packet.flow.source)
                if sender is not None:
                    self._answered.add((name, sender))
                    count += 1
        return count

    def close(self) -> None:
        """Close the sockets."""
        self._undo.close()


def echoed(ends: Sequence[End], pairs: Collection[Pair], size_bytes: int = 0) -> set[Pair]:
    """Return the pairs of which the second answered the first."""
    echoes = Echoes(ends, size_bytes=size_bytes)
    try:
        return echoes.answered(pairs)
    finally:
        echoes.close()
