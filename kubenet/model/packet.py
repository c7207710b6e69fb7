"""An IPv4 packet as its headers say it is: what a trace compares and prints. *Pure.*

Made for packets that the kernel shows us, often cut off behind the headers. What cannot be told is left at
its default; only bytes that are no IPv4 packet at all give None.

Source: RFC 791, RFC 768, RFC 9293, RFC 792, RFC 7348 section 5.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import NamedTuple

ICMP, TCP, UDP = 1, 6, 17
PROTOCOL_NAMES = {ICMP: "icmp", TCP: "tcp", UDP: "udp", 132: "sctp"}
VXLAN_PORTS = (8472, 4789)  # Linux's own, and the one that IANA gave later

ECHO_REPLY, UNREACHABLE, REDIRECT, ECHO, TIME_EXCEEDED, PARAMETER = 0, 3, 5, 8, 11, 12
_ABOUT_A_PACKET = (UNREACHABLE, REDIRECT, TIME_EXCEEDED, PARAMETER)
_UNREACHABLE = {
    0: "network unreachable",
    1: "host unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    13: "administratively prohibited",
}
_ICMP_TYPES = {
    ECHO_REPLY: "echo reply",
    REDIRECT: "redirect",
    ECHO: "echo request",
    TIME_EXCEEDED: "time exceeded",
}

_IP = struct.Struct("!BBHHHBBH4s4s")
_PORTS = struct.Struct("!HH")
_TCP = struct.Struct("!HHIIBB")
_FLAGS = ((0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"))
_OFFSET = 0x1FFF  # of a fragment
ETHERNET_BYTES = 14
_VXLAN_BYTES = 8


class FiveTuple(NamedTuple):
    """Who talks to whom. Of an ICMP echo both ports are its identifier."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    source_port: int
    destination_port: int

    def reversed(self) -> "FiveTuple":
        """Return the tuple of the answers."""
        return FiveTuple(
            self.destination, self.source, self.protocol, self.destination_port, self.source_port
        )

    def __str__(self) -> str:
        name = PROTOCOL_NAMES.get(self.protocol, str(self.protocol))
        if self.protocol == ICMP:
            return f"{name} {self.source} -> {self.destination}"
        return f"{name} {self.source}:{self.source_port} -> {self.destination}:{self.destination_port}"


@dataclass(frozen=True, slots=True)
class Vxlan:
    """What is around an encapsulated packet."""

    vni: int
    source: IPv4Address
    destination: IPv4Address
    port: int
    ident: int = 0  # of the outer packet
    length: int = 0


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet; of an encapsulated one, the one inside, with ``vxlan`` saying what is around it."""

    flow: FiveTuple
    ident: int
    ttl: int
    length: int
    flags: str = ""  # TCP: "SYN", "SYN,ACK"
    sequence: int = 0  # TCP, or of an ICMP echo
    icmp_type: int = -1
    icmp_code: int = 0
    payload: bytes = b""
    vxlan: Vxlan | None = None
    about: "Packet | None" = None  # of an ICMP error: the packet that it complains of

    @property
    def fingerprint(self) -> tuple[int, ...]:
        """What stays the same through NAT, routers and tunnels, and differs from packet to packet."""
        return (self.flow.protocol, self.ident, self.length, self.sequence, self.icmp_type, *_flag_key(self))

    def words(self) -> str:
        """Return what kind of packet it is: "SYN", "echo request"."""
        if self.flow.protocol == TCP:
            return self.flags or "data"
        if self.flow.protocol == ICMP:
            if self.icmp_type == UNREACHABLE:
                return "ICMP " + _UNREACHABLE.get(self.icmp_code, f"unreachable, code {self.icmp_code}")
            return "ICMP " + _ICMP_TYPES.get(self.icmp_type, f"type {self.icmp_type}")
        return "datagram"


def _flag_key(packet: Packet) -> tuple[int, ...]:
    return tuple(sorted(packet.flags.encode())) if packet.flags else ()


def decode(raw: bytes, vxlan_ports: Collection[int] = VXLAN_PORTS) -> Packet | None:
    """Return the IPv4 packet that ``raw`` begins with; None for anything else."""
    if len(raw) < _IP.size or raw[0] >> 4 != 4:
        return None
    head, _, length, ident, fragment, ttl, protocol, _, source, destination = _IP.unpack_from(raw)
    header_bytes = (head & 15) * 4
    if header_bytes < _IP.size:
        return None
    rest = raw[header_bytes : max(length, header_bytes)] if length else raw[header_bytes:]
    if fragment & _OFFSET:
        rest = b""
    ends = IPv4Address(source), IPv4Address(destination)
    if protocol == UDP and (inside := _in_vxlan(rest, (*ends, ident, length), vxlan_ports)):
        return inside
    if protocol == TCP and len(rest) >= _TCP.size:
        return _tcp(rest, ends, ident, ttl, length)
    if protocol == ICMP and len(rest) >= 4:
        return _icmp(rest, ends, ident, ttl, length)
    ports = _PORTS.unpack_from(rest) if len(rest) >= 4 else (0, 0)
    payload = rest[8:] if protocol == UDP else b""
    return Packet(FiveTuple(*ends, protocol, *ports), ident, ttl, length, payload=payload)


def _tcp(rest: bytes, ends: tuple[IPv4Address, IPv4Address], ident: int, ttl: int, length: int) -> Packet:
    source_port, destination_port, sequence, _, offset, bits = _TCP.unpack_from(rest)
    flags = ",".join(name for bit, name in _FLAGS if bits & bit)
    flow = FiveTuple(*ends, TCP, source_port, destination_port)
    return Packet(flow, ident, ttl, length, flags, sequence, payload=rest[(offset >> 4) * 4 :])


def _icmp(rest: bytes, ends: tuple[IPv4Address, IPv4Address], ident: int, ttl: int, length: int) -> Packet:
    kind, code = rest[0], rest[1]
    about = decode(rest[8:]) if kind in _ABOUT_A_PACKET else None
    number, sequence = _PORTS.unpack_from(rest, 4) if len(rest) >= 8 else (0, 0)
    if about is not None:
        number, sequence = 0, about.sequence
    flow = FiveTuple(*ends, ICMP, number, number)
    return Packet(flow, ident, ttl, length, sequence=sequence, icmp_type=kind, icmp_code=code, about=about)


def _in_vxlan(
    rest: bytes, outer: tuple[IPv4Address, IPv4Address, int, int], vxlan_ports: Collection[int]
) -> Packet | None:
    inside_at = 8 + _VXLAN_BYTES + ETHERNET_BYTES
    if len(rest) < inside_at + _IP.size:
        return None
    _, port = _PORTS.unpack_from(rest)
    if port not in vxlan_ports:
        return None
    inside = decode(rest[inside_at:], ())
    if inside is None:
        return None
    source, destination, ident, length = outer
    around = Vxlan(int.from_bytes(rest[12:15], "big"), source, destination, port, ident, length)
    return replace(inside, vxlan=around)
