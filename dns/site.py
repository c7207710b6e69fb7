"""What one port answers from: server blocks by zone. *Pure.*

A name belongs to the block with the longest zone that it is in, of several with the same zone to the first
whose views let the query in. Where all of the cluster's names belong to one block whose kept replies are
right for everybody, these are looked up first, and the rest of this costs nothing.

Source: CoreDNS manual (longest zone).
"""

from collections.abc import Callable, Iterable, Iterator

from dns import names
from dns.answer import refuse
from dns.chain import Origin
from dns.names import WireName, is_in
from dns.part import Part
from dns.passing import Passing
from dns.reply import write_reply
from dns.respond import Forwarding, Quick, Response
from dns.tally import Meter, Tallies, way_of
from dns.wire import Query, Rcode

STRAY = "dropped"  # CoreDNS's zone of queries that belong to no block


def count(reply: bytes, tallies: Tallies, plugin: str, way: int) -> None:
    """Note what was answered."""
    # The second octet of the number of questions: an error may come without one.
    end = reply.find(0, 12) if reply[5] else -1
    rtype = int.from_bytes(reply[end + 1 : end + 3], "big") if end > 0 else 0
    tallies.of(rtype, reply[3] & 0xF, plugin)[way] += 1


class Site:
    """All blocks of one port. ``use`` exchanges them between two queries."""

    def __init__(self, port: int, parts: Iterable[Part]) -> None:
        self.port = port
        # They go on over a change of parts.
        self.tallies: dict[str, Tallies] = {STRAY: Tallies()}  # by zone
        self.meter = Meter()
        self.use(parts)

    def use(self, parts: Iterable[Part]) -> None:
        """Answer from ``parts`` from the next query on."""
        self.parts = tuple(parts)
        self._by_zone: dict[WireName, list[Part]] = {}
        for part in self.parts:
            for zone in part.block.zones:
                self._by_zone.setdefault(zone, []).append(part)
        self._passing = Passing(self.parts, self.meter)
        self.reconsider()
        self._reader = self.parts[0].responder
        for part in self.parts:
            part.reconsidered = self.reconsider
            part.tallies = self.tallies.setdefault(names.to_text(part.block.zones[0]), Tallies())
            part.responder.fast.tallies = part.tallies

    def reconsider(self) -> None:
        """See again whether kept replies may be given before all plugins: what these are told has changed."""
        plain = [part for part in self.parts if part.plain]
        self._fast = plain[0].responder.fast if len(plain) == 1 and self._is_alone(plain[0]) else None

    @property
    def quick(self) -> Quick | None:
        """What may be asked first: it answers what is ordinary, and counts it."""
        return None if self._fast is None else self._fast.reply

    def _is_alone(self, plain: Part) -> bool:
        """Return whether every name of the zone is the block's: no other block has a piece of it."""
        config = plain.responder.zone.config
        own = (config.naming.domain, *config.reverse)
        others = [zone for part in self.parts if part is not plain for zone in part.block.zones]
        if any(part.block.views for part in self.parts):
            return False
        holds = all(plain in next(self._holders(apex), ()) for apex in own)
        return holds and not any(is_in(zone, apex) for zone in others for apex in own)

    def respond(self, message: bytes, *, stream: bool, client: str, port: int = 0) -> Response | None:
        """Return the reply, what to ask upstream for it, or None for silence."""
        if self._fast is not None and (reply := self._fast.reply(message, way_of(client, stream=stream))):
            return reply
        return self.respond_slowly(message, stream=stream, client=client, port=port)

    def pass_on(self, message: bytes, way: int, send: Callable[[bytes], None]) -> bool:
        """Return whether it is a plain question for upstream servers, whose answer ``send`` gets."""
        return self._passing.take(message, way, send)

    def respond_slowly(self, message: bytes, *, stream: bool, client: str, port: int = 0) -> Response | None:
        """Return the same without the kept replies."""
        query = self._reader.read(message)
        way = way_of(client, stream=stream)
        if not isinstance(query, Query):
            return self._counted(query, None, way)
        origin = Origin(client, port, stream, len(message))
        part = self.part_for(query, origin)
        if part is None:
            limit = query.udp_limit
            return self._counted(write_reply(query, refuse(Rcode.REFUSED), limit, lambda _: 0), None, way)
        dnssec_ok = part.tallies.dnssec_ok + bool(query.edns and query.edns.dnssec_ok)
        reply = part.respond(query, origin, b"" if part.responder.fast is self._fast else message)
        part.tallies.dnssec_ok = dnssec_ok  # once, whoever looked at it
        if part.kept:
            return reply
        if isinstance(reply, Forwarding):
            # A number for all forwards of all blocks of the port.
            before = self.parts[: self.parts.index(part)]
            offset = sum(len(each.block.forwards) for each in before)
            reply.route, reply.way = reply.route + offset, way
            return reply
        return self._counted(reply, part, way)

    def _counted(self, reply: Response | None, part: Part | None, way: int) -> Response | None:
        tallies = part.tallies if part else self.tallies[STRAY]
        if reply is None:
            tallies.dropped += 1
        elif isinstance(reply, bytes):
            count(reply, tallies, part.plugin if part else "", way)
        return reply

    def part_for(self, query: Query, origin: Origin) -> Part | None:
        """Return the block that a query is for, None if it is for none."""
        for parts in self._holders(query.question.name.lower()):
            for part in parts:
                if part.is_for(query, origin):
                    return part
        return None

    def _holders(self, name: WireName) -> Iterator[list[Part]]:
        """Give the blocks of each zone that a name is in, those of the longest one first."""
        at = 0
        while True:
            if (parts := self._by_zone.get(name[at:])) is not None:
                yield parts
            if not name[at]:
                return
            at += 1 + name[at]

    def part_of_route(self, route: int) -> tuple[Part, int]:
        """Return the block that a ``Forwarding.route`` belongs to, and the number of its forward there."""
        for part in self.parts:
            if route < len(part.block.forwards):
                return part, route
            route -= len(part.block.forwards)
        raise AssertionError("no such route")  # they come from the same parts
