"""What rtnetlink tells, as values: links, addresses, routes, neighbours, forwarding entries. *Pure.*

The kernel speaks of links by number; ``names`` (number to ifname) turns that into the names that the model
uses. A decoder returns None for what the model does not speak of: routes of other tables, multipath and
blackhole routes, neighbours that were learned, addresses that the kernel makes by itself. All of them raise
``CodecError``, and nothing else, on bytes that are not what they should be.

Source: rtnetlink(7), linux/if_link.h, linux/rtnetlink.h, linux/neighbour.h, linux/if_addr.h.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from kubenet.kernel import uapi
from kubenet.kernel.codec import IFADDRMSG, IFINFOMSG, NDMSG, RTMSG
from kubenet.kernel.netlink import Attributes, CodecError, attributes, fixed_part, number_in, text_in
from kubenet.model.links import (
    Address,
    FdbEntry,
    IPAddress,
    IPInterface,
    IPNetwork,
    Link,
    LinkKind,
    MacAddress,
    Neighbor,
    Route,
    Vxlan,
)

_KINDS = {kind.value: kind for kind in LinkKind}
_KNOWN_ROUTES = (uapi.RTN_UNICAST, uapi.RTN_UNREACHABLE)
_LOOPBACK_ADDRESSES = (IPv4Interface("127.0.0.1/8"), IPv6Interface("::1/128"))

Names = Mapping[int, str]


@dataclass(frozen=True, slots=True)
class NumberedLink:
    """A link as the kernel tells it: what it refers to is still a number. 0 is none."""

    index: int
    link: Link
    master_index: int = 0
    underlay_index: int = 0


def link(body: bytes) -> NumberedLink:
    """Return the link of an RTM_NEWLINK or RTM_DELLINK."""
    _, device_type, index, flags, _ = fixed_part(IFINFOMSG, body)
    found = attributes(body, IFINFOMSG.size)
    linkinfo = attributes(found.get(uapi.IFLA_LINKINFO, b""))
    kind = LinkKind.LOOPBACK if device_type == uapi.ARPHRD_LOOPBACK else _kind(linkinfo)
    details = attributes(linkinfo.get(uapi.IFLA_INFO_DATA, b"")) if kind is LinkKind.VXLAN else {}
    address = found.get(uapi.IFLA_ADDRESS, b"")
    told = Link(
        ifname=text_in(found, uapi.IFLA_IFNAME),
        kind=kind,
        mac=address.hex(":") if len(address) == 6 else None,
        mtu=number_in(found, uapi.IFLA_MTU),
        up=bool(flags & uapi.IFF_UP),
        group=number_in(found, uapi.IFLA_GROUP),
        vxlan=_vxlan(details) if details else None,
    )
    return NumberedLink(
        index, told, number_in(found, uapi.IFLA_MASTER), number_in(details, uapi.IFLA_VXLAN_LINK)
    )


def names_of(numbered: Iterable[NumberedLink]) -> dict[int, str]:
    """Return the name of each number."""
    return {entry.index: entry.link.ifname for entry in numbered}


def with_names(numbered: NumberedLink, names: Names) -> Link:
    """Return the link with the names of its master and underlay; one that is not here has no name."""
    told = numbered.link
    if numbered.master_index:
        told = replace(told, master=names.get(numbered.master_index, ""))
    if told.vxlan is not None:
        underlay_ifname = names.get(numbered.underlay_index, "")
        told = replace(told, vxlan=replace(told.vxlan, underlay_ifname=underlay_ifname))
    return told


def address(body: bytes, names: Names, mac_of: Mapping[str, MacAddress | None]) -> Address | None:
    """Return the address of an RTM_NEWADDR; None for one that the kernel makes when a link comes up."""
    family, prefix_length, _, _, index = fixed_part(IFADDRMSG, body)
    found = attributes(body, IFADDRMSG.size)
    ifname = names.get(index)
    packed = found.get(uapi.IFA_LOCAL) or found.get(uapi.IFA_ADDRESS)
    if family not in (uapi.AF_INET, uapi.AF_INET6) or ifname is None or packed is None:
        return None
    interface = _interface(family, packed, prefix_length)
    if number_in(found, uapi.IFA_PROTO) in uapi.IFAPROT_KERNEL or _is_automatic(
        interface, mac_of.get(ifname)
    ):
        return None
    return Address(ifname, interface)


@dataclass(frozen=True, slots=True)
class RankedRoute:
    """A route and its metric, by which the kernel prefers one of several to the same destination."""

    route: Route
    metric: int


def route(body: bytes, names: Names) -> RankedRoute | None:
    """Return the route of the main table, to a link or unreachable, that an RTM_NEWROUTE tells."""
    family, prefix_length, _, _, table, protocol, _, kind, flags = fixed_part(RTMSG, body)
    found = attributes(body, RTMSG.size)
    ifname = names.get(number_in(found, uapi.RTA_OIF))
    table = number_in(found, uapi.RTA_TABLE) or table
    if family not in (uapi.AF_INET, uapi.AF_INET6) or table != uapi.RT_TABLE_MAIN:
        return None
    unreachable = kind == uapi.RTN_UNREACHABLE
    if unreachable:
        ifname = ""  # IPv6 has it on the loopback, IPv4 on none
    if ifname is None or kind not in _KNOWN_ROUTES or flags & uapi.RTM_F_CLONED:
        return None
    metrics = attributes(found[uapi.RTA_METRICS]) if uapi.RTA_METRICS in found else {}
    told = Route(
        destination=_network(family, found.get(uapi.RTA_DST), prefix_length),
        ifname=ifname,
        gateway=_optional_ip(found, uapi.RTA_GATEWAY),
        onlink=bool(flags & uapi.RTNH_F_ONLINK),
        source=_optional_ip(found, uapi.RTA_PREFSRC),
        protocol=protocol,
        mtu=number_in(metrics, uapi.RTAX_MTU),
        unreachable=unreachable,
    )
    return RankedRoute(told, number_in(found, uapi.RTA_PRIORITY))


def neighbor(body: bytes, names: Names) -> Neighbor | None:
    """Return the permanent neighbour of an RTM_NEWNEIGH."""
    family, index, state, _, _ = fixed_part(NDMSG, body)
    found = attributes(body, NDMSG.size)
    octets = found.get(uapi.NDA_LLADDR, b"")
    ifname = names.get(index)
    if family not in (uapi.AF_INET, uapi.AF_INET6) or ifname is None or len(octets) != 6:
        return None
    if not state & uapi.NUD_PERMANENT or uapi.NDA_DST not in found:
        return None
    return Neighbor(ifname, _ip(found[uapi.NDA_DST]), octets.hex(":"))


def silent_neighbor(body: bytes, names: Names, ifname: str) -> IPAddress | None:
    """Return the address on ``ifname`` that the kernel looked for in vain, if an RTM_NEWNEIGH tells that."""
    _, index, state, _, _ = fixed_part(NDMSG, body)
    if not state & uapi.NUD_FAILED or names.get(index) != ifname:
        return None
    return _optional_ip(attributes(body, NDMSG.size), uapi.NDA_DST)


def fdb(body: bytes, names: Names) -> FdbEntry | None:
    """Return the permanent forwarding entry to a tunnel end that an RTM_NEWNEIGH tells."""
    family, index, state, _, _ = fixed_part(NDMSG, body)
    found = attributes(body, NDMSG.size)
    octets = found.get(uapi.NDA_LLADDR, b"")
    ifname = names.get(index)
    if family != uapi.AF_BRIDGE or ifname is None or len(octets) != 6:
        return None
    if not state & uapi.NUD_PERMANENT or uapi.NDA_DST not in found:
        return None
    return FdbEntry(ifname, octets.hex(":"), _ip(found[uapi.NDA_DST]))


def _kind(linkinfo: Attributes) -> LinkKind:
    return _KINDS.get(text_in(linkinfo, uapi.IFLA_INFO_KIND), LinkKind.OTHER)


def _vxlan(details: Attributes) -> Vxlan | None:
    """Return a device as we make them; None for one that learns or has no local address: it is not ours."""
    local = details.get(uapi.IFLA_VXLAN_LOCAL) or details.get(uapi.IFLA_VXLAN_LOCAL6)
    if local is None or number_in(details, uapi.IFLA_VXLAN_LEARNING):
        return None
    port = int.from_bytes(details.get(uapi.IFLA_VXLAN_PORT, b""), "big")
    return Vxlan(number_in(details, uapi.IFLA_VXLAN_ID), _ip(local), port, "")


def _is_automatic(interface: IPInterface, mac: MacAddress | None) -> bool:
    """Whether the kernel makes this address itself; kernels before 5.18 do not say so (IFA_PROTO)."""
    if interface in _LOOPBACK_ADDRESSES:
        return True
    return (
        interface.version == 6
        and interface.is_link_local
        and mac is not None
        and (interface.packed[8:] == _modified_eui64(mac))
    )


def _modified_eui64(mac: MacAddress) -> bytes:
    """Return the interface identifier of RFC 4291 appendix A: ff:fe in the middle, one bit turned."""
    octets = bytes.fromhex(mac.replace(":", ""))
    return bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]


def _optional_ip(found: Attributes, kind: int) -> IPAddress | None:
    return _ip(found[kind]) if kind in found else None


# The standard library takes 1-8 us for each of these; the same come back in every dump.
@lru_cache(maxsize=65536)
def _ip(packed: bytes) -> IPAddress:
    if len(packed) == 4:
        return IPv4Address(packed)
    if len(packed) == 16:
        return IPv6Address(packed)
    raise CodecError(f"netlink: an address of {len(packed)} bytes")


@lru_cache(maxsize=16384)
def _network(family: int, packed: bytes | None, prefix_length: int) -> IPNetwork:
    try:
        if family == uapi.AF_INET:
            return IPv4Network((packed or bytes(4), prefix_length))
        return IPv6Network((packed or bytes(16), prefix_length))
    except ValueError as error:
        raise CodecError(f"netlink: not a destination: {error}") from error


@lru_cache(maxsize=4096)
def _interface(family: int, packed: bytes, prefix_length: int) -> IPInterface:
    try:
        if family == uapi.AF_INET:
            return IPv4Interface((packed, prefix_length))
        return IPv6Interface((packed, prefix_length))
    except ValueError as error:
        raise CodecError(f"netlink: not an address: {error}") from error
