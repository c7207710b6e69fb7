"""A packet's whole way as one story, line by line. *Pure.*

Each line says how it is known: *seen* is a packet at an interface (or how it differs from what it was at the
interface before), *reported* is what netfilter said of this packet, *inferred* is read from tables that were
there at the time and may in principle have been others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from kubenet.model.links import LinkKind
from kubenet.model.packet import ICMP, FiveTuple, Packet
from kubenet.observe.events import (
    Connection,
    Drop,
    Hop,
    Observation,
    PlaceKind,
    ProbeResult,
    RuleHit,
)
from kubenet.observe.findings import Finding
from kubenet.observe.journey import Journey, answer_to, first_of, journeys
from kubenet.observe.names import Names
from kubenet.observe.rule_text import Listing, RuleText, object_of
from kubenet.observe.state import PlaceState, route_to, route_words
from kubenet.observe.trouble import Background, Course, delivered, trouble


class Known(Enum):
    """How something is known."""

    SEEN = "seen"
    REPORTED = "reported"
    INFERRED = "inferred"


class What(Enum):
    """What a line is about."""

    HOP = "hop"
    RULE = "rule"
    NAT = "nat"
    CONNTRACK = "conntrack"
    ROUTE = "route"
    TUNNEL = "tunnel"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a story."""

    known: Known
    what: What
    place: str
    label: str  # the interface, or the chain
    text: str
    time_us: float | None = None  # since the packet set out
    kubernetes: str = ""  # the object that a rule is there for
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """One packet from its first place to its last."""

    title: str
    lines: tuple[Line, ...]
    hops: int
    duration_us: float
    delivered: bool
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """What became of one flow."""

    title: str
    result: ProbeResult
    there: Way | None
    back: Way | None
    finding: Finding | None
    unseen: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        return self.result.answered and self.finding is None


def tell(seen: Observation, flow: FiveTuple, source: str, behind: Background) -> Story:
    """Return the story of ``flow``, which the place ``source`` sent."""
    ways = journeys(seen.hops, seen.drops, seen.rules)
    first = first_of(ways, flow) or _translated(ways, source)
    answer = answer_to(ways, first) if first else None
    title = f"{_named(flow, behind.names)}"
    there = _way(first, flow, seen, behind) if first else None
    back = _way(answer, answer.packet.flow, seen, behind) if answer else None
    finding = trouble(Course(first, answer, source, flow), seen, behind)
    return Story(title, seen.result, there, back, finding, seen.unseen)


def _translated(ways: Sequence[Journey], source: str) -> Journey | None:
    """Return the first packet that the source sent: a node's own are translated before they are seen."""
    for way in ways:
        start = way.hops[0] if way.hops else way.drops[0]
        if start.place == source and way.packet.about is None:
            return way
    return None


def _named(flow: FiveTuple, names: Names) -> str:
    service = names.service_at(flow.destination, flow.protocol, flow.destination_port)
    to = f"svc {service}" if service else names.whose(flow.destination)
    arrow = str(flow).split(" ", 1)[1].split(" -> ")
    protocol = str(flow).split(" ", 1)[0]
    return f"{protocol} {names.whose(flow.source)} {arrow[0]} -> {to} {arrow[1]}"


def _way(way: Journey, flow: FiveTuple, seen: Observation, behind: Background) -> Way:
    lines = tuple(_Teller(way, flow, seen, behind).lines())
    times = [hop.time_ns for hop in way.hops]
    duration_us = (times[-1] - times[0]) / 1e3 if times else 0.0
    words = f"{way.packet.words()} {_named(way.packet.flow, behind.names)}"
    return Way(words, lines, len(way.hops), duration_us, delivered(way, behind.states), way.copies)


