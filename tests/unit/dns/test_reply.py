"""The writer: what it writes is read alike by two independent readers, and is never too big."""

import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dns import names
from dns.answer import Answer
from dns.records import RRset, soa_content, srv_content
from dns.reply import write_reply
from dns.wire import CLASS_IN, TCP_BYTES, Edns, Query, Question, Rcode, RType
from tests.unit.dns.world import PLAIN_OPT, ZONE, Cluster, endpoint, endpoint_slice, query, seen, service

scapy = pytest.importorskip("scapy.layers.dns", reason="the packets extra is not installed")

label = st.text("abcXYZ-0", min_size=1, max_size=12).map(str.encode)
wire_name = st.lists(label, min_size=1, max_size=4).map(names.from_labels)
lower_name = wire_name.map(bytes.lower)
ttl = st.integers(0, 2**31 - 1)


def rrsets(rtype: int, content: st.SearchStrategy[bytes]) -> st.SearchStrategy[RRset]:
    contents = st.lists(content, min_size=1, max_size=4, unique=True).map(tuple)
    return st.builds(RRset, lower_name, st.just(rtype), ttl, contents)


any_rrset = st.one_of(
    rrsets(RType.A, st.binary(min_size=4, max_size=4)),
    rrsets(RType.AAAA, st.binary(min_size=16, max_size=16)),
    rrsets(RType.CNAME, wire_name),
    rrsets(RType.PTR, wire_name),
    rrsets(RType.NS, wire_name),
    rrsets(RType.SOA, st.builds(soa_content, wire_name, st.integers(0, 2**32 - 1), st.integers(0, 300))),
    rrsets(RType.SRV, st.builds(srv_content, st.integers(0, 100), st.integers(1, 65535), wire_name)),
)
sections = st.lists(any_rrset, max_size=4).map(tuple)
queries = st.builds(
    Query,
    st.integers(0, 65535),
    st.just(0),
    st.builds(Question, wire_name, st.just(int(RType.A)), st.just(CLASS_IN)),
    st.none() | st.just(Edns()),
)


def written_lines(rrsets: tuple[RRset, ...]) -> list[tuple[str, int, int, bytes]]:
    return [
        (names.to_text(rrset.owner).lower(), rrset.rtype, rrset.ttl_s, content)
        for rrset in rrsets
        for content in rrset.contents
    ]


def dnslib_lines(records: list[dnslib.RR]) -> list[tuple[str, int, int, bytes]]:
    """What dnslib read; its content written again without compression."""
    lines = []
    for record in records:
        if record.rtype != RType.OPT:
            lines.append((str(record.rname).lower(), record.rtype, record.ttl, dnslib_content(record.rdata)))
    return lines


def dnslib_content(rdata: dnslib.RD) -> bytes:
    if isinstance(rdata, dnslib.SOA):  # it compresses its second name against its first
        both = names.from_text(str(rdata.mname)) + names.from_text(str(rdata.rname))
        return both + struct.pack("!5I", *rdata.times)
    buffer = dnslib.DNSBuffer()
    rdata.pack(buffer)
    return bytes(buffer.data)


NAMED = (RType.CNAME, RType.PTR, RType.NS, RType.SOA)  # their names may come back in another case


def lowered(lines: list[tuple[str, int, int, bytes]]) -> list[tuple[str, int, int, bytes]]:
    return [
        (owner, rtype, ttl_s, content.lower() if rtype in NAMED else content)
        for owner, rtype, ttl_s, content in lines
    ]


@settings(max_examples=60)
@given(queries, sections, sections, sections)
def test_dnslib_and_scapy_read_what_we_write(
    asked: Query, answers: tuple[RRset, ...], authority: tuple[RRset, ...], additional: tuple[RRset, ...]
) -> None:
    answer = Answer(Rcode.NOERROR, answers, authority, additional)
    reply = write_reply(asked, answer, TCP_BYTES, lambda n: 0)
    assert write_reply(asked, answer, len(reply), lambda n: 0) == reply  # it just fits
    read = dnslib.DNSRecord.parse(reply)
    assert lowered(dnslib_lines(read.rr)) == lowered(written_lines(answers))
    assert lowered(dnslib_lines(read.auth)) == lowered(written_lines(authority))
    assert lowered(dnslib_lines(read.ar)) == lowered(written_lines(additional))
    assert read.header.id == asked.id
    again = scapy.DNS(reply)
    counts = [len(each) for each in (written_lines(answers), written_lines(authority))]
    assert [again.ancount, again.nscount] == counts
    assert again.arcount == len(written_lines(additional)) + (asked.edns is not None)
    owners = [record.rrname.decode().lower() for record in again.an]
    assert owners == [line[0] for line in written_lines(answers)]
    addresses = [record.rdata for record in again.an if record.type == RType.A]
    assert addresses == [".".join(map(str, line[3])) for line in written_lines(answers) if line[1] == RType.A]


