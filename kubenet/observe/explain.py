"""The way that the tables say a packet goes, without sending one; and where the kernel did otherwise. *Pure.*

The walk reads the same snapshot as the checks: links, routes, neighbours, forwarding entries, and what the
rules of each node do with Services.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from kubenet.model.links import LinkKind
from kubenet.model.packet import PROTOCOL_NAMES
from kubenet.observe.checks.services import node_rules
from kubenet.observe.events import PlaceKind
from kubenet.observe.findings import Finding
from kubenet.observe.names import Names, names_of
from kubenet.observe.snapshot import Snapshot
from kubenet.observe.state import PlaceState, route_to, route_words
from kubenet.observe.story import Story, What
from kubenet.observe.why import command_in

MAX_PLACES = 16  # a walk that is longer goes in a circle


@dataclass(frozen=True, slots=True)
class Step:
    """What the tables of one place say."""

    place: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Walk:
    """Where a packet would go, to one of the endpoints if there are several."""

    steps: tuple[Step, ...]
    places: tuple[str, ...]  # that it would pass, in order
    finding: Finding | None = None


def walks(snapshot: Snapshot, source: str, to: IPv4Address, protocol: int, port: int) -> list[Walk]:
    """Return every way the packet may go: one for each endpoint it may be sent to."""
    return [
        _Walker(snapshot, source, to, protocol, port, choice).walk()
        for choice in _choices(snapshot, source, to, protocol, port)
    ]


def _choices(
    snapshot: Snapshot, source: str, to: IPv4Address, protocol: int, port: int
) -> list[tuple[IPv4Address, int] | None]:
    state = snapshot.states[source]
    rules = node_rules(snapshot.states[state.place.node]) if state.place.node in snapshot.states else None
    ends = rules.services.get((to, PROTOCOL_NAMES.get(protocol, ""), port)) if rules else None
    return [*sorted(ends)] if ends else [None]


class _Walker:
    """Follows one packet from place to place."""

    def __init__(
        self,
        snapshot: Snapshot,
        source: str,
        to: IPv4Address,
        protocol: int,
        port: int,
        choice: tuple[IPv4Address, int] | None,
    ) -> None:
        self._snapshot = snapshot
        self._names: Names = names_of(snapshot.cluster)
        self._place = source
        self._to, self._protocol, self._port = to, protocol, port
        self._choice = choice
        self._steps: list[Step] = []
        self._places: list[str] = []
        self._finding: Finding | None = None

    def walk(self) -> Walk:
        """Return the whole way."""
        for _ in range(MAX_PLACES):
            state = self._snapshot.states.get(self._place)
            if state is None:
                self._say("beyond", f"{self._place} was not looked at")
                break
            self._places.append(self._place)
            if state.place.kind is PlaceKind.NODE:
                self._translate(state)
            if self._to in state.addresses:
                self._say("here", f"{self._names.whose(self._to)} {self._to} is in this place")
                break
            following = self._next(state)
            if following is None:
                break
            self._place = following
        return Walk(tuple(self._steps), tuple(self._places), self._finding)

    def _say(self, label: str, text: str) -> None:
        self._steps.append(Step(self._place, label, text))

    def _translate(self, state: PlaceState) -> None:
        rules = node_rules(state)
        key = (self._to, PROTOCOL_NAMES.get(self._protocol, ""), self._port)
        if rules is None or key not in rules.services:
            return
        service = self._names.service_at(self._to, self._protocol, self._port)
        if self._choice is None:
            words = f"service {service} has no endpoints: refused"
            self._fail("E_SERVICE_NO_ENDPOINTS", words, "kubectl get endpointslices -A")
            return
        ip, port = self._choice
        count = len(rules.services[key])
        chosen = f"{ip}:{port} «{self._names.whose(ip)}», 1 of {count}"
        self._say(rules.backend, f"service {service}: {self._to}:{self._port} -> {chosen}")
        self._to, self._port = ip, port

    def _next(self, state: PlaceState) -> str | None:
        """Say which route is taken, and return where that leads."""
        name = state.place.name
        if self._finding is not None:
            return None
        if state.place.kind is PlaceKind.NODE and not state.forwards and len(self._places) > 1:
            words = f"{name} does not forward packets"
            self._fail("E_NODE_FORWARD_OFF", words, "sysctl -w net.ipv4.ip_forward=1")
            return None
        route = route_to(state.links, self._to)
        if route is None or route.unreachable:
            code = "E_POD_NO_ROUTE" if state.place.kind is PlaceKind.POD else "E_ROUTE_MISSING"
            self._fail(code, f"{name} has no route to {self._to}", "ip route")
            return None
        self._say("route", route_words(route))
        link = state.links.links.get(route.ifname)
        if link is None or not link.up:
            self._fail("E_POD_LINK_DOWN", f"{route.ifname} of {name} is down", f"ip link show {route.ifname}")
            return None
        if state.place.kind is PlaceKind.POD:
            return state.place.node
        if link.kind is LinkKind.VXLAN:
            return self._through_tunnel(state, route.ifname, route.gateway or self._to)
        return self._behind(route.destination.prefixlen == 32)

    def _through_tunnel(self, state: PlaceState, ifname: str, gateway: object) -> str | None:
        neighbor = next(
            (n for (on, ip), n in state.links.neighbors.items() if on == ifname and ip == gateway), None
        )
        if neighbor is None:
            self._fail("E_VXLAN_NEIGH", f"no neighbour entry for {gateway}", f"ip neigh show dev {ifname}")
            return None
        entry = state.links.fdb.get((ifname, neighbor.mac))
        if entry is None:
            self._fail(
                "E_VXLAN_FDB", f"no forwarding entry for {neighbor.mac}", f"bridge fdb show dev {ifname}"
            )
            return None
        self._say(ifname, f"{gateway} is {neighbor.mac}, behind {entry.vtep}")
        ip = entry.vtep
        return self._node_with(ip) if isinstance(ip, IPv4Address) else None

    def _node_with(self, ip: IPv4Address) -> str | None:
        for name, state in self._snapshot.states.items():
            if state.place.kind is PlaceKind.NODE and ip in state.addresses:
                return name
        self._say("beyond", f"{ip} is no node that was looked at")
        return None

    def _behind(self, single: bool) -> str | None:
        """Return the place on a link of this node: a pod, or another node."""
        for name, state in self._snapshot.states.items():
            if self._to in state.addresses and (state.place.kind is not PlaceKind.WIRE):
                return name
        self._say("beyond", f"{self._to} is no {'pod' if single else 'place'} that was looked at")
        return None

    def _fail(self, code: str, words: str, step: str) -> None:
        self._say("ENDS", words)
        self._finding = Finding(
            code, self._place, words, command_in(self._place, step, self._snapshot.in_lab)
        )


def differences(walk: Walk, story: Story) -> Iterator[str]:
    """Yield where the kernel did something else than the tables say."""
    seen = _places_of(story)
    believed = [place for place in walk.places if place in seen or place != "wire"]
    really = [place for place in seen if place != "wire"]
    for believed_place, real_place in zip(believed, really, strict=False):
        if believed_place != real_place:
            yield f"the tables lead to {believed_place}; the packet went to {real_place}"
            return
    last = really[-1] if really else "no place"
    if len(really) < len(believed):
        yield f"the tables lead on to {believed[len(really)]}; the packet was seen last in {last}"
    elif len(really) > len(believed):
        yield f"the tables lead no further than {believed[-1]}; the packet went on to {really[len(believed)]}"


def _places_of(story: Story) -> Sequence[str]:
    lines = story.there.lines if story.there else ()
    return list(dict.fromkeys(line.place for line in lines if line.what is What.HOP))


def closest(found: Sequence[Walk], story: Story) -> Walk:
    """Return the walk that goes where the packet went: which endpoint is taken is chance."""
    seen = set(_places_of(story))
    return max(found, key=lambda walk: (len(seen & set(walk.places)), -len(walk.places)))
