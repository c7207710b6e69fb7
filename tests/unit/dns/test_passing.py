"""Plain questions: which they are, and that they get what they would get the long way."""

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dns import names
from dns.asks import Ask, Plain, ask_of_key, key_of
from dns.forward import Deliver, Forwarder, Patience, SendTcp, SendUdp
from dns.passed import Passed, form_of_query
from dns.relay import read_reply, relay
from dns.respond import Forwarding
from dns.site import Site
from dns.tally import UDP, Meter
from dns.wire import AD, CD, RD, TC, Query, Question, Rcode, RType, read_query
from tests.unit.dns.test_forward import SERVERS, forwarder, reply_to
from tests.unit.dns.test_site import KUBEADM, site
from tests.unit.dns.world import PLAIN_OPT, ZONE, Cluster, query, service

NAME = "www.example.com"
ASK = Ask(Question(names.from_text(NAME), RType.A), RD, None)
DNSSEC_OPT = b"\0" + struct.pack("!HHIH", 41, 4096, 0x8000, 0)
COOKIE_OPT = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 12) + struct.pack("!HH", 10, 8) + bytes(8)


@dataclass
class Client:
    """Waits in the plain way, and then in the other."""

    name: str
    began: float = 0.0

    def widened(self, ask: Ask) -> str:
        return f"{self.name} widened"


def passed_on(engine: Forwarder[str], ask: Ask = ASK, name: str = "a") -> tuple[Plain[str], bytes]:
    found = engine.pass_on(key_of(ask), Client(name), 0.0)
    assert not isinstance(found, bool)
    return found


def kubeadm() -> tuple[Site, list[tuple[int, bytes]]]:
    """Return a site like kubeadm's, and what it passes on."""
    made = site(KUBEADM.read_text(), Cluster(service("demo/web", "10.96.1.1"), upstream=True))
    found: list[tuple[int, bytes]] = []

    def pass_on(route: int, question: bytes, _: Passed) -> bool:
        found.append((route, question))
        return True

    made.parts[0].pass_on = pass_on
    return made, found


def takes(asked: Site, message: bytes) -> bool:
    return asked.pass_on(message, UDP, lambda _: None)


@pytest.mark.parametrize("opt", [b"", PLAIN_OPT, DNSSEC_OPT])
@pytest.mark.parametrize("flags", [0, RD, RD | AD, RD | CD])
def test_S8_a_plain_question_asks_what_the_long_way_asks(flags: int, opt: bytes) -> None:
    asked, found = kubeadm()
    message = query("wWw.Example.com", opt=opt, flags=flags)
    assert takes(asked, message)
    slowly = asked.respond_slowly(message, stream=False, client="192.0.2.9")
    assert isinstance(slowly, Forwarding)
    read = read_query(message)
    assert isinstance(read, Query)
    assert found == [(0, slowly.ask.question.wire)]
    key = found[0][1] + form_of_query(read).asked
    assert ask_of_key(key) == slowly.ask
    assert key_of(slowly.ask) == key


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(query(f"web.demo.svc.{ZONE}"), id="a name of ours"),
        pytest.param(query(f"no.demo.svc.{ZONE}"), id="a name that would be ours"),
        pytest.param(query(ZONE), id="the top of our zone"),
        pytest.param(query("1.1.96.10.in-addr.arpa", RType.PTR), id="a reverse name"),
        pytest.param(query(b"\0"), id="the root"),
        pytest.param(query(NAME, RType.HINFO), id="what our probe asks"),
        pytest.param(query(NAME, RType.AXFR), id="a transfer"),
        pytest.param(query(NAME)[:-1] + b"\3", id="another class"),
        pytest.param(query(NAME)[:-1], id="cut short"),
        pytest.param(query(NAME) + b"\0", id="too long"),
        pytest.param(query(NAME, opt=COOKIE_OPT), id="an option"),
        pytest.param(query(NAME, flags=0x8000), id="an answer"),
        pytest.param(query(NAME, flags=0x2000), id="another operation"),
        pytest.param(query(b"\x41" + b"a" * 65 + names.from_text("example.com")), id="a label too long"),
        pytest.param(query(b"\xc0\x0c" + names.from_text("example.com")), id="a pointer"),
        pytest.param(query((b"\x3f" + b"a" * 63) * 4 + names.from_text("example.com")), id="a name too long"),
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(12), id="no question"),
    ],
)
def test_S8_what_is_not_plain_is_not_passed_on(message: bytes) -> None:
    asked, found = kubeadm()
    assert takes(asked, query(NAME)), "what is learned must not help"
    assert not takes(asked, message)
    assert len(found) == 1


