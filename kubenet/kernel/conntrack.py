"""The kernel's table of connections: read the UDP ones, make it forget some. *The codec is pure.*

A busy node tracks a hundred thousand flows, and nearly all of them are of no interest. So the kernel is asked
for UDP alone, entries are grouped by where they go as raw bytes, and an entry is decoded only when somebody
wants it deleted. Only entries laid out as the kernel has always laid them out take the short way; any other
is read attribute by attribute.

Source: linux/netfilter/nfnetlink_conntrack.h, linux/netfilter/nfnetlink.h,
net/netfilter/nf_conntrack_netlink.c.
"""

import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import TracebackType
from typing import Literal, NamedTuple, Self, TypeAlias

from kubenet.kernel import uapi
from kubenet.kernel.netlink import CodecError, Request, attribute, attributes, nested, u32
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nlsocket import NetlinkSocket

Family: TypeAlias = Literal[4, 6]
IPAddress: TypeAlias = IPv4Address | IPv6Address

NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = _SUBSYSTEM | 1, _SUBSYSTEM | 2  # IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE
_NFGENMSG = struct.Struct("=BBH")  # family, version, resource
_AF: Mapping[Family, int] = {4: uapi.AF_INET, 6: uapi.AF_INET6}

CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 12, 18, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_SRC: Mapping[Family, int] = {4: 1, 6: 3}
CTA_IP_DST: Mapping[Family, int] = {4: 2, 6: 4}
CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT = 1, 2, 3
CTA_FILTER_ORIG_FLAGS, CTA_FILTER_REPLY_FLAGS = 1, 2
_BY_PROTOCOL = 1 << 3  # the bit of CTA_PROTO_NUM among the filter's flags
_UDP = 17

Entry: TypeAlias = bytes
"""The body of the kernel's message about one flow."""


class Kind(NamedTuple):
    """Where a flow was sent to and who answers, as in the packets: network byte order."""

    destination: bytes
    port: bytes
    answering: bytes
    answering_port: bytes

    def sockets(self) -> tuple[tuple[IPAddress, int], tuple[IPAddress, int]]:
        """Return where it was sent to, and who answers."""
        return (
            (ip_address(self.destination), int.from_bytes(self.port)),
            (ip_address(self.answering), int.from_bytes(self.answering_port)),
        )


def list_udp(family: Family) -> Request:
    """Return the request for all UDP flows of one family."""
    protocol = nested(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, bytes([_UDP])))
    flags = u32(CTA_FILTER_ORIG_FLAGS, _BY_PROTOCOL) + u32(CTA_FILTER_REPLY_FLAGS, 0)
    body = _NFGENMSG.pack(_AF[family], 0, 0) + nested(CTA_TUPLE_ORIG, protocol) + nested(CTA_FILTER, flags)
    return Request(_GET, uapi.NLM_F_DUMP, body, f"list IPv{family} UDP flows")


def delete(entry: Entry) -> Request:
    """Return the request to forget exactly this flow; one that has ended is fine. Raises CodecError."""
    found = attributes(entry, _NFGENMSG.size)
    if CTA_TUPLE_ORIG not in found:
        raise CodecError("conntrack: an entry without its addresses")
    body = entry[:1] + b"\0\0\0" + nested(CTA_TUPLE_ORIG, found[CTA_TUPLE_ORIG])
    for kind in (CTA_ID, CTA_ZONE):  # the id, so that another flow of the same addresses stays
        if kind in found:
            body += attribute(kind, found[kind])
    return Request(_DELETE, 0, body, "forget a flow", forgiven=(errno.ENOENT,))


