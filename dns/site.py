"""What one port answers from: server blocks by zone, and in each the plugins in their order. *Pure.*

A name belongs to the block with the longest zone that it is in. In a block the plugins are asked in a fixed
order, whatever the order in the Corefile: acl, local, template, hosts, kubernetes, forward. The first that
has something to say decides.

Where nothing stands before ``kubernetes`` that could change its answers, its kept replies are looked up
first, and all of this costs nothing.

Source: plugin.cfg of CoreDNS (the order); CoreDNS manual (longest zone).
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TypeAlias

from dns import names
from dns.answer import Answer, Forward, answer, never_answered, refuse
from dns.hosts import HostTable
from dns.names import WireName, is_in
from dns.read import Naming
from dns.records import RRset, addresses
from dns.reply import Draw, write_reply
from dns.respond import Forwarding, Responder
from dns.settings import Acl, AclRule, Block, Template
from dns.wire import UDP_BYTES, Query, Question, Rcode, RType
from dns.zone import Zone, ZoneConfig

MOST_SIGHTINGS = 2  # of our own probe, until it is a loop

MOST_KINDS = 256  # of queries that are counted apart; a client can invent 65,536 types
OTHER_TYPE = b"\xff\xff"


class Dropped:
    """Say nothing at all."""


DROP = Dropped()
Decision: TypeAlias = Answer | Forward | Dropped
Step: TypeAlias = Callable[[Question, WireName, str], Decision | None]  # question, lower-cased name, client

# For blocks without kubernetes; nothing is ever looked up in it.
NO_ZONE = Zone(ZoneConfig(Naming(b"\x07invalid\0"), reverse=()))


class Part:
    """One server block at work."""

    def __init__(self, block: Block, zone: Zone | None, draw: Draw, hosts: Sequence[str] = ()) -> None:
        self.block = block
        self.has_zone = zone is not None
        self.responder = Responder(zone or NO_ZONE, draw, forwards=bool(block.forwards))
        self.plugin = ""  # that made the last answer
        self.probe: WireName = b""  # what the loop plugin asks for
        self.sightings = 0
        self._steps = tuple(_steps(block, hosts))

    @property
    def plain(self) -> bool:
        """Whether the kept replies of the zone are right for everybody."""
        block = self.block
        return self.has_zone and not self._steps and not block.minimal and block.bufsize == UDP_BYTES

    @property
    def looping(self) -> bool:
        """Whether what we ask upstream comes back to us."""
        return self.sightings > MOST_SIGHTINGS

    def respond(self, query: Query, *, stream: bool, client: str) -> bytes | Forwarding | None:
        """Return what a query gets here."""
        decision = self._decide(query.question, client)
        if isinstance(decision, Dropped):
            return None
        route = None
        if isinstance(decision, Forward):
            route = self._route(decision.question.name.lower())
            if route is not None and self.looping:
                decision = refuse(Rcode.SERVFAIL)
        elif self.block.minimal and decision.answers:
            decision = replace(decision, authority=(), additional=())
        if query.edns and query.edns.udp_bytes > self.block.bufsize:
            query = replace(query, edns=replace(query.edns, udp_bytes=self.block.bufsize))
        return self.responder.settle(query, decision, stream=stream, route=route)

    def _decide(self, question: Question, client: str) -> Decision:
        name = question.name.lower()
        if name == self.probe and question.qtype == RType.HINFO:
            self.sightings += 1
        for step in self._steps:
            decision = step(question, name, client)
            if decision is not None:
                self.plugin = step.__name__
                return decision
        self.plugin = "kubernetes" if self.has_zone else "forward"
        if self.has_zone:
            return answer(question, self.responder.zone)
        return never_answered(question) or Forward(question)

    def _route(self, name: WireName) -> int | None:
        """Return the number of the ``forward`` with the longest zone that takes ``name``."""
        takers = [(len(to.zone), -index) for index, to in enumerate(self.block.forwards) if to.takes(name)]
        return -max(takers)[1] if takers else None


@dataclass(slots=True)
class Counts:
    """How many queries of each kind: keys are the octets of type and of RA and reply code."""

    by_transport: Mapping[tuple[bool, bool], dict[bytes, int]] = field(
        default_factory=lambda: {(tcp, v6): {} for tcp in (False, True) for v6 in (False, True)}
    )
    dropped: int = 0


class Site:
    """All blocks of one port. ``use`` exchanges them between two queries."""

    def __init__(self, port: int, parts: Iterable[Part]) -> None:
        self.port = port
        self.counts = Counts()
        self.use(parts)

    def use(self, parts: Iterable[Part]) -> None:
        """Answer from ``parts`` from the next query on."""
        self.parts = tuple(parts)
        self._by_zone = {zone: part for part in self.parts for zone in part.block.zones}
        plain = [part for part in self.parts if part.plain]
        self._fast = plain[0].responder.fast if len(plain) == 1 and self._is_alone(plain[0]) else None
        self._reader = self.parts[0].responder

    def _is_alone(self, plain: Part) -> bool:
        """Return whether every name of the zone is the block's: no other block has a piece of it."""
        config = plain.responder.zone.config
        own = (config.naming.domain, *config.reverse)
        others = [zone for part in self.parts if part is not plain for zone in part.block.zones]
        holds = all(self._part_of(apex) is plain for apex in own)
        return holds and not any(is_in(zone, apex) for zone in others for apex in own)

    def respond(self, message: bytes, *, stream: bool, client: str) -> bytes | Forwarding | None:
        """Return the reply, what to ask upstream for it, or None for silence."""
        reply: bytes | Forwarding | None = None
        if self._fast is not None:
            reply = self._fast.reply(message, stream=stream)
        if reply is None:
            reply = self._slowly(message, stream, client)
        if type(reply) is bytes:
            self.count(reply, stream, client)
        return reply

    def count(self, reply: bytes, stream: bool, client: str) -> None:
        """Note what was answered."""
        counts = self.counts.by_transport[stream, ":" in client]
        end = reply.find(0, 12)
        # The second octet of the number of questions: an error may come without one.
        key = reply[end + 1 : end + 3] + reply[3:4] if reply[5] and end > 0 else b"\0\0" + reply[3:4]
        known = counts.get(key)
        if known is None and len(counts) >= MOST_KINDS:
            key = OTHER_TYPE + reply[3:4]
            known = counts.get(key)
        counts[key] = (known or 0) + 1

    def _slowly(self, message: bytes, stream: bool, client: str) -> bytes | Forwarding | None:
        query = self._reader.read(message)
        if not isinstance(query, Query):
            return query
        part = self._part_of(query.question.name.lower())
        if part is None:
            limit = query.udp_limit
            return write_reply(query, refuse(Rcode.REFUSED), limit, lambda _: 0)
        reply = part.respond(query, stream=stream, client=client)
        self.counts.dropped += reply is None
        if isinstance(reply, Forwarding):
            # A number for all forwards of all blocks of the port.
            before = self.parts[: self.parts.index(part)]
            offset = sum(len(each.block.forwards) for each in before)
            return replace(reply, route=reply.route + offset)
        return reply

    def _part_of(self, name: WireName) -> Part | None:
        at = 0
        while True:
            part = self._by_zone.get(name[at:])
            if part is not None or not name[at]:
                return part
            at += 1 + name[at]

    def part_of_route(self, route: int) -> tuple[Part, int]:
        """Return the block that a ``Forwarding.route`` belongs to, and the number of its forward there."""
        for part in self.parts:
            if route < len(part.block.forwards):
                return part, route
            route -= len(part.block.forwards)
        raise AssertionError("no such route")  # they come from the same parts


