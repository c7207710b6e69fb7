"""Read a namespace through pyroute2: a second opinion on ``rtnl``, sharing no line of decoding with it.

Slow (its import alone takes 0.3 s), so only tests and commands for people import this module. Call it from a
thread that runs no event loop.

Source: rtnetlink(7).
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Protocol

from pyroute2 import IPRoute

from kubenet.kernel.netns import NetNs
from kubenet.model.links import (
    Address,
    FdbEntry,
    IPInterface,
    IPNetwork,
    Link,
    LinkKind,
    LinkState,
    Neighbor,
    Route,
    Vxlan,
    state_of,
)


class Told(Protocol):
    """A message as pyroute2 decodes it: the header by key, the attributes by their kernel names."""

    def __getitem__(self, field: str) -> int: ...

    def get_attr(self, attribute: str) -> str | int | None: ...

    def get_nested(self, *attributes: str) -> str | int | None: ...


MAIN_TABLE = 254
UNICAST = 1
PERMANENT = 0x80
LOOPBACK_TYPE = 772
ONLINK = 0x4


def observe(netns: NetNs) -> LinkState:
    """Return what the namespace holds, in the same terms as ``Rtnl.observe``.

    Addresses that the kernel made are left out by what they are, not by its mark on them, and of several
    routes to one destination the last that is told is kept.
    """
    with netns.entered():
        route = IPRoute()  # its socket belongs to the namespace for ever
    with route:
        links = list(route.get_links())
        names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in links}
        neighbors, fdb = list(route.get_neighbours()), list(route.fdb("dump"))
        return state_of(
            *(_link(told, names) for told in links),
            *_addresses(route.get_addr(), names),
            *_routes(route.get_routes(), names),
            *_neighbors(neighbors, names),
            *_fdb(fdb, names),
        )


def _link(told: Told, names: dict[int, str]) -> Link:
    kind = str(told.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "other")
    if told["ifi_type"] == LOOPBACK_TYPE:
        kind = LinkKind.LOOPBACK.value
    return Link(
        ifname=str(told.get_attr("IFLA_IFNAME")),
        kind=LinkKind(kind) if kind in {known.value for known in LinkKind} else LinkKind.OTHER,
        mac=str(told.get_attr("IFLA_ADDRESS")),
        mtu=_number(told.get_attr("IFLA_MTU")),
        up=bool(told["flags"] & 1),
        master=names.get(_number(told.get_attr("IFLA_MASTER")), ""),
        group=_number(told.get_attr("IFLA_GROUP")),
        vxlan=_vxlan(told, names) if kind == "vxlan" else None,
    )


def _vxlan(told: Told, names: dict[int, str]) -> Vxlan | None:
    def detail(name: str) -> str | int | None:
        return told.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA", f"IFLA_VXLAN_{name}")

    local = detail("LOCAL") or detail("LOCAL6")
    if not local or detail("LEARNING"):
        return None
    underlay_ifname = names.get(_number(detail("LINK")), "")
    return Vxlan(_number(detail("ID")), ip_address(local), _number(detail("PORT")), underlay_ifname)


def _addresses(all_told: Iterator[Told], names: dict[int, str]) -> Iterator[Address]:
    for told in all_told:
        address = told.get_attr("IFA_LOCAL") or told.get_attr("IFA_ADDRESS")
        interface: IPInterface = ip_interface(f"{address}/{told['prefixlen']}")
        automatic = (
            interface.version == 6 and interface.is_link_local and interface.packed[11:13] == b"\xff\xfe"
        )
        if not interface.is_loopback and not automatic:
            yield Address(names[told["index"]], interface)


def _routes(all_told: Iterator[Told], names: dict[int, str]) -> Iterator[Route]:
    for told in all_told:
        oif = told.get_attr("RTA_OIF")
        if told.get_attr("RTA_TABLE") != MAIN_TABLE or told["type"] != UNICAST or oif is None:
            continue
        anywhere = "0.0.0.0" if told["family"] == 2 else "::"
        destination: IPNetwork = ip_network(f"{told.get_attr('RTA_DST') or anywhere}/{told['dst_len']}")
        gateway, source = told.get_attr("RTA_GATEWAY"), told.get_attr("RTA_PREFSRC")
        yield Route(
            destination=destination,
            ifname=names[_number(oif)],
            gateway=ip_address(gateway) if gateway else None,
            onlink=bool(told["flags"] & ONLINK),
            source=ip_address(source) if source else None,
            protocol=told["proto"],
            mtu=_number(told.get_nested("RTA_METRICS", "RTAX_MTU")),
        )


def _neighbors(all_told: list[Told], names: dict[int, str]) -> Iterator[Neighbor]:
    for told in all_told:
        ip, mac = told.get_attr("NDA_DST"), told.get_attr("NDA_LLADDR")
        if told["state"] & PERMANENT and ip and mac:
            yield Neighbor(names[told["ifindex"]], ip_address(ip), str(mac))


def _fdb(all_told: list[Told], names: dict[int, str]) -> Iterator[FdbEntry]:
    for told in all_told:
        vtep = told.get_attr("NDA_DST")
        if told["state"] & PERMANENT and vtep:
            yield FdbEntry(names[told["ifindex"]], str(told.get_attr("NDA_LLADDR")), ip_address(vtep))


def _number(value: str | int | None) -> int:
    return int(value or 0)
