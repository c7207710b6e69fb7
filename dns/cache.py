"""Keeps what upstream servers answered, as long as it may be kept. *Pure*: the time comes in.

Only forwarded answers are kept: our own names have a store behind them and need no cache. The time is
monotonic, so that a clock that is set neither lengthens nor shortens a life; what is given out never has a
longer TTL than it came with. An answer past its life may still be given, with TTL 0, while it is asked for
again (``serve_stale``).

Source: RFC 2308 (denials by SOA), RFC 8767 (stale answers), RFC 4035 section 4.6 (DO and CD are in the key);
manual page of the plugin cache of CoreDNS.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TypeAlias

from dns.asks import Ask
from dns.names import ROOT, WireName, is_in
from dns.relay import UpstreamReply
from dns.settings import CacheConfig
from dns.wire import CD, RD, Rcode, RType

# The question with its name in lower case, what ``kept_form`` gives, options of EDNS.
Key: TypeAlias = bytes

_TTL_BEFORE_CONTENT = 6  # the TTL's 4 bytes and the length's 2 stand before the content


@dataclass(slots=True)
class _Kept:
    reply: UpstreamReply
    at: float
    ttl_s: int
    asked: int = 0
    counting_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Hit:
    """What was kept; ``refresh`` says that it should be asked for again, soon or already late.

    ``verify``: it is too old, and only for the case that nobody answers now.
    """

    reply: UpstreamReply
    refresh: bool
    verify: bool = False


@dataclass(slots=True)
class CacheCounters:
    """What happened; the names are those of CoreDNS's metrics."""

    hits_success: int = 0
    hits_denial: int = 0
    misses: int = 0
    served_stale: int = 0
    prefetches: int = 0
    evictions: int = 0


class ReplyCache:
    """The answers of one server block."""

    def __init__(self, config: CacheConfig) -> None:
        self.counters = CacheCounters()
        self._config = config
        self._takes_all = ROOT in config.zones
        self._success: OrderedDict[Key, _Kept] = OrderedDict()  # the one asked longest ago first
        self._denial: OrderedDict[Key, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._success) + len(self._denial)

    @property
    def entries(self) -> tuple[int, int]:
        """How many answers and how many denials are kept."""
        return len(self._success), len(self._denial)

    def get(self, ask: Ask, now: float) -> Hit | None:
        """Return what is known of ``ask``."""
        return self.look(_key(ask), now)

    def look(self, key: Key, now: float) -> Hit | None:
        """Return what is known under ``key``."""
        kept = self._success.get(key) or self._denial.get(key)
        left_s = kept.at + kept.ttl_s - now if kept else 0.0
        if kept is None or left_s <= -self._config.stale_s:
            self.counters.misses += 1
            return None
        self._note_hit(key)
        if left_s <= 0:
            self.counters.served_stale += not self._config.stale_verify
            return Hit(
                _aged(kept.reply, kept.ttl_s, kept.ttl_s), refresh=True, verify=self._config.stale_verify
            )
        age_s = 0 if self._config.keep_ttl else int(now - kept.at)
        return Hit(_aged(kept.reply, age_s, kept.ttl_s), self._prefetches(kept, left_s, now))

    def _note_hit(self, key: Key) -> None:
        table = self._success if key in self._success else self._denial
        table.move_to_end(key)
        if table is self._success:
            self.counters.hits_success += 1
        else:
            self.counters.hits_denial += 1

    def _prefetches(self, kept: _Kept, left_s: float, now: float) -> bool:
        config = self._config
        if not config.prefetch:
            return False
        if now - kept.counting_since > config.prefetch_within_s:
            kept.asked, kept.counting_since = 0, now
        kept.asked += 1
        due = kept.asked >= config.prefetch and left_s <= kept.ttl_s * config.prefetch_share
        self.counters.prefetches += due
        return due

    def put(self, ask: Ask, reply: UpstreamReply, now: float) -> None:
        """Remember ``reply``, if it may be."""
        if ask.flags & RD:
            self.keep(_key(ask), ask.question.name, reply, now)

    def keep(self, key: Key, name: WireName, reply: UpstreamReply, now: float) -> None:
        """Remember the reply to a question for recursion, if it may be."""
        if not (self._takes_all or self._config.takes(name)) or reply.truncated:
            return
        denial = reply.rcode != Rcode.NOERROR or reply.empty
        ttl_s = self._life_s(reply, denial)
        refused = self._config.no_denial if denial else self._config.no_success
        if ttl_s <= 0 or (refused and any(is_in(name, zone) for zone in refused)):
            return
        table, other = (self._denial, self._success) if denial else (self._success, self._denial)
        other.pop(key, None)
        table[key] = _Kept(reply, now, ttl_s, 0, now)
        table.move_to_end(key)
        if len(table) > (self._config.denial if denial else self._config.success):
            table.popitem(last=False)
            self.counters.evictions += 1

    def _life_s(self, reply: UpstreamReply, denial: bool) -> int:
        """Return how long ``reply`` may be kept; 0: not at all."""
        config = self._config
        if reply.rcode == Rcode.SERVFAIL:
            return int(config.servfail_s)
        if reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            return 0
        if denial:
            told = _denial_ttl_s(reply)
            return 0 if told is None else min(max(told, config.denial_least_s), config.denial_ttl_s)
        least = min([span.ttl_s for span in reply.records if span.section < 2], default=0)
        return min(max(least, config.success_least_s), config.success_ttl_s)


def _key(ask: Ask) -> Key:
    return ask.question.wire + kept_form(bool(ask.dnssec_ok), ask.flags) + ask.options


def kept_form(dnssec_ok: bool, flags: int) -> bytes:
    """Return what of a query's form makes another answer of it."""
    return bytes((dnssec_ok, bool(flags & CD)))


def _denial_ttl_s(reply: UpstreamReply) -> int | None:
    """Return how long the SOA record lets a denial live; without one it may not be kept."""
    for span in reply.records:
        if span.section == 1 and span.rtype == RType.SOA and span.end - span.rdata_at > 4:
            minimum_s = int.from_bytes(reply.message[span.end - 4 : span.end], "big")
            return min(span.ttl_s, minimum_s)
    return None


def _aged(reply: UpstreamReply, age_s: int, life_s: int) -> UpstreamReply:
    """Return the reply with the TTLs that are left after ``age_s``."""
    message = bytearray(reply.message)
    for span in reply.records:
        # A TTL with the top bit set counts as 0 (RFC 2181 section 8).
        ttl_s = 0 if span.ttl_s >> 31 else max(0, min(span.ttl_s, life_s) - age_s)
        at = span.rdata_at - _TTL_BEFORE_CONTENT
        message[at : at + 4] = ttl_s.to_bytes(4, "big")
    return replace(reply, message=bytes(message))
