"""What upstream servers say, as our clients get it."""

import struct

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dns import names
from dns.relay import UpstreamReply, read_records, read_reply, relay
from dns.respond import Forwarding
from dns.wire import AD, CD, RD, Edns, Query, Question, Rcode, RType
from kubenet.errors import Malformed
from tests.unit.dns.world import PLAIN_OPT, ZONE, Cluster, external, query, seen

NAME = "www.example.com"
QUESTION = Question(names.from_text(NAME), RType.A)
OURS = Query(77, RD, Question(names.from_text("wWw.eXaMpLe.CoM"), RType.A), None)


def upstream(
    *lines: str, flags: str = "", rcode: int = 0, authority: tuple[str, ...] = (), opt: bool = False
) -> bytes:
    """Return what dnslib writes for a server whose records are ``lines``."""
    message = dnslib.DNSRecord(
        dnslib.DNSHeader(id=5, qr=1, rd=1, ra=1, rcode=rcode), q=dnslib.DNSQuestion(NAME)
    )
    for flag in flags.split():
        setattr(message.header, flag, 1)
    message.add_answer(*(rr for line in lines for rr in dnslib.RR.fromZone(line)))
    message.add_auth(*(rr for line in authority for rr in dnslib.RR.fromZone(line)))
    if opt:
        message.add_ar(dnslib.EDNS0(udp_len=4096, opts=[dnslib.EDNSOption(10, b"c" * 16)]))
    return bytes(message.pack())


def reply(
    *lines: str, flags: str = "", rcode: int = 0, authority: tuple[str, ...] = (), opt: bool = False
) -> UpstreamReply:
    return read_reply(upstream(*lines, flags=flags, rcode=rcode, authority=authority, opt=opt))


CHAIN = (f"{NAME} 60 CNAME edge.{NAME}", f"edge.{NAME} 30 A 192.0.2.1", f"edge.{NAME} 30 A 192.0.2.2")
SOA = f"{NAME} 300 SOA a.{NAME} b.{NAME} 1 2 3 4 5"


def test_records_pass_on_with_our_id_and_our_clients_case() -> None:
    message = relay(OURS, reply(*CHAIN), 512)
    got = seen(message)
    assert message[12 : 12 + len(OURS.question.wire)] == OURS.question.wire
    assert got.id == 77
    assert [line.lower() for line in got.answers] == [
        f"{NAME}. 60 cname edge.{NAME}.",
        f"edge.{NAME}. 30 a 192.0.2.1",
        f"edge.{NAME}. 30 a 192.0.2.2",
    ]
    assert got.flags == {"qr", "rd", "ra"}


def test_B14_authority_is_not_ours_and_ad_goes_to_those_who_asked() -> None:
    validated = reply(*CHAIN, flags="aa ad")
    assert seen(relay(OURS, validated, 512)).flags == {"qr", "rd", "ra"}
    with_ad = Query(1, RD | AD, QUESTION)
    assert seen(relay(with_ad, validated, 512)).flags == {"qr", "rd", "ra", "ad"}
    with_do = Query(1, RD | CD, QUESTION, Edns(dnssec_ok=True))
    assert seen(relay(with_do, validated, 512)).flags == {"qr", "rd", "ra", "cd", "ad"}
    assert "ad" not in seen(relay(with_ad, reply(*CHAIN), 512)).flags


@pytest.mark.parametrize("theirs", [False, True], ids=["no OPT from upstream", "an OPT from upstream"])
def test_B5_opt_is_ours_alone(theirs: bool) -> None:
    without = relay(OURS, reply(*CHAIN, opt=theirs), 512)
    assert not seen(without).opt
    assert len(seen(without).answers) == 3
    with_edns = relay(Query(1, RD, QUESTION, Edns()), reply(*CHAIN, opt=theirs), 512)
    assert with_edns[-11:] == PLAIN_OPT


def test_B7_what_does_not_fit_is_cut_at_a_record() -> None:
    lines = [f"{NAME} 60 A 192.0.2.{last}" for last in range(1, 101)]
    for limit in range(512, 530):
        got = seen(relay(Query(1, RD, QUESTION, Edns()), reply(*lines), limit))
        assert "tc" in got.flags
        assert got.opt
        assert limit - 16 < got.size <= limit
        assert got.rdata == [f"192.0.2.{last}" for last in range(1, len(got.rdata) + 1)]
    assert len(seen(relay(OURS, reply(*lines), 65535)).answers) == 100


def test_B7_additional_records_that_do_not_fit_are_left_out_silently() -> None:
    message = dnslib.DNSRecord.parse(upstream(*CHAIN))
    message.add_ar(*(rr for n in range(99) for rr in dnslib.RR.fromZone(f"{NAME} 60 A 192.0.2.{n}")))
    got = seen(relay(OURS, read_reply(bytes(message.pack())), 512))
    assert len(got.answers) == 3
    assert 0 < len(got.additional) < 99
    assert "tc" not in got.flags


def test_B7_a_truncated_answer_stays_marked() -> None:
    assert "tc" in seen(relay(OURS, reply(*CHAIN, flags="tc"), 512)).flags


