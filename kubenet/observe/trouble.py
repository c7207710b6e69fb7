"""What is wrong when a flow comes to nothing. *Pure.*

A loss that the kernel reports speaks for itself (``why``). Where there is none, what was seen last and the
tables of that place have to do; and what cannot be told is said to be lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from kubenet.model.links import LinkKind
from kubenet.model.packet import FiveTuple
from kubenet.observe.events import Drop, Hop, Observation, PlaceKind
from kubenet.observe.findings import Finding
from kubenet.observe.journey import Journey
from kubenet.observe.names import Names
from kubenet.observe.rule_text import Listing
from kubenet.observe.state import PlaceState, route_to
from kubenet.observe.why import Loss, command_in, why


@dataclass(frozen=True, slots=True)
class Background:
    """What is known beside the packets."""

    states: Mapping[str, PlaceState]
    names: Names
    listings: Mapping[str, Listing] = field(default_factory=dict)
    in_lab: bool = True


@dataclass(frozen=True, slots=True)
class Course:
    """The first packet of a flow, the first that came back, and what was asked for."""

    first: Journey | None
    answer: Journey | None
    source: str
    flow: FiveTuple


def delivered(way: Journey, states: Mapping[str, PlaceState]) -> bool:
    """Whether the packet was received where its destination address is, and not lost there."""
    last = way.last
    if last is None or last.place not in states or way.lost is not None:
        return False
    at_home = last.packet.flow.destination in states[last.place].addresses
    translated = any(hit.place == last.place for hit in way.rules)
    return not last.sent and (at_home or (translated and not _goes_on(way, last)))


def _goes_on(way: Journey, last: Hop) -> bool:
    return any(hit.event.oif for hit in way.rules if hit.place == last.place)


def trouble(course: Course, seen: Observation, behind: Background) -> Finding | None:
    """Return what is wrong, if the flow came to nothing."""
    if seen.result.answered:
        return None
    first, answer = course.first, course.answer
    if first is None:
        return _never_left(course, seen, behind)
    ways = [way for way in (first, answer) if way is not None]
    for way in ways:
        if way.lost is not None:
            return why(_loss(way, way.lost, behind))
    for way in ways:
        if not delivered(way, behind.states) and way.last:
            return _vanished(way.last, behind)
    if answer is not None:
        return _refused(answer) if answer.packet.about is not None else None
    return _unanswered(first, course.source, seen, behind)


def _loss(way: Journey, drop: Drop, behind: Background) -> Loss:
    rules = [hit for hit in way.rules if hit.place == drop.place]
    listing = behind.listings.get(drop.place)
    return Loss(drop, behind.states[drop.place], behind.states, behind.names, rules, listing, behind.in_lab)


def _refused(answer: Journey) -> Finding:
    start = answer.hops[0]
    return Finding("E_DROPPED", start.place, f"{start.place} answers: {answer.packet.words()}")


def _unanswered(first: Journey, source: str, seen: Observation, behind: Background) -> Finding:
    where = first.last.place if first.last else source
    if first.last and _is_pods_own(first.last, behind):
        address = first.last.packet.flow.source
        words = f"{address} is a pod's address; {where} does not know the way back to it"
        return Finding("E_MASQUERADE", _last_node(first) or where, words, "kubenet check proxy")
    return Finding("E_NO_ANSWER", where, f"{where} received it and did not answer ({seen.result.words})")


def _never_left(course: Course, seen: Observation, behind: Background) -> Finding:
    """Say why nothing was seen at all: the sender's own tables."""
    source = course.source
    if found := held_up(behind.states[source], course.flow.destination, behind.in_lab):
        return found
    words = f"nothing was seen leaving {source}: {seen.result.words}"
    return Finding("W_LOST", source, words, command_in(source, "ip route", behind.in_lab))