@pytest.mark.parametrize("plugin", ["log", "rewrite name a.org b.org", "acl {\n block\n }", "any", "minimal"])
def test_a_plugin_that_may_have_a_say_is_always_asked(plugin: str) -> None:
    asked = site(f". {{\n forward . 192.0.2.1\n {plugin}\n}}")
    asked.parts[0].pass_on = lambda *_: True
    assert not takes(asked, query(NAME))


def test_P6_names_that_are_excepted_are_not_passed_on() -> None:
    asked = site(". {\n forward . 192.0.2.1 {\n except secret.org\n }\n}\nown.org {\n forward . 192.0.2.2\n}")
    found: list[str] = []
    for part, name in zip(asked.parts, ("first", "second"), strict=True):
        part.pass_on = lambda *_, name=name: not found.append(name)  # type: ignore[func-returns-value]
    wanted = {"secret.org": False, "a.secret.org": False, "a.own.org": True, "a.org": True, "own.org": False}
    assert {each: takes(asked, query(each)) for each in wanted} == wanted
    assert found == ["second", "first"]


@given(st.binary(min_size=0, max_size=80))
def test_S8_any_datagram_is_passed_on_or_left(rest: bytes) -> None:
    asked, found = kubeadm()
    for message in (rest, query(NAME)[:12] + rest, query(NAME) + rest):
        if takes(asked, message):
            assert isinstance(asked.respond_slowly(message, stream=False, client="192.0.2.9"), Forwarding)
    assert len(found) <= 3


@given(
    st.sampled_from([b"", PLAIN_OPT, DNSSEC_OPT]),
    st.sampled_from([0, RD, RD | AD, RD | CD]),
    st.sampled_from([0, AD, Rcode.NXDOMAIN]),
    st.integers(0, 40),
    st.booleans(),
)
def test_the_reply_is_what_the_long_way_writes(
    opt: bytes, flags: int, said: int, count: int, edns: bool
) -> None:
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes(4)
    message = query("wWw.example.com", opt=opt, flags=flags)
    head = struct.pack("!6H", 1, 0x8000 | said, 1, count, 0, edns)
    found = read_reply(head + query(NAME)[12:] + record * count + (PLAIN_OPT if edns else b""))
    read = read_query(message)
    assert isinstance(read, Query)
    passed = Passed(message, len(message) - len(opt), form_of_query(read), UDP, Meter(), lambda _: None)
    assert passed.reply(found) == relay(read, found, read.udp_limit)


def test_S8_a_plain_question_is_answered() -> None:
    engine = forwarder()
    plain, sent = passed_on(engine)
    assert engine.waiting
    reply = engine.plainly_answered(plain, reply_to(sent), 0.1)
    assert reply is not None
    assert not engine.busy


def test_S8_ids_and_case_of_plain_questions_differ() -> None:
    engine = forwarder(patience=Patience())
    sent = [
        passed_on(engine, Ask(Question(names.from_text(f"n{n}.example.com"), RType.A), RD, None))[1]
        for n in range(100)
    ]
    assert len({message[:2] for message in sent}) > 90
    assert len({message[-20:] for message in sent}) > 90


