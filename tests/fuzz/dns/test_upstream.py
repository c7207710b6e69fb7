"""Hostile upstream servers: what they send is an answer to what was asked, or it is dropped."""

import random
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from dns import names
from dns.asks import Ask
from dns.cache import ReplyCache
from dns.forward import Deliver, Forwarder, SendTcp, SendUdp, Upstream
from dns.relay import UpstreamReply, all_records, read_reply, relay
from dns.settings import CacheConfig
from dns.wire import HEADER, QR, RA, RD, Query, Question, RType
from kubenet.errors import Malformed
from tests.fuzz.dns.mutate import inputs, mutated

pytestmark = pytest.mark.fuzz

NAME = names.from_text("www.example.com")


def record(name: bytes, rtype: int, content: bytes, ttl_s: int = 60) -> bytes:
    head = rtype.to_bytes(2, "big") + b"\0\x01" + ttl_s.to_bytes(4, "big")
    return name + head + len(content).to_bytes(2, "big") + content


POINTER = b"\xc0\x0c"
SOA = POINTER + POINTER + bytes(20)
BODIES = (
    ((1, 0, 0), record(POINTER, RType.A, b"\x01\x02\x03\x04")),
    ((2, 0, 0), record(POINTER, RType.CNAME, b"\x03cdn\xc0\x10") + record(b"\xc0\x2d", RType.A, bytes(4))),
    ((0, 1, 0), record(b"\xc0\x10", RType.SOA, SOA)),
    (
        (1, 1, 2),
        record(POINTER, RType.MX, b"\0\x05\x02mx\xc0\x10")
        + record(b"\xc0\x10", RType.NS, b"\xc0\x10")
        + record(b"\x02mx\xc0\x10", RType.A, bytes(4))
        + b"\0\0\x29\x04\xd0"
        + bytes(6),
    ),
    ((0, 0, 0), b""),
)


def reply_to(message: bytes, counts: Sequence[int], body: bytes, rcode: int = 0) -> bytes:
    """Return an answer to what was sent, its question as it was spelled."""
    end = message.index(0, 12) + 5
    flags = int.from_bytes(message[2:4], "big") | QR | RA | rcode
    return message[:2] + flags.to_bytes(2, "big") + HEADER.pack(0, 0, 1, *counts)[4:] + message[12:end] + body


def test_C_an_answer_is_relayed_whole_or_is_malformed(fuzz_seconds: float) -> None:
    asked = Query(1, RD, Question(NAME, RType.A))
    sent = HEADER.pack(1, RD, 1, 0, 0, 0) + asked.question.wire
    for message in inputs([reply_to(sent, *each) for each in BODIES], fuzz_seconds):
        try:
            reply = read_reply(message)
            if reply.question != asked.question:
                continue
            given = relay(asked, reply, 512)
            assert len(given) <= 512, message.hex()
            assert read_reply(given).question == asked.question
            all_records(reply)
        except Malformed:
            continue


def test_C_nothing_is_remembered_that_was_not_asked(fuzz_seconds: float) -> None:
    """Whatever comes back, the cache holds at most an answer to the question that was sent."""
    dice = random.Random(1)
    ask = Ask(Question(NAME, RType.A), RD, None)
    other = Ask(Question(names.from_text("victim.example.com"), RType.A), RD, None)
    cache = ReplyCache(CacheConfig())
    forwarder: Forwarder[str] = Forwarder([Upstream(ip_address("192.0.2.1"))], dice.randrange)
    now = 0.0
    for noise in inputs([each[1] for each in BODIES], fuzz_seconds):
        now += 1.0
        sent = [
            action for action in forwarder.ask(ask, "me", now, stream=False) if isinstance(action, SendUdp)
        ]
        if not sent:
            continue
        attempt, message = sent[0].attempt, sent[0].message
        counts = [dice.randrange(4) for _ in range(3)]
        answer = reply_to(message, counts, noise)
        hostile = mutated(answer, dice) if dice.random() < 0.5 else answer
        actions = list(forwarder.received(attempt, hostile, now))
        while not any(isinstance(action, Deliver) for action in actions):
            again = [action for action in actions if isinstance(action, SendUdp | SendTcp)]
            actions = (
                list(forwarder.failed(again[0].attempt, now))
                if again
                else list(forwarder.expire(now := now + 9))
            )
        for action in actions:
            if isinstance(action, Deliver) and isinstance(action.reply, UpstreamReply):
                theirs = action.reply.question
                assert (theirs.name.lower(), theirs.qtype, theirs.qclass) == (NAME, RType.A, 1), hostile.hex()
                cache.put(ask, action.reply, now)
        assert len(cache) <= 1
        assert cache.get(other, now) is None
