"""Messages about rules that one flow meets: the table that asks for them, and what the kernel says. *Pure.*

The table is an nftables one of our own with two chains that only set a bit on the flow's packets. The bit
makes the kernel report every rule that such a packet matches, of any table, of nftables and of iptables in
both its flavours. The table is *owned*: the kernel removes it when our socket goes, also after a kill.

Source: linux/netfilter/nf_tables.h (nft_trace_attributes), nfnetlink_log.h; net/netfilter/nf_tables_trace.c;
net/ipv4/netfilter/ip_tables.c (trace_packet).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal, TypeAlias

from kubenet.kernel import nft_uapi as nf
from kubenet.kernel import uapi
from kubenet.kernel.netlink import (
    Attributes,
    CodecError,
    Request,
    attribute,
    attributes,
    nested,
    text,
    text_in,
)
from kubenet.model.packet import ICMP

NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE, NFNLGRP_CONNTRACK_DESTROY = 1, 2, 3
NFNLGRP_NFTRACE = 9
MSG_TRACE = nf.NFNL_SUBSYS_NFTABLES << 8 | 17
NFULNL_PACKET = 4 << 8  # NFNL_SUBSYS_ULOG, NFULNL_MSG_PACKET
NFULNL_CONFIG = NFULNL_PACKET | 1

BEFORE_ALL = -400  # priority: before conntrack and every table of iptables
_NF_INET_PRE_ROUTING, _NF_INET_LOCAL_OUT = 0, 3
_NFT_META_NFTRACE = 12
_REGISTER = 1
_LIMIT_RATE, _LIMIT_UNIT, _LIMIT_BURST = 1, 2, 3
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT = 1, 2, 3, 4, 5
_NETWORK_HEADER, _TRANSPORT_HEADER, _IIF, _OIF, _NFPROTO, _POLICY = 8, 9, 10, 12, 15, 16
_ID, _MARK, _CT_ID, _CT_STATE = 6, 14, 18, 21
_GENERIC = struct.Struct("!BBH")

RuleKind: TypeAlias = Literal["rule", "return", "policy"]
_KINDS: dict[int, RuleKind] = {1: "policy", 2: "return", 3: "rule"}
_VERDICTS = {
    0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -2: "break",
    -3: "jump", -4: "goto", -5: "return",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Traced:
    """Which packets to ask about: those with this port (or ICMP identifier) on either side, and new ones to
    the given sockets, since a masqueraded packet may have another port by then.
    """

    protocol: int
    port: int
    towards: tuple[tuple[IPv4Address, int], ...] = ()
    towards_a_second: int = 20  # no more of these than so many


@dataclass(frozen=True, slots=True)
class RuleEvent:
    """A rule that a packet matched, or how a chain ended."""

    backend: Literal["nft", "legacy"]
    table: str
    chain: str
    handle: int  # nft: the rule's handle; legacy: its place in the chain from 1; 0: none
    kind: RuleKind
    verdict: str  # accept, drop, jump, continue...; empty: legacy does not say
    target: str = ""  # the chain of a jump
    iif: int = 0
    oif: int = 0
    packet: bytes = b""  # from the IP header on, where the kernel told it
    hook: int = -1  # legacy only
    mark: int = 0
    ct_id: int = 0
    trace_id: int = 0


def trace_table(name: str, traced: Traced, flags: int = nf.NFT_TABLE_F_OWNER) -> list[Request]:
    """Return the transaction that makes the table."""
    head = _GENERIC.pack(nf.NFPROTO_IPV4, 0, 0)
    requests = [_batch(nf.NFNL_MSG_BATCH_BEGIN)]
    body = head + text(nf.NFTA_TABLE_NAME, name) + _be32(nf.NFTA_TABLE_FLAGS, flags)
    requests.append(_request(nf.NEWTABLE, uapi.NLM_F_CREATE, body, name))
    for chain, hook in (("prerouting", _NF_INET_PRE_ROUTING), ("output", _NF_INET_LOCAL_OUT)):
        place = _be32(nf.NFTA_HOOK_HOOKNUM, hook) + _be32(nf.NFTA_HOOK_PRIORITY, BEFORE_ALL & 0xFFFFFFFF)
        body = head + text(nf.NFTA_CHAIN_TABLE, name) + text(nf.NFTA_CHAIN_NAME, chain)
        body += nested(nf.NFTA_CHAIN_HOOK, place) + text(nf.NFTA_CHAIN_TYPE, "filter")
        requests.append(_request(nf.NEWCHAIN, uapi.NLM_F_CREATE, body, name))
        for expressions in _rules(traced):
            body = head + text(nf.NFTA_RULE_TABLE, name) + text(nf.NFTA_RULE_CHAIN, chain)
            body += nested(nf.NFTA_RULE_EXPRESSIONS, *expressions)
            requests.append(_request(nf.NEWRULE, uapi.NLM_F_CREATE | nf.NLM_F_APPEND, body, name))
    return [*requests, _batch(nf.NFNL_MSG_BATCH_END)]


def _rules(traced: Traced) -> Iterator[list[bytes]]:
    """Yield the expressions of each rule of a chain."""
    port = traced.port.to_bytes(2, "big")
    places = (4,) if traced.protocol == ICMP else (0, 2)
    protocol = [*_meta_is(nf.NFT_META_L4PROTO, bytes([traced.protocol]))]
    mark = [_immediate_one(), _set_trace()]
    for at in places:
        yield [*protocol, *_payload_is(nf.NFT_PAYLOAD_TRANSPORT_HEADER, at, port), *mark]
    for ip, to_port in traced.towards:
        to_ip = _payload_is(nf.NFT_PAYLOAD_NETWORK_HEADER, 16, ip.packed)
        to = (
            []
            if traced.protocol == ICMP
            else _payload_is(nf.NFT_PAYLOAD_TRANSPORT_HEADER, 2, to_port.to_bytes(2, "big"))
        )
        yield [*protocol, *to_ip, *to, _limit(traced.towards_a_second), *mark]


def _meta_is(key: int, value: bytes) -> list[bytes]:
    load = _expression("meta", _be32(nf.NFTA_META_KEY, key), _be32(nf.NFTA_META_DREG, _REGISTER))
    return [load, _equals(value)]


def _payload_is(base: int, offset: int, value: bytes) -> list[bytes]:
    load = _expression(
        "payload",
        _be32(nf.NFTA_PAYLOAD_DREG, _REGISTER),
        _be32(nf.NFTA_PAYLOAD_BASE, base),
        _be32(nf.NFTA_PAYLOAD_OFFSET, offset),
        _be32(nf.NFTA_PAYLOAD_LEN, len(value)),
    )
    return [load, _equals(value)]


def _equals(value: bytes) -> bytes:
    wanted = nested(nf.NFTA_CMP_DATA, attribute(nf.NFTA_DATA_VALUE, value))
    return _expression(
        "cmp", _be32(nf.NFTA_CMP_SREG, _REGISTER), _be32(nf.NFTA_CMP_OP, nf.NFT_CMP_EQ), wanted
    )


def _immediate_one() -> bytes:
    one = nested(nf.NFTA_IMMEDIATE_DATA, attribute(nf.NFTA_DATA_VALUE, b"\1\0\0\0"))
    return _expression("immediate", _be32(nf.NFTA_IMMEDIATE_DREG, _REGISTER), one)


def _set_trace() -> bytes:
    return _expression(
        "meta", _be32(nf.NFTA_META_KEY, _NFT_META_NFTRACE), _be32(nf.NFTA_META_SREG, _REGISTER)
    )


def _limit(a_second: int) -> bytes:
    return _expression(
        "limit",
        attribute(_LIMIT_RATE, struct.pack("!Q", a_second)),
        attribute(_LIMIT_UNIT, struct.pack("!Q", 1)),
        _be32(_LIMIT_BURST, a_second),
    )


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(nf.NFTA_LIST_ELEM, text(nf.NFTA_EXPR_NAME, name), nested(nf.NFTA_EXPR_DATA, *parts))


def _request(message: int, flags: int, body: bytes, name: str) -> Request:
    return Request(nf.NFNL_SUBSYS_NFTABLES << 8 | message, flags, body, f"table {name}")


def _batch(message: int) -> Request:
    return Request(message, 0, _GENERIC.pack(0, 0, nf.NFNL_SUBSYS_NFTABLES), "transaction")


def _be32(kind: int, number: int) -> bytes:
    return attribute(kind, struct.pack("!I", number))


def read_trace(body: bytes) -> RuleEvent | None:
    """Return what an NFT_MSG_TRACE says; None for one of a kind that is not known. Raises CodecError."""
    found = attributes(body, _GENERIC.size)
    kind = _KINDS.get(_number(found, _TYPE))
    if kind is None:
        return None
    code, target = _verdict(found)
    packet = found.get(_NETWORK_HEADER, b"") + found.get(_TRANSPORT_HEADER, b"")
    return RuleEvent(
        "nft",
        text_in(found, _TABLE),
        text_in(found, _CHAIN),
        _number(found, _HANDLE),
        kind,
        _VERDICTS.get(code, str(code)),
        target,
        _number(found, _IIF),
        _number(found, _OIF),
        packet,
        mark=_number(found, _MARK),
        ct_id=_number(found, _CT_ID),
        trace_id=_number(found, _ID),
    )


def _verdict(found: Attributes) -> tuple[int, str]:
    if _POLICY in found:
        return _number(found, _POLICY), ""
    said = attributes(found.get(_VERDICT, b""))
    code = _number(said, nf.NFTA_VERDICT_CODE)
    signed = code - (1 << 32) if code >= 1 << 31 else code
    return signed, text_in(said, nf.NFTA_VERDICT_CHAIN)


def _number(found: Attributes, kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), "big")


NFULA_PACKET_HDR, NFULA_MARK, NFULA_IFINDEX_INDEV, NFULA_IFINDEX_OUTDEV = 1, 2, 4, 5
NFULA_PAYLOAD, NFULA_PREFIX = 9, 10
_NFULA_CFG_CMD, _NFULA_CFG_MODE = 1, 2
_CMD_BIND, _COPY_PACKET = 1, 2
_TRACE_PREFIX = "TRACE: "


def nflog_requests(group: int) -> Sequence[Request]:
    """Return what makes a socket hear the packets of one group, headers included."""
    head = _GENERIC.pack(nf.NFPROTO_IPV4, 0, group)
    mode = struct.pack("!IBx", 128, _COPY_PACKET)
    return (
        Request(
            NFULNL_CONFIG, 0, head + attribute(_NFULA_CFG_CMD, bytes([_CMD_BIND])), f"packet log {group}"
        ),
        Request(NFULNL_CONFIG, 0, head + attribute(_NFULA_CFG_MODE, mode), f"packet log {group}"),
    )


def read_nflog(body: bytes) -> RuleEvent | None:
    """Return the rule that legacy iptables reports; None for a packet that another rule logs.

    Raises CodecError.
    """
    found = attributes(body, _GENERIC.size)
    prefix = text_in(found, NFULA_PREFIX)
    if not prefix.startswith(_TRACE_PREFIX):
        return None
    parts = prefix.removeprefix(_TRACE_PREFIX).strip().split(":")
    if len(parts) != 4 or parts[2] not in ("rule", "return", "policy") or not parts[3].isdecimal():
        raise CodecError(f"packet log: not what iptables says of a traced packet: {prefix!r}")
    table, chain, said, place = parts
    kind: RuleKind = "rule" if said == "rule" else "return" if said == "return" else "policy"
    head = found.get(NFULA_PACKET_HDR, b"")
    return RuleEvent(
        "legacy",
        table,
        chain,
        int(place),
        kind,
        "",
        iif=_number(found, NFULA_IFINDEX_INDEV),
        oif=_number(found, NFULA_IFINDEX_OUTDEV),
        packet=found.get(NFULA_PAYLOAD, b""),
        hook=head[2] if len(head) > 2 else -1,
        mark=_number(found, NFULA_MARK),
    )
