"""Writes replies: whole records only, names compressed, never more octets than the client can take. *Pure.*

The owner of an answer is a pointer to the question at offset 12. So what follows the question does not depend
on how the client spells the name, and ``dns.fastpath`` can keep it. Other names point to an ending of the
question, or to a name written before; a reply should not be much bigger than its query (who asks may be
forged). The names in SOA point to its owner and nowhere else, so that denials of names of one length are the
same.

Source: RFC 1035 section 4.1.4, RFC 2181 section 9 (TC), RFC 6891 section 7, RFC 2782 (targets uncompressed).
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dns import names
from dns.answer import Answer
from dns.names import WireName
from dns.records import RRset
from dns.wire import (
    AA,
    CD,
    CLASS_CH,
    CLASS_IN,
    DO,
    HEADER,
    HEADER_BYTES,
    QR,
    RD,
    TC,
    UDP_BYTES,
    Edns,
    Query,
    Question,
    Reject,
    RType,
)

Draw = Callable[[int], int]  # draw(n) is one of 0 .. n-1

_OWNER_TYPE_TTL = struct.Struct("!HHI")
_MOST_POINTED_TO = 0x3FFF
_TRANSFER_BYTES = 20_000  # no record is bigger in practice, and most names can be pointed to
_TARGET_AT: dict[int, int] = {RType.CNAME: 0, RType.NS: 0, RType.PTR: 0, RType.SRV: 6}  # a name begins there


def write_reply(
    query: Query, answer: Answer, limit: int, draw: Draw, *, ra: int = 0, options: bytes = b""
) -> bytes:
    """Return the reply to ``query``, of at most ``limit`` bytes.

    What does not fit is left out record by record, and TC says so, except for additional records, which
    nobody misses. The OPT record always fits. ``draw`` picks which address comes first, ``ra`` is RA or 0,
    ``options`` go into OPT.
    """
    opt = opt_record(query.edns, answer.rcode, options)
    writer = _Writer(query.question, limit - len(opt))
    fits = writer.section([_rotated(rrset, draw) for rrset in answer.answers])
    fits = writer.section(answer.authority, skip=not fits) and fits
    writer.section(answer.additional, skip=not fits)
    flags = QR | query.flags & (RD | CD) | ra | (AA if answer.authoritative else 0) | answer.rcode & 0xF
    flags = (flags | answer.set_flags) & ~answer.clear_flags
    counts = writer.counts
    counts[2] += bool(opt)
    header = HEADER.pack(query.id, flags if fits else flags | TC, 1, *counts)
    return b"".join((header, *writer.parts, opt))


def write_transfer(query: Query, records: Iterable[RRset]) -> Iterator[bytes]:
    """Give the messages that carry a whole zone over a stream, each as full as compression stays of use.

    Source: RFC 5936 section 2.2.
    """
    writer = _Writer(query.question, _TRANSFER_BYTES)
    for rrset in records:
        for content in rrset.contents:
            one = RRset(rrset.owner, rrset.rtype, rrset.ttl_s, (content,))
            if not writer.more(one):
                yield _transfer_message(query, writer)
                writer = _Writer(query.question, _TRANSFER_BYTES)
                writer.more(one)
    yield _transfer_message(query, writer)


def _transfer_message(query: Query, writer: "_Writer") -> bytes:
    header = HEADER.pack(query.id, QR | AA | query.flags & RD, 1, *writer.counts)
    return b"".join((header, *writer.parts))


def write_reject(reject: Reject) -> bytes:
    """Return the reply that only tells an error."""
    flags = QR | reject.flags | reject.rcode & 0xF
    opt = opt_record(reject.edns, reject.rcode)
    header = HEADER.pack(reject.id, flags, bool(reject.question), 0, 0, bool(opt))
    return header + reject.question + opt


def opt_record(edns: Edns | None, rcode: int = 0, options: bytes = b"") -> bytes:
    """Return our OPT record, if the client sent one: version 0, our own size, its DO bit."""
    if edns is None:
        return b""
    flags = rcode >> 4 << 24 | (DO if edns.dnssec_ok else 0)
    return b"\0" + struct.pack("!HHIH", RType.OPT, UDP_BYTES, flags, len(options)) + options


def _rotated(rrset: RRset, draw: Draw) -> RRset:
    """Return a set of addresses with another one in front, so that clients that take the first spread out."""
    if len(rrset.contents) < 2 or rrset.rtype not in (RType.A, RType.AAAA, RType.MX):
        return rrset
    first = draw(len(rrset.contents))
    contents = rrset.contents[first:] + rrset.contents[:first]
    return RRset(rrset.owner, rrset.rtype, rrset.ttl_s, contents)


class _Writer:
    """The part of a message after its header, as it grows."""

    def __init__(self, question: Question, limit: int) -> None:
        self.parts = [question.wire]
        self.counts = [0, 0, 0]
        self._sections = iter(range(3))
        self._size = HEADER_BYTES + len(question.wire)
        self._limit = limit
        self._class = question.qclass if question.qclass == CLASS_CH else CLASS_IN
        self._known = {ending: HEADER_BYTES + at for at, ending in names.suffixes(question.name.lower())}

    def section(self, rrsets: Sequence[RRset], *, skip: bool = False) -> bool:
        """Write the next section; return whether all of it fitted. ``skip`` leaves it empty."""
        index = next(self._sections)
        if skip:
            return False
        for rrset in rrsets:
            for content in rrset.contents:
                if not self._record(rrset, content):
                    return False
                self.counts[index] += 1
        return True

    def more(self, rrset: RRset) -> bool:
        """Write one more record of the first section; return whether it fitted."""
        fitted = self._record(rrset, rrset.contents[0])
        self.counts[0] += fitted
        return fitted

    def _record(self, rrset: RRset, content: bytes) -> bool:
        owner = self._name(rrset.owner)
        head = owner + _OWNER_TYPE_TTL.pack(rrset.rtype, self._class, rrset.ttl_s)
        shortened = self._shortened(rrset, content)
        record = head + len(shortened).to_bytes(2, "big") + shortened
        if self._size + len(record) > self._limit:
            return False
        self._learn(rrset.owner, self._size)
        if (target_at := _TARGET_AT.get(rrset.rtype)) is not None:
            self._learn(content[target_at:].lower(), self._size + len(head) + 2 + target_at)
        self.parts.append(record)
        self._size += len(record)
        return True

    def _shortened(self, rrset: RRset, content: bytes) -> bytes:
        """Return ``content`` with its names compressed, if they may be."""
        match rrset.rtype:
            case RType.CNAME | RType.NS | RType.PTR:
                return _pointing(content, self._known)
            case RType.SOA if rrset.owner in self._known:
                primary_end = names.end_of(content, 0)
                mailbox_end = names.end_of(content, primary_end)
                known = {rrset.owner: self._known[rrset.owner]}
                primary, mailbox = content[:primary_end], content[primary_end:mailbox_end]
                return _pointing(primary, known) + _pointing(mailbox, known) + content[mailbox_end:]
            case _:
                return content

    def _name(self, name: WireName) -> bytes:
        at = self._known.get(name)
        return name if at is None else _pointer(at)

    def _learn(self, name: WireName, at: int) -> None:
        if at <= _MOST_POINTED_TO and name not in self._known:
            self._known[name] = at


def _pointer(at: int) -> bytes:
    return (0xC000 | at).to_bytes(2, "big")


def _pointing(name: WireName, known: Mapping[WireName, int]) -> bytes:
    """Return ``name`` with the longest ending that is ``known`` replaced by a pointer."""
    for start, ending in names.suffixes(name.lower()):
        if (at := known.get(ending)) is not None:
            return name[:start] + _pointer(at)
    return name