def _steps(block: Block, hosts: Sequence[str]) -> Iterable[Step]:
    for rules in block.acls:
        yield _acl_step(rules)
    if block.local:
        yield _local_step()
    for template in block.templates:
        yield _template_step(template)
    if block.hosts:
        table = HostTable(block.hosts, hosts)

        def hosts_step(question: Question, _name: WireName, _client: str) -> Decision | None:
            return table.answer(question)

        hosts_step.__name__ = "hosts"
        yield hosts_step


def _acl_step(config: Acl) -> Step:
    outcomes: dict[str, Decision | None] = {
        "allow": None,
        "block": refuse(Rcode.REFUSED),
        "filter": Answer(Rcode.NOERROR),
        "drop": DROP,
    }

    def acl(question: Question, name: WireName, client: str) -> Decision | None:
        if not any(is_in(name, zone) for zone in config.zones):
            return None
        rule = next((rule for rule in config.rules if _rule_meets(rule, question, client)), None)
        return outcomes[rule.action] if rule else None

    return acl


def _rule_meets(rule: AclRule, question: Question, client: str) -> bool:
    if rule.rtypes and question.qtype not in rule.rtypes:
        return False
    if not rule.networks:
        return True
    address = ip_address(client.partition("%")[0])
    return any(address in network for network in rule.networks)


def _local_step() -> Step:
    own = {RType.A: bytes((127, 0, 0, 1)), RType.AAAA: bytes(15) + b"\x01"}
    pointers = {names.reverse_name(packed) for packed in own.values()}

    def local(question: Question, name: WireName, _client: str) -> Decision | None:
        if name == b"\x09localhost\0":
            packed = own.get(RType(question.qtype)) if question.qtype in own else None
            return Answer(
                Rcode.NOERROR, (addresses(name, question.qtype, 86400, (packed,)),) if packed else ()
            )
        if name in pointers and question.qtype == RType.PTR:
            return Answer(Rcode.NOERROR, (RRset(name, RType.PTR, 86400, (b"\x09localhost\0",)),))
        return None

    return local


def _template_step(config: Template) -> Step:
    patterns = [re.compile(pattern) for pattern in config.matches]

    def template(question: Question, name: WireName, _client: str) -> Decision | None:
        if config.rtype not in (RType.ANY, question.qtype):
            return None
        if not any(is_in(name, zone) for zone in config.zones):
            return None
        if patterns and not any(pattern.search(names.to_text(name)) for pattern in patterns):
            return None  # the next template, or plugin, may have an answer
        return Answer(Rcode(config.rcode))

    return template
