"""Send one flow and tell its story."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from kubenet.kernel.nft_trace import Traced
from kubenet.model.packet import ICMP, FiveTuple
from kubenet.observe.events import Observation, PlaceKind, ProbeResult
from kubenet.observe.gather import place_state
from kubenet.observe.names import Names, names_of
from kubenet.observe.place import Site
from kubenet.observe.probe import NoRoute, Probe, Target
from kubenet.observe.rule_text import Listing, listing
from kubenet.observe.state import PlaceState
from kubenet.observe.story import Story, tell
from kubenet.observe.tracer import Tracer
from kubenet.observe.trouble import Background


@dataclass(frozen=True, slots=True)
class Told:
    """A story, and what it was made of."""

    story: Story
    seen: Observation
    background: Background


def trace(site: Site, source: str, target: Target, *, timeout_s: float = 1.0, bpf: bool = True) -> Told:
    """Send one packet from ``source`` and return what became of it. Raises NotFound."""
    place = site.place(source)
    names = names_of(site.cluster)
    try:
        probe = Probe(place.netns, target)
    except NoRoute as error:
        flow = FiveTuple(IPv4Address(0), target.ip, target.protocol, 0, target.port)
        seen = Observation(result=ProbeResult(False, error.message))
        behind = background(site, seen, names, place.name.name)
        return Told(tell(seen, flow, place.name.name, behind), seen, behind)
    with probe:
        with Tracer(site, probe.flow, traced_of(probe.flow, names), bpf=bpf) as tracer:
            result = probe.send(timeout_s)
            tracer.settle()
            seen = tracer.observation(result)
        behind = background(site, seen, names, place.name.name)
        return Told(tell(seen, probe.flow, place.name.name, behind), seen, behind)


def traced_of(flow: FiveTuple, names: Names) -> Traced:
    """Return which packets to ask rules about: where masquerading may have changed the port, by endpoint."""
    service = names.service_at(flow.destination, flow.protocol, flow.destination_port)
    towards = service.endpoints if service else ()
    if not towards and flow.protocol != ICMP:
        towards = ((flow.destination, flow.destination_port),)
    return Traced(flow.protocol, flow.source_port, tuple(dict.fromkeys(towards)))


def background(site: Site, seen: Observation, names: Names, source: str) -> Background:
    """Return the state of the places that matter: where it was seen, its source, and where rules spoke."""
    spoken = {hit.place for hit in seen.rules}
    visited = {hop.place for hop in seen.hops} | {drop.place for drop in seen.drops} | spoken | {source}
    lost = {drop.place for drop in seen.drops}
    listed = {place.name.name for place in site.of_kind(PlaceKind.NODE, PlaceKind.WIRE)} & (spoken | lost)
    states = {
        place.name.name: place_state(place, rules=place.name.name in listed)
        for place in site.places
        if place.name.name in visited
    }
    return Background(states, names, {name: _listing(states[name]) for name in listed}, site.in_lab)


def _listing(state: PlaceState) -> Listing:
    return listing(state.nft, state.iptables, state.legacy)
