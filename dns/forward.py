"""Asks upstream servers: which, when again, and what counts as an answer. *Pure*: time and chance come in.

Equal questions in flight are one question (else each copy would be one more chance for a forger to guess
right, the birthday attack). Each try has its own id and its own connected socket with a port from the kernel,
and a random case of the name (0x20), all of which an answer must match; what does not match is dropped and
the wait goes on. A try that is late is not given up while another one is under way: whichever answers first
counts.

    ask -> SendUdp ... received -> Deliver                    the common case
                   ... expire   -> SendUdp (the next server)  -> Deliver
                   ... received, truncated -> SendTcp         -> Deliver
                   ... tries used up, or refused by all       -> Deliver the refusal, or nothing

Source: RFC 5452 (forgery), RFC 7766 section 5 (TC), draft-vixie-dnsext-dns0x20; CVE-2023-30464 (birthdays).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeAlias, TypeVar

from dns.asks import FORM_BYTES, Ask, Passer, Plain, ask_of_key, key_of, question_of
from dns.health import PLAIN, Manners, UpstreamHealth
from dns.relay import UpstreamReply, read_reply, read_reply_to
from dns.reply import Draw, opt_record
from dns.tally import DURATION_BUCKETS, Histogram
from dns.wire import HEADER, HEADER_BYTES, RD, Edns, Question, Rcode, RType
from kubenet.errors import Malformed
from kubenet.model.links import IPAddress

WaiterT = TypeVar("WaiterT")

_UNUSABLE = frozenset((Rcode.SERVFAIL, Rcode.REFUSED, Rcode.NOTIMP, Rcode.FORMERR))


# 0x20 for each letter, 0 for all other octets; no length of a label is a letter's octet.
_LETTERS = bytes(0x20 if 97 <= octet <= 122 else 0 for octet in range(256))


# What follows the question of a plain one, by the last octet of its key, and the counts of its header.
_PLAIN_TAILS = (b"", opt_record(Edns()), opt_record(Edns(dnssec_ok=True)))
_PLAIN_COUNTS = (HEADER.pack(0, 0, 1, 0, 0, 0)[4:], HEADER.pack(0, 0, 1, 0, 0, 1)[4:])
_PLAIN_FLAGS = 0xFA  # QR, operation and TC


class Transport(Enum):
    """How a server is asked."""

    PLAIN = "dns"  # UDP, and TCP where it must be
    TLS = "tls"
    HTTPS = "https"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server that answers for the rest of the world."""

    address: IPAddress
    port: int = 53
    transport: Transport = Transport.PLAIN
    servername: str = ""  # of the certificate, if it is this server's own (``tls://9.9.9.9%dns.quad9.net``)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often to ask."""

    try_s: float = 0.8  # then the next server is asked too
    hedge_s: float = 0.4  # the same after the first try, where there is a second server
    tries: int = 3  # so a client has its SERVFAIL after 2.4 s, before stub resolvers give up (5 s)
    most_questions: int = 1000
    most_waiters: int = 1000  # for one question


@dataclass(frozen=True, slots=True)
class SendUdp:
    """Send ``message`` from a new socket, connected to ``upstream``; tell the answers under ``attempt``."""

    attempt: int
    upstream: Upstream
    message: bytes


