"""Reads what an upstream server answered, and makes of it the reply to our client. *Pure.*

A reply is passed on as it came, cut at a record where it must be: the question is as long as ours, so every
pointer still points where it did. Only its header, its OPT record and the case of its question are ours. It
is walked from end to end before, so that nothing goes to a client that is no message.

Source: RFC 1035 section 4, RFC 3597 section 4 (types whose contents may be compressed), RFC 6891, RFC 6840
section 5.8 (AD).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dns.records import NAMES_IN, RRset
from dns.reply import opt_record
from dns.wire import (
    AD,
    CD,
    CLASS_IN,
    HEADER,
    HEADER_BYTES,
    QR,
    RA,
    RD,
    TC,
    NameReader,
    Query,
    Question,
    RType,
    read_question,
    read_record_head,
)
from kubenet.errors import Malformed


class Span(NamedTuple):  # made for every record of every reply
    """Where one record lies in a message."""

    section: int  # 0 answer, 1 authority, 2 additional
    start: int
    rdata_at: int
    end: int
    rtype: int
    rclass: int
    ttl_s: int


_span = Span._make


@dataclass(slots=True)  # not frozen, which would make one take twice as long
class UpstreamReply:
    """A message that answers our question, known to be whole."""

    message: bytes
    id: int
    flags: int
    rcode: int  # with the upper bits that OPT carries
    question: Question
    records: tuple[Span, ...]  # without OPT, and without what follows it

    @property
    def truncated(self) -> bool:
        """Whether the server had more to say."""
        return bool(self.flags & TC)

    @property
    def empty(self) -> bool:
        """Whether it holds no answer."""
        return not self.records or self.records[0].section != 0


def read_reply(message: bytes) -> UpstreamReply:
    """Return what ``message`` says. Raises Malformed, also for a query and for another count of questions."""
    if len(message) < HEADER_BYTES:
        raise Malformed(f"reply: {len(message)} octets")
    ident, flags, questions, *counts = HEADER.unpack_from(message)
    if not flags & QR or questions != 1:
        raise Malformed(f"reply: flags {flags:#06x}, {questions} questions")
    question, at = read_question(message)
    return _read_rest(message, ident, flags, question, at, counts)


def read_reply_to(message: bytes, question: Question, end: int) -> UpstreamReply:
    """Return the same of a message whose header and ``question``, up to ``end``, are known to be right.

    Raises Malformed.
    """
    ident, flags, _, *counts = HEADER.unpack_from(message)
    return _read_rest(message, ident, flags, question, end, counts)


def _read_rest(
    message: bytes, ident: int, flags: int, question: Question, at: int, counts: Sequence[int]
) -> UpstreamReply:
    spans: list[Span] = []
    rcode, opt_seen = flags & 0xF, False
    for section, count in enumerate(counts):
        for _ in range(count):
            rtype, rclass, ttl_s, rdata_at, end = read_record_head(message, at)
            if rtype == RType.OPT and section == 2:
                rcode |= ttl_s >> 24 << 4
                opt_seen = True
            if not opt_seen:
                spans.append(_span((section, at, rdata_at, end, rtype, rclass, ttl_s)))
            at = end
    return UpstreamReply(message, ident, flags, rcode, question, tuple(spans))


def relay(query: Query, reply: UpstreamReply, limit: int, *, options: bytes = b"") -> bytes:
    """Return ``reply`` as the answer to ``query``, of at most ``limit`` bytes.

    The authority of the upstream server's data is not ours, so AA is clear; AD is passed on to those who
    asked for it.
    """
    opt = opt_record(query.edns, options=options)
    start = HEADER_BYTES + len(query.question.wire)
    room = limit - len(opt)
    kept = [span for span in reply.records if span.end <= room]
    cut = any(span.section < 2 for span in reply.records[len(kept) :])
    counts = [sum(span.section == section for span in kept) for section in range(3)]
    flags = QR | RA | query.flags & (RD | CD) | reply.flags & TC | reply.rcode & 0xF | (TC if cut else 0)
    if query.flags & AD or (query.edns and query.edns.dnssec_ok):
        flags |= reply.flags & AD
    counts[2] += bool(opt)
    header = HEADER.pack(query.id, flags, 1, *counts)
    body = reply.message[start : kept[-1].end if kept else start]
    return header + query.question.wire + body + opt


def read_records(reply: UpstreamReply, section: int) -> tuple[RRset, ...]:
    """Return the records of one section, in order, without compression. Raises Malformed."""
    return _section(NameReader(reply.message), reply, section)


def _section(reader: NameReader, reply: UpstreamReply, section: int) -> tuple[RRset, ...]:
    return tuple(
        RRset(
            reader.read(span.start)[0].lower(),
            span.rtype,
            span.ttl_s,
            (_content(reader, reply.message, span),),
        )
        for span in reply.records
        if span.section == section and span.rclass == CLASS_IN
    )


def _content(reader: NameReader, message: bytes, span: Span) -> bytes:
    if span.rtype not in NAMES_IN:
        return message[span.rdata_at : span.end]
    fixed, count = NAMES_IN[span.rtype]
    at = span.rdata_at + fixed
    parts = [message[span.rdata_at : at]]
    for _ in range(count):
        name, at = reader.read(at)
        parts.append(name)
    if at > span.end:
        raise Malformed(f"record at {span.start}: a name runs over the end")
    return b"".join((*parts, message[at : span.end]))


def all_records(reply: UpstreamReply) -> tuple[tuple[RRset, ...], ...]:
    """Return the three sections, all within the bound of one message (see NameReader). Raises Malformed."""
    reader = NameReader(reply.message)
    return tuple(_section(reader, reply, section) for section in range(3))
