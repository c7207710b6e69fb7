"""Requests to rtnetlink: links, addresses, routes, neighbours, forwarding entries. *Pure.*

Each function returns one ``Request``; ``Rtnl.transact`` sends many of them at once. ``delete_*`` forgives
that the thing is gone already. Struct templates make a message in 2-4 us, where a general encoder takes 150:
that is why this file exists.

Source: rtnetlink(7), linux/if_link.h, linux/rtnetlink.h, linux/neighbour.h.
"""

import errno
import struct
from typing import TypedDict, Unpack

from kubenet.errors import InvalidInput
from kubenet.kernel import uapi
from kubenet.kernel.netlink import Request, attribute, nested, text, u32
from kubenet.model.links import (
    FdbEntry,
    IPAddress,
    IPInterface,
    Link,
    LinkKind,
    MacAddress,
    Neighbor,
    Route,
    Vxlan,
)

IFINFOMSG = struct.Struct("=BxHiII")  # family, device type, index, flags, which flags to change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, protocol, scope, type, flags
NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type

_MAKE = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
_MAKE_SO = uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE
_GONE = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL)

_MAKEABLE = (LinkKind.BRIDGE, LinkKind.VETH, LinkKind.VXLAN)


class LinkChange(TypedDict, total=False):
    """What ``set_link`` can change; what is left out stays."""

    up: bool
    ifname: str
    mtu: int
    mac: MacAddress
    master_index: int  # 0 leaves the bridge
    group: int
    alias: str
    netns_fd: int  # moves the link into that namespace


def new_link(
    link: Link,
    *,
    index: int = 0,
    master_index: int = 0,
    peer_fd: int | None = None,
    underlay_index: int = 0,
    peer_index: int = 0,
) -> Request:
    """Make a link, with all its settings at once.

    A veth's peer is made straight in the namespace of ``peer_fd``. It cannot be made up: the kernel refuses
    to open an end that has no other end yet, so ``set_link`` it afterwards. ``index`` 0 leaves the number to
    the kernel; ``peer_index`` counts only together with ``index``. A bridge follows the MTU of its ports
    unless its own is changed by ``set_link``.
    """
    if link.kind not in _MAKEABLE:
        raise InvalidInput(f"{link.ifname}: a link of kind {link.kind.value} cannot be made")
    flags = uapi.IFF_UP if link.up else 0
    body = IFINFOMSG.pack(0, 0, index, flags, uapi.IFF_UP) + _link_attributes(link.ifname, link.mtu, link.mac)
    if master_index:
        body += u32(uapi.IFLA_MASTER, master_index)
    if link.group:
        body += u32(uapi.IFLA_GROUP, link.group)
    data = b""
    if link.kind is LinkKind.VETH:
        data = _veth_data(link, peer_fd, peer_index)
    elif link.kind is LinkKind.VXLAN:
        data = _vxlan_data(link, underlay_index)
    body += nested(uapi.IFLA_LINKINFO, text(uapi.IFLA_INFO_KIND, link.kind.value), data)
    return Request(uapi.RTM_NEWLINK, _MAKE, body, f"make {link.kind.value} {link.ifname}")


def set_link(index: int = 0, *, name: str = "", **change: Unpack[LinkChange]) -> Request:
    """Change the link of that index, or of that name when there is no index; all in one message.

    Only a link given by its index can get another name.
    """
    up = change.get("up")
    flags = uapi.IFF_UP if up else 0
    body = IFINFOMSG.pack(0, 0, index, flags, 0 if up is None else uapi.IFF_UP)
    if not index:
        if "ifname" in change:
            raise InvalidInput(f"{name}: to name a link {change['ifname']} its index is needed")
        body += text(uapi.IFLA_IFNAME, checked_ifname(name))
    body += _changes(change)
    words = " ".join(f"{key} {value}" for key, value in change.items())
    return Request(uapi.RTM_NEWLINK, 0, body, f"set link {name or index}: {words}")