@dataclass(frozen=True, slots=True)
class SendTcp:
    """The same on a new TCP connection; the first message that comes back is the answer."""

    attempt: int
    upstream: Upstream
    message: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close the socket of an attempt; one that has been ``answered`` may serve another."""

    attempt: int
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Refuse(Generic[WaiterT]):
    """Answer REFUSED: more questions wait for upstream servers than we are willing to remember."""

    waiter: WaiterT


@dataclass(frozen=True, slots=True)
class Deliver(Generic[WaiterT]):
    """Answer the waiters; ``reply`` None means that no server did."""

    waiters: tuple[WaiterT, ...]
    reply: UpstreamReply | None


Action: TypeAlias = SendUdp | SendTcp | Close | Refuse[WaiterT] | Deliver[WaiterT]


@dataclass(slots=True)
class _Attempt(Generic[WaiterT]):
    pending: "_Pending[WaiterT]"
    server: int
    id: int
    question: bytes  # as sent, in its case
    tcp: bool
    at: float


@dataclass(slots=True)
class _Pending(Generic[WaiterT]):
    ask: Ask
    next_server: int
    deadline: float = 0.0
    tries: int = 0
    waiters: list[WaiterT] = field(default_factory=list)
    stream: bool = False  # whether some waiter can take 64 KiB
    attempts: list[int] = field(default_factory=list)
    refusal: UpstreamReply | None = None
    probe: bool = False  # nobody waits; it only tells whether the server answers

    @property
    def last_word(self) -> UpstreamReply | None:
        """What to answer when nobody is left to ask."""
        # Who asked over TCP would ask for ever if that were cut too.
        useless = self.refusal and self.refusal.truncated and self.stream
        return None if useless else self.refusal


class Forwarder(Generic[WaiterT]):
    """All questions under way upstream. Every method returns what to do now."""

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        draw: Draw,
        patience: Patience = Patience(),
        manners: Manners = PLAIN,
    ) -> None:
        self.health = UpstreamHealth(len(upstreams), manners, draw)
        self._manners = manners
        self.upstreams = tuple(upstreams)
        self._draw = draw  # must be unpredictable: ids and case come from it
        self._patience = patience
        self._pending: dict[Ask, _Pending[WaiterT]] = {}
        self._plain: dict[bytes, Plain[WaiterT]] = {}  # the oldest first
        hedged = min(patience.hedge_s, patience.try_s)
        self._first_s = hedged if len(upstreams) > 1 else patience.try_s
        self._attempts: dict[int, _Attempt[WaiterT]] = {}
        self._probes: dict[int, int] = {}  # attempt by server
        self._next_attempt = 0
        self._keeps_case = [True] * len(self.upstreams)
        self._unusable = _UNUSABLE | manners.failover
        self._probe_ask = Ask(
            Question(manners.probe_name, RType.NS), RD if manners.probe_recurse else 0, None
        )
        self.rejected = 0  # questions that were one too many
        self.failed_probes = [0] * len(self.upstreams)
        self.all_down = 0  # questions that met no server that is up
        self.took: dict[tuple[int, int], Histogram] = {}  # until an answer, by server and code
        self.mismatched = 0  # answers that were not to what we asked: forged, or late

    @property
    def draw(self) -> Draw:
        """Draw a number that nobody can predict."""
        return self._draw

    @property
    def busy(self) -> bool:
        """Whether ``expire`` has to be called from time to time."""
        return bool(self._pending or self._plain) or self.health.any_down

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._pending or self._plain)

    def pass_on(self, key: bytes, passer: Passer[WaiterT], now: float) -> tuple[Plain[WaiterT], bytes] | bool:
        """Have a plain question answered to ``passer``: return what to send, and for which question.

        True: it is under way already. False: nothing was done, for it takes more than the ordinary way.
        """
        plain = self._plain.get(key)
        if plain is not None:
            if len(plain.passers) >= self._patience.most_waiters:
                return False
            plain.passers.append(passer)
            return True
        if len(self._pending) + len(self._plain) >= self._patience.most_questions:
            return False
        if self._pending and ask_of_key(key) in self._pending:
            return False
        server = self.health.first()
        if self.health.is_down(server):
            return False
        self._next_attempt += 1
        plain = self._plain[key] = Plain(key, self._next_attempt - 1, server, passer, now)
        return plain, self._plain_message(plain)

    def _plain_message(self, plain: Plain[WaiterT]) -> bytes:
        """Return what to send: an id, and the name in a case, that nobody can guess."""
        key = plain.key
        name = key[: -FORM_BYTES - 4]
        size = len(name)
        secret = self._draw(1 << 8 * (size + 2))
        plain.id = (secret & 0xFFFF).to_bytes(2, "big")
        if self._keeps_case[plain.server]:
            flips = secret >> 16 & int.from_bytes(name.translate(_LETTERS), "big")
            name = (int.from_bytes(name, "big") ^ flips).to_bytes(size, "big")
        plain.question = name + key[size:-FORM_BYTES]
        tail = _PLAIN_TAILS[key[-1]]
        return b"".join((plain.id, key[-FORM_BYTES:-1], _PLAIN_COUNTS[bool(tail)], plain.question, tail))

    def plainly_answered(self, plain: Plain[WaiterT], message: bytes, now: float) -> UpstreamReply | None:
        """Return the reply that ends a plain question; None if ``message`` is anything but ordinary.

        Then the question is no longer a plain one, and ``received`` has to judge.
        """
        end = HEADER_BYTES + len(plain.question)
        good = (
            message[:2] == plain.id
            and message[HEADER_BYTES:end] == plain.question
            and message[4:6] == b"\0\1"
            and message[2] & _PLAIN_FLAGS == 0x80
            and message[3] & 0xF not in self._unusable
        )
        reply = None
        if good:
            try:
                reply = read_reply_to(message, question_of(plain.key), end)
            except Malformed:
                reply = None
        if reply is None or reply.rcode > 15:
            self.widen(plain)
            return None
        del self._plain[plain.key]
        self.health.answered(plain.server)
        self._took(plain.server, reply.rcode).add(now - plain.at)
        return reply

    def is_plain(self, plain: Plain[WaiterT]) -> bool:
        """Return whether a question is still under way as a plain one."""
        return self._plain.get(plain.key) is plain

    def widen(self, plain: Plain[WaiterT]) -> None:
        """Treat a plain question as any other from now on."""
        if not self.is_plain(plain):
            return
        del self._plain[plain.key]
        ask = ask_of_key(plain.key)
        pending: _Pending[WaiterT] = _Pending(ask, (plain.server + 1) % len(self.upstreams))
        pending.deadline, pending.tries = plain.at + self._first_s, 1
        pending.waiters = [passer.widened(ask) for passer in plain.passers]
        pending.attempts = [plain.attempt]
        ident = int.from_bytes(plain.id, "big")
        self._pending[ask] = pending
        self._attempts[plain.attempt] = _Attempt(
            pending, plain.server, ident, plain.question, tcp=False, at=plain.at
        )

    def _widen_equal(self, ask: Ask) -> None:
        plain = self._plain.get(key_of(ask)) if self._plain and not ask.options else None
        if plain is not None:
            self.widen(plain)

    def ask(self, ask: Ask, waiter: WaiterT, now: float, *, stream: bool) -> list[Action[WaiterT]]:
        """Have ``ask`` answered to ``waiter``."""
        self._widen_equal(ask)
        pending = self._pending.get(ask)
        if pending is None:
            if len(self._pending) + len(self._plain) >= self._patience.most_questions:
                self.rejected += 1
                return [Refuse(waiter)]
            pending = self._pending[ask] = _Pending(ask, self.health.first())
        if len(pending.waiters) >= self._patience.most_waiters:
            self.rejected += 1
            return [Refuse(waiter)]
        pending.waiters.append(waiter)
        pending.stream = pending.stream or stream
        return [] if pending.tries else self._try_next(pending, now)

    def received(self, attempt: int, message: bytes, now: float) -> list[Action[WaiterT]]:
        """Take what came on the socket of ``attempt``."""
        under_way = self._attempts.get(attempt)
        if under_way is None:
            return []
        reply = self._matching(under_way, message)
        if reply is None:
            self.mismatched += 1
            return self._drop(attempt, now) if under_way.tcp else []
        pending = under_way.pending
        self.health.answered(under_way.server)
        self._took(under_way.server, reply.rcode).add(now - under_way.at)
        if pending.probe:
            return self._drop(attempt, now)
        same_case = message[12 : 12 + len(under_way.question)] == under_way.question
        if not same_case and not under_way.tcp and self._keeps_case[under_way.server]:
            return self._retry_tcp(attempt, under_way, now)
        if not same_case:
            self._keeps_case[under_way.server] = False  # proven over TCP, which is hard to forge
        if reply.truncated and not under_way.tcp and (pending.stream or self._manners.whole):
            pending.refusal = reply  # better than nothing, should TCP not get through
            return self._retry_tcp(attempt, under_way, now)
        if reply.rcode in self._unusable or reply.rcode > 15:
            pending.refusal = reply if reply.rcode <= 15 else pending.refusal
            return self._drop(attempt, now)
        return self._finish(pending, reply, by=attempt)

    def _took(self, server: int, rcode: int) -> Histogram:
        found = self.took.get((server, rcode))
        return found or self.took.setdefault((server, rcode), Histogram(DURATION_BUCKETS))

    def failed(self, attempt: int, now: float) -> list[Action[WaiterT]]:
        """The attempt will not be answered: refused, unreachable, or closed."""
        under_way = self._attempts.get(attempt)
        if under_way is None:
            return []
        self.health.failed(under_way.server, now)
        return self._drop(attempt, now)

    def _drop(self, attempt: int, now: float) -> list[Action[WaiterT]]:
        """Close an attempt that gave nothing; if it was the last one under way, try the next server."""
        under_way = self._attempts.pop(attempt)
        pending = under_way.pending
        pending.attempts.remove(attempt)
        if pending.probe:
            self._probes.pop(under_way.server, None)
            return [Close(attempt)]
        return [Close(attempt), *([] if pending.attempts else self._try_next(pending, now))]

    def expire(self, now: float) -> list[Action[WaiterT]]:
        """Ask again, or give up, where the time is up. Call it some times a second while ``busy``."""
        for plain in list(self._plain.values()):
            if plain.at + self._first_s > now:
                break
            self.widen(plain)
        late = [pending for pending in self._pending.values() if pending.deadline <= now]
        actions: list[Action[WaiterT]] = []
        for pending in late:
            self.health.failed(self._attempts[pending.attempts[-1]].server, now)
            actions += self._try_next(pending, now)
        for server in self.health.due(now):
            actions += self._probe(server, now)
        return actions

    def _probe(self, server: int, now: float) -> list[Action[WaiterT]]:
        before = self._probes.get(server)
        self.failed_probes[server] += before is not None
        closed = [] if before is None else self._drop(before, now)
        send = self._sends(server)
        pending: _Pending[WaiterT] = _Pending(self._probe_ask, server, probe=True)
        attempt, message = self._new_attempt(pending, server, now, tcp=send is SendTcp)
        self._probes[server] = attempt
        return [*closed, send(attempt, self.upstreams[server], message)]

    def _sends(self, server: int) -> type[SendUdp] | type[SendTcp]:
        plain = self.upstreams[server].transport is Transport.PLAIN
        return SendUdp if plain and not self._manners.force_tcp else SendTcp

    def _try_next(self, pending: _Pending[WaiterT], now: float) -> list[Action[WaiterT]]:
        if pending.tries >= self._patience.tries:
            return self._finish(pending, pending.last_word)
        if pending.refusal and pending.tries >= len(self.upstreams):
            return self._finish(pending, pending.last_word)  # each has said no: asking again changes nothing
        server = self.health.usable(pending.next_server)
        self.all_down += server is None or self.health.is_down(server)
        if server is None:
            return self._finish(pending, pending.last_word)
        pending.next_server = (server + 1) % len(self.upstreams)
        pending.tries += 1
        patience = self._patience
        hedge = pending.tries == 1 and len(self.upstreams) > 1
        pending.deadline = now + (min(patience.hedge_s, patience.try_s) if hedge else patience.try_s)
        send = self._sends(server)
        attempt, message = self._new_attempt(pending, server, now, tcp=send is SendTcp)
        return [send(attempt, self.upstreams[server], message)]

    def _retry_tcp(self, attempt: int, under_way: _Attempt[WaiterT], now: float) -> list[Action[WaiterT]]:
        under_way.pending.deadline = now + self._patience.try_s
        del self._attempts[attempt]
        under_way.pending.attempts.remove(attempt)
        again, message = self._new_attempt(under_way.pending, under_way.server, now, tcp=True)
        return [Close(attempt), SendTcp(again, self.upstreams[under_way.server], message)]

    def _new_attempt(
        self, pending: _Pending[WaiterT], server: int, now: float, *, tcp: bool
    ) -> tuple[int, bytes]:
        ask = pending.ask
        ident = self._draw(65536)
        name = self._mixed(ask.question.name) if self._keeps_case[server] else ask.question.name
        question = Question(name, ask.question.qtype, ask.question.qclass).wire
        attempt, self._next_attempt = self._next_attempt, self._next_attempt + 1
        self._attempts[attempt] = _Attempt(pending, server, ident, question, tcp, now)
        pending.attempts.append(attempt)
        edns = Edns(dnssec_ok=bool(ask.dnssec_ok)) if ask.options or ask.dnssec_ok is not None else None
        header = HEADER.pack(ident, ask.flags, 1, 0, 0, edns is not None)
        return attempt, header + question + opt_record(edns, options=ask.options)

    def _mixed(self, name: bytes) -> bytes:
        """Return ``name``, in lower case, with letters in random case; bit 0x20 makes a letter a capital."""
        letters = int.from_bytes(name.translate(_LETTERS), "big")
        flips = self._draw(1 << 8 * len(name)) & letters
        return (int.from_bytes(name, "big") ^ flips).to_bytes(len(name), "big")

    def _matching(self, attempt: _Attempt[WaiterT], message: bytes) -> UpstreamReply | None:
        """Return the reply if it answers what the attempt asked, whatever its case (see ``received``)."""
        if message[:2] != attempt.id.to_bytes(2, "big"):
            return None  # before any work: forgers send many
        try:
            reply = read_reply(message)
        except Malformed:
            return None
        asked = attempt.pending.ask.question
        theirs = Question(reply.question.name.lower(), reply.question.qtype, reply.question.qclass)
        opcode = reply.flags >> 11 & 0xF
        return reply if theirs == asked and not opcode else None

    def _finish(
        self, pending: _Pending[WaiterT], reply: UpstreamReply | None, *, by: int = -1
    ) -> list[Action[WaiterT]]:
        del self._pending[pending.ask]
        for attempt in pending.attempts:
            del self._attempts[attempt]
        closed: list[Action[WaiterT]] = [Close(attempt, attempt == by) for attempt in pending.attempts]
        return [*closed, Deliver(tuple(pending.waiters), reply)]
