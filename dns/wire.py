"""Reads queries strictly, and says what is wrong with those it cannot take. *Pure.*

Everything here is iterative and bounded by the message: a name is at most 255 octets and 127 labels, a
pointer must point before the place where its name began, and a query has at most four records. So the worst
64 KiB message costs some microseconds. Nothing that a client sends reaches any other parser.

Source: RFC 1035 section 4, RFC 6891 (EDNS), RFC 7873 section 5.2 (cookies), RFC 7828 (keepalive), RFC 9619
(one question).
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

from dns.names import MAX_LABEL, MAX_NAME, WireName
from kubenet.errors import Malformed

HEADER = struct.Struct("!6H")  # id, flags, question, answer, authority, additional counts
HEADER_BYTES = HEADER.size
RECORD_FIXED = struct.Struct("!HHIH")  # type, class, TTL, length of what follows

# Bits of the header's second 16.
QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE_MASK = 0x7800
DO = 0x8000  # of the EDNS flags (RFC 3225)

CLASS_IN = 1
CLASS_CH = 3

# What every path carries without fragments (DNS flag day 2020); it is also what we answer at most over UDP,
# whatever a client offers.
UDP_BYTES = 1232
UDP_BYTES_WITHOUT_EDNS = 512
TCP_BYTES = 65535

_POINTER = 0xC0
_TO_QUESTION = b"\xc0\x0c"
_COOKIE, _KEEPALIVE, _EXTENDED_ERROR = 10, 11, 15


class Opcode(IntEnum):
    QUERY = 0
    NOTIFY = 4


class Rcode(IntEnum):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    YXRRSET = 7
    NXRRSET = 8
    NOTAUTH = 9
    NOTZONE = 10
    BADVERS = 16


class RType(IntEnum):
    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    HINFO = 13
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    NAPTR = 35
    DNAME = 39
    OPT = 41
    DS = 43
    SSHFP = 44
    RRSIG = 46
    NSEC = 47
    DNSKEY = 48
    TLSA = 52
    SVCB = 64
    HTTPS = 65
    IXFR = 251
    AXFR = 252
    ANY = 255
    CAA = 257


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. ``name`` keeps the client's case, to be echoed."""

    name: WireName
    qtype: int
    qclass: int = CLASS_IN

    @property
    def wire(self) -> bytes:
        """The question section."""
        return self.name + self.qtype.to_bytes(2, "big") + self.qclass.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class Edns:
    """What a client's OPT record says that we heed."""

    udp_bytes: int = UDP_BYTES
    dnssec_ok: bool = False
    keepalive: bool = False
    options: bytes = b""  # all of them, as they came; sound


@dataclass(frozen=True, slots=True)
class Query:
    """A query without fault."""

    id: int
    flags: int  # RD, AD and CD as they came; all others 0
    question: Question
    edns: Edns | None = None
    serial: int | None = None  # of the zone as the client has it, for IXFR

    @property
    def udp_limit(self) -> int:
        """The size in bytes that a reply over UDP may have."""
        return udp_limit(self.edns.udp_bytes) if self.edns else UDP_BYTES_WITHOUT_EDNS


@dataclass(frozen=True, slots=True)
class Reject:
    """A query that gets an error and no more; ``question`` is what of it may be echoed."""

    id: int
    flags: int  # opcode and RD as they came
    rcode: Rcode
    question: bytes = b""
    edns: Edns | None = None


def udp_limit(offered_bytes: int) -> int:
    """Return how big a reply may be for a client that offers to take ``offered_bytes``."""
    return min(max(offered_bytes, UDP_BYTES_WITHOUT_EDNS), UDP_BYTES)


def read_query(message: bytes) -> Query | Reject | None:
    """Return the query, the error it deserves, or None where silence is the only safe answer.

    None is for what is no query at all: an answer (two servers would talk for ever) or less than a header.
    """
    if len(message) < HEADER_BYTES or message[2] & 0x80:
        return None
    ident, flags, *counts = HEADER.unpack_from(message)
    kept = flags & (OPCODE_MASK | RD)
    if (opcode := (flags & OPCODE_MASK) >> 11) != Opcode.QUERY:
        rcode = Rcode.REFUSED if opcode == Opcode.NOTIFY else Rcode.NOTIMP
        return Reject(ident, kept, rcode, _question_bytes(message, counts[0]))
    questions, answers, authorities, additionals = counts
    # One authority record is IXFR's; two additional ones are OPT and a signature.
    if questions != 1 or answers or authorities > 1 or additionals > 2:
        return Reject(ident, kept, Rcode.FORMERR)
    try:
        question, end = read_question(message)
    except Malformed:
        return Reject(ident, kept, Rcode.FORMERR)
    try:
        edns, version, serial = _read_rest(message, end, authorities, additionals)
    except Malformed:
        return Reject(ident, kept, Rcode.FORMERR, question.wire)
    if version:
        return Reject(ident, kept, Rcode.BADVERS, question.wire, edns)
    return Query(ident, flags & (RD | AD | CD), question, edns, serial)


def _question_bytes(message: bytes, questions: int) -> bytes:
    try:
        return read_question(message)[0].wire if questions == 1 else b""
    except Malformed:
        return b""


def read_question(message: bytes) -> tuple[Question, int]:
    """Return the first question and where it ends. Raises Malformed.

    No pointer is possible here: no name stands before it.
    """
    end = HEADER_BYTES
    while length := _octet(message, end):
        end += 1 + length
        if length > MAX_LABEL or end - HEADER_BYTES >= MAX_NAME:
            raise Malformed(f"question: bad label at {end - 1 - length}")
    end += 1
    if end + 4 > len(message):
        raise Malformed(f"question: message ends at {len(message)}")
    qtype, qclass = struct.unpack_from("!HH", message, end)
    return Question(message[HEADER_BYTES:end], qtype, qclass), end + 4