def delete_link(*, index: int = 0, ifname: str = "", group: int | None = None) -> Request:
    """Delete one link by index, or else by name, or all links of a group in one pass of the kernel.

    A single deletion waits 12-20 ms for readers to leave; a group of any size waits once.
    """
    body = IFINFOMSG.pack(0, 0, index, 0, 0)
    if ifname and not index:
        body += text(uapi.IFLA_IFNAME, checked_ifname(ifname))
    if group is not None:
        body += u32(uapi.IFLA_GROUP, group)
    what = f"delete link {ifname or index}" if group is None else f"delete the links of group {group}"
    return Request(uapi.RTM_DELLINK, 0, body, what, _GONE)


def get_links() -> Request:
    """Dump all links, without their counters."""
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + u32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS)
    return Request(uapi.RTM_GETLINK, uapi.NLM_F_DUMP, body, "list links")


def get_link(ifname: str) -> Request:
    """Get one link by name; its reply is one RTM_NEWLINK."""
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + u32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS)
    body += text(uapi.IFLA_IFNAME, checked_ifname(ifname))
    return Request(uapi.RTM_GETLINK, 0, body, f"look up link {ifname}")


def new_address(index: int, interface: IPInterface, *, no_dad: bool = True, ifname: str = "") -> Request:
    """Put an address on a link; ``no_dad`` makes an IPv6 address usable at once. The name is for messages."""
    dad = uapi.IFA_F_NODAD if no_dad and interface.version == 6 else 0
    what = f"put address {interface.with_prefixlen} on {ifname or f'link {index}'}"
    return Request(uapi.RTM_NEWADDR, _MAKE_SO, _address_body(index, interface, dad), what)


def delete_address(index: int, interface: IPInterface, *, ifname: str = "") -> Request:
    """Take an address from a link. The name is for messages."""
    what = f"take address {interface.with_prefixlen} from {ifname or f'link {index}'}"
    return Request(uapi.RTM_DELADDR, 0, _address_body(index, interface, 0), what, _GONE)


def get_addresses() -> Request:
    """Dump all addresses of both families."""
    return Request(uapi.RTM_GETADDR, uapi.NLM_F_DUMP, IFADDRMSG.pack(0, 0, 0, 0, 0), "list addresses")


def new_route(route: Route, oif_index: int, *, replace: bool = False) -> Request:
    """Add a route to the main table, or with ``replace`` put it in the place of the one that is there.

    Without ``replace`` a route to the same destination, whoever made it, is a refusal.
    """
    what = f"add route to {route.destination} on {route.ifname or 'no link'}" + (
        f" via {route.gateway}" if route.gateway else ""
    )
    return Request(
        uapi.RTM_NEWROUTE,
        _MAKE_SO if replace else _MAKE,
        _route_body(route, oif_index),
        what,
    )


def delete_route(route: Route, oif_index: int) -> Request:
    """Delete exactly this route: its destination, link, gateway and protocol all have to agree."""
    what = f"delete route to {route.destination} on {route.ifname}"
    return Request(uapi.RTM_DELROUTE, 0, _route_body(route, oif_index), what, _GONE)


def get_routes() -> Request:
    """Dump the routes of all tables and both families."""
    return Request(uapi.RTM_GETROUTE, uapi.NLM_F_DUMP, RTMSG.pack(*[0] * 9), "list routes")


def new_neighbor(index: int, neighbor: Neighbor) -> Request:
    """Say for ever who answers for an address; an entry that was learned or set before gives way."""
    what = f"set neighbour {neighbor.ip} on {neighbor.ifname} to {neighbor.mac}"
    return Request(uapi.RTM_NEWNEIGH, _MAKE_SO, _neighbor_body(index, neighbor), what)


def delete_neighbor(index: int, neighbor: Neighbor) -> Request:
    """Forget a neighbour."""
    what = f"delete neighbour {neighbor.ip} on {neighbor.ifname}"
    return Request(uapi.RTM_DELNEIGH, 0, _neighbor_body(index, neighbor), what, _GONE)


