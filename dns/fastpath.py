"""Replies kept ready: one look-up instead of parsing and deciding. *Pure* but for its table.

A query of the ordinary form (one question, perhaps one OPT record) is found by its lower-cased name with type
and class; what it finds is what the slow path once wrote after the question. The reply is then the client's
id, flags, counts, the client's own question and that tail. It cannot differ from the slow path's reply,
because owner names in a tail are pointers to the question.

How it stays true: a tail depends on one Service alone, and goes when that Service's records are replaced;
there is no time to live. Denials carry the zone's serial, which any change moves, so their SOA record is kept
apart, one per length of name.

How it stays small: only names that exist are keys, and of those only the types that resolvers ask. A name
that does not exist is looked for in the zone each time, so that a flood of invented names leaves nothing
behind.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from dns import names
from dns.answer import Answer
from dns.names import Labels, is_in
from dns.records import RRset
from dns.reply import Draw, opt_record, write_reply
from dns.service import ServiceKey
from dns.wire import (
    AA,
    AD,
    CD,
    CLASS_IN,
    HEADER,
    HEADER_BYTES,
    QR,
    RD,
    TC,
    TCP_BYTES,
    UDP_BYTES_WITHOUT_EDNS,
    Edns,
    Query,
    Question,
    Rcode,
    RType,
    read_options,
    udp_limit,
)
from dns.zone import Apex, Zone
from kubenet.errors import Malformed

_KEPT_TYPES = frozenset((RType.A, RType.AAAA, RType.SRV, RType.HTTPS))
_IN = CLASS_IN.to_bytes(2, "big")
# These types are refused whether the name exists or not.
_NEVER_DENIED = frozenset(rtype.to_bytes(2, "big") for rtype in (RType.OPT, RType.AXFR, RType.IXFR))
_OPT_BYTES = 11  # without options
_MOST_OPT_FORMS = 64
_MOST_PARENTS = 4096


@dataclass(frozen=True, slots=True)
class _Gate:
    """For one form of header: the flags of the reply, as two octets."""

    edns: bool
    found: bytes
    denied: bytes
    cut: bytes


@dataclass(frozen=True, slots=True)
class _Tail:
    """What follows the question; ``records`` None stands for the SOA record of the moment."""

    counts: bytes  # all four, without OPT
    counts_opt: bytes
    records: bytes | None
    stride: int = 0  # bytes of each record if all are addresses of one name, which rotate
    denied: bool = False


class FastPath:
    """The table, for one zone at a time."""

    def __init__(self, zone: Zone, *, ra: int, draw: Draw) -> None:
        self._zone = zone
        self._draw = draw
        self._gates = _gates(ra)
        self._tails: dict[bytes, _Tail] = {}
        self._of_service: dict[ServiceKey, list[bytes]] = {}
        self._soa: dict[tuple[bytes, int], _Tail] = {}  # by zone and where its name begins in the message
        self._opts: dict[bytes, tuple[int, bytes]] = {}
        self._parents: dict[bytes, tuple[Labels, Apex]] = {}
        self._tops = frozenset((zone.config.naming.domain, *zone.config.reverse))

    def __len__(self) -> int:
        return len(self._tails)

    def move(self, zone: Zone, changed: Iterable[ServiceKey]) -> None:
        """Answer from ``zone`` from now on; of what is kept, only the ``changed`` Services are in doubt."""
        if zone is self._zone:
            return
        self._zone = zone
        self._soa.clear()
        for service in changed:
            for key in self._of_service.pop(service, ()):
                self._tails.pop(key, None)

    def reply(self, message: bytes, *, stream: bool) -> bytes | None:
        """Return the reply, or None if the slow path has to look at it."""
        gate = self._gates.get(message[2:HEADER_BYTES])
        if gate is None:
            return None
        name_end = message.find(0, HEADER_BYTES) + 1
        end = name_end + 4
        name = message[HEADER_BYTES:name_end].lower()
        tail = self._tails.get(name + message[name_end:end]) or self._denial(name, message[name_end:end])
        if tail is None:
            return None
        limit, opt = UDP_BYTES_WITHOUT_EDNS, b""
        if gate.edns:
            form = self._opts.get(message[end:]) or self._read_opt(message[end:], stream)
            if form is None:
                return None
            limit, opt = form
        elif len(message) != end:
            return None
        return self._compose(message, end, gate, tail, TCP_BYTES if stream else limit, opt)

    def _compose(
        self, message: bytes, end: int, gate: _Gate, tail: _Tail, limit: int, opt: bytes
    ) -> bytes | None:
        records, stride = tail.records, tail.stride
        if records is None:
            apex = self._zone.config.naming.domain
            soa = self._soa.get((apex, end - 4 - len(apex)))
            if soa is None or soa.records is None:
                return None
            records = soa.records
        if stride and len(records) > stride:
            first = self._draw(len(records) // stride) * stride
            records = records[first:] + records[:first]
        room = limit - end - len(opt)
        if len(records) <= room:
            flags = gate.denied if tail.denied else gate.found
            counts = tail.counts_opt if opt else tail.counts
            return b"".join((message[:2], flags, counts, message[HEADER_BYTES:end], records, opt))
        if not stride:
            return None
        whole = room // stride
        counts = HEADER.pack(0, 0, 1, whole, 0, bool(opt))[4:]
        records = records[: whole * stride]
        return b"".join((message[:2], gate.cut, counts, message[HEADER_BYTES:end], records, opt))

    def _denial(self, name: bytes, type_class: bytes) -> _Tail | None:
        """Return the tail for a name that does not exist; None if it may, or nothing is known."""
        if not name or type_class[2:] != _IN or type_class[:2] in _NEVER_DENIED or not self._zone.synced:
            return None
        parent = self._parents.get(name[1 + name[0] :]) or self._learn_parent(name)
        if parent is None or not 0 < name[0] <= names.MAX_LABEL or len(name) > names.MAX_NAME:
            return None
        labels, apex = (name[1 : 1 + name[0]], *parent[0]), parent[1]
        if self._zone.find(name, labels, apex) is not None:
            return None
        return self._soa.get((apex.name, HEADER_BYTES + len(name) - len(apex.name)))

    def _learn_parent(self, name: bytes) -> tuple[Labels, Apex] | None:
        """Return the labels above the first one and the zone they are in; None where that is unusual.

        Most names that do not exist are invented below a few that are asked again and again.
        """
        parent = name[1 + name[0] :]
        labels = _labels(parent) if parent else None
        config = self._zone.config
        apex = config.apex_of(labels) if labels else None
        if labels is None or apex is None or apex.name in config.fallthrough or name in self._tops:
            return None
        if len(self._parents) >= _MOST_PARENTS:
            self._parents.clear()
        # A zone below the parent: its name is not the parent's to deny.
        if not any(is_in(top, parent) for top in self._tops if top != apex.name):
            self._parents[parent] = labels, apex
        return labels, apex

    def _read_opt(self, record: bytes, stream: bool) -> tuple[int, bytes] | None:
        """Return the limit and our OPT if ``record`` is a client's OPT record and no more; None if not."""
        if record[:3] != b"\0\0\x29" or record[5:7] != b"\0\0":
            return None
        if int.from_bytes(record[9:_OPT_BYTES], "big") != len(record) - _OPT_BYTES:
            return None
        try:
            keepalive = read_options(record[_OPT_BYTES:])
        except Malformed:
            return None
        if keepalive and stream:
            return None
        edns = Edns(dnssec_ok=bool(record[7] & 0x80))
        form = udp_limit(int.from_bytes(record[3:5], "big")), opt_record(edns)
        if len(record) == _OPT_BYTES and len(self._opts) < _MOST_OPT_FORMS:
            self._opts[record] = form
        return form

    def keep(self, question: Question, answer: Answer) -> None:
        """Remember what the slow path decided, as far as it can be told again."""
        if not answer.authoritative or question.qclass != CLASS_IN:
            return
        denial = not answer.answers and len(answer.authority) == 1
        if denial:
            self._keep_soa(question, answer.authority[0])
        if answer.service is None or question.qtype not in _KEPT_TYPES:
            return
        tail = _tail((0, 1, 0), None) if denial else _written(question, answer)
        if tail is not None:
            key = question.name.lower() + question.wire[len(question.name) :]
            self._tails[key] = tail
            self._of_service.setdefault(answer.service, []).append(key)

    def _keep_soa(self, question: Question, soa: RRset) -> None:
        only = _written(question, Answer(Rcode.NXDOMAIN, authority=(soa,)))
        if only is not None:
            self._soa[soa.owner, HEADER_BYTES + len(question.name) - len(soa.owner)] = only


