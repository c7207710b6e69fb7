"""Packets by their headers: what is told, through tunnels and errors, and what is no packet."""

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.model.packet import ICMP, TCP, UDP, decode

A, B = IPv4Address("10.244.1.2"), IPv4Address("10.96.0.1")


def ip(protocol: int, payload: bytes, ident: int = 7, source: IPv4Address = A, to: IPv4Address = B) -> bytes:
    length = 20 + len(payload)
    return (
        struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, ident, 0, 64, protocol, 0, source.packed, to.packed)
        + payload
    )


def tcp(flags: int = 2, payload: bytes = b"") -> bytes:
    return struct.pack("!HHIIBBHHH", 40000, 80, 1234, 0, 0x50, flags, 0, 0, 0) + payload


def udp(port: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", 5555, port, 8 + len(payload), 0) + payload


def vxlan(inner: bytes, vni: int = 1) -> bytes:
    return b"\x08\0\0\0" + vni.to_bytes(3, "big") + b"\0" + bytes(14) + inner


def test_a_tcp_packet_tells_flow_flags_and_sequence() -> None:
    packet = decode(ip(TCP, tcp(0x12, b"hello")))
    assert packet
    assert (str(packet.flow), packet.words(), packet.sequence) == (
        f"tcp {A}:40000 -> {B}:80",
        "SYN,ACK",
        1234,
    )
    assert packet.payload == b"hello"


def test_a_tunnel_shows_the_packet_inside_and_what_is_around_it() -> None:
    inner = ip(TCP, tcp())
    packet = decode(
        ip(UDP, udp(8472, vxlan(inner, 7)), 9, IPv4Address("172.30.0.1"), IPv4Address("172.30.0.2"))
    )
    plain = decode(inner)
    assert packet
    assert plain
    assert packet.vxlan
    assert (packet.vxlan.vni, packet.vxlan.port, str(packet.vxlan.destination)) == (7, 8472, "172.30.0.2")
    assert packet.fingerprint == plain.fingerprint


def test_udp_to_another_port_is_no_tunnel() -> None:
    packet = decode(ip(UDP, udp(53, vxlan(ip(TCP, tcp())))))
    assert packet
    assert packet.vxlan is None
    assert packet.flow.destination_port == 53


def test_an_icmp_error_tells_which_packet_it_is_about() -> None:
    packet = decode(ip(ICMP, struct.pack("!BBHI", 3, 3, 0, 0) + ip(UDP, udp(53, b"q"))))
    assert packet
    assert packet.about
    assert (packet.words(), packet.about.flow.destination_port) == ("ICMP port unreachable", 53)


def test_an_echo_has_its_identifier_for_ports() -> None:
    packet = decode(ip(ICMP, struct.pack("!BBHHH", 8, 0, 0, 77, 3)))
    assert packet
    assert (packet.flow.source_port, packet.flow.destination_port, packet.sequence) == (77, 77, 3)
    assert packet.flow.reversed().destination == A


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"ident": 8}, id="another identification"),
        pytest.param({"payload": b"longer"}, id="another length"),
    ],
)
def test_the_next_packet_has_another_fingerprint(change: dict[str, object]) -> None:
    ident, payload = change.get("ident", 7), change.get("payload", b"")
    assert isinstance(ident, int)
    assert isinstance(payload, bytes)
    first, second = decode(ip(TCP, tcp())), decode(ip(TCP, tcp(2, payload), ident))
    assert first
    assert second
    assert first.fingerprint != second.fingerprint


def test_a_later_fragment_has_no_ports() -> None:
    raw = bytearray(ip(UDP, udp(53, b"x" * 8)))
    raw[7] = 1
    packet = decode(bytes(raw))
    assert packet
    assert packet.flow.destination_port == 0


@given(st.binary(max_size=120))
def test_any_bytes_are_a_packet_or_none(raw: bytes) -> None:
    for attempt in (
        raw,
        ip(TCP, raw),
        ip(UDP, udp(8472, raw)),
        ip(ICMP, raw),
        ip(UDP, udp(8472, vxlan(raw))),
    ):
        decode(attempt)
        decode(attempt[: len(raw)])