class _Teller:
    """Writes the lines of one packet's way."""

    def __init__(self, way: Journey, flow: FiveTuple, seen: Observation, behind: Background) -> None:
        self._way = way
        self._flow = flow
        self._seen = seen
        self._behind = behind
        self._pending = list(way.rules)
        self._told: set[tuple[str, int]] = set()  # connections that were told of
        self._start_ns = (way.hops[0] if way.hops else way.drops[0]).time_ns

    def lines(self) -> Iterator[Line]:
        before: Hop | None = None
        for place, hop in enumerate(self._way.hops):
            if before is not None and before.place != hop.place:
                yield from self._inside(before.place, before.packet, None)
                before = None
            # Where a bridge asks netfilter, a packet is translated before the bridge itself receives it.
            if hop.sent or (before is not None and before.packet.flow != hop.packet.flow):
                yield from self._inside(hop.place, before.packet if before else None, hop)
            yield self._hop(hop, before, place)
            before = hop
        if before is not None:
            yield from self._inside(before.place, before.packet, None)
        for drop in self._way.drops[:1]:
            yield from self._inside(drop.place, drop.packet, None)
            yield self._drop(drop)

    def _inside(self, place: str, arrived: Packet | None, leaving: Hop | None) -> Iterator[Line]:
        """Yield what happens in a place before the packet leaves it, or ends there."""
        was = arrived.flow if arrived else self._flow
        now = leaving.packet.flow if leaving else was
        to_another = list(_nat_to(place, was, now, self._behind.names))
        for line in self._rules(place, leaving):
            yield line
            if to_another and "dnat" in line.text.lower():
                yield to_another.pop()
        yield from to_another
        yield from _nat_from(place, was, now, self._behind.names)
        yield from self._connections(place, was)
        if leaving is not None and leaving.sent:
            yield from self._route(place, leaving, arrived)

    def _rules(self, place: str, leaving: Hop | None) -> Iterator[Line]:
        """Yield the rules that were met, and those that the wrapping met when a tunnel has wrapped it up."""
        listing = self._behind.listings.get(place)
        for hit in [hit for hit in self._pending if hit.place == place]:
            self._pending.remove(hit)
            yield _rule(hit, listing, self._behind.names)
        around = leaving.packet.vxlan if leaving else None
        if around is None:
            return
        for hit in self._seen.rules:
            packet = hit.packet
            if (
                hit.place == place
                and packet
                and (packet.ident, packet.length) == (around.ident, around.length)
            ):
                yield _rule(hit, listing, self._behind.names)

    def _connections(self, place: str, was: FiveTuple) -> Iterator[Line]:
        for connection in self._seen.connections:
            event = connection.event
            if connection.place != place or event.kind == "destroy" or event.original != was:
                continue
            if (place, event.ident) in self._told:
                continue
            self._told.add((place, event.ident))
            yield _connection(connection, self._behind.names)

    def _route(self, place: str, leaving: Hop, arrived: Packet | None) -> Iterator[Line]:
        state = self._behind.states.get(place)
        if state is None or state.place.kind is PlaceKind.WIRE:
            return
        link = state.links.links.get(leaving.ifname)
        around = leaving.packet.vxlan
        if around is not None and arrived is not None and arrived.vxlan is None:
            text = f"VXLAN vni {around.vni}, udp {around.source} -> {around.destination}:{around.port}"
            yield Line(Known.SEEN, What.TUNNEL, place, leaving.ifname, text)
            return
        route = route_to(state.links, leaving.packet.flow.destination)
        if route is None or around is not None:
            return
        yield Line(Known.INFERRED, What.ROUTE, place, "route", route_words(route))
        if link is not None and link.kind is LinkKind.VXLAN:
            yield from _tunnel_entries(state, leaving, place)

    def _hop(self, hop: Hop, before: Hop | None, number: int) -> Line:
        text = f"{'out' if hop.sent else 'in'}"
        if number == 0:
            text += f", {hop.packet.words()}"
        elif not hop.sent and before and before.packet.vxlan and not hop.packet.vxlan:
            text += ", taken out of the tunnel"
        if number == len(self._way.hops) - 1 and delivered(self._way, self._behind.states):
            text += ", delivered"
        behind = _pod_behind(self._behind, hop)
        return Line(Known.SEEN, What.HOP, hop.place, hop.ifname, text, self._since(hop.time_ns), behind)

    def _drop(self, drop: Drop) -> Line:
        where = f" in {drop.function}" if drop.function else ""
        text = f"DROPPED: {drop.reason}{where}"
        return Line(Known.SEEN, What.DROP, drop.place, drop.ifname, text, self._since(drop.time_ns))

    def _since(self, time_ns: int) -> float:
        return round((time_ns - self._start_ns) / 1e3, 1)


