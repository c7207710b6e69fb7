"""Walk one new connection through iptables tables, in Python. *Pure.*

The same values that become the text for the kernel are walked here, so what cannot be simulated cannot be
emitted. Where a rule leaves it to chance (or to a counter), both branches are followed with their share, and
the result says how likely each outcome is: exact fractions, which sum to 1.

Source: iptables(8) for the order of tables and chains, iptables-extensions(8) for the matches.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from typing import TypeAlias

from kubenet.model import nft
from kubenet.model.iptables import (
    AddressKind,
    Comment,
    CtState,
    Destination,
    DestinationKind,
    DestinationPort,
    Dnat,
    EveryNth,
    FlipMark,
    InInterface,
    InState,
    Jump,
    Marked,
    Masquerade,
    Match,
    OfProtocol,
    OneIn,
    OutInterface,
    PutOnList,
    Reject,
    Rule,
    SeenWithin,
    SetMark,
    Source,
    SourceKind,
    Table,
    Target,
    Verdict,
)
from kubenet.model.protocol import Protocol
from proxy.ports import IPAddress


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection, as it comes to the node."""

    source: IPAddress
    destination: IPAddress
    protocol: Protocol
    port: int
    ifname: str = ""  # what it came in by; empty for one that the node itself sends


@dataclass(frozen=True, slots=True)
class Host:
    """What the rules ask the node about."""

    addresses: frozenset[IPAddress] = frozenset()  # its own; loopback addresses are understood
    remembered: frozenset[str] = frozenset()  # the lists of recent sources that hold the packet's source

    def is_local(self, ip: IPAddress) -> bool:
        return ip.is_loopback or ip in self.addresses


@dataclass(frozen=True, slots=True)
class Arrives:
    """The connection goes to ``ip``:``port``; ``translated`` if that is not where it was sent to."""

    ip: IPAddress
    port: int
    translated: bool = False
    masqueraded: bool = False


class Stopped(Enum):
    """The connection goes nowhere."""

    REJECTED = "rejected"
    DROPPED = "dropped"


Outcome: TypeAlias = Arrives | Stopped


@dataclass(frozen=True, slots=True)
class Step:
    """A rule that took the packet, of iptables or nftables: the ``number``-th of its chain, from 1."""

    table: str
    chain: str
    number: int
    rule: Rule | nft.Rule

    @property
    def translates(self) -> bool:
        """Whether it sends the packet elsewhere."""
        if isinstance(self.rule, Rule):
            return isinstance(self.rule.target, Dnat)
        return isinstance(self.rule[-1], nft.Choose | nft.Resume)

    @property
    def stops(self) -> bool:
        """Whether it ends the packet's way."""
        if isinstance(self.rule, Rule):
            return isinstance(self.rule.target, Reject) or self.rule.target is Verdict.DROP
        return isinstance(self.rule[-1], nft.Reject) or self.rule[-1] is nft.Verdict.DROP

    def __str__(self) -> str:
        words = self.rule.text() if isinstance(self.rule, Rule) else nft.rule_text(self.rule)
        return f"{self.table} {self.chain} {self.number}: {words}"


@dataclass(frozen=True, slots=True)
class Course:
    """One way that the packet may go, and how often out of 1 it does."""

    outcome: Outcome
    chance: Fraction
    steps: tuple[Step, ...]
    passed: int  # rules that were looked at on the way, taken or not


@dataclass(frozen=True, slots=True)
class _Walk:
    """One way through the rules so far."""

    packet: Packet
    host: Host
    chance: Fraction = Fraction(1)
    mark: int = 0
    translated: bool = False
    masqueraded: bool = False
    stopped: Stopped | None = None
    steps: tuple[Step, ...] = ()
    passed: int = 0


class _End(Enum):
    """How a chain ended for one walk."""

    FELL_THROUGH = "at the last rule, or by RETURN"
    DECIDED = "by a verdict for the whole table"


_Ends: TypeAlias = Iterator[tuple[_End, _Walk]]


def destinations(tables: Iterable[Table], packet: Packet, host: Host = Host()) -> frozenset[Outcome]:
    """Return everything that may become of ``packet``."""
    return frozenset(chances(tables, packet, host))


def chances(tables: Iterable[Table], packet: Packet, host: Host = Host()) -> Mapping[Outcome, Fraction]:
    """Return what may become of ``packet``, and how often out of 1."""
    sums: dict[Outcome, Fraction] = defaultdict(Fraction)
    for course in courses(tables, packet, host):
        sums[course.outcome] += course.chance
    return dict(sums)


def courses(tables: Iterable[Table], packet: Packet, host: Host = Host()) -> Iterator[Course]:
    """Yield every way that ``packet`` may go, rule by rule."""
    by_name = {table.name: table for table in tables}
    for walk in _through_node(by_name, _Walk(packet, host)):
        yield Course(_outcome(walk), walk.chance, walk.steps, walk.passed)


def _outcome(walk: _Walk) -> Outcome:
    if walk.stopped:
        return walk.stopped
    return Arrives(walk.packet.destination, walk.packet.port, walk.translated, walk.masqueraded)


