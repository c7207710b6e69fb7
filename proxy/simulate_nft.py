"""Walk one new connection through our nftables table, in Python. *Pure.*

The same values that become bytes for the kernel are walked here, so what cannot be simulated cannot be
emitted. Chance and counters give every branch its share; the shares of all outcomes sum to 1.

Source: nft(8) for the order of chains and rules; ``proxy.simulate`` for what a packet and an outcome are.
"""

import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from ipaddress import ip_address
from typing import TypeAlias

from kubenet.model.nft import (
    Always,
    By,
    ByMap,
    Choose,
    ClearMark,
    Count,
    Dispatch,
    Forget,
    From,
    FromThisNode,
    Goto,
    Hook,
    InSet,
    Invalid,
    Jump,
    Load,
    Loads,
    Marked,
    Masquerade,
    Reject,
    Resume,
    Ruleset,
    Sentence,
    SetMark,
    To,
    ToThisNode,
    Translated,
    Verdict,
)
from kubenet.model.nft_fields import Fields, width
from proxy import nft_names as n
from proxy.simulate import Arrives, Course, Host, Outcome, Packet, Step, Stopped

_NUMBER = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class _Walk:
    """One way through the rules so far."""

    packet: Packet
    host: Host
    remembered: bytes = b""  # where the client went before, as the map of clients holds it
    chance: Fraction = Fraction(1)
    mark: int = 0
    translated: bool = False
    masqueraded: bool = False
    stopped: Stopped | None = None
    steps: tuple[Step, ...] = ()
    passed: int = 0


class _End(Enum):
    """How a chain, or a rule, ended for one walk."""

    GOES_ON = "with the next rule"
    RETURNED = "to whoever jumped here"
    DECIDED = "by a verdict"


_Ends: TypeAlias = Iterator[tuple[_End, _Walk]]


def nft_destinations(
    rules: Ruleset, packet: Packet, host: Host, remembered: bytes = b""
) -> frozenset[Outcome]:
    """Return everything that may become of ``packet``."""
    return frozenset(nft_chances(rules, packet, host, remembered))


def nft_chances(
    rules: Ruleset, packet: Packet, host: Host, remembered: bytes = b""
) -> Mapping[Outcome, Fraction]:
    """Return what may become of ``packet``, and how often out of 1.

    ``remembered`` is the endpoint (address and port, packed) that the client is known to have gone to.
    """
    sums: dict[Outcome, Fraction] = defaultdict(Fraction)
    for course in nft_courses(rules, packet, host, remembered):
        sums[course.outcome] += course.chance
    return dict(sums)


def nft_courses(rules: Ruleset, packet: Packet, host: Host, remembered: bytes = b"") -> Iterator[Course]:
    """Yield every way that ``packet`` may go, rule by rule."""
    hook = Hook.OUTPUT if host.is_local(packet.source) else Hook.PREROUTING
    for walk in _at(rules, hook, _Walk(packet, host, remembered)):
        for end in [walk] if walk.stopped else _at(rules, Hook.POSTROUTING, walk):
            yield Course(_outcome(end), end.chance, end.steps, end.passed)


def _outcome(walk: _Walk) -> Outcome:
    if walk.stopped:
        return walk.stopped
    return Arrives(walk.packet.destination, walk.packet.port, walk.translated, walk.masqueraded)


def _at(rules: Ruleset, hook: Hook, walk: _Walk) -> Iterator[_Walk]:
    (name,) = (name for name, chain in rules.chains.items() if chain.hook is hook)
    for _, after in _chain(rules, name, walk):
        yield after


def _chain(rules: Ruleset, name: str, walk: _Walk, start: int = 0) -> _Ends:
    chain = rules.chains[name].rules
    if start == len(chain):
        yield _End.RETURNED, walk
        return
    step = Step(n.TABLE, name, start + 1, chain[start])
    for end, after in _rule(rules, step, replace(walk, passed=walk.passed + 1)):
        if end is _End.GOES_ON:
            yield from _chain(rules, name, after, start + 1)
        else:
            yield end, after


def _rule(rules: Ruleset, step: Step, came: _Walk) -> _Ends:
    """Yield how a walk leaves a rule: by its last sentence, or before it at one that does not hold."""
    assert isinstance(step.rule, tuple)
    walk = replace(came, steps=(*came.steps, step))
    for sentence in step.rule:
        if isinstance(sentence, _LAST):
            for end, after in _decide(rules, sentence, walk):
                missed = end is _End.GOES_ON and not isinstance(sentence, Jump)
                yield end, replace(after, steps=came.steps) if missed else after
            return
        if isinstance(sentence, SetMark | ClearMark | Forget | Count):
            walk = _changed(sentence, walk)
        elif not _holds(rules, sentence, walk):
            yield _End.GOES_ON, replace(walk, steps=came.steps)
            return
    yield _End.GOES_ON, walk


_LAST = (Dispatch, Choose, Resume, Jump, Goto, Verdict, Reject, Masquerade)  # no sentence follows them


def _changed(sentence: SetMark | ClearMark | Forget | Count, walk: _Walk) -> _Walk:
    match sentence:
        case SetMark(bit):
            return replace(walk, mark=walk.mark | bit)
        case ClearMark(bit):
            return replace(walk, mark=walk.mark & ~bit)
        case Forget():
            return replace(walk, remembered=b"")
    return walk


