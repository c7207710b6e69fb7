"""What upstream servers answered is kept as long as it may be, and no longer."""

import struct
from dataclasses import replace

import pytest

from dns import names
from dns.asks import Ask
from dns.cache import ReplyCache
from dns.relay import UpstreamReply, read_reply
from dns.settings import CacheConfig
from dns.wire import CD, QR, RA, RD, TC, Question, Rcode, RType

NAME = names.from_text("www.example.com")
QUESTION = Question(NAME, RType.A)
ASK = Ask(QUESTION, RD, None)


def record(rtype: int, ttl_s: int, content: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", rtype, 1, ttl_s, len(content)) + content


def soa(ttl_s: int, minimum_s: int) -> bytes:
    return record(RType.SOA, ttl_s, b"\0\0" + struct.pack("!5I", 1, 2, 3, 4, minimum_s))


def reply(
    *ttls_s: int, rcode: int = 0, authority: bytes = b"", flags: int = 0, ask: Ask = ASK
) -> UpstreamReply:
    answers = b"".join(record(RType.A, ttl_s, bytes((192, 0, 2, 1))) for ttl_s in ttls_s)
    header = struct.pack("!6H", 1, QR | RD | RA | flags | rcode, 1, len(ttls_s), bool(authority), 0)
    return read_reply(header + ask.question.wire + answers + authority)


def ttls(cache: ReplyCache, now: float, ask: Ask = ASK) -> list[int] | None:
    hit = cache.get(ask, now)
    return None if hit is None else [span.ttl_s for span in read_reply(hit.reply.message).records]


def cache_of(kept: UpstreamReply, config: CacheConfig | None = None, at: float = 1000.0) -> ReplyCache:
    cache = ReplyCache(config or CacheConfig())
    cache.put(ASK, kept, at)
    return cache


def test_P7_the_ttl_runs_down_and_the_shortest_ends_the_life() -> None:
    cache = cache_of(reply(60, 20))
    assert ttls(cache, 1000.0) == [20, 20]
    assert ttls(cache, 1005.9) == [15, 15]
    assert ttls(cache, 1019.9) == [1, 1]
    assert ttls(cache, 1020.0) is None


def test_P7_a_ttl_is_capped_and_never_lengthened() -> None:
    assert ttls(cache_of(reply(7200), CacheConfig(success_ttl_s=30)), 1000.0) == [30]
    assert ttls(cache_of(reply(0)), 1000.0) is None


def test_D11_a_ttl_never_grows_when_the_clock_stands_or_a_server_lies() -> None:
    assert ttls(cache_of(reply(60)), 1000.0) == [60]
    assert ttls(cache_of(reply(0xFFFFFFFF)), 1000.0) == [0]


@pytest.mark.parametrize(
    ("kept", "life_s"),
    [
        pytest.param(reply(rcode=Rcode.NXDOMAIN, authority=soa(100, 30)), 30, id="NXDOMAIN, minimum of SOA"),
        pytest.param(reply(authority=soa(20, 300)), 20, id="NODATA, TTL of SOA"),
        pytest.param(reply(rcode=Rcode.NXDOMAIN), 0, id="NXDOMAIN without SOA"),
        pytest.param(reply(), 0, id="NODATA without SOA"),
        pytest.param(reply(rcode=Rcode.NXDOMAIN, authority=soa(9999, 9999)), 1800, id="denial, capped"),
        pytest.param(reply(rcode=Rcode.SERVFAIL), 5, id="S8 SERVFAIL for 5 s at most"),
        pytest.param(reply(rcode=Rcode.REFUSED), 0, id="REFUSED"),
        pytest.param(reply(60, flags=TC), 0, id="cut short"),
    ],
)
def test_P7_how_long_a_reply_lives(kept: UpstreamReply, life_s: int) -> None:
    cache = cache_of(kept)
    assert (ttls(cache, 1000.0 + life_s - 0.1) is not None) == bool(life_s)
    assert ttls(cache, 1000.0 + life_s) is None


def test_S8_class_type_DO_and_CD_are_in_the_key_and_RD_AD_are_not() -> None:
    cache = cache_of(reply(60))
    assert cache.get(replace(ASK, flags=RD | CD), 1000.0) is None
    assert cache.get(replace(ASK, dnssec_ok=True), 1000.0) is None
    assert cache.get(replace(ASK, question=Question(NAME, RType.AAAA)), 1000.0) is None
    assert cache.get(replace(ASK, question=Question(NAME, RType.A, 3)), 1000.0) is None
    assert cache.get(replace(ASK, flags=0), 1000.0) is not None
    assert cache.get(replace(ASK, dnssec_ok=False), 1000.0) is not None


def test_an_answer_without_recursion_is_not_kept() -> None:
    cache = ReplyCache(CacheConfig())
    cache.put(replace(ASK, flags=0), reply(60), 0.0)
    assert len(cache) == 0


def test_P7_who_was_asked_longest_ago_goes_first() -> None:
    cache = ReplyCache(CacheConfig(success=2))
    asks = [Ask(Question(names.from_text(f"{n}.example.com"), RType.A), RD, None) for n in range(3)]
    for ask in asks[:2]:
        cache.put(ask, reply(60, ask=ask), 0.0)
    cache.get(asks[0], 1.0)
    cache.put(asks[2], reply(60, ask=asks[2]), 2.0)
    assert [cache.get(ask, 3.0) is not None for ask in asks] == [True, False, True]
    assert cache.counters.evictions == 1


def test_P7_a_stale_answer_has_ttl_0_and_is_asked_for_again() -> None:
    cache = cache_of(reply(10), CacheConfig(stale_s=100))
    hit = cache.get(ASK, 1050.0)
    assert hit is not None
    assert hit.refresh
    assert ttls(cache, 1050.0) == [0]
    assert ttls(cache, 1110.0) is None


def test_P7_what_is_asked_often_is_fetched_before_it_ends() -> None:
    cache = cache_of(reply(100), CacheConfig(prefetch=2, prefetch_share=0.1))
    assert [hit.refresh for now in (1050.0, 1080.0, 1095.0) if (hit := cache.get(ASK, now))] == [
        False,
        False,
        True,
    ]


def test_P7_zones_can_be_left_out() -> None:
    zone = names.from_text("example.com")
    assert len(cache_of(reply(60), CacheConfig(no_success=(zone,)))) == 0
    assert len(cache_of(reply(60), CacheConfig(no_denial=(zone,)))) == 1
    assert len(cache_of(reply(60), CacheConfig(zones=(names.from_text("example.org"),)))) == 0


def test_P7_a_stale_answer_may_be_only_for_the_case_that_nobody_answers() -> None:
    cache = cache_of(reply(10), CacheConfig(stale_s=100, stale_verify=True))
    hit = cache.get(ASK, 1020.0)
    assert hit is not None
    assert (hit.verify, cache.counters.served_stale) == (True, 0)
    fresh = cache.get(ASK, 1005.0)
    assert fresh is not None
    assert not fresh.verify


def test_P7_keepttl_gives_the_ttl_as_it_came() -> None:
    cache = cache_of(reply(60), CacheConfig(keep_ttl=True))
    assert ttls(cache, 1050.0) == [60]
    assert ttls(cache, 1060.0) is None
