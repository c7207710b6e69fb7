"""Who may send into the tunnel, as an nftables table of its own. *Pure.*

A tunnel end believes whoever sends to its port: any machine that reaches the node, or a plain socket in a
pod, could forge packets of every pod. So a VXLAN packet gets in only

- by the link that carries the overlay,
- from the address of a peer,
- if the packet inside comes from that peer: from one of its pods' ranges, or from the peer itself.

One look-up in a set of intervals says all of it, however many peers there are. It stands where packets are
delivered, behind the putting together of fragments, which could hide the inner packet.

What this cannot tell is a machine on the same link that takes a peer's address: it can still forge packets of
that peer's pods, and of no others.

Source: RFC 7348 sections 5 and 7; nft(8).
"""

import struct
from collections.abc import Iterable, Iterator

from cni.overlay import NodeNet, Tunnel
from kubenet.model.links import IPAddress
from kubenet.model.nft import Chain, Elements, Goto, Hook, InInterface, InSet, Load, Ruleset, Verdict
from kubenet.model.nft_fields import Field, Fields, Set

TABLE = "kubenet-overlay"
_PRIORITY = -300  # before connection tracking
_UDP = 17  # IANA protocol numbers
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}  # IANA IEEE 802 numbers

_PORT, _SENDERS = "port", {4: "senders-v4", 6: "senders-v6"}
_INPUT, _INNER = "input", "inner"
_FIELDS = {4: Field.ADDRESS_V4, 6: Field.ADDRESS_V6}
_SOURCES = {4: Load.INNER_SOURCE_V4, 6: Load.INNER_SOURCE_V6}


def compile_guard(own: NodeNet, peers: Iterable[NodeNet], tunnel: Tunnel) -> Ruleset:
    """Return the table in the family of the underlay."""
    outer: Fields = (_FIELDS[own.node_ip.version], Field.PORT)  # the second is the inner packet's kind
    sets = {_PORT: Set((Field.PROTOCOL, Field.PORT))}
    sets |= {_SENDERS[v]: Set((*outer, _FIELDS[v]), intervals=True) for v in _ETHERTYPES}
    elements: dict[str, dict[bytes, bytes]] = {name: {} for name in sets}
    elements[_PORT][struct.pack("=B3x", _UDP) + _padded(tunnel.port)] = b""
    for peer in peers:
        if peer.node_ip.version == own.node_ip.version:
            for version, first, last in _inner_ranges(peer):
                start = peer.node_ip.packed + _padded(_ETHERTYPES[version])
                elements[_SENDERS[version]][start + first.packed + start + last.packed] = b""
    contents: dict[str, Elements] = dict(elements)
    return Ruleset(4 if own.node_ip.version == 4 else 6, sets, _chains(tunnel), contents)


def _inner_ranges(peer: NodeNet) -> Iterator[tuple[int, IPAddress, IPAddress]]:
    """Yield what a peer may send from, no two of which overlap: the set would refuse that."""
    yield from ((cidr.version, cidr.network_address, cidr.broadcast_address) for cidr in peer.pod_cidrs)
    if not any(peer.node_ip in cidr for cidr in peer.pod_cidrs):
        yield peer.node_ip.version, peer.node_ip, peer.node_ip


def _chains(tunnel: Tunnel) -> dict[str, Chain]:
    to_port = InSet((Load.PROTOCOL, Load.PORT), _PORT)
    known = [InSet((Load.SOURCE, Load.INNER_KIND, _SOURCES[v]), _SENDERS[v]) for v in _ETHERTYPES]
    return {
        _INPUT: Chain(((to_port, Goto(_INNER)),), Hook.INPUT, _PRIORITY, "filter"),
        _INNER: Chain(
            (
                (InInterface(tunnel.underlay_ifname, negated=True), Verdict.DROP),
                *((each, Verdict.RETURN) for each in known),
                (Verdict.DROP,),
            )
        ),
    }


def _padded(number: int) -> bytes:
    return struct.pack("!H2x", number)
