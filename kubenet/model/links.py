"""What one network namespace holds: links, addresses, routes, neighbours, forwarding entries. *Pure.*

Each table is a mapping keyed as the kernel keys it, so that two states compare entry by entry and an applier
writes only the difference. A wanted state says nothing of what it leaves out: ``LinkState.owned_by`` cuts an
observed state down to the devices and the route protocol that a component answers for, and only then are the
two compared.

Law: ``patched_state(have, diff_state(have, want)) == want`` where nothing is left to the kernel's choice.

Source: rtnetlink(7), linux/if_link.h, linux/rtnetlink.h, linux/neighbour.h.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import TypeAlias, TypeVar

from kubenet.diff import Diff, diff, patched

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPInterface: TypeAlias = IPv4Interface | IPv6Interface
IPNetwork: TypeAlias = IPv4Network | IPv6Network
MacAddress: TypeAlias = str  # six lower-case hexadecimal octets with colons

# IPv4 20 (IPv6 40) + UDP 8 + VXLAN 8 + inner Ethernet 14 bytes (RFC 7348 section 5).
VXLAN_OVERHEAD_V4 = 20 + 8 + 8 + 14
VXLAN_OVERHEAD_V6 = 40 + 8 + 8 + 14

# The protocol number our routes carry, so that we never touch anybody else's; free in linux/rtnetlink.h.
ROUTE_PROTOCOL = 107
ROUTE_OF_AN_ADDRESS = 2  # RTPROT_KERNEL: the network of an address that a link has

# Links in this group are on their way out: whoever deletes some of ours puts them here first, so that one
# request deletes them all (a deletion waits 12-20 ms for readers, of one link as of many).
DYING_GROUP = 0x6B6E


class LinkKind(Enum):
    """The kernel's device types that we make or look at (IFLA_INFO_KIND)."""

    LOOPBACK = "loopback"
    BRIDGE = "bridge"
    VETH = "veth"
    VXLAN = "vxlan"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class VethPeer:
    """The other end of a veth pair; it exists only for making the pair and is never read back."""

    ifname: str
    netns: str = ""  # a name that the applier is given a namespace for; empty means the same namespace
    mac: MacAddress | None = None


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A VXLAN device with static forwarding: it never learns."""

    vni: int
    local: IPAddress
    port: int
    underlay_ifname: str


@dataclass(frozen=True, slots=True)
class Link:
    """One device. ``mtu`` is in bytes; 0, like a ``mac`` of None, leaves the choice to the kernel."""

    ifname: str
    kind: LinkKind
    mac: MacAddress | None = None
    mtu: int = 0
    up: bool = True
    master: str = ""  # ifname of the bridge this is a port of
    group: int = 0
    vxlan: Vxlan | None = None
    peer: VethPeer | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PeerEnd:
    """The end of a veth in its own namespace; ``addresses`` are those that somebody gave it."""

    ifname: str
    mac: MacAddress
    addresses: tuple[IPAddress, ...]


@dataclass(frozen=True, slots=True)
class Address:
    """An address on a device, with its prefix length."""

    ifname: str
    interface: IPInterface


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table. Without a gateway the destination is on the link.

    One that is ``unreachable`` has no link: whoever sends there is told so.
    """

    destination: IPNetwork
    ifname: str
    gateway: IPAddress | None = None
    onlink: bool = False  # take the gateway as a neighbour though no prefix covers it
    source: IPAddress | None = None
    protocol: int = ROUTE_PROTOCOL
    mtu: int = 0
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A permanent entry: who answers for ``ip`` on ``ifname``."""

    ifname: str
    ip: IPAddress
    mac: MacAddress


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """A forwarding entry of a VXLAN device: frames to ``mac`` go to the tunnel end ``vtep``."""

    ifname: str
    mac: MacAddress
    vtep: IPAddress


K = TypeVar("K")
EntryT = TypeVar("EntryT", Address, Route, Neighbor, FdbEntry)

NeighborKey: TypeAlias = tuple[str, IPAddress]
FdbKey: TypeAlias = tuple[str, MacAddress]


@dataclass(frozen=True, slots=True)
class LinkState:
    """Everything of a namespace that rtnetlink can tell and set."""

    links: Mapping[str, Link] = field(default_factory=dict)
    addresses: Mapping[Address, Address] = field(default_factory=dict)
    routes: Mapping[IPNetwork, Route] = field(default_factory=dict)
    neighbors: Mapping[NeighborKey, Neighbor] = field(default_factory=dict)
    fdb: Mapping[FdbKey, FdbEntry] = field(default_factory=dict)

    def owned_by(self, ifnames: Collection[str]) -> "LinkState":
        """Return the part on the devices ``ifnames``; of the routes, those with our protocol number.

        The empty name stands for routes without a device.
        """
        return LinkState(
            links={k: v for k, v in self.links.items() if k in ifnames},
            addresses={k: v for k, v in self.addresses.items() if v.ifname in ifnames},
            routes={
                k: v for k, v in self.routes.items() if v.ifname in ifnames and v.protocol == ROUTE_PROTOCOL
            },
            neighbors={k: v for k, v in self.neighbors.items() if v.ifname in ifnames},
            fdb={k: v for k, v in self.fdb.items() if v.ifname in ifnames},
        )

    def union(self, other: "LinkState") -> "LinkState":
        """Return both states as one; ``other`` wins where both speak of the same key."""
        return LinkState(
            links={**self.links, **other.links},
            addresses={**self.addresses, **other.addresses},
            routes={**self.routes, **other.routes},
            neighbors={**self.neighbors, **other.neighbors},
            fdb={**self.fdb, **other.fdb},
        )


def state_of(*entries: Link | Address | Route | Neighbor | FdbEntry) -> LinkState:
    """Return the state that holds exactly ``entries``."""
    return LinkState(
        links={e.ifname: e for e in entries if isinstance(e, Link)},
        addresses={e: e for e in entries if isinstance(e, Address)},
        routes={e.destination: e for e in entries if isinstance(e, Route)},
        neighbors={(e.ifname, e.ip): e for e in entries if isinstance(e, Neighbor)},
        fdb={(e.ifname, e.mac): e for e in entries if isinstance(e, FdbEntry)},
    )


@dataclass(frozen=True, slots=True)
class StateDiff:
    """What has to happen to a ``LinkState``, table by table.

    A link that the kernel cannot turn into the wanted one is in both ``links.removed``, as it is, and
    ``links.added``, as it shall be; what shall stand on the new one is then in the ``added`` of its table.
    ``changed`` also holds entries that stay but that the kernel drops as a side effect of the change:

    - a link that gets another MAC or goes down loses its neighbours,
    - a link that loses its only address loses its routes; a route loses the address it names as its source;
      an address loses the one before it in the same network, and goes with it.
    """

    links: Diff[str, Link]
    addresses: Diff[Address, Address]
    routes: Diff[IPNetwork, Route]
    neighbors: Diff[NeighborKey, Neighbor]
    fdb: Diff[FdbKey, FdbEntry]

    def __bool__(self) -> bool:
        return any((self.links, self.addresses, self.routes, self.neighbors, self.fdb))


def diff_state(have: LinkState, want: LinkState) -> StateDiff:
    """Return what turns ``have`` into ``want``; what ``want`` leaves to the kernel is no difference."""
    settled = {name: _settle(link, have.links.get(name)) for name, link in want.links.items()}
    links = diff(have.links, settled)
    remade = _remade(links.changed, have.links)
    addresses = diff(have.addresses, want.addresses)
    unsettled = {address.ifname for address in addresses.removed}
    own_ips = {address.interface.ip for address in addresses.removed}
    shaken = {key for key, r in want.routes.items() if r.ifname in unsettled or r.source in own_ips}
    forgetful = _forgetful(links.changed, have.links)
    return StateDiff(
        links=_remaking(links, have.links, settled, remade),
        addresses=_again(
            addresses, want.addresses, remade, {a for a in want.addresses if a.ifname in unsettled}
        ),
        routes=_again(diff(have.routes, want.routes), want.routes, remade, shaken),
        neighbors=_again(
            diff(have.neighbors, want.neighbors),
            want.neighbors,
            remade,
            {key for key, neighbor in want.neighbors.items() if neighbor.ifname in forgetful},
        ),
        fdb=_again(diff(have.fdb, want.fdb), want.fdb, remade, ()),
    )


def insisting(change: StateDiff) -> StateDiff:
    """Return ``change`` with its routes put in the place of whatever else leads to their destinations."""
    routes = change.routes
    return replace(change, routes=Diff({}, {**routes.changed, **routes.added}, routes.removed))


def can_become(have: Link, want: Link) -> bool:
    """Whether the kernel can change the one device into the other: all but what it is can be set."""
    return have.kind is want.kind and have.vxlan == want.vxlan


def patched_state(have: LinkState, change: StateDiff) -> LinkState:
    """Return ``have`` with ``change`` carried out."""
    return LinkState(
        links=patched(have.links, change.links),
        addresses=patched(have.addresses, change.addresses),
        routes=patched(have.routes, change.routes),
        neighbors=patched(have.neighbors, change.neighbors),
        fdb=patched(have.fdb, change.fdb),
    )


def _settle(want: Link, have: Link | None) -> Link:
    if have is None:
        return want
    return replace(
        want, mac=have.mac if want.mac is None else want.mac, mtu=have.mtu if want.mtu == 0 else want.mtu
    )


def _remade(changed: Mapping[str, Link], have: Mapping[str, Link]) -> set[str]:
    """Return the links that have to be made anew, with the VXLAN devices that go when their underlay goes."""
    remade = {name for name, link in changed.items() if not can_become(have[name], link)}
    while goes := {name for name, link in have.items() if name not in remade and _underlay(link) in remade}:
        remade |= goes
    return remade


def _underlay(link: Link) -> str:
    return link.vxlan.underlay_ifname if link.vxlan else ""


def _remaking(
    links: Diff[str, Link], have: Mapping[str, Link], want: Mapping[str, Link], remade: Collection[str]
) -> Diff[str, Link]:
    added = {name: want[name] for name in remade if name in want}
    freed = {name: link for name, link in want.items() if name in have and link.master in remade}
    changed = {name: link for name, link in {**links.changed, **freed}.items() if name not in remade}
    removed = {name: have[name] for name in remade}
    return Diff({**links.added, **added}, changed, {**links.removed, **removed})


def _forgetful(changed: Mapping[str, Link], have: Mapping[str, Link]) -> set[str]:
    """Return the links whose change makes the kernel forget all their neighbours, permanent ones included."""
    return {
        name
        for name, link in changed.items()
        if link.mac != have[name].mac or (have[name].up and not link.up)
    }


def _again(
    table: Diff[K, EntryT], want: Mapping[K, EntryT], remade: Collection[str], shaken: Collection[K]
) -> Diff[K, EntryT]:
    """Return ``table`` with what gets lost on the way: what stands on ``remade`` links, and ``shaken``."""
    lost = {key: entry for key, entry in want.items() if entry.ifname in remade}
    said_again = {key: want[key] for key in shaken if key not in lost and key not in table.added}
    if not lost and not said_again:
        return table
    changed = {key: entry for key, entry in table.changed.items() if key not in lost}
    return Diff({**table.added, **lost}, {**changed, **said_again}, table.removed)
