"""Who may send what by which port of a bridge, as an nftables table of its own. *Pure.*

With bridge wiring the pods of a node share a link, and everything that can be said on a link can be a lie:
the source of a frame or packet, an answer of ARP or neighbour discovery, an offer of DHCP, a router.
So of what comes in by a pod's port only this goes on, before the bridge learns anything of it:

    macs     port . MAC address                       what the frame says must be the pod's own
    v4       0x0800 . port . source                   IPv4
    arp      0x0806 . port . sender MAC . sender      what it says of itself
    v6       0x86dd . port . source                   IPv6; also link-local, and none while it looks for one
    targets  port . target                            what it advertises to be
    servers, routers                                  never: DHCP servers, router advertisements and redirects

Whatever else has no kind that pods speak: VLAN tags, other protocols. With routed wiring the routing table
says the same (``cni.hostports``).

Source: RFC 826, RFC 4861, RFC 4291 appendix A; IANA IEEE 802 numbers; nft(8).
"""

import struct
from collections.abc import Iterator
from ipaddress import IPv6Address

from cni.plan import mac_for
from ipam.record import AllocationRecord
from kubenet.model.links import IPAddress, MacAddress
from kubenet.model.nft import Chain, Hook, InInterface, InSet, Load, Rule, Verdict
from kubenet.model.nft_fields import Field, Set

MACS, V4, ARP, V6, TARGETS, SERVERS, ROUTERS = "macs", "v4", "arp", "v6", "targets", "servers", "routers"
ADVERTS = "adverts"

Contents = dict[str, dict[bytes, bytes]]

_BEFORE_ALL = -300  # NF_BR_PRI_NAT_DST_BRIDGED: before the bridge learns and forwards
_IPV4, _ARP, _IPV6 = (struct.pack("!H2x", kind) for kind in (0x0800, 0x0806, 0x86DD))
_UDP, _ICMPV6 = b"\x11\0\0\0", b"\x3a\0\0\0"  # IANA protocol numbers
_DHCP_SERVER, _DHCPV6_SERVER = struct.pack("!H2x", 67), struct.pack("!H2x", 547)
_ROUTER_ADVERT, _NEIGHBOR_ADVERT, _REDIRECT = (bytes([kind, 0, 0, 0]) for kind in (134, 136, 137))
_NOBODY = IPv6Address("::")
_KIND = (Field.ETHERTYPE, Field.PROTOCOL)


def sets() -> dict[str, Set]:
    """Return the sets of the table."""
    return {
        MACS: Set((Field.IFNAME, Field.MAC)),
        V4: Set((Field.ETHERTYPE, Field.IFNAME, Field.ADDRESS_V4)),
        ARP: Set((Field.ETHERTYPE, Field.IFNAME, Field.MAC, Field.ADDRESS_V4)),
        V6: Set((Field.ETHERTYPE, Field.IFNAME, Field.ADDRESS_V6)),
        TARGETS: Set((Field.IFNAME, Field.ADDRESS_V6)),
        SERVERS: Set((*_KIND, Field.PORT)),
        ROUTERS: Set((*_KIND, Field.ICMP_TYPE)),
        ADVERTS: Set((*_KIND, Field.ICMP_TYPE)),
    }


def chains() -> dict[str, Chain]:
    """Return the one chain of the table."""
    kind, icmp = (Load.ETHERTYPE, Load.PROTOCOL), (Load.ETHERTYPE, Load.PROTOCOL, Load.ICMP_TYPE)
    rules: tuple[Rule, ...] = (
        (InInterface("k+", negated=True), Verdict.RETURN),
        (InSet((Load.IN_IFNAME, Load.MAC_SOURCE), MACS, negated=True), Verdict.DROP),
        (InSet((*kind, Load.SOURCE_PORT), SERVERS), Verdict.DROP),
        (InSet(icmp, ROUTERS), Verdict.DROP),
        (
            InSet(icmp, ADVERTS),
            InSet((Load.IN_IFNAME, Load.ND_TARGET), TARGETS, negated=True),
            Verdict.DROP,
        ),
        (InSet((Load.ETHERTYPE, Load.IN_IFNAME, Load.BRIDGED_SOURCE_V4), V4), Verdict.RETURN),
        (InSet((Load.ETHERTYPE, Load.IN_IFNAME, Load.ARP_MAC, Load.ARP_SOURCE), ARP), Verdict.RETURN),
        (InSet((Load.ETHERTYPE, Load.IN_IFNAME, Load.BRIDGED_SOURCE_V6), V6), Verdict.RETURN),
        (Verdict.DROP,),
    )
    return {"prerouting": Chain(rules, Hook.PREROUTING, _BEFORE_ALL, "filter")}


def fixed() -> Contents:
    """Return the elements that are there without any pod."""
    return {
        SERVERS: dict.fromkeys((_IPV4 + _UDP + _DHCP_SERVER, _IPV6 + _UDP + _DHCPV6_SERVER), b""),
        ROUTERS: dict.fromkeys((_IPV6 + _ICMPV6 + kind for kind in (_ROUTER_ADVERT, _REDIRECT)), b""),
        ADVERTS: {_IPV6 + _ICMPV6 + _NEIGHBOR_ADVERT: b""},
    }


def contents_of(record: AllocationRecord) -> Contents:
    """Return the elements of one pod: what it may say of itself."""
    if record.address_only or not record.addresses:
        return {}
    mac = record.mac or mac_for(record.addresses[0])
    contents: Contents = {}
    for name, key in _elements(record.host_ifname.encode().ljust(16, b"\0"), mac, record.addresses):
        contents.setdefault(name, {})[key] = b""
    return contents


def _elements(port: bytes, mac: MacAddress, addresses: tuple[IPAddress, ...]) -> Iterator[tuple[str, bytes]]:
    octets = bytes.fromhex(mac.replace(":", "")).ljust(8, b"\0")
    yield MACS, port + octets
    for address in addresses:
        if address.version == 4:
            yield V4, _IPV4 + port + address.packed
            yield ARP, _ARP + port + octets + address.packed
    own = [address for address in addresses if address.version == 6]
    for each in (*own, link_local(mac)):
        yield V6, _IPV6 + port + each.packed
        yield TARGETS, port + each.packed
    yield V6, _IPV6 + port + _NOBODY.packed  # while it looks whether an address is free


def link_local(mac: MacAddress) -> IPv6Address:
    """Return the address that the kernel gives a link by its MAC address (modified EUI-64)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + identifier)
