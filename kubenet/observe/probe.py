"""Send one packet from inside a namespace and say what came of it."""

import errno
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

from kubenet.errors import KubenetError
from kubenet.kernel.netns import NetNs
from kubenet.model.packet import ECHO, ECHO_REPLY, ICMP, TCP, UDP, FiveTuple, decode
from kubenet.observe.events import ProbeResult

PAYLOAD = b"kubenet trace\n"
_ECHO = struct.Struct("!BBHHH")
_DISCARD = 9  # a port for a socket that shall only say which address it would use
_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}


@dataclass(frozen=True, slots=True)
class Target:
    """What to send, and where to."""

    protocol: int
    ip: IPv4Address
    port: int = 0
    query: bytes = b""  # a DNS message; else a line of text is sent


class Probe:
    """A socket in a namespace from which one packet will be sent; its five-tuple is known before."""

    def __init__(self, netns: NetNs, target: Target) -> None:
        """Open the socket. Raises KubenetError when the namespace has no route there."""
        self._target = target
        source = source_address(netns, target.ip)
        kind, number = {
            TCP: (socket.SOCK_STREAM, 0),
            UDP: (socket.SOCK_DGRAM, 0),
            ICMP: (socket.SOCK_RAW, socket.IPPROTO_ICMP),
        }[target.protocol]
        self._socket = netns.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC, number)
        self._socket.setblocking(False)
        self._socket.bind((str(source), 0))
        if target.protocol == ICMP:
            ident = int.from_bytes(os.urandom(2), "big") | 1
            self.flow = FiveTuple(source, target.ip, ICMP, ident, ident)
        else:
            port = int(self._socket.getsockname()[1])
            self.flow = FiveTuple(source, target.ip, target.protocol, port, target.port)

    def send(self, timeout_s: float) -> ProbeResult:
        """Send, and wait for an answer."""
        try:
            return _SENDERS[self._target.protocol](self, timeout_s)
        except OSError as error:
            return ProbeResult(False, os.strerror(error.errno or 0).lower())

    def _tcp(self, timeout_s: float) -> ProbeResult:
        code = self._socket.connect_ex((str(self._target.ip), self._target.port))
        if code == errno.EINPROGRESS:
            if not select.select([], [self._socket], [], timeout_s)[1]:
                return _timed_out(timeout_s)
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return ProbeResult(not code, "connected" if not code else os.strerror(code).lower())

    def _udp(self, timeout_s: float) -> ProbeResult:
        self._socket.connect((str(self._target.ip), self._target.port))
        self._socket.send(self._target.query or PAYLOAD)
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return _timed_out(timeout_s)
        answer = self._socket.recv(4096)
        if self._target.query and len(answer) >= 12:
            code, count = answer[3] & 15, int.from_bytes(answer[6:8], "big")
            words = f"{_RCODES.get(code, f'code {code}')}, {count} answers"
            return ProbeResult(code == 0, words)
        return ProbeResult(True, f"answered, {len(answer)} bytes")

    def _icmp(self, timeout_s: float) -> ProbeResult:
        ident = self.flow.source_port
        message = _ECHO.pack(ECHO, 0, 0, ident, 1) + PAYLOAD
        message = message[:2] + _checksum(message).to_bytes(2, "big") + message[4:]
        self._socket.sendto(message, (str(self._target.ip), 0))
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left_s)[0]:
                break
            packet = decode(self._socket.recv(4096))
            if packet and packet.icmp_type == ECHO_REPLY and packet.flow.source_port == ident:
                return ProbeResult(True, "answered")
            if packet and packet.about and packet.about.flow.source_port == ident:
                return ProbeResult(False, packet.words())
        return _timed_out(timeout_s)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_SENDERS = {TCP: Probe._tcp, UDP: Probe._udp, ICMP: Probe._icmp}


class NoRoute(KubenetError):
    """The sender knows no way to the destination."""


def source_address(netns: NetNs, to: IPv4Address) -> IPv4Address:
    """Return the address that a packet from the namespace to ``to`` would have. Nothing is sent.

    Raises NoRoute.
    """
    with netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((str(to), _DISCARD))
        except OSError as error:
            raise NoRoute(os.strerror(error.errno or 0).lower()) from error
        return IPv4Address(asking.getsockname()[0])


def dns_query(name: str, ident: int = 0x6B6E) -> bytes:
    """Return a DNS question for the IPv4 addresses of a name (RFC 1035 section 4)."""
    labels = [
        label.encode("idna") if not label.isascii() else label.encode()
        for label in name.rstrip(".").split(".")
    ]
    question = b"".join(bytes([len(label)]) + label for label in labels if label) + b"\0\0\1\0\1"
    return struct.pack("!HHHHHH", ident, 0x0100, 1, 0, 0, 0) + question


def _checksum(message: bytes) -> int:
    padded = message + bytes(len(message) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def _timed_out(timeout_s: float) -> ProbeResult:
    return ProbeResult(False, f"no answer within {timeout_s:g} s")
