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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from dns import names
from dns.answer import Answer
from dns.names import Labels, is_in
from dns.records import RRset
from dns.reply import Draw, opt_record, write_reply
from dns.service import ServiceKey
from dns.tally import TCP, Tallies
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
_DO_AT = 7  # the high octet of its flags, of which we only ever set DO
_MOST_OPT_FORMS = 64
_MOST_PARENTS = 4096
_MOST_HEADS = 4096
_KIND_BYTES, _MOST_KINDS = 2, 65536
_SVC = b"\x03svc"
_KEPT_ENDINGS = tuple((rtype.to_bytes(2, "big") + _IN).lower() for rtype in sorted(_KEPT_TYPES))


@dataclass(frozen=True, slots=True)
class _Tail:
    """What follows the question, and what stands before it for each ordinary form of header."""

    heads: tuple[bytes, ...]  # by the number of the form: flags and counts
    records: bytes
    tally: list[int]
    stride: int = 0  # bytes of each record if all are addresses of one name, which rotate
    soa: bool = False  # ``records`` are the SOA record of the moment
    rtype: int = 0  # told where lower case would make two types one: 65 and 97

    @property
    def plain(self) -> bool:
        """Whether there is nothing to think about."""
        return not (self.stride and len(self.records) > self.stride) and not self.soa and not self.rtype


@dataclass(frozen=True, slots=True)
class _Parent:
    """The name above the ones that are asked for."""

    labels: Labels
    apex: Apex
    namespace: bytes = b""  # if Services are what stands below


