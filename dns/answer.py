"""Decides what a question gets: an answer of ours, or to be asked upstream. *Pure.*

A name that is not there is denied only when the zone is known to be complete; before that the answer is
SERVFAIL, so that no resolver remembers a denial that was never true.

Source: RFC 1034 section 4.3.2, RFC 2308 (denials), RFC 6604 (the code at the end of an alias chain),
RFC 8482 (ANY); Kubernetes DNS-Based Service Discovery 1.1.0.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from dns import names
from dns.names import WireName
from dns.records import RRset
from dns.service import ServiceKey
from dns.wire import CLASS_IN, Question, Rcode, RType
from dns.zone import Apex, Place, Zone

MOST_ALIASES = 10  # in one chain, as CoreDNS

# Of these the first that exists answers ANY (RFC 8482 section 4.1).
_PICKED_FOR_ANY = (RType.A, RType.AAAA, RType.PTR, RType.TXT, RType.SOA, RType.SRV)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply's content. ``service`` says whose records alone it depends on, if it does."""

    rcode: Rcode
    answers: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    additional: tuple[RRset, ...] = ()
    authoritative: bool = True
    service: ServiceKey | None = None
    set_flags: int = 0  # bits of the header that the reply has whatever else is said
    clear_flags: int = 0
    options: bytes = b""  # of EDNS, for clients that speak it
    plugin: str = field(default="", compare=False)  # that made it


@dataclass(frozen=True, slots=True)
class Forward:
    """Ask ``question`` upstream; ``aliases`` of ours come before what it gives.

    ``then`` are changes to the answer, the first one first; any may ask again. ``options`` go into OPT.
    """

    question: Question
    aliases: tuple[RRset, ...] = ()
    then: tuple[Callable[[Answer], "Answer | Forward | Dropped | Transfer"], ...] = field(
        default=(), compare=False
    )
    options: bytes = b""


class Dropped:
    """Say nothing at all."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Give a whole zone, over as many messages as it takes."""

    records: Iterator[RRset]


def refuse(rcode: Rcode) -> Answer:
    """Return an answer of a code and nothing else."""
    return Answer(rcode, authoritative=False)


def answer(question: Question, zone: Zone) -> Answer | Forward:
    """Return what ``question`` gets in this state of the zone."""
    return never_answered(question) or _follow(question, zone)


def never_answered(question: Question) -> Answer | None:
    """Return the refusal of what nobody answers here, whatever the name."""
    if question.qclass != CLASS_IN or question.qtype in (RType.AXFR, RType.IXFR):
        return refuse(Rcode.REFUSED)
    if question.qtype == RType.OPT:
        return refuse(Rcode.FORMERR)
    return None


def _follow(question: Question, zone: Zone) -> Answer | Forward:
    """Walk from alias to alias to the name that answers."""
    aliases: dict[WireName, RRset] = {}
    name = question.name.lower()
    while True:
        labels = names.to_labels(name)
        apex = zone.config.apex_of(labels)
        place = zone.find(name, labels, apex) if apex else None
        if apex is None or (place is None and apex.name in zone.config.fallthrough):
            return _upstream(question, name, tuple(aliases.values()))
        if place is None or place.alias is None or question.qtype == RType.SRV:
            return _arrive(replace(question, name=name), zone, apex, place, tuple(aliases.values()))
        cname = RRset(name, RType.CNAME, zone.config.naming.ttl_s, (place.alias,))
        aliases[name] = cname
        name = place.alias.lower()
        if question.qtype in (RType.CNAME, RType.ANY) or name in aliases or len(aliases) == MOST_ALIASES:
            return Answer(Rcode.NOERROR, tuple(aliases.values()))


def _upstream(question: Question, name: WireName, aliases: tuple[RRset, ...]) -> Forward:
    return Forward(replace(question, name=name), aliases) if aliases else Forward(question)


def _arrive(
    question: Question, zone: Zone, apex: Apex, place: Place | None, aliases: tuple[RRset, ...]
) -> Answer:
    """Answer at the end of the way, where there is no alias any more."""
    found = place and _pick(place, question)
    if place and found:
        service = place.service.key if place.service and not aliases else None
        return Answer(
            Rcode.NOERROR, (*aliases, found), additional=place.additional(found.rtype), service=service
        )
    if not zone.synced:
        return refuse(Rcode.SERVFAIL)
    service = place.service.key if place and place.service and not (aliases or place.alias) else None
    rcode = Rcode.NXDOMAIN if place is None else Rcode.NOERROR
    return Answer(rcode, aliases, authority=(zone.soa(apex.name),), service=service)


def _pick(place: Place, question: Question) -> RRset | None:
    if question.qtype != RType.ANY:
        return place.rrset(question.name, question.qtype)
    found = (place.rrset(question.name, rtype) for rtype in _PICKED_FOR_ANY)
    return next((rrset for rrset in found if rrset), None)
