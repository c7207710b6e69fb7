"""What the kernel says when a connection appears, changes, or ends. *Pure.*

Source: linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal, TypeAlias

from kubenet.kernel import uapi
from kubenet.kernel.conntrack import (
    CTA_ID,
    CTA_IP_DST,
    CTA_IP_SRC,
    CTA_PROTO_DST_PORT,
    CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT,
    CTA_TUPLE_IP,
    CTA_TUPLE_ORIG,
    CTA_TUPLE_PROTO,
    CTA_TUPLE_REPLY,
)
from kubenet.kernel.netlink import Attributes, attributes
from kubenet.model.packet import ICMP, FiveTuple

SUBSYSTEM = 1  # NFNL_SUBSYS_CTNETLINK
_NEW, _DELETE = 0, 2
_CTA_STATUS = 3
_CTA_PROTO_ICMP_ID = 4
_IPS_SRC_NAT, _IPS_DST_NAT = 1 << 4, 1 << 5

ConntrackKind: TypeAlias = Literal["new", "update", "destroy"]


@dataclass(frozen=True, slots=True)
class ConntrackEvent:
    """One connection of one namespace: how its packets come, and how the answers will."""

    kind: ConntrackKind
    original: FiveTuple
    reply: FiveTuple
    ident: int
    status: int

    @property
    def source_translated(self) -> bool:
        return bool(self.status & _IPS_SRC_NAT)

    @property
    def destination_translated(self) -> bool:
        return bool(self.status & _IPS_DST_NAT)


def read_event(message_type: int, flags: int, body: bytes) -> ConntrackEvent | None:
    """Return the event of an IPv4 connection; None for others. Raises CodecError."""
    if body[:1] != bytes([uapi.AF_INET]):
        return None
    found = attributes(body, 4)
    original, reply = _tuple(found, CTA_TUPLE_ORIG), _tuple(found, CTA_TUPLE_REPLY)
    if original is None or reply is None:
        return None
    kind: ConntrackKind = "update"
    if message_type & 0xFF == _DELETE:
        kind = "destroy"
    elif message_type & 0xFF == _NEW and flags & uapi.NLM_F_CREATE:
        kind = "new"
    return ConntrackEvent(kind, original, reply, _number(found, CTA_ID), _number(found, _CTA_STATUS))


def _tuple(found: Attributes, kind: int) -> FiveTuple | None:
    inside = attributes(found.get(kind, b""))
    ips, proto = attributes(inside.get(CTA_TUPLE_IP, b"")), attributes(inside.get(CTA_TUPLE_PROTO, b""))
    source, destination = ips.get(CTA_IP_SRC[4], b""), ips.get(CTA_IP_DST[4], b"")
    if len(source) != 4 or len(destination) != 4:
        return None
    protocol = _number(proto, CTA_PROTO_NUM)
    ports = _number(proto, CTA_PROTO_SRC_PORT), _number(proto, CTA_PROTO_DST_PORT)
    if protocol == ICMP:
        ports = (_number(proto, _CTA_PROTO_ICMP_ID),) * 2
    return FiveTuple(IPv4Address(source), IPv4Address(destination), protocol, *ports)


def _number(found: Attributes, kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), "big")