class FastPath:
    """The table, for one zone at a time."""

    def __init__(self, zone: Zone, *, ra: int, draw: Draw) -> None:
        self.tallies = Tallies()  # exchange it before the first query, or not at all
        self._zone = zone
        self._draw = draw
        self._ra = ra
        self._forms = {form: (number, edns) for number, (form, edns, _) in enumerate(_forms())}
        self._heads: dict[tuple[tuple[int, ...], int], tuple[bytes, ...]] = {}
        # Most tails are plain, and there are as many as names: number of the kind (2 octets) and records.
        self._plain: dict[bytes, bytes] = {}
        self._kinds: list[tuple[tuple[bytes, ...], list[int]]] = []  # heads, and what counts them
        self._kind_numbers: dict[tuple[tuple[bytes, ...], int], bytes] = {}
        self._tails: dict[bytes, _Tail] = {}  # that are not plain
        self._of_service: dict[ServiceKey, tuple[bytes, ...]] = {}  # names below the Service's own
        self._soa: dict[tuple[bytes, int], bytes] = {}  # by zone and where its name begins in the message
        self._opts: dict[bytes, tuple[int, bytes]] = {}
        self._parents: dict[bytes, _Parent] = {}
        self._foreign: set[bytes] = set()  # above names that are none of ours, or the top of a zone
        self._tops = frozenset((zone.config.naming.domain, *zone.config.reverse))

    def __len__(self) -> int:
        return len(self._tails) + len(self._plain)

    def move(self, zone: Zone, changed: Iterable[ServiceKey]) -> None:
        """Answer from ``zone`` from now on; of what is kept, only the ``changed`` Services are in doubt."""
        if zone is self._zone:
            return
        self._zone = zone
        self._soa.clear()
        for service in changed:
            for key in (*self._own_keys(service), *self._of_service.pop(service, ())):
                self._tails.pop(key, None)
                self._plain.pop(key, None)

    def _own_keys(self, service: ServiceKey) -> tuple[bytes, ...]:
        """Return the keys of the Service's own name."""
        name = (
            names.prefixed(service[0]) + names.prefixed(service[1]) + _SVC + self._zone.config.naming.domain
        )
        return tuple(name + ending for ending in _KEPT_ENDINGS)

    def reply(self, message: bytes, way: int) -> bytes | None:  # noqa: C901 - a call costs as much as it all
        """Return the reply, or None if the slow path has to look at it. ``way``: see ``dns.tally``."""
        form = self._forms.get(message[2:HEADER_BYTES])
        if form is None:
            return None
        number, edns = form
        end = message.find(0, HEADER_BYTES) + 5
        # With type and class in lower case too: of the types that are kept that matters for HTTPS alone.
        tail = self._plain.get(message[HEADER_BYTES:end].lower())
        limit, opt = UDP_BYTES_WITHOUT_EDNS, b""
        if edns:
            known = self._opts.get(message[end:]) or self._read_opt(message[end:], way)
            if known is None:
                return None
            limit, opt = known
        elif len(message) != end:
            return None
        if way >= TCP:
            limit = TCP_BYTES
        if tail is None:
            return self._look(message, end, number, limit, opt, way)
        if len(tail) - _KIND_BYTES > limit - end - len(opt):
            return None
        heads, tally = self._kinds[tail[0] << 8 | tail[1]]
        tally[way] += 1
        if opt and opt[_DO_AT]:
            self.tallies.dnssec_ok += 1
        return b"".join((message[:2], heads[number], message[HEADER_BYTES:end], tail[_KIND_BYTES:], opt))

    def _look(self, message: bytes, end: int, number: int, limit: int, opt: bytes, way: int) -> bytes | None:
        """Reply from a tail that takes a thought, or deny the name."""
        tail = self._tails.get(message[HEADER_BYTES:end].lower())
        if tail is None:
            return self._denial(message, end, number, limit - len(opt), opt, way)
        if tail.rtype and message[end - 3] != tail.rtype:
            return None
        records, stride, room = tail.records, tail.stride, limit - end - len(opt)
        if tail.soa:
            apex = self._zone.config.naming.domain
            records = self._soa.get((apex, end - 4 - len(apex)), b"")
            if not records:
                return None
        head = tail.heads[number]
        if stride:
            first = self._draw(len(records) // stride) * stride
            whole = min(len(records), room // stride * stride)
            if whole < len(records):
                head = self._cut(number, whole // stride, bool(opt))
            past = max(0, first + whole - len(records))
            records = records[first : first + whole] + records[:past]
        elif len(records) > room:
            return None
        tail.tally[way] += 1
        self.tallies.dnssec_ok += bool(opt and opt[_DO_AT])
        return b"".join((message[:2], head, message[HEADER_BYTES:end], records, opt))

    def _cut(self, number: int, whole: int, opt: bool) -> bytes:
        """Return flags and counts of an answer of which only ``whole`` records fit."""
        flags = int.from_bytes(self._heads_of((whole, 0, 0), 0)[number][:2], "big") | TC
        return HEADER.pack(0, flags, 1, whole, 0, opt)[2:]

    def _heads_of(self, sections: Sequence[int], rcode: int) -> tuple[bytes, ...]:
        key = (tuple(sections), rcode)
        found = self._heads.get(key)
        if found is None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            answers, authorities, additionals = sections
            found = self._heads[key] = tuple(
                HEADER.pack(
                    0, QR | AA | flags | self._ra | rcode, 1, answers, authorities, additionals + edns
                )[2:]
                for _, edns, flags in _forms()
            )
        return found

    def _denial(
        self, message: bytes, end: int, number: int, limit: int, opt: bytes, way: int
    ) -> bytes | None:
        """Reply that a name does not exist; None if it may, or nothing is known."""
        name, rtype = message[HEADER_BYTES : end - 4].lower(), message[end - 4 : end - 2]
        if not name or message[end - 2 : end] != _IN or rtype in _NEVER_DENIED or not self._zone.synced:
            return None
        size = name[0]
        if name[1 + size :] in self._foreign:
            return None
        parent = self._parents.get(name[1 + size :]) or self._learn_parent(name)
        if parent is None or not 0 < size <= names.MAX_LABEL or len(name) > names.MAX_NAME:
            return None
        label = name[1 : 1 + size]
        if parent.namespace:
            if self._zone.services.get((label, parent.namespace)) is not None:
                return None
        elif self._zone.find(name, (label, *parent.labels), parent.apex) is not None:
            return None
        apex = parent.apex.name
        records = self._soa.get((apex, HEADER_BYTES + len(name) - len(apex)))
        if records is None or len(records) > limit - end:
            return None
        self.tallies.of(int.from_bytes(rtype, "big"), Rcode.NXDOMAIN, "kubernetes")[way] += 1
        self.tallies.dnssec_ok += bool(opt and opt[_DO_AT])
        head = self._heads_of((0, 1, 0), Rcode.NXDOMAIN)[number]
        return b"".join((message[:2], head, message[HEADER_BYTES:end], records, opt))

    def _learn_parent(self, name: bytes) -> _Parent | None:
        """Return what is known of the name above; None where that is unusual.

        Most names that do not exist are invented below a few that are asked again and again.
        """
        parent = name[1 + name[0] :]
        labels = _labels(parent) if parent else None
        config = self._zone.config
        apex = config.apex_of(labels) if labels else None
        if labels and apex is None:
            if len(self._foreign) >= _MOST_PARENTS:
                self._foreign.clear()
            self._foreign.add(parent)
        if labels is None or apex is None or apex.name in config.fallthrough or name in self._tops:
            return None
        if len(self._parents) >= _MOST_PARENTS:
            self._parents.clear()
        services_below = (
            len(labels) == apex.depth + 2 and labels[1] == b"svc" and apex.name == config.naming.domain
        )
        found = _Parent(labels, apex, labels[0] if services_below else b"")
        # A zone below the parent: its name is not the parent's to deny.
        if not any(is_in(top, parent) for top in self._tops if top != apex.name):
            self._parents[parent] = found
        return found

    def _read_opt(self, record: bytes, way: int) -> tuple[int, bytes] | None:
        """Return the limit and our OPT if ``record`` is a client's OPT record and no more; None if not."""
        if record[:3] != b"\0\0\x29" or record[5:7] != b"\0\0":
            return None
        if int.from_bytes(record[9:_OPT_BYTES], "big") != len(record) - _OPT_BYTES:
            return None
        try:
            keepalive = read_options(record[_OPT_BYTES:])
        except Malformed:
            return None
        if keepalive and way >= TCP:
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
        tail = self._tail(question, answer, denial=denial)
        if tail is not None:
            key = (question.name + question.wire[len(question.name) :]).lower()
            kind = self._kind_of(tail) if tail.plain else None
            if kind is None:
                self._tails[key] = tail
            else:
                self._plain[key] = kind + tail.records
            if key not in self._own_keys(answer.service):
                self._of_service[answer.service] = (*self._of_service.get(answer.service, ()), key)

    def _kind_of(self, tail: _Tail) -> bytes | None:
        """Return the number of what a plain tail shares with many others; None if there are too many."""
        what = tail.heads, id(tail.tally)
        known = self._kind_numbers.get(what)
        if known is None and len(self._kinds) < _MOST_KINDS:
            known = self._kind_numbers[what] = len(self._kinds).to_bytes(_KIND_BYTES, "big")
            self._kinds.append((tail.heads, tail.tally))
        return known

    def _keep_soa(self, question: Question, soa: RRset) -> None:
        only = _written(question, Answer(Rcode.NXDOMAIN, authority=(soa,)))
        if only is not None:
            self._soa[soa.owner, HEADER_BYTES + len(question.name) - len(soa.owner)] = only[1]

    def _tail(self, question: Question, answer: Answer, *, denial: bool) -> _Tail | None:
        tally = self.tallies.of(question.qtype, answer.rcode, "kubernetes")
        rtype = question.qtype if question.qtype == RType.HTTPS else 0
        if denial:
            return _Tail(self._heads_of((0, 1, 0), answer.rcode), b"", tally, soa=True, rtype=rtype)
        written = _written(question, answer)
        if written is None:
            return None
        sections, records = written
        heads = self._heads_of(sections, answer.rcode)
        return _Tail(heads, records, tally, stride=_stride(answer), rtype=rtype)


def _written(question: Question, answer: Answer) -> tuple[Sequence[int], bytes] | None:
    """Return counts and octets of what the slow path writes after the question; None: no message holds it."""
    reply = write_reply(Query(0, 0, question), answer, TCP_BYTES, _no_turn)
    _, flags, _, *sections = HEADER.unpack_from(reply)
    return None if flags & TC else (sections, reply[HEADER_BYTES + len(question.wire) :])


def _forms() -> Iterator[tuple[bytes, bool, int]]:
    """Give the ordinary forms of octets 2 to 11: RD, AD and CD as they like, and perhaps one OPT.

    With each whether there is OPT, and the flags that the reply copies.
    """
    for rd, ad, cd, edns in product((0, RD), (0, AD), (0, CD), (False, True)):
        yield HEADER.pack(0, rd | ad | cd, 1, 0, 0, edns)[2:], edns, rd | cd


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
