"""A query that is passed on as it came, and the reply it gets. *Pure.*

Most questions for upstream servers are plain: a name that no plugin has a say in, perhaps an OPT record
without options. Nothing of such a query is made into objects but this one; its form is known before.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from dns.asks import form_of
from dns.cache import kept_form
from dns.relay import UpstreamReply, relay
from dns.reply import opt_record
from dns.tally import Meter
from dns.wire import AD, CD, HEADER_BYTES, QR, RA, RD, Query, read_query

_AFTER_ID = struct.Struct("!5H")


@dataclass(frozen=True, slots=True)
class Form:
    """What a query holds besides its id and question, as far as its answer depends on it."""

    asked: bytes  # see ``dns.forward.form_of``
    kept: bytes  # see ``dns.cache.kept_form``
    recursion: bool
    dnssec_ok: bool
    flags: int  # of every reply
    copied: int  # flags of the upstream reply that the client hears of
    limit: int  # bytes of the reply
    opt: bytes  # ours


def form_of_query(query: Query) -> Form:
    """Return the form of a query over UDP, whose OPT record has no options."""
    edns, limit = query.edns, query.udp_limit
    dnssec_ok = bool(edns and edns.dnssec_ok)
    return Form(
        form_of(query.flags, edns.dnssec_ok if edns else None),
        kept_form(dnssec_ok, query.flags),
        bool(query.flags & RD),
        dnssec_ok,
        QR | RA | query.flags & (RD | CD),
        AD if query.flags & AD or dnssec_ok else 0,
        limit,
        opt_record(edns),
    )


class Passed:
    """One query that has been passed on."""

    __slots__ = ("began", "end", "form", "message", "meter", "send", "way")

    def __init__(
        self, message: bytes, end: int, form: Form, way: int, meter: Meter, send: Callable[[bytes], None]
    ) -> None:
        self.message = message
        self.end = end  # of the question
        self.form = form
        self.way = way  # how it came (dns.tally)
        self.meter = meter
        self.send = send
        self.began = 0.0  # in the loop's time

    @property
    def query(self) -> Query:
        """What it says."""
        query = read_query(self.message)
        assert isinstance(query, Query)  # it was, when its form was found
        return query

    @property
    def qtype(self) -> int:
        """The type that is asked for."""
        return self.message[self.end - 4] << 8 | self.message[self.end - 3]

    def reply(self, found: UpstreamReply) -> bytes:
        """Return the reply that tells what was ``found``: the same as ``dns.relay.relay`` writes."""
        message, form, end, records = found.message, self.form, self.end, found.records
        records_end = records[-1].end if records else end
        if records_end + len(form.opt) > form.limit:
            return relay(self.query, found, form.limit)
        answers, authorities = message[6] << 8 | message[7], message[8] << 8 | message[9]
        additionals = len(records) - answers - authorities + bool(form.opt)
        flags = form.flags | found.flags & form.copied | found.rcode & 0xF
        return b"".join(
            (
                self.message[:2],
                _AFTER_ID.pack(flags, 1, answers, authorities, additionals),
                self.message[HEADER_BYTES:end],
                message[end:records_end],
                form.opt,
            )
        )