def _decide(rules: Ruleset, sentence: Sentence, walk: _Walk) -> _Ends:
    match sentence:
        case Jump(chain):
            for end, after in _chain(rules, chain, walk):
                yield (_End.GOES_ON if end is _End.RETURNED else end), after
        case Goto(chain):
            yield from _chain(rules, chain, walk)
        case Verdict.RETURN:
            yield _End.RETURNED, walk
        case Dispatch():
            yield from _dispatch(rules, sentence, walk)
        case Choose():
            yield from _choose(rules, sentence, walk)
        case Resume():
            yield from _resume(rules, sentence, walk)
        case _:
            yield _End.DECIDED, _ended(sentence, walk)


def _ended(sentence: Sentence, walk: _Walk) -> _Walk:
    match sentence:
        case Verdict.DROP:
            return replace(walk, stopped=Stopped.DROPPED)
        case Reject():
            return replace(walk, stopped=Stopped.REJECTED)
        case Masquerade():
            return replace(walk, masqueraded=True)
    raise AssertionError(sentence)


def _dispatch(rules: Ruleset, sentence: Dispatch, walk: _Walk) -> _Ends:
    answer = rules.contents(sentence.name).get(_loaded(sentence.loads, walk.packet))
    chain = rules.contents(sentence.ways).get(answer[_address_bytes(rules) :]) if answer else None
    if chain is None:
        yield _End.GOES_ON, walk
    else:
        yield from _chain(rules, chain.decode(), walk)


def _choose(rules: Ruleset, choose: Choose, walk: _Walk) -> _Ends:
    service = _service(rules, choose.by, walk)
    seats = rules.contents(choose.seats)
    for number in range(choose.first, choose.first + choose.count):
        seat = seats.get(service + _NUMBER.pack(number)) if service else None
        after = replace(walk, chance=walk.chance / choose.count)
        if seat is None:
            yield _End.GOES_ON, after
        else:
            yield _End.DECIDED, _sent(rules, after, seat)


def _resume(rules: Ruleset, resume: Resume, walk: _Walk) -> _Ends:
    service = _service(rules, resume.by, walk)
    if service and walk.remembered and service + walk.remembered in rules.contents(resume.members):
        yield _End.DECIDED, _sent(rules, walk, walk.remembered)
    else:
        yield _End.GOES_ON, walk


def _address_bytes(rules: Ruleset) -> int:
    return width((n.address_field(rules.family),))


def _sent(rules: Ruleset, walk: _Walk, seat: bytes) -> _Walk:
    size = _address_bytes(rules)
    address, port = seat[-size - 4 : -4], int.from_bytes(seat[-4:-2], "big")
    return replace(
        walk, packet=replace(walk.packet, destination=ip_address(address), port=port), translated=True
    )


def _service(rules: Ruleset, by: By, walk: _Walk) -> bytes | None:
    """Return the service that endpoints are chosen of; None if the map does not know it."""
    match by:
        case Always(packed):
            return packed
        case ByMap(name, loads):
            answer = rules.contents(name).get(_loaded(loads, walk.packet))
            return answer[_address_bytes(rules) :] if answer else None
    return _loaded(n.AT_ADDRESS, walk.packet)


def _loaded(loads: Loads, packet: Packet) -> bytes:
    parts: list[bytes] = []
    for load in loads:
        match load:
            case Load.SOURCE:
                parts.append(packet.source.packed)
            case Load.DESTINATION:
                parts.append(packet.destination.packed)
            case Load.PROTOCOL:
                parts.append(n.PROTOCOL_BYTES[packet.protocol])
            case Load.PORT:
                parts.append(n.port_bytes(packet.port))
            case _:
                raise ValueError(f"the simulator knows nothing of {load.value}")
    return b"".join(parts)


def _holds(rules: Ruleset, sentence: Sentence, walk: _Walk) -> bool:
    packet, host = walk.packet, walk.host
    match sentence:
        case From(network, negated):
            return (packet.source in network) != negated
        case To(network, negated):
            return (packet.destination in network) != negated
        case FromThisNode():
            return host.is_local(packet.source)
        case ToThisNode():
            return host.is_local(packet.destination)
        case Marked(bit):
            return bool(walk.mark & bit)
        case Translated() | Invalid():
            # The first packet of a connection belongs to it.
            return walk.translated and isinstance(sentence, Translated)
        case InSet(loads, name, negated):
            return _is_in(rules, name, _loaded(loads, packet)) != negated
    raise ValueError(f"the simulator cannot tell: {sentence.text()}")


def _is_in(rules: Ruleset, name: str, key: bytes) -> bool:
    elements = rules.contents(name)
    if not rules.sets[name].intervals:
        return key in elements
    parts = rules.sets[name].key
    return any(_between(parts, each, key) for each in elements)


def _between(parts: Fields, interval: bytes, key: bytes) -> bool:
    """Return whether each part of ``key`` lies between those of the two ends."""
    at = 0
    for part in parts:
        size = part.bytes_held
        first, last = interval[at : at + size], interval[len(key) + at : len(key) + at + size]
        if not first <= key[at : at + size] <= last:
            return False
        at += size
    return True
