"""What the kernel holds in one place, as a value that can be kept and judged elsewhere. *Pure.*"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from kubenet.model.links import IPNetwork, LinkState, Route
from kubenet.observe.events import PlaceName


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule that sends packets to another routing table than usual, in ip(8)'s words."""

    priority: int
    text: str


@dataclass(frozen=True, slots=True)
class PlaceState:
    """One namespace: its links and tables, settings and rules."""

    place: PlaceName
    links: LinkState = field(default_factory=LinkState)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    policy: tuple[PolicyRule, ...] = ()
    nft: str = ""  # nft -a list ruleset
    iptables: str = ""  # iptables-nft-save
    legacy: str = ""  # iptables-legacy-save
    unroutable: tuple[str, ...] = ()  # routes of the main table that stop packets: blackhole, prohibit

    @property
    def addresses(self) -> frozenset[IPv4Address]:
        """The IPv4 addresses of the place itself."""
        ips = (entry.interface.ip for entry in self.links.addresses)
        return frozenset(ip for ip in ips if isinstance(ip, IPv4Address))

    @property
    def forwards(self) -> bool:
        """Whether it passes on what is not for itself."""
        return self.sysctls.get("net.ipv4.ip_forward", "1") == "1"


def route_to(links: LinkState, ip: IPv4Address) -> Route | None:
    """Return the route of the main table that a packet to ``ip`` takes: the one with the longest prefix."""
    best: tuple[int, Route] | None = None
    for destination, route in links.routes.items():
        if _holds(destination, ip) and (best is None or destination.prefixlen > best[0]):
            best = (destination.prefixlen, route)
    return best[1] if best else None


def route_words(route: Route) -> str:
    """Return a route as ip(8) would print it."""
    if route.unreachable:
        return f"unreachable {route.destination}"
    via = f" via {route.gateway}" if route.gateway else ""
    name = "default" if route.destination.prefixlen == 0 else str(route.destination)
    return f"{name}{via} dev {route.ifname}"


def _holds(destination: IPNetwork, ip: IPv4Address) -> bool:
    return destination.version == 4 and ip in destination