class _Layout:
    """One family's usual layout of a tuple of addresses and ports."""

    def __init__(self, family: Family) -> None:
        size = 4 if family == 4 else 16
        ip, port = bytes(size), bytes(2)
        addresses = attribute(CTA_IP_SRC[family], ip) + attribute(CTA_IP_DST[family], ip)
        ports = attribute(CTA_PROTO_SRC_PORT, port) + attribute(CTA_PROTO_DST_PORT, port)
        inner = nested(CTA_TUPLE_IP, addresses)
        inner += nested(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, bytes([_UDP])), ports)
        # What stands before the source, before the destination, before each of the ports.
        self.whole = struct.Struct(f"12s{size}s4s{size}s16s2s6s2s2x")
        self.heads = {}
        for side in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY):
            first, _, second, _, third, _, fourth, _ = self.whole.unpack(nested(side, inner))
            self.heads[side] = (first, second, third, fourth)

    def read(self, body: bytes, offset: int, side: int) -> tuple[bytes, bytes, bytes, bytes] | None:
        """Return source, destination and ports; None when the layout is another."""
        if len(body) < offset + self.whole.size:
            return None
        first, source, second, destination, third, sport, fourth, dport = self.whole.unpack_from(body, offset)
        if (first, second, third, fourth) != self.heads[side]:
            return None
        return source, destination, sport, dport


_LAYOUTS: Mapping[int, _Layout] = {uapi.AF_INET: _Layout(4), uapi.AF_INET6: _Layout(6)}


def kind_of(entry: Entry) -> Kind | None:
    """Return where a flow goes; None for one without ports. Raises CodecError."""
    layout = _LAYOUTS.get(entry[0]) if entry else None
    if layout is None:
        raise CodecError(f"conntrack: not an IP flow: {entry[:4]!r}")
    sent = layout.read(entry, 4, CTA_TUPLE_ORIG)
    back = layout.read(entry, 4 + layout.whole.size, CTA_TUPLE_REPLY) if sent else None
    if sent and back:
        return Kind(sent[1], sent[3], back[0], back[2])
    return _unusual(entry)


def _unusual(entry: Entry) -> Kind | None:
    family: Family = 4 if entry[0] == uapi.AF_INET else 6
    found = attributes(entry, _NFGENMSG.size)
    try:
        sent, back = attributes(found[CTA_TUPLE_ORIG]), attributes(found[CTA_TUPLE_REPLY])
        to, by = attributes(sent[CTA_TUPLE_IP]), attributes(back[CTA_TUPLE_IP])
        to_ports, by_ports = attributes(sent[CTA_TUPLE_PROTO]), attributes(back[CTA_TUPLE_PROTO])
        kind = Kind(
            to[CTA_IP_DST[family]],
            to_ports[CTA_PROTO_DST_PORT],
            by[CTA_IP_SRC[family]],
            by_ports[CTA_PROTO_SRC_PORT],
        )
    except KeyError:
        return None
    size = 4 if family == 4 else 16
    if [len(part) for part in kind] != [size, 2, size, 2]:
        raise CodecError("conntrack: an address or a port of another length")
    return kind


def grouped(entries: Iterable[Entry]) -> dict[Kind, list[Entry]]:
    """Return the entries by where they go; those without ports are left out. Raises CodecError."""
    groups: dict[Kind, list[Entry]] = {}
    for entry in entries:
        kind = kind_of(entry)
        if kind is not None:
            groups.setdefault(kind, []).append(entry)
    return groups


class Conntrack:
    """A connection to the table of one namespace."""

    def __init__(self, netns: NetNs | None = None) -> None:
        self._socket = NetlinkSocket(netns, NETLINK_NETFILTER)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def udp(self, family: Family) -> dict[Kind, list[Entry]]:
        """Return the UDP flows by where they go; some may be missing if the table was changing (row 53).

        Raises NetlinkError, Resync, CodecError, TimedOut.
        """
        return grouped(message.body for message in self._socket.ask(list_udp(family), whole=False))

    def forget(self, entries: Sequence[Entry]) -> None:
        """Delete flows; those that have ended are fine. Raises NetlinkError, Resync, CodecError, TimedOut."""
        self._socket.transact([delete(entry) for entry in entries])