def test_S8_equal_plain_questions_are_asked_once_however_they_come() -> None:
    engine = forwarder()
    plain, sent = passed_on(engine)
    assert engine.pass_on(key_of(ASK), Client("b"), 0.0) is True
    assert engine.ask(ASK, "c", 0.0, stream=False) == []
    assert engine.pass_on(key_of(ASK), Client("d"), 0.0) is False, "it is no plain one any more"
    actions = engine.received(plain.attempt, reply_to(sent), 0.1)
    (told,) = (each for each in actions if isinstance(each, Deliver))
    assert told.waiters == ("a widened", "b widened", "c")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda good: bytes((good[0] ^ 1,)) + good[1:], id="another id"),
        pytest.param(lambda good: good[:13] + bytes((good[13] ^ 1,)) + good[14:], id="another name"),
        pytest.param(lambda good: good[:2] + b"\0" + good[3:], id="a query"),
        pytest.param(lambda good: good[:-1], id="cut short"),
        pytest.param(lambda good: good[:4] + b"\0\2" + good[6:], id="two questions"),
        pytest.param(lambda good: b"", id="nothing"),
    ],
)
def test_D1_what_is_forged_is_dropped_and_the_wait_goes_on(change: object) -> None:
    assert callable(change)
    engine = forwarder()
    plain, sent = passed_on(engine)
    forged = change(reply_to(sent))
    assert engine.plainly_answered(plain, forged, 0.1) is None
    assert engine.received(plain.attempt, forged, 0.1) == []
    assert engine.mismatched == 1
    actions = engine.received(plain.attempt, reply_to(sent), 0.2)
    assert any(isinstance(each, Deliver) and each.waiters == ("a widened",) for each in actions)


def test_S8_another_case_sends_a_plain_question_over_tcp() -> None:
    engine = forwarder()
    plain, sent = passed_on(engine)
    lowered = reply_to(sent).lower()
    lowered = reply_to(sent)[:12] + lowered[12:]
    assert engine.plainly_answered(plain, lowered, 0.1) is None
    assert any(isinstance(each, SendTcp) for each in engine.received(plain.attempt, lowered, 0.1))


@pytest.mark.parametrize("flags", [Rcode.SERVFAIL, Rcode.REFUSED])
def test_D1_a_plain_question_that_is_refused_goes_to_the_next_server(flags: int) -> None:
    engine = forwarder(*SERVERS)
    plain, sent = passed_on(engine)
    assert engine.plainly_answered(plain, reply_to(sent, flags), 0.1) is None
    assert any(
        isinstance(each, SendUdp) for each in engine.received(plain.attempt, reply_to(sent, flags), 0.1)
    )


def test_D1_a_cut_answer_is_nothing_plain() -> None:
    engine = forwarder()
    plain, sent = passed_on(engine)
    assert engine.plainly_answered(plain, reply_to(sent, TC), 0.1) is None
    actions = engine.received(plain.attempt, reply_to(sent, TC), 0.1)
    assert any(isinstance(each, Deliver) for each in actions)


def test_D1_a_late_plain_question_is_asked_again_and_either_answer_counts() -> None:
    engine = forwarder(*SERVERS)
    plain, sent = passed_on(engine)
    assert engine.expire(0.3) == []
    again = engine.expire(0.4)
    assert any(isinstance(each, SendUdp) for each in again)
    actions = engine.received(plain.attempt, reply_to(sent), 0.5)
    assert any(isinstance(each, Deliver) and each.waiters == ("a widened",) for each in actions)
    assert not engine.busy


def test_S8_plain_questions_are_bounded() -> None:
    engine = forwarder()
    for number in range(3):
        passed_on(engine, Ask(Question(names.from_text(f"n{number}.org"), RType.A), RD, None))
    assert engine.pass_on(key_of(ASK), Client("late"), 0.0) is False
    (refusal,) = engine.ask(ASK, "late", 0.0, stream=False)
    assert type(refusal).__name__ == "Refuse"
