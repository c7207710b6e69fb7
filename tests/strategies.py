"""What hypothesis draws from: values as wide as the model allows, or as narrow as the kernel does."""

import string
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)

from hypothesis import strategies as st

from kubenet.model.links import (
    Address,
    FdbEntry,
    IPAddress,
    IPInterface,
    IPNetwork,
    Link,
    LinkKind,
    LinkState,
    MacAddress,
    Neighbor,
    Route,
    VethPeer,
    Vxlan,
    state_of,
)

ifnames: st.SearchStrategy[str] = st.text(
    string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=15
)
macs: st.SearchStrategy[MacAddress] = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
ipv4_addresses: st.SearchStrategy[IPv4Address] = st.integers(0, 2**32 - 1).map(IPv4Address)
ipv6_addresses: st.SearchStrategy[IPv6Address] = st.integers(0, 2**128 - 1).map(IPv6Address)
ip_addresses: st.SearchStrategy[IPAddress] = ipv4_addresses | ipv6_addresses


def _interface(ip: IPAddress, prefix_length: int) -> IPInterface:
    return ip_interface((ip, min(prefix_length, ip.max_prefixlen)))


def _network(ip: IPAddress, prefix_length: int) -> IPNetwork:
    return _interface(ip, prefix_length).network


ip_interfaces: st.SearchStrategy[IPInterface] = st.builds(_interface, ip_addresses, st.integers(0, 128))
ip_networks: st.SearchStrategy[IPNetwork] = st.builds(_network, ip_addresses, st.integers(0, 128))
mtus = st.integers(68, 65535)
groups = st.sampled_from([0, 1, 0x6B6E, 2**31 - 1])

vxlans = st.builds(
    Vxlan,
    vni=st.integers(1, 2**24 - 1),
    local=ip_addresses,
    port=st.integers(1, 65535),
    underlay_ifname=ifnames,
)


@st.composite
def links(draw: st.DrawFn, names: st.SearchStrategy[str] = ifnames) -> Link:
    """Any link that can be made, with nothing left to the kernel's choice."""
    kind = draw(st.sampled_from([LinkKind.BRIDGE, LinkKind.VETH, LinkKind.VXLAN]))
    return Link(
        ifname=draw(names),
        kind=kind,
        mac=draw(macs),
        mtu=draw(mtus),
        up=draw(st.booleans()),
        master=draw(st.just("") | names),
        group=draw(groups),
        vxlan=draw(vxlans) if kind is LinkKind.VXLAN else None,
        peer=draw(st.builds(VethPeer, ifname=names)) if kind is LinkKind.VETH else None,
    )


@st.composite
def routes(draw: st.DrawFn, names: st.SearchStrategy[str] = ifnames) -> Route:
    """Any route, its addresses all of one family."""
    destination = draw(ip_networks)
    same_family: st.SearchStrategy[IPAddress] = ipv4_addresses if destination.version == 4 else ipv6_addresses
    gateway: IPAddress | None = draw(st.none() | same_family)
    source: IPAddress | None = draw(st.none() | same_family)
    return Route(
        destination=destination,
        ifname=draw(names),
        gateway=gateway,
        onlink=draw(st.booleans()) if gateway else False,
        source=source,
        protocol=draw(st.integers(0, 255)),
        mtu=draw(st.just(0) | mtus),
    )


def addresses(names: st.SearchStrategy[str] = ifnames) -> st.SearchStrategy[Address]:
    return st.builds(Address, ifname=names, interface=ip_interfaces)


def neighbors(names: st.SearchStrategy[str] = ifnames) -> st.SearchStrategy[Neighbor]:
    return st.builds(Neighbor, ifname=names, ip=ip_addresses, mac=macs)


def fdb_entries(names: st.SearchStrategy[str] = ifnames) -> st.SearchStrategy[FdbEntry]:
    return st.builds(FdbEntry, ifname=names, mac=macs, vtep=ip_addresses)


_FEW_NAMES = st.sampled_from(["eth0", "cni0", "vx", "v1"])  # few, so that two states speak of the same things


@st.composite
def link_states(draw: st.DrawFn) -> LinkState:
    """Any state, whether or not a kernel could hold it: references may point to nothing."""
    entries: list[Link | Address | Route | Neighbor | FdbEntry] = []
    for strategy in (
        links(_FEW_NAMES),
        addresses(_FEW_NAMES),
        routes(_FEW_NAMES),
        neighbors(_FEW_NAMES),
        fdb_entries(_FEW_NAMES),
    ):
        entries += draw(st.lists(strategy, max_size=4))
    return state_of(*entries)