def _through_node(tables: Mapping[str, Table], start: _Walk) -> Iterator[_Walk]:
    from_here = start.host.is_local(start.packet.source)
    for routed in _hook(tables, "nat", "OUTPUT" if from_here else "PREROUTING", start):
        for sent in _filtered(tables, routed, from_here):
            yield from [sent] if sent.stopped else _hook(tables, "nat", "POSTROUTING", sent)


def _filtered(tables: Mapping[str, Table], walk: _Walk, from_here: bool) -> Iterator[_Walk]:
    to_here = walk.host.is_local(walk.packet.destination)
    hooks = ["OUTPUT"] if from_here else []
    if to_here:
        hooks.append("INPUT")
    elif not from_here:
        hooks.append("FORWARD")
    walks = [walk]
    for hook in hooks:
        walks = [
            after
            for before in walks
            for after in ([before] if before.stopped else _hook(tables, "filter", hook, before))
        ]
    yield from walks


def _hook(tables: Mapping[str, Table], name: str, hook: str, walk: _Walk) -> Iterator[_Walk]:
    if name not in tables:
        yield walk
        return
    for _, after in _chain(tables[name], hook, walk):
        yield after


def _chain(table: Table, name: str, walk: _Walk, start: int = 0) -> _Ends:
    """Yield every way ``walk`` can end this chain; a rule that holds sometimes is taken and passed by."""
    rules = table.hooks.get(name) or table.chains.get(name, ())
    for number, rule in enumerate(rules[start:], start):
        share = _share(rule.matches, walk)
        walk = replace(walk, passed=walk.passed + 1)
        if not share:
            continue
        steps = (*walk.steps, Step(table.name, name, number + 1, rule))
        for end, after in _aim(table, rule.target, replace(walk, chance=walk.chance * share, steps=steps)):
            if end is _End.DECIDED or rule.target is Verdict.RETURN:
                yield end, after
            else:
                yield from _chain(table, name, after, number + 1)
        if share == 1:
            return
        walk = replace(walk, chance=walk.chance * (1 - share))
    yield _End.FELL_THROUGH, walk


def _aim(table: Table, target: Target, walk: _Walk) -> _Ends:
    match target:
        case Jump(chain):
            yield from _chain(table, chain, walk)
        case SetMark(bits):
            yield _End.FELL_THROUGH, replace(walk, mark=walk.mark | bits)
        case FlipMark(bits):
            yield _End.FELL_THROUGH, replace(walk, mark=walk.mark ^ bits)
        case Verdict.RETURN:
            yield _End.FELL_THROUGH, walk
        case _:
            yield _End.DECIDED, _decided(target, walk)


def _decided(target: Target, walk: _Walk) -> _Walk:
    match target:
        case Dnat(ip, port):
            return replace(walk, packet=replace(walk.packet, destination=ip, port=port), translated=True)
        case Masquerade():
            return replace(walk, masqueraded=True)
        case Reject():
            return replace(walk, stopped=Stopped.REJECTED)
        case Verdict.DROP:
            return replace(walk, stopped=Stopped.DROPPED)
        case Verdict.ACCEPT:
            return walk
    raise AssertionError(target)


def _share(matches: Iterable[Match], walk: _Walk) -> Fraction:
    """Return how often out of 1 all of ``matches`` hold."""
    share = Fraction(1)
    for match in matches:
        share *= _how_often(match, walk)
    return share


def _how_often(match_: Match, walk: _Walk) -> Fraction:
    match match_:
        case OneIn(share) | EveryNth(share):
            return Fraction(1, share)
        case _:
            return Fraction(_holds(match_, walk))


def _holds(match_: Match, walk: _Walk) -> bool:
    packet, host = walk.packet, walk.host
    match match_:
        case Comment() | PutOnList():
            return True
        case Source(network, negated):
            return (packet.source in network) != negated
        case Destination(network, negated):
            return (packet.destination in network) != negated
        case SourceKind(kind, negated):
            return _is_kind(kind, packet.source, host) != negated
        case DestinationKind(kind, negated):
            return _is_kind(kind, packet.destination, host) != negated
        case _:
            return _holds_for_state(match_, walk)


def _holds_for_state(match_: Match, walk: _Walk) -> bool:
    packet = walk.packet
    match match_:
        case OfProtocol(protocol):
            return packet.protocol is protocol
        case DestinationPort(protocol, port):
            return packet.protocol is protocol and packet.port == port
        case Marked(bits, negated):
            return (walk.mark & bits == bits) != negated
        case InState(states, negated):
            now = {CtState.NEW, CtState.DNAT} if walk.translated else {CtState.NEW}
            return now.isdisjoint(states) == negated
        case SeenWithin(name):
            return name in walk.host.remembered
        case InInterface(ifname, negated):
            return _is_ifname(ifname, packet.ifname) != negated
        case OutInterface():
            raise ValueError(f"the simulator routes nothing: {match_}")
    raise AssertionError(match_)


def _is_ifname(pattern: str, ifname: str) -> bool:
    if pattern.endswith("+"):
        return bool(ifname) and ifname.startswith(pattern[:-1])
    return ifname == pattern


def _is_kind(kind: AddressKind, ip: IPAddress, host: Host) -> bool:
    return host.is_local(ip) if kind is AddressKind.LOCAL else ip.is_multicast