def _read_rest(
    message: bytes, at: int, authorities: int, additionals: int
) -> tuple[Edns | None, int, int | None]:
    """Return the EDNS part, its version and the serial of a SOA record.

    Raises Malformed, also for octets after the last record.
    """
    edns: Edns | None = None
    version, serial = 0, None
    for index in range(authorities + additionals):
        start = at
        rtype, rclass, ttl, rdata_at, at = read_record_head(message, at)
        if rtype == RType.OPT:
            if edns or index < authorities or rdata_at - start != 1 + RECORD_FIXED.size:
                raise Malformed("OPT: second, misplaced or not at the root")
            version = ttl >> 16 & 0xFF
            options = message[rdata_at:at]
            edns = Edns(rclass, bool(ttl & DO), read_options(options), options)
        elif rtype == RType.SOA and index < authorities and at - rdata_at > 20:
            serial = int.from_bytes(message[at - 20 : at - 16], "big")
    if at != len(message):
        raise Malformed(f"message: {len(message) - at} octets after the last record")
    return edns, version, serial


def read_record_head(message: bytes, at: int) -> tuple[int, int, int, int, int]:
    """Return type, class, TTL, begin and end of the content of the record at ``at``. Raises Malformed."""
    # Nearly every name is a pointer to the question.
    at = at + 2 if message[at : at + 2] == _TO_QUESTION and at > HEADER_BYTES else skip_name(message, at)
    if at + RECORD_FIXED.size > len(message):
        raise Malformed(f"record: message ends at {len(message)}")
    rtype, rclass, ttl, length = RECORD_FIXED.unpack_from(message, at)
    rdata_at = at + RECORD_FIXED.size
    if rdata_at + length > len(message):
        raise Malformed(f"record: {length} octets at {rdata_at}, message ends at {len(message)}")
    return rtype, rclass, ttl, rdata_at, rdata_at + length


def skip_name(message: bytes, at: int) -> int:
    """Return where the name at ``at`` ends, a pointer not followed. Raises Malformed."""
    start = at
    while length := _octet(message, at):
        if length & _POINTER == _POINTER:
            target = (length & ~_POINTER) << 8 | _octet(message, at + 1)
            if not HEADER_BYTES <= target < start:
                raise Malformed(f"name at {start}: pointer to {target}")
            return at + 2
        at += 1 + length
        if length > MAX_LABEL or at - start >= MAX_NAME:
            raise Malformed(f"name at {start}: bad label")
    return at + 1


def _octet(message: bytes, at: int) -> int:
    try:
        return message[at]
    except IndexError:
        raise Malformed(f"message: ends at {len(message)}, inside a name") from None


def read_options(options: bytes) -> bool:
    """Return whether keepalive is asked for; raises Malformed for an overrun or an odd cookie."""
    keepalive = False
    at = 0
    while at < len(options):
        if at + 4 > len(options):
            raise Malformed("OPT: an option is cut short")
        code, length = struct.unpack_from("!HH", options, at)
        at += 4 + length
        if at > len(options):
            raise Malformed(f"OPT: option {code} runs over the end")
        if code == _COOKIE and length != 8 and not 16 <= length <= 40:
            raise Malformed(f"OPT: a cookie of {length} octets")
        keepalive = keepalive or code == _KEEPALIVE
    return keepalive


def option(options: bytes, wanted: int) -> bytes | None:
    """Return the content of the first option of a kind in sound ``options``, None if there is none."""
    at = 0
    while at < len(options):
        code, length = struct.unpack_from("!HH", options, at)
        if code == wanted:
            return options[at + 4 : at + 4 + length]
        at += 4 + length
    return None


def extended_error(code: int, text: str = "") -> bytes:
    """Return the option that says why (RFC 8914)."""
    content = code.to_bytes(2, "big") + text.encode()
    return struct.pack("!HH", _EXTENDED_ERROR, len(content)) + content


class NameReader:
    """Reads compressed names of one message, with a bound on the work over all of them.

    ``steps`` counts labels and pointers. A message of 64 KiB can hold thousands of names that each end in the
    same long chain of pointers; honest ones, however long, stay far below the bound.
    """

    MOST_STEPS = 65536
    MOST_POINTERS = 64  # in one name

    def __init__(self, message: bytes) -> None:
        self._message = message
        self.steps = 0

    def read(self, at: int) -> tuple[WireName, int]:
        """Return the name at ``at`` without pointers, and where it ends in the message. Raises Malformed."""
        message, start, parts, size, pointers, end = self._message, at, [], 0, 0, 0
        while length := _octet(message, at):
            self.steps += 1
            if length & _POINTER == _POINTER:
                pointers += 1
                target = (length & ~_POINTER) << 8 | _octet(message, at + 1)
                end = end or at + 2
                if not HEADER_BYTES <= target < start or pointers > self.MOST_POINTERS:
                    raise Malformed(f"name at {start}: pointer to {target}")
                at = start = target
            else:
                parts.append(message[at : at + 1 + length])
                at += 1 + length
                size += 1 + length
                if length > MAX_LABEL or size >= MAX_NAME:
                    raise Malformed(f"name at {start}: bad label")
            if self.steps > self.MOST_STEPS:
                raise Malformed(f"name at {start}: more than {self.MOST_STEPS} labels and pointers")
        return b"".join(parts) + b"\0", end or at + 1
