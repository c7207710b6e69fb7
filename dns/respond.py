"""One message in, one message out: what every transport calls. *Pure* but for the fast path's table.

The order is the order of cost: the kept replies, the strict parser, the decision, the writer. What has to be
asked upstream comes back as ``Forwarding``, and goes through ``complete`` when the servers have answered.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from dns.answer import Answer, Dropped, Forward, Transfer, answer, refuse
from dns.asks import Ask, ask_of
from dns.fastpath import FastPath
from dns.records import RRset
from dns.relay import UpstreamReply, all_records, read_records, relay
from dns.reply import Draw, write_reject, write_reply
from dns.service import ServiceKey
from dns.tally import way_of
from dns.wire import AD, RA, TCP_BYTES, Query, Rcode, Reject, RType, option, read_query
from dns.zone import Zone
from kubenet.errors import Malformed

Quick: TypeAlias = Callable[[bytes, int], bytes | None]  # message and way (dns.tally)

NSID = 3  # RFC 5001
_KEEPALIVE = 11  # RFC 7828: how long a connection may be idle, in tenths of a second


@dataclass(
    slots=True
)  # not frozen: each layer adds what it knows, and a copy a layer would cost as much as asking
class Forwarding:
    """A query that waits for ``ask``."""

    query: Query
    aliases: tuple[RRset, ...]
    ask: Ask
    stream: bool
    route: int = 0  # which of several forwarders
    then: tuple[Callable[[Answer], Answer | Forward | Dropped | Transfer], ...] = field(
        default=(), compare=False
    )
    done: Callable[[bytes], None] | None = field(default=None, compare=False)  # hears of the final reply
    way: int = 0  # how the query came (dns.tally)


@dataclass(frozen=True, slots=True)
class Messages:
    """A reply of several messages, for a stream."""

    messages: Iterator[bytes]


Response: TypeAlias = bytes | Forwarding | Messages


@dataclass(slots=True)
class Counters:
    """What came and what became of it."""

    slow: int = 0  # not answered by the fast path
    silent: int = 0  # no query at all
    rejected: int = 0  # malformed, or a thing we do not do
    forwarded: int = 0


class Responder:
    """Answers from one zone at a time.

    ``forwards`` says whether there are upstream servers. If not, names outside our zones are REFUSED, as
    CoreDNS does for a name that no server block of its Corefile holds; an alias that points outside is given
    alone.
    """

    def __init__(self, zone: Zone, draw: Draw, *, forwards: bool, idle_s: float = 10.0) -> None:
        self.zone = zone
        self.counters = Counters()
        self._draw = draw
        self._forwards = forwards
        self._ra = RA if forwards else 0
        self._keepalive = struct.pack("!HHH", _KEEPALIVE, 2, int(idle_s * 10))
        self.nsid = b""  # the option that names this server, for those who ask for it
        self.fast = FastPath(zone, ra=self._ra, draw=draw)

    def move(self, zone: Zone, changed: Iterable[ServiceKey]) -> None:
        """Answer from ``zone`` from the next query on; ``changed`` are the Services that differ."""
        self.zone = zone
        self.fast.move(zone, changed)

    def respond(
        self,
        message: bytes,
        *,
        stream: bool,
        client: str = "",
        port: int = 0,
    ) -> bytes | Forwarding | None:
        """Return the reply, what to ask upstream for it, or None for silence. ``stream`` is TCP."""
        fast = self.fast.reply(message, way_of(client, stream=stream))
        return fast or self.respond_slowly(message, stream=stream, client=client, port=port)

    @property
    def quick(self) -> Quick:
        """What may be asked first: it answers what is ordinary, and counts it."""
        return self.fast.reply

    def pass_on(self, message: bytes, way: int, send: Callable[[bytes], None]) -> bool:  # noqa: ARG002
        """Return that nothing is passed on here without a look at it."""
        return False

    def respond_slowly(
        self,
        message: bytes,
        *,
        stream: bool,
        client: str = "",  # noqa: ARG002 - everybody gets the same
        port: int = 0,  # noqa: ARG002
    ) -> bytes | Forwarding | None:
        """Return the same without the kept replies, and keep what can be kept."""
        query = self.read(message)
        if not isinstance(query, Query):
            return query
        decision = answer(query.question, self.zone)
        return self.settle(query, decision, stream=stream, route=0 if self._forwards else None)

    def read(self, message: bytes) -> Query | bytes | None:
        """Return the query, or at once the reply it deserves; None is silence."""
        self.counters.slow += 1
        query = read_query(message)
        if query is None:
            self.counters.silent += 1
        elif isinstance(query, Reject):
            self.counters.rejected += 1
            return write_reject(query)
        return query

    def settle(
        self,
        query: Query,
        decision: Answer | Forward,
        *,
        stream: bool,
        route: int | None,
        keep: bool = True,
    ) -> bytes | Forwarding:
        """Return the reply to a decision; ``route`` None: there is nobody to forward to.

        ``keep`` False: it is not what the zone alone says to this question.
        """
        if isinstance(decision, Forward):
            if route is not None:
                self.counters.forwarded += 1
                ask = ask_of(query, decision.question, decision.options)
                return Forwarding(query, decision.aliases, ask, stream, route, decision.then)
            decision = without_upstream(decision)
        if keep:
            self.fast.keep(query.question, decision)
        return self.write(query, decision, stream)

    def write(self, query: Query, content: Answer, stream: bool) -> bytes:
        """Return the reply to ``query`` that says ``content``."""
        options = self._options(query, stream) + content.options
        limit = TCP_BYTES if stream else query.udp_limit
        return write_reply(query, content, limit, self._draw, ra=self._ra, options=options)

    def _options(self, query: Query, stream: bool) -> bytes:
        """Keepalive is for streams only (RFC 7828 section 3.2.1); no option of a client is ever echoed."""
        if query.edns is None:
            return b""
        keepalive = self._keepalive if stream and query.edns.keepalive else b""
        named = self.nsid if option(query.edns.options, NSID) is not None else b""
        return keepalive + named

    def complete(self, waiting: Forwarding, reply: UpstreamReply | None) -> bytes:
        """Return the reply to a query that was asked upstream; ``reply`` None: no server answered."""
        query, stream = waiting.query, waiting.stream
        if reply and not waiting.aliases:
            limit = TCP_BYTES if stream else query.udp_limit
            return relay(query, reply, limit, options=self._options(query, stream))
        return self.write(query, after_aliases(waiting.aliases, reply), stream)

    def refuse(self, waiting: Forwarding) -> bytes:
        """Return the reply to a query that cannot be asked upstream now, because too many are."""
        return self.write(waiting.query, refuse(Rcode.REFUSED), waiting.stream)


def without_upstream(decision: Forward) -> Answer:
    """Return what a question for upstream servers gets where there are none."""
    return Answer(Rcode.NOERROR, decision.aliases) if decision.aliases else refuse(Rcode.REFUSED)


def content_of(reply: UpstreamReply | None) -> Answer:
    """Return what upstream says, all of it, as an answer that can be changed."""
    if reply is None:
        return refuse(Rcode.SERVFAIL)
    try:
        answers, authority, additional = all_records(reply)
    except Malformed:
        return refuse(Rcode.SERVFAIL)
    rcode = Rcode(reply.rcode) if reply.rcode in Rcode._value2member_map_ else Rcode.SERVFAIL
    return Answer(
        rcode,
        answers,
        authority,
        additional,
        authoritative=False,
        set_flags=reply.flags & AD,
        plugin="forward",
    )


def after_aliases(aliases: tuple[RRset, ...], reply: UpstreamReply | None) -> Answer:
    """Return our aliases and what upstream says of their target.

    A target that is refused leaves the alias alone, which is what CoreDNS does; a target that nobody answers
    for makes the whole SERVFAIL, so that the client asks again.
    """
    failure = replace(refuse(Rcode.SERVFAIL), answers=aliases)
    if reply is None or reply.rcode == Rcode.SERVFAIL:
        return failure
    if reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
        return Answer(Rcode.NOERROR, aliases)
    try:
        found = read_records(reply, 0)
        soa = tuple(rrset for rrset in read_records(reply, 1) if rrset.rtype == RType.SOA)
    except Malformed:
        return failure
    return Answer(Rcode(reply.rcode), (*aliases, *found), authority=() if found else soa)