@settings(max_examples=60)
@given(queries, sections, sections, sections, st.integers(512, 1232))
def test_B7_a_reply_is_never_too_big_and_holds_whole_records(
    asked: Query,
    answers: tuple[RRset, ...],
    authority: tuple[RRset, ...],
    additional: tuple[RRset, ...],
    limit: int,
) -> None:
    answer = Answer(Rcode.NOERROR, answers, authority, additional)
    reply = write_reply(asked, answer, limit, lambda n: 0)
    assert len(reply) <= limit
    read = dnslib.DNSRecord.parse(reply)
    wanted, got = written_lines(answers), dnslib_lines(read.rr)
    assert lowered(got) == lowered(wanted)[: len(got)]
    complete = len(got) == len(wanted) and len(read.auth) == len(written_lines(authority))
    assert bool(read.header.tc) == (not complete)
    assert any(record.rtype == RType.OPT for record in read.ar) == (asked.edns is not None)


def big(endpoints: int) -> Cluster:
    hosts = [endpoint(f"10.{200 + n // 62500}.{n // 250 % 250}.{n % 250 + 1}") for n in range(endpoints)]
    return Cluster(service("demo/db", "None"), endpoint_slice("demo/db-1", "db", *hosts))


@pytest.mark.parametrize(
    ("opt", "most"),
    [
        pytest.param(b"", 512, id="without EDNS"),
        pytest.param(PLAIN_OPT, 1232, id="with EDNS"),
        pytest.param(b"\0\0\x29\xff\xff" + bytes(6), 1232, id="a client that would take 65535 over UDP"),
    ],
)
def test_B7_a_cut_reply_says_so_keeps_opt_and_the_stream_gives_all(opt: bytes, most: int) -> None:
    cluster = big(1000)
    name = f"db.demo.svc.{ZONE}"
    cut = cluster.ask(name, opt=opt)
    assert "tc" in cut.flags
    assert cut.opt == bool(opt)
    assert most - 16 < cut.size <= most
    whole = cluster.ask(name, opt=opt, stream=True)
    assert "tc" not in whole.flags
    assert len(whole.answers) == 1000
    assert whole.size < 17000  # a pointer for each owner


def test_B7_what_does_not_fit_a_stream_message_is_cut_too() -> None:
    reply = big(4200).ask(f"db.demo.svc.{ZONE}", stream=True)
    assert "tc" in reply.flags
    assert 65535 - 16 < reply.size <= 65535


def test_B7_names_beyond_what_a_pointer_reaches_are_written_out() -> None:
    hosts = [endpoint(f"10.1.{n // 250}.{n % 250 + 1}") for n in range(400)]
    cluster = Cluster(service("demo/db", "None"), endpoint_slice("demo/db-1", "db", *hosts))
    reply = cluster.ask(f"_http._tcp.db.demo.svc.{ZONE}", RType.SRV, stream=True)
    assert reply.size > 0x4000
    owners = [line.split()[0] for line in reply.additional]
    assert owners == [line.split()[3] for line in reply.rdata]


def test_B7_which_records_are_cut_changes_from_turn_to_turn() -> None:
    cluster = big(200)
    first: set[str] = set()
    for turn in range(200):
        cluster.turn = turn
        reply = cluster.ask(f"db.demo.svc.{ZONE}", opt=PLAIN_OPT)
        assert "tc" in reply.flags
        first.add(reply.rdata[0])
    assert len(first) == 200


def test_B7_additional_records_that_do_not_fit_are_left_out_silently() -> None:
    hosts = [endpoint(f"10.244.0.{n}") for n in range(1, 9)]
    cluster = Cluster(service("demo/db", "None"), endpoint_slice("demo/db-1", "db", *hosts))
    reply = cluster.ask(f"_http._tcp.db.demo.svc.{ZONE}", RType.SRV)
    assert len(reply.answers) == 8
    assert len(reply.additional) < 8
    assert "tc" not in reply.flags


@pytest.mark.parametrize(
    ("name", "qtype"),
    [
        pytest.param(f"a.{ZONE}", RType.A, id="NXDOMAIN, the shortest name"),
        pytest.param(f"web.demo.svc.{ZONE}", RType.AAAA, id="NODATA"),
        pytest.param(f"web.demo.svc.{ZONE}", RType.A, id="an address"),
        pytest.param(f"_http._tcp.web.demo.svc.{ZONE}", RType.SRV, id="SRV"),
        pytest.param(ZONE, RType.ANY, id="ANY at the apex"),
        pytest.param(ZONE, RType.NS, id="NS at the apex"),
    ],
)
def test_B13_a_reply_is_at_most_three_times_its_query(name: str, qtype: int) -> None:
    """Over UDP the source may be forged: what we send to it must not be worth the trouble."""
    cluster = Cluster(service("demo/web", "10.96.1.1"))
    for opt in (b"", PLAIN_OPT):
        assert cluster.ask(name, qtype, opt=opt).size <= 3 * len(query(name, qtype, opt=opt))


def test_the_owner_of_an_answer_is_a_pointer_to_the_question() -> None:
    reply = Cluster(service("demo/web", "10.96.1.1")).send(query(f"WEB.demo.svc.{ZONE}"))
    assert reply is not None
    question_end = 12 + len(names.from_text(f"web.demo.svc.{ZONE}")) + 4
    assert reply[question_end:] == b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + bytes((10, 96, 1, 1))
    assert seen(reply).answers[0].startswith("WEB.")
