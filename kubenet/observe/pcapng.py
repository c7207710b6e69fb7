"""Packets for Wireshark, each with the name of its interface and what is known of it. *Pure.*

Source: IETF draft-ietf-opsawg-pcapng (section header, interface description, enhanced packet blocks).
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_MAGIC = 0x1A2B3C4D
_ETHERNET = 1  # LINKTYPE_ETHERNET
_COMMENT, _IF_NAME, _IF_TSRESOL, _HARDWARE = 1, 2, 9, 2
_NANOSECONDS = 9
_FLAGS = 2
_INBOUND, _OUTBOUND = 1, 2


@dataclass(frozen=True, slots=True)
class Captured:
    """One packet at one interface."""

    time_ns: int  # since 1970
    ifname: str  # node-1/eth0
    frame: bytes
    length: int  # on the interface; the frame may be cut off
    sent: bool
    comment: str = ""


def pcapng(packets: Iterable[Captured]) -> Iterator[bytes]:
    """Yield the file, block by block."""
    yield _block(_SECTION, struct.pack("=IHHq", _MAGIC, 1, 0, -1) + _end())
    numbers: dict[str, int] = {}
    for packet in packets:
        if packet.ifname not in numbers:
            numbers[packet.ifname] = len(numbers)
            options = _option(_IF_NAME, packet.ifname.encode()) + _option(_IF_TSRESOL, bytes([_NANOSECONDS]))
            yield _block(_INTERFACE, struct.pack("=HHI", _ETHERNET, 0, 0) + options + _end())
        yield _packet(packet, numbers[packet.ifname])


def _packet(packet: Captured, number: int) -> bytes:
    head = struct.pack(
        "=IIIII",
        number,
        packet.time_ns >> 32,
        packet.time_ns & 0xFFFFFFFF,
        len(packet.frame),
        max(packet.length, len(packet.frame)),
    )
    options = _option(_FLAGS, struct.pack("=I", _OUTBOUND if packet.sent else _INBOUND))
    if packet.comment:
        options += _option(_COMMENT, packet.comment.encode())
    return _block(_PACKET, head + _padded(packet.frame) + options + _end())


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("=I", 12 + len(body))
    return struct.pack("=I", kind) + length + body + length


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _end() -> bytes:
    return struct.pack("=HH", 0, 0)


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)
