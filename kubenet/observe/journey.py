"""Which of the things seen belong to one packet, and to its answer. *Pure.*

A packet is told by its fingerprint (protocol, IP identification, length, sequence number), which neither NAT
nor a router nor a tunnel changes. A bridge that does not know yet where a MAC address lives sends copies to
all its ports; those that end at a stranger are set apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kubenet.model.packet import ICMP, TCP, FiveTuple, Packet
from kubenet.observe.events import Drop, Hop, RuleHit

FLOODED = "OTHERHOST"  # the reason of a loss at somebody that the frame is not for
_QUIET = ("CONSUMED", "NOT_DROPPED_YET", "QUEUE_PURGE")  # these are no losses


@dataclass(frozen=True, slots=True)
class Journey:
    """One packet's way: where it was, in order, and where it was lost."""

    hops: tuple[Hop, ...]
    drops: tuple[Drop, ...] = ()
    copies: tuple[str, ...] = ()  # places that a bridge sent a copy to, and that threw it away
    rules: tuple[RuleHit, ...] = field(default_factory=tuple)

    @property
    def packet(self) -> Packet:
        """The packet as it began."""
        return (self.hops[0] if self.hops else self.drops[0]).packet

    @property
    def last(self) -> Hop | None:
        """Where it was seen last."""
        return self.hops[-1] if self.hops else None

    @property
    def lost(self) -> Drop | None:
        """The loss that ended it."""
        return self.drops[0] if self.drops else None


def journeys(hops: Iterable[Hop], drops: Iterable[Drop], rules: Iterable[RuleHit] = ()) -> list[Journey]:
    """Return the ways of all packets, in the order in which they set out."""
    seen: dict[tuple[int, ...], list[Hop]] = {}
    lost: dict[tuple[int, ...], list[Drop]] = {}
    for hop in sorted(hops, key=_order):
        seen.setdefault(hop.packet.fingerprint, []).append(hop)
    for drop in sorted(drops, key=lambda each: each.time_ns):
        if drop.reason not in _QUIET:
            lost.setdefault(drop.packet.fingerprint, []).append(drop)
    ways = [_without_copies(seen.get(key, []), lost.get(key, [])) for key in dict.fromkeys([*seen, *lost])]
    ways.sort(key=lambda way: (way.hops[0] if way.hops else way.drops[0]).time_ns)
    told = list(rules)
    return [_with_rules(way, told) for way in ways]


def _order(hop: Hop) -> tuple[int, int]:
    """Return the place in line: by time, and where packet sockets took it, by what routers leave of its life.

    Frames of packet sockets are stamped a little before or after the fact.
    """
    return (0 if hop.skb else -hop.packet.ttl, hop.time_ns)


def _without_copies(hops: list[Hop], drops: list[Drop]) -> Journey:
    """Set apart the copies that a bridge made for strangers, unless nothing else is left."""
    strangers = [drop for drop in drops if drop.reason == FLOODED]
    onward = [hop for hop in hops if hop.sent and hop.place in {drop.place for drop in strangers}]
    copies = {drop.place for drop in strangers} - {hop.place for hop in onward}
    if not _was_flooded(hops):
        copies = set()
    rest = [hop for hop in hops if hop.place not in copies]
    others = [drop for drop in drops if drop.place not in copies]
    rest = _without_ports(hops, rest, copies)
    if not copies or not (others or (rest and not rest[-1].sent)):
        return Journey(tuple(hops), tuple(drops))
    return Journey(tuple(rest), tuple(others), tuple(sorted(copies)))


def _was_flooded(hops: Sequence[Hop]) -> bool:
    """Whether a place sent it by several interfaces, not counting a tunnel and what carries that."""
    sent: dict[tuple[str, bool], set[str]] = {}
    for hop in hops:
        if hop.sent:
            sent.setdefault((hop.place, hop.packet.vxlan is not None), set()).add(hop.ifname)
    return any(len(ifnames) > 1 for ifnames in sent.values())


def _without_ports(hops: Sequence[Hop], rest: Sequence[Hop], copies: set[str]) -> list[Hop]:
    """Leave out where the bridge sent the copies: the kernel keeps each at one address."""
    at_strangers = {hop.skb: hop.time_ns for hop in reversed(hops) if hop.place in copies and hop.skb}
    sent = {
        hop.skb: hop
        for hop in rest
        if hop.sent and hop.skb in at_strangers and hop.time_ns <= at_strangers[hop.skb]
    }
    ports = {id(hop) for hop in sent.values()}
    return [hop for hop in rest if id(hop) not in ports]


def _with_rules(way: Journey, rules: Sequence[RuleHit]) -> Journey:
    """Give a packet the rules that it met, also those that met it inside its tunnel."""
    print_of = way.packet.fingerprint
    own = [hit for hit in rules if hit.packet is not None and hit.packet.fingerprint == print_of]
    return Journey(way.hops, way.drops, way.copies, tuple(own))


def first_of(ways: Sequence[Journey], flow: FiveTuple) -> Journey | None:
    """Return the first packet of the flow."""
    return next((way for way in ways if _begins(way, flow)), None)


def answer_to(ways: Sequence[Journey], first: Journey) -> Journey | None:
    """Return the first packet that came back, or an error about the first."""
    start = first.hops[0].time_ns if first.hops else 0
    for way in ways:
        began = (way.hops[0] if way.hops else way.drops[0]).time_ns
        if way is not first and began >= start and _is_answer(way.packet, first.packet):
            return way
    return None


def _begins(way: Journey, flow: FiveTuple) -> bool:
    return way.packet.about is None and way.packet.flow == flow


def _is_answer(packet: Packet, asked: Packet) -> bool:
    if packet.about is not None:
        return packet.about.ident == asked.ident
    if packet.flow.protocol != asked.flow.protocol:
        return False
    if packet.flow.protocol == TCP:
        return "ACK" in packet.flags and ("SYN" in packet.flags or "RST" in packet.flags)
    if packet.flow.protocol == ICMP:
        return packet.icmp_type == 0
    return packet.flow != asked.flow and packet.flow.source_port != asked.flow.source_port