def _pod_behind(behind: Background, hop: Hop) -> str:
    """Return the pod that a node's interface leads to, if it is one's alone."""
    state = behind.states.get(hop.place)
    if state is None or state.place.kind is not PlaceKind.NODE:
        return ""
    for route in state.links.routes.values():
        ip = route.destination.network_address
        if route.ifname == hop.ifname and route.destination.prefixlen == 32 and isinstance(ip, IPv4Address):
            return behind.names.hosts.get(ip, "")
    return ""


def _tunnel_entries(state: PlaceState, leaving: Hop, place: str) -> Iterator[Line]:
    route = route_to(state.links, leaving.packet.flow.destination)
    gateway = route.gateway if route else None
    neighbor = state.links.neighbors.get((leaving.ifname, gateway)) if gateway else None
    if neighbor is None:
        return
    entry = state.links.fdb.get((leaving.ifname, neighbor.mac))
    text = f"{gateway} is {neighbor.mac}" + (f", behind {entry.vtep}" if entry else ", which is nowhere")
    yield Line(Known.INFERRED, What.TUNNEL, place, leaving.ifname, text)


def _nat_to(place: str, was: FiveTuple, now: FiveTuple, names: Names) -> Iterator[Line]:
    ports = (was.destination_port, now.destination_port) if was.protocol != ICMP else (0, 0)
    if was.destination != now.destination or ports[0] != ports[1]:
        text = f"{_end(was.destination, ports[0])} -> {_end(now.destination, ports[1])}"
        yield Line(Known.SEEN, What.NAT, place, "DNAT", text, kubernetes=names.whose(now.destination))


def _end(ip: IPv4Address, port: int) -> str:
    return f"{ip}:{port}" if port else str(ip)


def _nat_from(place: str, was: FiveTuple, now: FiveTuple, names: Names) -> Iterator[Line]:
    if (was.source, was.source_port) != (now.source, now.source_port):
        text = f"{was.source}:{was.source_port} -> {now.source}:{now.source_port}"
        yield Line(Known.SEEN, What.NAT, place, "SNAT", text, kubernetes=names.whose(now.source))


def _connection(connection: Connection, names: Names) -> Line:
    event = connection.event
    back = event.reply
    text = f"0x{event.ident:08x} {event.kind}: answers from {names.whose(back.source)} {back.source}"
    if back.source_port and back.protocol != 1:
        text += f":{back.source_port}"
    if back.destination != event.original.source:
        text += f" to {back.destination}:{back.destination_port}"
    return Line(Known.REPORTED, What.CONNTRACK, connection.place, "conntrack", text)


def _rule(hit: RuleHit, listing: Listing | None, names: Names) -> Line:
    event = hit.event
    key = (event.table, event.chain, event.handle)
    rule = (listing.rules.get(key) if listing else None) or RuleText(f"rule {event.handle}")
    verdict = f"{event.verdict} {event.target}".strip()
    text = rule.text if event.kind == "rule" else f"{event.kind} {event.verdict}".strip()
    if event.kind == "rule" and rule.comment:
        # In tables of our own the comment is the rule; nft does not know how to print all that it can hold.
        text = rule.comment if event.table.startswith("kubenet-") else f"{text}   ({rule.comment})"
    about = object_of(rule, event.chain, hit.packet, names) if event.kind == "rule" else ""
    return Line(
        Known.REPORTED, What.RULE, hit.place, f"{event.table} {event.chain}", text, None, about, verdict
    )


def rule_words(seen: Observation, hop: Hop, behind: Background) -> str:
    """Return the rules that a packet met in the place that it arrived at, one a line."""
    listing = behind.listings.get(hop.place)
    hits = [
        hit
        for hit in seen.rules
        if hit.place == hop.place and hit.packet and hit.packet.fingerprint == hop.packet.fingerprint
    ]
    lines = [_rule(hit, listing, behind.names) for hit in hits if hit.event.kind == "rule"]
    return "\n".join(f"{line.label}: {line.text}" for line in lines)