def _vanished(last: Hop, behind: Background) -> Finding:
    """Say what is known of a packet that was seen for the last time without a word of the kernel."""
    state = behind.states[last.place]
    if not last.sent and state.place.kind is not PlaceKind.WIRE:
        found = held_up(state, last.packet.flow.destination, behind.in_lab)
        if found is not None:
            return found
    step = command_in(last.place, f"ip -s link show {last.ifname}", behind.in_lab)
    evidence = f"last seen {'leaving' if last.sent else 'arriving at'} {last.place} by {last.ifname}"
    if found := _in_the_tunnel(state, last, behind):
        return found
    code = "W_LOST"
    if state.place.kind is PlaceKind.WIRE or last.packet.vxlan is not None:
        code = "E_UNDERLAY_DROP"
    elif last.sent and state.place.kind is PlaceKind.NODE and _is_pods_own(last, behind):
        code = "E_MASQUERADE"
    return Finding(code, last.place, evidence, step, last.ifname)


def _in_the_tunnel(state: PlaceState, last: Hop, behind: Background) -> Finding | None:
    """Say that the other node does not answer, when a packet went into the tunnel and not onto the wire."""
    link = state.links.links.get(last.ifname)
    if not last.sent or link is None or link.kind is not LinkKind.VXLAN or link.vxlan is None:
        return None
    route = route_to(state.links, last.packet.flow.destination)
    neighbor = state.links.neighbors.get((last.ifname, route.gateway)) if route and route.gateway else None
    entry = state.links.fdb.get((last.ifname, neighbor.mac)) if neighbor else None
    underlay = link.vxlan.underlay_ifname
    words = f"{state.place} waits for {entry.vtep if entry else 'the other node'} to answer on {underlay}"
    step = command_in(state.place.name, f"ip neigh show dev {underlay}", behind.in_lab)
    return Finding("E_UNDERLAY_LINK", state.place.name, words, step, underlay)


def _last_node(way: Journey) -> str:
    """Return the node that sent the packet out."""
    places = list(dict.fromkeys(hop.place for hop in way.hops))
    return next((place for place in reversed(places[:-1]) if place != "wire"), "")


def _is_pods_own(last: Hop, behind: Background) -> bool:
    """Whether a pod's packet goes to somewhere outside with the pod's own address: no answer finds back."""
    flow = last.packet.flow
    from_pod = not behind.names.hosts.get(flow.source, "node ").startswith("node ")
    return from_pod and flow.destination not in behind.names.hosts


def held_up(state: PlaceState, to: IPv4Address, in_lab: bool) -> Finding | None:
    """Say what in a place's own tables keeps a packet from leaving it; None if nothing does.

    For packets that were seen arriving and not leaving while the kernel still waits for an answer to ARP.
    """
    name = state.place.name
    route = route_to(state.links, to)
    if route is None or route.unreachable:
        code = "E_POD_NO_ROUTE" if state.place.kind is PlaceKind.POD else "E_ROUTE_MISSING"
        return Finding(code, name, f"{name} has no route to {to}", command_in(name, "ip route", in_lab))
    link = state.links.links.get(route.ifname)
    if link is None or not link.up:
        step = command_in(name, f"ip link show {route.ifname}", in_lab)
        return Finding("E_POD_LINK_DOWN", name, f"{route.ifname} of {name} is down", step, route.ifname)
    asked = route.gateway or to
    if (route.ifname, asked) in state.links.neighbors:
        return None
    silent = _silent_code(state, link.kind, route.destination.prefixlen, asked)
    if silent is None:
        return None
    words = f"{name} has no neighbour entry for {asked} on {route.ifname}, and nobody answers there"
    step = command_in(name, f"ip neigh show dev {route.ifname}", in_lab)
    return Finding(silent, name, words, step, route.ifname)


def _silent_code(state: PlaceState, kind: LinkKind, prefix_length: int, asked: object) -> str | None:
    """Return what a missing neighbour entry means where entries are permanent."""
    if kind is LinkKind.VXLAN:
        return "E_VXLAN_NEIGH"
    if state.place.kind is PlaceKind.POD:
        silent = isinstance(asked, IPv4Address) and asked.is_link_local
        wide = prefix_length < 32 and not silent
        return "E_POD_GATEWAY" if silent else "E_POD_ADDRESS" if wide else None
    return "E_POD_HOST_ROUTE" if prefix_length == 32 else "E_ROUTE_WRONG" if kind is LinkKind.VETH else None
