"""What the elements of our sets and maps are made of, and how to read them. *Pure.*

An element is a pair of byte strings, packed as the kernel holds them: every field in network order, filled up
to four bytes. ``Field`` says what one means.

Source: nft(8), linux/netfilter/nf_tables.h.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}  # IANA protocol numbers


class Field(Enum):
    """One part of a key or value: the number nft knows its type by, its bytes, its bytes in a register."""

    ADDRESS_V4 = 7, 4, 4
    ADDRESS_V6 = 8, 16, 16
    PROTOCOL = 12, 1, 4
    PORT = 13, 2, 4
    NUMBER = 19, 4, 4  # in host order; nft calls this type "mark"
    MAC = 9, 6, 8
    ETHERTYPE = 10, 2, 4
    ICMP_TYPE = 29, 1, 4  # of ICMPv6
    IFNAME = 41, 16, 16

    @property
    def type_number(self) -> int:
        return self.value[0]

    @property
    def bytes_used(self) -> int:
        return self.value[1]

    @property
    def bytes_held(self) -> int:
        return self.value[2]

    def text(self, packed: bytes) -> str:
        """Return what ``packed`` means."""
        write = _WRITTEN.get(self)
        return write(packed) if write else f"{struct.unpack('=I', packed)[0]:#x}"


_WRITTEN: Mapping[Field, Callable[[bytes], str]] = {
    Field.ADDRESS_V4: lambda packed: str(IPv4Address(packed)),
    Field.ADDRESS_V6: lambda packed: str(IPv6Address(packed)),
    Field.PROTOCOL: lambda packed: _PROTOCOLS.get(packed[0], str(packed[0])),
    Field.PORT: lambda packed: str(struct.unpack_from("!H", packed)[0]),
    Field.MAC: lambda packed: packed[:6].hex(":"),
    Field.ETHERTYPE: lambda packed: f"{struct.unpack_from('!H', packed)[0]:#06x}",
    Field.ICMP_TYPE: lambda packed: str(packed[0]),
    Field.IFNAME: lambda packed: packed.rstrip(b"\0").decode(),
}


Fields: TypeAlias = tuple[Field, ...]


def width(fields: Fields) -> int:
    """Return how many bytes ``fields`` fill."""
    return sum(part.bytes_held for part in fields)


def fields_text(fields: Fields, packed: bytes) -> str:
    """Return the parts of a key or value as nft writes them."""
    texts = []
    for part in fields:
        texts.append(part.text(packed[: part.bytes_held]))
        packed = packed[part.bytes_held :]
    return " . ".join(texts)


@dataclass(frozen=True, slots=True)
class Set:
    """A set; a map if it has ``value``; a map to chains if it has ``verdicts``."""

    key: Fields
    value: Fields = ()
    verdicts: bool = False  # the value of an element is the name of a chain
    intervals: bool = False  # an element's key is two keys, from and to
    learned: bool = False  # rules fill it, and elements time out: its contents are nobody's wish
    counted: bool = False  # each element counts the packets that were looked up and found it

    def element_text(self, key: bytes, value: bytes) -> str:
        """Return an element as nft writes it."""
        size = width(self.key)
        text = fields_text(self.key, key[:size])
        if self.intervals:
            text += f" - {fields_text(self.key, key[size:])}"
        if self.verdicts:
            return f"{text} : goto {value.decode()}"
        return f"{text} : {fields_text(self.value, value)}" if self.value else text