def _written(question: Question, answer: Answer) -> _Tail | None:
    """Return what the slow path writes after the question; None if it fits no message."""
    reply = write_reply(Query(0, 0, question), answer, TCP_BYTES, _no_turn)
    _, flags, _, *sections = HEADER.unpack_from(reply)
    records = reply[HEADER_BYTES + len(question.wire) :]
    denied = answer.rcode == Rcode.NXDOMAIN
    return None if flags & TC else _tail(sections, records, stride=_stride(answer), denied=denied)


def _gates(ra: int) -> dict[bytes, _Gate]:
    """Return the ordinary forms of octets 2 to 11: RD, AD and CD as they like, and perhaps one OPT."""
    gates = {}
    for rd, ad, cd, edns in product((0, RD), (0, AD), (0, CD), (False, True)):
        form = HEADER.pack(0, rd | ad | cd, 1, 0, 0, edns)[2:]
        flags = QR | AA | rd | cd | ra
        found, denied, cut = ((flags | more).to_bytes(2, "big") for more in (0, Rcode.NXDOMAIN, TC))
        gates[form] = _Gate(edns, found, denied, cut)
    return gates


def _tail(sections: Sequence[int], records: bytes | None, *, stride: int = 0, denied: bool = False) -> _Tail:
    answers, authorities, additionals = sections
    counts, counts_opt = (HEADER.pack(0, 0, 1, answers, authorities, additionals + opt)[4:] for opt in (0, 1))
    return _Tail(counts, counts_opt, records, stride, denied)


def _stride(answer: Answer) -> int:
    """Return the size of each record if the answer is one set of addresses and nothing else, else 0."""
    if len(answer.answers) != 1 or answer.additional:
        return 0
    rrset = answer.answers[0]
    # A pointer 2, type 2, class 2, TTL 4 and length 2 bytes come before the address.
    return 12 + len(rrset.contents[0]) if rrset.rtype in (RType.A, RType.AAAA) else 0


def _labels(name: bytes) -> Labels | None:
    """Return the labels of what may be a name, up to its first NUL; None if it is none."""
    if len(name) > names.MAX_NAME:
        return None
    labels = []
    at = 0
    size = len(name) - 1
    while at < size:
        start = at + 1
        at = start + name[at]
        labels.append(name[start:at])
        if at - start > names.MAX_LABEL:
            return None
    return tuple(labels) if at == size else None


def _no_turn(_choices: int) -> int:
    return 0