# What follows is narrow enough for a kernel to hold every word of it: unicast MACs, an underlay that is
# there, gateways that a route on the link covers, sources that are own addresses.
_KERNEL_MTUS = st.sampled_from([1280, 1400, 1450, 1500, 9000])
_KERNEL_GROUPS = st.sampled_from(
    [0, 1, 2**31 - 1]
)  # what is in the group of the dying may vanish at any time
_UNDERLAY_MTUS = st.sampled_from([1450, 1500, 9000])  # at least 50 bytes more than the VXLAN device has


@st.composite
def kernel_states(draw: st.DrawFn) -> LinkState:
    """A state that a namespace can hold: two veth pairs, perhaps a bridge and a VXLAN device, all tables."""
    bridged = draw(st.booleans())
    master = "br0" if bridged else ""
    entries: list[Link | Address | Route | Neighbor | FdbEntry] = [
        Link("a", LinkKind.VETH, mac="0a:00:00:00:00:01", mtu=draw(_UNDERLAY_MTUS), peer=VethPeer("b")),
        Link("b", LinkKind.VETH, mac="0a:00:00:00:00:02", mtu=draw(_KERNEL_MTUS), group=draw(_KERNEL_GROUPS)),
        Link("c", LinkKind.VETH, "0a:00:00:00:00:03", draw(_KERNEL_MTUS), master=master, peer=VethPeer("d")),
        Link("d", LinkKind.VETH, mac=draw(_unicast_macs), mtu=draw(_KERNEL_MTUS), up=draw(st.booleans())),
    ]
    if bridged:
        entries.append(Link("br0", LinkKind.BRIDGE, mac=draw(_unicast_macs), mtu=draw(_KERNEL_MTUS)))
    entries += draw(st.just([]) | _overlays())
    entries += draw(_tables())
    return state_of(*entries)


_unicast_macs: st.SearchStrategy[MacAddress] = st.integers(0, 0xFFFF).map(
    lambda number: f"0e:00:00:00:{number >> 8:02x}:{number & 255:02x}"
)
# Several in one network, and one address with several lengths; all of them reach the tunnel ends.
_OWN_ADDRESSES = [
    IPv4Interface("172.30.0.1/16"),
    IPv4Interface("172.30.0.1/12"),
    IPv4Interface("172.30.0.250/16"),
    IPv4Interface("172.30.0.251/24"),
]
_vteps = st.integers(2, 200).map(lambda host: IPv4Address(f"172.30.0.{host}"))


@st.composite
def _overlays(draw: st.DrawFn) -> list[Link | Address | Route | Neighbor | FdbEntry]:
    vni, port = draw(st.integers(1, 3)), draw(st.sampled_from([4789, 8472]))
    vxlan = Vxlan(vni, IPv4Address("172.30.0.1"), port, underlay_ifname="a")
    overlay: list[Link | Address | Route | Neighbor | FdbEntry] = [
        Link(
            "vx",
            LinkKind.VXLAN,
            mac=draw(_unicast_macs),
            mtu=draw(st.sampled_from([1280, 1400])),
            vxlan=vxlan,
        ),
        Address("vx", IPv4Interface("10.244.0.0/32")),
    ]
    for node in draw(st.lists(st.integers(1, 20), unique=True, max_size=5)):
        vtep_mac, gateway = draw(_unicast_macs), IPv4Address(f"10.244.{node}.0")
        overlay += [
            Route(IPv4Network(f"10.244.{node}.0/24"), "vx", gateway=gateway, onlink=True),
            Neighbor("vx", gateway, vtep_mac),
            FdbEntry("vx", vtep_mac, draw(_vteps)),
        ]
    return overlay


@st.composite
def _tables(draw: st.DrawFn) -> list[Address | Route | Neighbor]:
    own = draw(
        st.lists(st.sampled_from(_OWN_ADDRESSES), min_size=1, max_size=3, unique_by=lambda own: own.ip)
    )
    here = own[0]
    tables: list[Address | Route | Neighbor] = [Address("a", interface) for interface in own]
    tables.append(Address("a", IPv6Interface("fd00::1/64")))
    for number in draw(st.lists(st.integers(0, 20), unique=True, max_size=5)):
        gateway = draw(st.none() | _vteps)
        source = draw(st.none() | st.just(here.ip))
        mtu = draw(st.sampled_from([0, 1300]))
        destination = ip_network(f"10.9.{number}.0/24")
        tables.append(
            Route(
                destination,
                draw(st.sampled_from(["a", "b"])) if gateway is None else "a",
                gateway=gateway,
                source=source,
                mtu=mtu,
            )
        )
    for number in draw(st.lists(st.integers(2, 20), unique=True, max_size=3)):
        tables.append(Route(IPv6Network(f"fd00:{number}::/64"), "a", gateway=IPv6Address(f"fd00::{number}")))
        tables.append(Neighbor("a", IPv6Address(f"fd00::{number}"), draw(_unicast_macs)))
    return tables