def test_B11_a_denial_passes_on_with_its_soa() -> None:
    got = seen(relay(OURS, reply(rcode=3, authority=(SOA,)), 512))
    assert got.status == "NXDOMAIN"
    assert len(got.authority) == 1


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(upstream(*CHAIN)[:-1], id="cut in a record"),
        pytest.param(upstream(*CHAIN)[:30], id="cut in the question"),
        pytest.param(upstream()[:6] + b"\xff\xff" + upstream()[8:], id="counts that lie"),
        pytest.param(query(NAME), id="a query"),
    ],
)
def test_what_is_no_whole_reply_is_malformed(message: bytes) -> None:
    with pytest.raises(Malformed):
        read_reply(message)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=8), st.integers(0, 300))
def test_D1_a_mutated_reply_is_relayed_within_bounds_or_malformed(
    changes: list[tuple[int, int]], length: int
) -> None:
    message = bytearray(upstream(*CHAIN, authority=(SOA,), opt=True))
    for at, octet in changes:
        message[at % len(message)] = octet
    try:
        parsed = read_reply(bytes(message[:length]) if length > 250 else bytes(message))
    except Malformed:
        return
    try:
        read_records(parsed, 0)
        read_records(parsed, 1)
    except Malformed:
        pass
    if len(parsed.question.wire) == len(QUESTION.wire):
        assert len(relay(Query(1, RD, QUESTION, Edns()), parsed, 512)) <= 512


def test_D8_a_reply_full_of_pointers_is_walked_once() -> None:
    """Each record's name is a pointer into a long chain; none is followed unless the records are read."""
    chain = b"\x01a\0" + b"".join(
        struct.pack("!H", 0xC000 | (33 if n == 0 else 34 + 2 * n)) for n in range(4000)
    )
    record = struct.pack("!HHHIH", 0xC000 | (36 + 2 * 3999), 5, 1, 0, 2) + b"\xc0\x0c"
    count = (65535 - 33 - len(chain) - 14) // len(record)
    text = struct.pack("!HHHIH", 0xC00C, 16, 1, 0, len(chain)) + chain
    head = struct.pack("!6H", 5, 0x8180, 1, count + 1, 0, 0)
    parsed = read_reply(head + names.from_text("w.a") + struct.pack("!HH", 1, 1) + text + record * count)
    assert len(parsed.records) == count + 1
    with pytest.raises(Malformed):
        read_records(parsed, 0)


def waiting_for_alias(opt: bytes = b"") -> tuple[Cluster, Forwarding]:
    cluster = Cluster(external("demo/alias", NAME), upstream=True)
    return cluster, cluster.forwarding(f"alias.demo.svc.{ZONE}", opt=opt)


ALIAS = f"alias.demo.svc.{ZONE}. 5 CNAME {NAME}."


def test_A10_what_an_external_name_leads_to_follows_the_alias() -> None:
    cluster, waiting = waiting_for_alias(PLAIN_OPT)
    got = seen(cluster.responder.complete(waiting, reply(*CHAIN, opt=True)))
    assert (got.status, got.answers, got.opt) == (
        "NOERROR",
        [
            ALIAS,
            f"{NAME}. 60 CNAME edge.{NAME}.",
            f"edge.{NAME}. 30 A 192.0.2.1",
            f"edge.{NAME}. 30 A 192.0.2.2",
        ],
        True,
    )


def test_A10_a_target_that_does_not_exist_is_nxdomain_with_the_alias_and_its_soa() -> None:
    cluster, waiting = waiting_for_alias()
    got = seen(cluster.responder.complete(waiting, reply(rcode=3, authority=(SOA,))))
    assert (got.status, got.answers, len(got.authority)) == ("NXDOMAIN", [ALIAS], 1)


def test_A10_a_target_that_is_refused_leaves_the_alias() -> None:
    cluster, waiting = waiting_for_alias()
    got = seen(cluster.responder.complete(waiting, reply(rcode=Rcode.REFUSED)))
    assert (got.status, got.answers) == ("NOERROR", [ALIAS])


@pytest.mark.parametrize("answer", [None, reply(rcode=Rcode.SERVFAIL)], ids=["silence", "SERVFAIL"])
def test_A10_a_target_nobody_answers_for_is_servfail(answer: UpstreamReply | None) -> None:
    cluster, waiting = waiting_for_alias()
    got = seen(cluster.responder.complete(waiting, answer))
    assert (got.status, got.answers) == ("SERVFAIL", [ALIAS])


def test_D1_a_question_nobody_answers_is_servfail_and_one_too_many_is_refused() -> None:
    cluster = Cluster(upstream=True)
    waiting = cluster.forwarding(NAME, opt=PLAIN_OPT)
    failed = seen(cluster.responder.complete(waiting, None))
    assert (failed.status, failed.opt) == ("SERVFAIL", True)
    assert failed.flags == {"qr", "rd", "ra"}
    assert seen(cluster.responder.refuse(waiting)).status == "REFUSED"


def test_without_upstream_servers_other_names_are_refused() -> None:
    got = Cluster().ask(NAME)
    assert got.status == "REFUSED"
    assert got.flags == {"qr", "rd"}