def get_neighbors() -> Request:
    """Dump the neighbours of both families."""
    return Request(uapi.RTM_GETNEIGH, uapi.NLM_F_DUMP, NDMSG.pack(0, 0, 0, 0, 0), "list neighbours")


def new_fdb(index: int, entry: FdbEntry) -> Request:
    """Say for ever to which tunnel end a VXLAN device sends the frames for a MAC address."""
    what = f"set forwarding of {entry.mac} on {entry.ifname} to {entry.vtep}"
    return Request(uapi.RTM_NEWNEIGH, _MAKE_SO, _fdb_body(index, entry), what)


def delete_fdb(index: int, entry: FdbEntry) -> Request:
    """Forget where frames for a MAC address go."""
    what = f"delete forwarding of {entry.mac} on {entry.ifname}"
    return Request(uapi.RTM_DELNEIGH, 0, _fdb_body(index, entry), what, _GONE)


def get_fdb() -> Request:
    """Dump the forwarding entries of bridges and VXLAN devices."""
    body = NDMSG.pack(uapi.AF_BRIDGE, 0, 0, 0, 0)
    return Request(uapi.RTM_GETNEIGH, uapi.NLM_F_DUMP, body, "list forwarding entries")


def new_nsid(netns_fd: int, nsid: int) -> Request:
    """Give a namespace a number within the socket's own; events about it then carry that number."""
    body = b"\0\0\0\0" + u32(uapi.NETNSA_FD, netns_fd) + u32(uapi.NETNSA_NSID, nsid)
    return Request(uapi.RTM_NEWNSID, 0, body, f"number a namespace {nsid}")


def mac_bytes(mac: MacAddress) -> bytes:
    """Return the six octets. Raises InvalidInput."""
    try:
        octets = bytes.fromhex(mac.replace(":", ""))
    except ValueError:
        octets = b""
    if len(octets) != 6:
        raise InvalidInput(f"{mac!r}: not a MAC address")
    return octets


def checked_ifname(ifname: str) -> str:
    """Return ``ifname`` if it can name a link. Raises InvalidInput."""
    octets = ifname.encode()
    if not 0 < len(octets) < uapi.IFNAMSIZ or b"\0" in octets:
        raise InvalidInput(f"{ifname!r}: not an interface name of 1 to {uapi.IFNAMSIZ - 1} bytes")
    return ifname


def _family(address: IPAddress | IPInterface) -> int:
    return uapi.AF_INET if address.version == 4 else uapi.AF_INET6


def _link_attributes(ifname: str, mtu: int, mac: MacAddress | None) -> bytes:
    named = text(uapi.IFLA_IFNAME, checked_ifname(ifname))
    if mtu:
        named += u32(uapi.IFLA_MTU, mtu)
    if mac is not None:
        named += attribute(uapi.IFLA_ADDRESS, mac_bytes(mac))
    return named


def _changes(change: LinkChange) -> bytes:
    body = b""
    if "ifname" in change:
        body += text(uapi.IFLA_IFNAME, checked_ifname(change["ifname"]))
    if "mac" in change:
        body += attribute(uapi.IFLA_ADDRESS, mac_bytes(change["mac"]))
    if "alias" in change:
        body += text(uapi.IFLA_IFALIAS, change["alias"])
    if "mtu" in change:
        body += u32(uapi.IFLA_MTU, change["mtu"])
    if "master_index" in change:
        body += u32(uapi.IFLA_MASTER, change["master_index"])
    if "group" in change:
        body += u32(uapi.IFLA_GROUP, change["group"])
    if "netns_fd" in change:
        body += u32(uapi.IFLA_NET_NS_FD, change["netns_fd"])
    return body


