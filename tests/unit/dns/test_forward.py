"""Asking upstream servers: who is asked when, and which answers count."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dns import names
from dns.asks import Ask, ask_of
from dns.forward import Action, Close, Deliver, Forwarder, Patience, Refuse, SendTcp, SendUdp, Upstream
from dns.health import Manners, Policy
from dns.wire import CD, QR, RA, RD, TC, Edns, Query, Question, Rcode, RType

NAME = names.from_text("www.example.com")
ASK = Ask(Question(NAME, RType.A), RD, None)
SERVERS = [Upstream(ip_address("192.0.2.1")), Upstream(ip_address("192.0.2.2"))]
PATIENCE = Patience(try_s=1.0, tries=3, most_questions=3, most_waiters=4)


class Dice:
    """Draws that differ each time and can be told again."""

    def __init__(self) -> None:
        self.drawn: list[int] = []
        self._state = 12345

    def __call__(self, n: int) -> int:
        self._state = self._state * 6364136223846793005 + 1442695040888963407 & (1 << 320) - 1
        self.drawn.append((self._state >> 40) % n)
        return self.drawn[-1]


def forwarder(*servers: Upstream, patience: Patience = PATIENCE) -> Forwarder[str]:
    return Forwarder(servers or SERVERS[:1], Dice(), patience)


def udp(actions: list[Action[str]]) -> SendUdp:
    (sent,) = (action for action in actions if isinstance(action, SendUdp))
    return sent


def tcp(actions: list[Action[str]]) -> SendTcp:
    (sent,) = (action for action in actions if isinstance(action, SendTcp))
    return sent


def delivered(actions: list[Action[str]]) -> Deliver[str]:
    (given_back,) = (action for action in actions if isinstance(action, Deliver))
    return given_back


def reply_to(message: bytes, flags: int = 0, *, name: bytes | None = None, ident: int | None = None) -> bytes:
    """Return a reply of one address, or of none if it is truncated or an error."""
    question = message[12:] if name is None else name + message[12 + len(name) :]
    record = (
        b"" if flags & (TC | 0xF) else b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + b"\x5d\xb8\xd8\x22"
    )
    theirs = struct.unpack_from("!H", message)[0] if ident is None else ident
    return struct.pack("!6H", theirs, QR | RD | RA | flags, 1, bool(record), 0, 0) + question + record


def test_S8_a_question_is_asked_and_answered() -> None:
    engine = forwarder()
    sent = udp(engine.ask(ASK, "client", 0.0, stream=False))
    assert sent.upstream == SERVERS[0]
    actions = engine.received(sent.attempt, reply_to(sent.message), 0.1)
    assert Close(sent.attempt, answered=True) in actions
    assert delivered(actions).waiters == ("client",)
    assert delivered(actions).reply is not None
    assert not engine.busy


def test_S8_equal_questions_in_flight_are_asked_once() -> None:
    engine = forwarder(patience=Patience(most_waiters=1000))
    sent = udp(engine.ask(ASK, "0", 0.0, stream=False))
    for client in range(1, 1000):
        assert engine.ask(ASK, str(client), 0.0, stream=False) == []
    actions = engine.received(sent.attempt, reply_to(sent.message), 0.1)
    assert delivered(actions).waiters == tuple(map(str, range(1000)))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Ask(Question(NAME, RType.AAAA), RD, None), id="another type"),
        pytest.param(Ask(Question(NAME, RType.A, 3), RD, None), id="another class"),
        pytest.param(Ask(Question(NAME, RType.A), RD | CD, None), id="without checking"),
        pytest.param(Ask(Question(NAME, RType.A), RD, False), id="with EDNS"),
        pytest.param(Ask(Question(NAME, RType.A), RD, True), id="with DNSSEC"),
    ],
)
def test_S8_what_differs_in_any_part_is_asked_by_itself(other: Ask) -> None:
    engine = forwarder()
    engine.ask(ASK, "a", 0.0, stream=False)
    assert udp(engine.ask(other, "b", 0.0, stream=False))


def test_clients_with_another_case_share_a_question() -> None:
    asks = {
        ask_of(Query(number, RD, Question(name, RType.A)), Question(name, RType.A))
        for number, name in enumerate((NAME, NAME.upper()))
    }
    assert asks == {ASK}


def test_S8_id_and_case_differ_from_try_to_try() -> None:
    seen = set()
    engine = forwarder()
    for number in range(200):
        sent = udp(engine.ask(ASK, str(number), 0.0, stream=False))
        assert sent.message[12:].lower() == ASK.question.wire.lower()
        seen.add((sent.message[:2], sent.message[12:]))
        engine.received(sent.attempt, reply_to(sent.message), 0.0)
    assert len(seen) == 200
    assert len({ident for ident, _ in seen}) > 190
    assert len({case for _, case in seen}) > 150  # of 8,192 ways to write 13 letters


def test_S8_what_is_sent_is_a_plain_query_with_our_own_edns() -> None:
    without = udp(forwarder().ask(ASK, "a", 0.0, stream=False)).message
    assert without[2:12] == struct.pack("!5H", RD, 1, 0, 0, 0)
    assert len(without) == 12 + len(ASK.question.wire)
    with_edns = udp(forwarder().ask(Ask(ASK.question, RD, True), "a", 0.0, stream=False)).message
    assert with_edns[10:12] == b"\0\x01"
    assert with_edns[-11:] == b"\0" + struct.pack("!HHHHH", 41, 1232, 0, 0x8000, 0)


def forged(sent: SendUdp) -> dict[str, bytes]:
    good = reply_to(sent.message)
    other_name = names.from_text("www.example.net")
    ident = struct.unpack_from("!H", sent.message)[0]
    question = ASK.question.wire
    return {
        "another id": reply_to(sent.message, ident=ident ^ 1),
        "another name": reply_to(sent.message, name=other_name),
        "another type": good[: 12 + len(NAME)] + b"\0\x1c" + good[14 + len(NAME) :],
        "another class": good[: 14 + len(NAME)] + b"\0\x03" + good[16 + len(NAME) :],
        "a query": good[:2] + b"\x01\0" + good[4:],
        "an update": good[:2] + b"\xa8\0" + good[4:],
        "two questions": good[:4] + b"\0\x02" + good[6:12] + question + good[12:],
        "no question": good[:4] + bytes(8),
        "cut": good[:-1],
        "counts that lie": good[:6] + b"\xff\xff" + good[8:],
        "empty": b"",
        "garbage": b"\xff" * 600,
    }


@pytest.mark.parametrize("kind", sorted(forged(udp(forwarder().ask(ASK, "a", 0.0, stream=False)))))
def test_D1_what_does_not_match_is_dropped_and_the_wait_goes_on(kind: str) -> None:
    engine = forwarder()
    sent = udp(engine.ask(ASK, "client", 0.0, stream=False))
    for _ in range(3):
        assert engine.received(sent.attempt, forged(sent)[kind], 0.1) == []
    assert engine.mismatched == 3
    assert delivered(engine.received(sent.attempt, reply_to(sent.message), 0.2)).reply


@given(st.integers(0, 65535), st.binary(min_size=2, max_size=40))
def test_D1_no_random_forgery_is_delivered(ident: int, junk: bytes) -> None:
    engine = forwarder()
    sent = udp(engine.ask(ASK, "client", 0.0, stream=False))
    for message in (reply_to(sent.message, ident=ident), junk, struct.pack("!H", ident) + junk):
        if message[:2] != sent.message[:2]:
            assert engine.received(sent.attempt, message, 0.0) == []


def test_D1_all_other_ids_are_refused() -> None:
    engine = forwarder()
    sent = udp(engine.ask(ASK, "client", 0.0, stream=False))
    mine = struct.unpack_from("!H", sent.message)[0]
    for ident in range(0, 65536, 7):
        if ident != mine:
            assert engine.received(sent.attempt, reply_to(sent.message, ident=ident), 0.0) == []
    assert engine.busy


def test_S8_an_answer_in_another_case_is_asked_again_over_tcp_and_the_server_remembered() -> None:
    engine = forwarder()
    sent = udp(engine.ask(ASK, "client", 0.0, stream=False))
    assert sent.message[12 : 12 + len(NAME)] != NAME
    again = tcp(engine.received(sent.attempt, reply_to(sent.message, name=NAME), 0.1))
    assert again.upstream == sent.upstream
    actions = engine.received(again.attempt, reply_to(again.message, name=NAME), 0.2)
    assert delivered(actions).reply
    later = udp(engine.ask(ASK, "client", 1.0, stream=False))
    assert later.message[12 : 12 + len(NAME)] == NAME  # it does not keep the case: no use in mixing it
    assert delivered(engine.received(later.attempt, reply_to(later.message), 1.1)).reply


def test_D1_a_forger_cannot_make_us_forget_the_case_over_udp() -> None:
    engine = forwarder()
    sent = udp(engine.ask(ASK, "client", 0.0, stream=False))
    again = tcp(engine.received(sent.attempt, reply_to(sent.message, name=NAME), 0.1))
    engine.received(again.attempt, reply_to(again.message), 0.2)  # the server keeps the case after all
    later = udp(engine.ask(ASK, "client", 1.0, stream=False))
    assert later.message[12 : 12 + len(NAME)] != NAME


def test_D1_a_truncated_answer_is_asked_again_over_tcp_for_a_client_that_can_take_more() -> None:
    engine = forwarder()
    sent = udp(engine.ask(ASK, "client", 0.0, stream=True))
    again = tcp(engine.received(sent.attempt, reply_to(sent.message, TC), 0.1))
    assert again.message[:2] != sent.message[:2]
    whole = delivered(engine.received(again.attempt, reply_to(again.message), 0.2)).reply
    assert whole is not None
    assert not whole.truncated


def test_D1_a_truncated_answer_goes_to_a_udp_client_as_it_is() -> None:
    engine = forwarder()
    sent = udp(engine.ask(ASK, "client", 0.0, stream=False))
    reply = delivered(engine.received(sent.attempt, reply_to(sent.message, TC), 0.1)).reply
    assert reply is not None
    assert reply.truncated


def test_D1_a_silent_server_is_asked_again_then_given_up() -> None:
    engine = forwarder()
    sent = udp(engine.ask(ASK, "client", 0.0, stream=False))
    assert engine.expire(0.9) == []
    second = udp(engine.expire(1.0))
    third = udp(engine.expire(2.0))
    assert len({message.message[:2] for message in (sent, second, third)}) == 3
    assert engine.expire(2.9) == []
    actions = engine.expire(3.0)
    assert {Close(each.attempt) for each in (sent, second, third)} <= set(actions)
    assert delivered(actions) == Deliver(("client",), None)
    assert not engine.busy


def test_D1_patience_ends_before_stub_resolvers_give_up() -> None:
    patience = Patience()
    assert patience.try_s * patience.tries <= 2.5


def test_D1_a_late_answer_to_an_earlier_try_counts() -> None:
    engine = forwarder(*SERVERS)
    first = udp(engine.ask(ASK, "client", 0.0, stream=False))
    second = udp(engine.expire(1.0))
    assert first.upstream != second.upstream
    actions = engine.received(first.attempt, reply_to(first.message), 1.2)
    assert delivered(actions).reply
    assert Close(second.attempt) in actions
    assert engine.received(second.attempt, reply_to(second.message), 1.3) == []


def test_D1_a_server_that_is_not_there_is_left_at_once() -> None:
    engine = forwarder(*SERVERS)
    first = udp(engine.ask(ASK, "client", 0.0, stream=False))
    actions = engine.failed(first.attempt, 0.001)
    assert Close(first.attempt) in actions
    assert udp(actions).upstream != first.upstream


def test_D1_when_all_fail_at_once_the_client_hears_at_once() -> None:
    engine = forwarder(*SERVERS)
    actions = engine.ask(ASK, "client", 0.0, stream=False)
    for _ in range(PATIENCE.tries):
        actions = engine.failed(udp(actions).attempt, 0.0)
    assert delivered(actions) == Deliver(("client",), None)


@pytest.mark.parametrize("rcode", [Rcode.SERVFAIL, Rcode.REFUSED, Rcode.NOTIMP, Rcode.FORMERR])
def test_D1_a_server_that_refuses_is_not_the_last_word(rcode: Rcode) -> None:
    engine = forwarder(*SERVERS)
    first = udp(engine.ask(ASK, "client", 0.0, stream=False))
    second = udp(engine.received(first.attempt, reply_to(first.message, rcode), 0.1))
    assert second.upstream != first.upstream
    reply = delivered(engine.received(second.attempt, reply_to(second.message), 0.2)).reply
    assert reply is not None
    assert reply.rcode == Rcode.NOERROR


def test_D1_when_all_refuse_the_client_gets_the_refusal() -> None:
    engine = forwarder(*SERVERS)
    first = udp(engine.ask(ASK, "client", 0.0, stream=False))
    second = udp(engine.received(first.attempt, reply_to(first.message, Rcode.REFUSED), 0.1))
    reply = delivered(engine.received(second.attempt, reply_to(second.message, Rcode.REFUSED), 0.2)).reply
    assert reply is not None
    assert reply.rcode == Rcode.REFUSED


def test_D1_nxdomain_is_an_answer() -> None:
    engine = forwarder(*SERVERS)
    sent = udp(engine.ask(ASK, "client", 0.0, stream=False))
    reply = delivered(engine.received(sent.attempt, reply_to(sent.message, Rcode.NXDOMAIN), 0.1)).reply
    assert reply is not None
    assert reply.rcode == Rcode.NXDOMAIN


def test_D1_a_tcp_connection_that_closes_early_is_a_failure() -> None:
    engine = forwarder(*SERVERS)
    sent = udp(engine.ask(ASK, "client", 0.0, stream=True))
    again = tcp(engine.received(sent.attempt, reply_to(sent.message, TC), 0.1))
    assert udp(engine.failed(again.attempt, 0.2)).upstream != sent.upstream


def test_D1_garbage_over_tcp_is_a_failure() -> None:
    engine = forwarder(*SERVERS)
    sent = udp(engine.ask(ASK, "client", 0.0, stream=True))
    again = tcp(engine.received(sent.attempt, reply_to(sent.message, TC), 0.1))
    assert udp(engine.received(again.attempt, b"\0" * 30, 0.2))


def test_what_is_too_much_to_remember_is_refused() -> None:
    engine = forwarder()
    for number in range(PATIENCE.most_questions):
        engine.ask(Ask(Question(NAME, number), RD, None), "a", 0.0, stream=False)
    assert engine.ask(Ask(Question(NAME, 999), RD, None), "b", 0.0, stream=False) == [Refuse("b")]
    same = Ask(Question(NAME, 0), RD, None)
    for _ in range(PATIENCE.most_waiters - 1):
        assert engine.ask(same, "c", 0.0, stream=False) == []
    assert engine.ask(same, "d", 0.0, stream=False) == [Refuse("d")]


def test_each_server_is_the_first_for_some() -> None:
    engine = forwarder(*SERVERS, patience=Patience())
    first = {
        udp(engine.ask(Ask(Question(NAME, number), RD, None), "a", 0.0, stream=False)).upstream
        for number in range(50)
    }
    assert first == set(SERVERS)


def test_the_edns_of_a_client_decides_what_is_asked() -> None:
    question = Question(NAME, RType.A)
    assert ask_of(Query(1, RD, question, None), question).dnssec_ok is None
    assert ask_of(Query(1, RD, question, Edns(4096)), question).dnssec_ok is False
    assert ask_of(Query(1, RD, question, Edns(4096, dnssec_ok=True)), question).dnssec_ok is True


def mannered(manners: Manners, servers: int = 3) -> Forwarder[str]:
    upstreams = [Upstream(ip_address(f"192.0.2.{n + 1}")) for n in range(servers)]
    return Forwarder(upstreams, Dice(), Patience(try_s=1.0, tries=1), manners)


def first_asked(asker: Forwarder[str], now: float, count: int) -> list[str]:
    """Return whom each of ``count`` different questions goes to first."""
    asked = []
    for n in range(count):
        ask = Ask(Question(names.from_text(f"{now}-{n}.example"), RType.A), RD, None)
        asked.append(str(udp(asker.ask(ask, "w", now, stream=False)).upstream.address)[-1])
    return asked


def test_P6_the_policies_choose_who_is_asked_first() -> None:
    assert first_asked(mannered(Manners(Policy.SEQUENTIAL)), 0.0, 4) == ["1", "1", "1", "1"]
    assert first_asked(mannered(Manners(Policy.ROUND_ROBIN)), 0.0, 4) == ["1", "2", "3", "1"]
    assert set(first_asked(mannered(Manners(Policy.RANDOM)), 0.0, 50)) == {"1", "2", "3"}


def test_P6_a_server_that_fails_is_not_asked_until_it_answers_a_probe() -> None:
    asker = mannered(Manners(Policy.SEQUENTIAL, max_fails=2, probe_s=0.5))
    first_asked(asker, 0.0, 2)
    asker.expire(1.0)
    assert asker.health.is_down(0)
    assert first_asked(asker, 1.0, 2) == ["2", "2"]
    assert asker.busy
    (probe,) = [each for each in asker.expire(1.6) if isinstance(each, SendUdp)]
    assert probe.upstream.address == ip_address("192.0.2.1")
    assert probe.message[12:] == b"\0\0\x02\0\x01"
    assert asker.received(probe.attempt, b"nonsense", 1.7) == []
    answer = probe.message[:2] + struct.pack("!5H", QR | RA | Rcode.REFUSED, 1, 0, 0, 0) + probe.message[12:]
    assert asker.received(probe.attempt, answer, 1.7) == [Close(probe.attempt)]
    assert first_asked(asker, 1.8, 1) == ["1"]


def test_P6_probes_go_on_and_leave_nothing_behind() -> None:
    asker = mannered(Manners(Policy.SEQUENTIAL, max_fails=1, probe_s=0.5), servers=1)
    first_asked(asker, 0.0, 1)
    asker.expire(1.0)
    opened: set[int] = set()
    for step in range(10):
        for action in asker.expire(1.6 + step):
            if isinstance(action, SendUdp):
                opened.add(action.attempt)
            elif isinstance(action, Close):
                opened.discard(action.attempt)
        assert len(opened) == 1


@pytest.mark.parametrize("fail_fast", [pytest.param(False, id="somebody"), pytest.param(True, id="nobody")])
def test_P6_when_all_are_down_the_configuration_says_who_is_asked(fail_fast: bool) -> None:
    asker = mannered(Manners(Policy.SEQUENTIAL, max_fails=1, fail_fast=fail_fast), servers=1)
    first_asked(asker, 0.0, 1)
    asker.expire(1.0)
    (action,) = asker.ask(ASK, "w", 1.1, stream=False)
    assert isinstance(action, Deliver if fail_fast else SendUdp)


def test_P6_force_tcp_asks_over_tcp_at_once() -> None:
    asker = mannered(Manners(force_tcp=True))
    assert isinstance(asker.ask(ASK, "w", 0.0, stream=False)[0], SendTcp)


def test_P6_a_cut_answer_is_fetched_whole_and_is_better_than_nothing() -> None:
    asker = mannered(Manners(whole=True), servers=1)
    sent = udp(asker.ask(ASK, "w", 0.0, stream=False))
    cut = sent.message[:2] + struct.pack("!5H", QR | RA | RD | TC, 1, 0, 0, 0) + sent.message[12:]
    again = tcp(asker.received(sent.attempt, cut, 0.1))
    given = delivered(asker.failed(again.attempt, 0.2))
    assert given.reply is not None
    assert given.reply.truncated