def _veth_data(link: Link, peer_fd: int | None, peer_index: int) -> bytes:
    if link.peer is None:
        raise InvalidInput(f"{link.ifname}: a veth is made together with its peer, and none is given")
    peer = IFINFOMSG.pack(0, 0, peer_index, 0, 0) + _link_attributes(
        link.peer.ifname, link.mtu, link.peer.mac
    )
    if peer_fd is not None:
        peer += u32(uapi.IFLA_NET_NS_FD, peer_fd)
    return nested(uapi.IFLA_INFO_DATA, attribute(uapi.VETH_INFO_PEER, peer))


def _vxlan_data(link: Link, underlay_index: int) -> bytes:
    vxlan = link.vxlan
    if vxlan is None:
        raise InvalidInput(f"{link.ifname}: a vxlan needs a network identifier and a local address")
    return nested(
        uapi.IFLA_INFO_DATA,
        u32(uapi.IFLA_VXLAN_ID, vxlan.vni),
        u32(uapi.IFLA_VXLAN_LINK, underlay_index),
        _vxlan_local(vxlan),
        attribute(uapi.IFLA_VXLAN_PORT, struct.pack("!H", vxlan.port)),
        attribute(uapi.IFLA_VXLAN_LEARNING, b"\0"),
        # RFC 7348 section 5: zero, which the inner packet's own makes up for; IPv6 wants one (RFC 8200).
        attribute(uapi.IFLA_VXLAN_UDP_CSUM, b"\0") if vxlan.local.version == 4 else b"",
    )


def _vxlan_local(vxlan: Vxlan) -> bytes:
    kind = uapi.IFLA_VXLAN_LOCAL if vxlan.local.version == 4 else uapi.IFLA_VXLAN_LOCAL6
    return attribute(kind, vxlan.local.packed)


def _address_body(index: int, interface: IPInterface, flags: int) -> bytes:
    packed = interface.packed
    body = IFADDRMSG.pack(
        _family(interface), interface.network.prefixlen, flags, uapi.RT_SCOPE_UNIVERSE, index
    )
    return body + attribute(uapi.IFA_LOCAL, packed) + attribute(uapi.IFA_ADDRESS, packed)


def _route_body(route: Route, oif_index: int) -> bytes:
    destination = route.destination
    kind = uapi.RTN_UNREACHABLE if route.unreachable else uapi.RTN_UNICAST
    on_link = route.gateway is None and destination.version == 4 and not route.unreachable
    scope = uapi.RT_SCOPE_LINK if on_link else uapi.RT_SCOPE_UNIVERSE
    flags = uapi.RTNH_F_ONLINK if route.onlink else 0
    family = uapi.AF_INET if destination.version == 4 else uapi.AF_INET6
    body = RTMSG.pack(
        family, destination.prefixlen, 0, 0, uapi.RT_TABLE_MAIN, route.protocol, scope, kind, flags
    )
    if destination.prefixlen:
        body += attribute(uapi.RTA_DST, destination.network_address.packed)
    if route.gateway is not None:
        body += attribute(uapi.RTA_GATEWAY, route.gateway.packed)
    if oif_index:
        body += u32(uapi.RTA_OIF, oif_index)
    if route.source is not None:
        body += attribute(uapi.RTA_PREFSRC, route.source.packed)
    if route.mtu:
        body += nested(uapi.RTA_METRICS, u32(uapi.RTAX_MTU, route.mtu))
    return body


def _neighbor_body(index: int, neighbor: Neighbor) -> bytes:
    body = NDMSG.pack(_family(neighbor.ip), index, uapi.NUD_PERMANENT, 0, 0)
    body += attribute(uapi.NDA_DST, neighbor.ip.packed)
    return body + attribute(uapi.NDA_LLADDR, mac_bytes(neighbor.mac))


def _fdb_body(index: int, entry: FdbEntry) -> bytes:
    body = NDMSG.pack(uapi.AF_BRIDGE, index, uapi.NUD_PERMANENT, uapi.NTF_SELF, 0)
    body += attribute(uapi.NDA_LLADDR, mac_bytes(entry.mac))
    return body + attribute(uapi.NDA_DST, entry.vtep.packed)
