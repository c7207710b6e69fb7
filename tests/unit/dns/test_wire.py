"""What comes over the wire: the strict parser, row by row, and against whatever bytes there are."""

import struct

import dnslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dns import names
from dns.wire import (
    RA,
    RD,
    Edns,
    NameReader,
    Query,
    Question,
    Rcode,
    Reject,
    RType,
    read_query,
    read_question,
    read_record_head,
)
from kubenet.errors import Malformed
from tests.unit.dns.world import PLAIN_OPT, ZONE, Cluster, query, seen, service

NAME = f"web.demo.svc.{ZONE}"


def header(flags: int = RD, *counts: int) -> bytes:
    return struct.pack("!6H", 7, flags, *(counts or (1, 0, 0, 0)))


def opt(
    size: int = 1232, flags: int = 0, options: bytes = b"", *, owner: bytes = b"\0", version: int = 0
) -> bytes:
    return owner + struct.pack("!HHBBHH", RType.OPT, size, 0, version, flags, len(options)) + options


def option(code: int, content: bytes) -> bytes:
    return struct.pack("!HH", code, len(content)) + content


def verdict(message: bytes) -> Rcode | None:
    """The code of the error a message gets at once; NOERROR for a query that is answered."""
    match read_query(message):
        case Reject(rcode=rcode):
            return rcode
        case Query():
            return Rcode.NOERROR
        case None:
            return None


def web() -> Cluster:
    return Cluster(service("demo/web", "10.96.1.1"))


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"", id="an empty datagram"),
        pytest.param(b"\0", id="one octet"),
        pytest.param(query(NAME)[:11], id="less than a header"),
        pytest.param(header(0x8000 | RD) + query(NAME)[12:], id="a reply"),
        pytest.param(header(0x8400, 1, 1, 0, 0) + query(NAME)[12:], id="a reply with answers"),
        pytest.param(header(0x8000, 0, 0, 0, 0), id="a reply of nothing"),
    ],
)
def test_B1_silence(message: bytes) -> None:
    assert web().send(message) is None
    assert web().send(message, stream=True) is None


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(header(RD, 0, 0, 0, 0), id="no question"),
        pytest.param(header(RD, 0, 0, 0, 1) + opt(options=option(10, b"c" * 8)), id="only a cookie"),
        pytest.param(header(RD, 2, 0, 0, 0) + query(NAME)[12:] * 2, id="two questions"),
        pytest.param(query(NAME)[:20], id="the name is cut"),
        pytest.param(query(NAME)[:-2], id="the class is missing"),
        pytest.param(query(NAME)[:-4], id="type and class are missing"),
        pytest.param(query(NAME) + b"x", id="an octet too many"),
        pytest.param(header(RD, 1, 1, 0, 0) + query(NAME)[12:] + b"\0" * 11, id="an answer in a query"),
        pytest.param(header(RD, 1, 0, 0, 3) + query(NAME)[12:] + b"\0" * 33, id="three additional records"),
        pytest.param(header(RD, 65535, 65535, 65535, 65535), id="counts that lie"),
        pytest.param(header(RD, 1, 0, 0, 1) + query(NAME)[12:], id="a record is missing"),
    ],
)
def test_B2_formerr(message: bytes) -> None:
    reply = web().send(message)
    assert reply is not None
    assert seen(reply).status == "FORMERR"
    assert verdict(message) == Rcode.FORMERR


@pytest.mark.parametrize(
    ("opcode", "status"),
    [(1, "NOTIMP"), (2, "NOTIMP"), (4, "REFUSED"), (5, "NOTIMP"), (6, "NOTIMP"), (15, "NOTIMP")],
)
def test_B3_other_opcodes(opcode: int, status: str) -> None:
    flags = opcode << 11 | 0x07F0  # and every bit that must not come back
    message = header(flags) + query(NAME)[12:]
    reply = web().send(message)
    assert reply is not None
    assert seen(reply).status == status
    assert reply[12:] == message[12:]
    assert struct.unpack_from("!H", reply, 2)[0] & ~0xF == 0x8000 | opcode << 11 | RD


def test_B3_an_update_with_any_counts_is_not_implemented() -> None:
    reply = web().send(header(5 << 11, 1, 7, 7, 7) + query(ZONE)[12:] + b"junk")
    assert reply is not None
    assert seen(reply).status == "NOTIMP"


@pytest.mark.parametrize("qclass", [0, 3, 4, 254, 255])
@pytest.mark.parametrize("name", ["version.bind", "id.server", NAME])
def test_B4_other_classes_are_refused(qclass: int, name: str) -> None:
    reply = web().send(query(name, RType.TXT)[:-2] + struct.pack("!H", qclass))
    assert reply is not None
    assert seen(reply).status == "REFUSED"


def test_B5_no_opt_in_no_opt_out() -> None:
    assert not web().ask(NAME).opt
    assert web().ask(NAME, opt=PLAIN_OPT).opt
    assert not web().ask("nothing." + ZONE).opt
    assert web().ask("nothing." + ZONE, opt=PLAIN_OPT).opt


@pytest.mark.parametrize("stream", [False, True])
def test_B5_a_later_version_is_badvers(stream: bool) -> None:
    for version in (1, 255):
        reply = web().send(query(NAME, opt=opt(version=version)), stream=stream)
        assert reply is not None
        assert seen(reply).status == "BADVERS"
        assert reply[-11:] == b"\0" + struct.pack("!HHBBHH", 41, 1232, 1, 0, 0, 0)


@pytest.mark.parametrize("size", [0, 511, 512, 1232, 4096, 65535])
@pytest.mark.parametrize("flags", [0, 0x8000, 0x7FFF, 0xFFFF])
def test_B5_we_tell_our_own_size_and_copy_only_do(size: int, flags: int) -> None:
    reply = web().send(query(NAME, opt=opt(size, flags)))
    assert reply is not None
    assert reply[-11:] == opt(1232, flags & 0x8000)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(opt(owner=b"\x01a\0"), id="not at the root"),
        pytest.param(opt(owner=b"\xc0\x0c"), id="at a pointer"),
        pytest.param(opt(options=b"\0\x03\0\x05abc"), id="an option runs over the end"),
        pytest.param(opt(options=b"\0\x03\0"), id="an option is cut"),
        pytest.param(opt()[:-1], id="cut"),
    ],
)
def test_B5_a_bad_opt_record_is_formerr(record: bytes) -> None:
    message = query(NAME, opt=record)
    reply = web().send(message)
    assert reply is not None
    assert seen(reply).status == "FORMERR"
    assert reply[12:] == message[12 : -len(record)]


def test_B5_two_opt_records_are_formerr_and_so_is_one_among_authorities() -> None:
    two = header(RD, 1, 0, 0, 2) + query(NAME)[12:] + opt() + opt()
    misplaced = header(RD, 1, 0, 1, 0) + query(NAME)[12:] + opt()
    assert verdict(two) == verdict(misplaced) == Rcode.FORMERR


def test_B5_another_additional_record_is_let_be() -> None:
    signature = b"\0" + struct.pack("!HHIH", 250, 255, 0, 3) + b"xyz"
    message = header(RD, 1, 0, 0, 2) + query(NAME)[12:] + opt() + signature
    assert verdict(message) == Rcode.NOERROR


@pytest.mark.parametrize("length", [0, 1, 7, 9, 15, 41, 100])
def test_B6_a_cookie_of_no_allowed_length_is_formerr(length: int) -> None:
    assert verdict(query(NAME, opt=opt(options=option(10, b"c" * length)))) == Rcode.FORMERR


@pytest.mark.parametrize("length", [8, 16, 24, 40])
@pytest.mark.parametrize("stream", [False, True])
def test_B6_a_cookie_is_never_echoed(length: int, stream: bool) -> None:
    for _ in range(2):
        reply = web().send(query(NAME, opt=opt(options=option(10, b"c" * length))), stream=stream)
        assert reply is not None
        assert seen(reply).status == "NOERROR"
        assert reply[-11:] == opt()


@pytest.mark.parametrize("code", [3, 5, 12, 15, 65001])
def test_B6_no_option_is_echoed(code: int) -> None:
    reply = web().send(query(NAME, opt=opt(options=option(code, b"abc"))), stream=True)
    assert reply is not None
    assert reply[-11:] == opt()


def test_B8_keepalive_is_answered_on_a_stream_only() -> None:
    asked = query(NAME, opt=opt(options=option(11, b"")))
    cluster = web()
    for _ in range(2):
        over_udp, over_tcp = cluster.send(asked), cluster.send(asked, stream=True)
        assert over_udp is not None
        assert over_tcp is not None
        assert over_udp[-11:] == opt()
        assert over_tcp[-17:] == opt(options=option(11, struct.pack("!H", 100)))


@pytest.mark.parametrize(
    "question",
    [
        pytest.param(b"\xc0\x0c\0\x01\0\x01", id="a pointer to itself"),
        pytest.param(b"\x01a\xc0\x0c\0\x01\0\x01", id="a pointer to its own beginning"),
        pytest.param(b"\x01a\xc0\xff\0\x01\0\x01", id="a pointer forward"),
        pytest.param(b"\x01a\xc0\0\0\x01\0\x01", id="a pointer into the header"),
        pytest.param(b"\x40" + b"a" * 64 + b"\0\0\x01\0\x01", id="label type 01"),
        pytest.param(b"\x80" + b"a" * 128 + b"\0\0\x01\0\x01", id="label type 10"),
        pytest.param((b"\x3f" + b"a" * 63) * 4 + b"\0\0\x01\0\x01", id="a name of 257 octets"),
        pytest.param(b"\x01a" * 128 + b"\0\0\x01\0\x01", id="128 labels"),
        pytest.param(b"\x3fabc", id="a label over the end"),
    ],
)
def test_B9_a_bad_name_is_formerr(question: bytes) -> None:
    message = header() + question
    assert verdict(message) == Rcode.FORMERR
    reply = web().send(message)
    assert reply is not None
    assert seen(reply).status == "FORMERR"


@pytest.mark.parametrize("target", [0, 11, 12 + 28 + 4, 300, 16383])
def test_B9_a_later_name_may_only_point_back_to_a_name(target: int) -> None:
    message = header(RD, 1, 0, 0, 1) + query(NAME)[12:]
    rest = struct.pack("!HHIH", 250, 255, 0, 0)
    assert len(message) == 12 + 28 + 4
    assert verdict(message + struct.pack("!H", 0xC000 | 12) + rest) == Rcode.NOERROR
    assert verdict(message + struct.pack("!H", 0xC000 | target) + rest) == Rcode.FORMERR


def test_B9_the_longest_label_and_the_longest_name_are_fine() -> None:
    longest = names.from_labels([b"x" * 63, b"y" * 63, b"z" * 63, b"w" * 61])
    most = names.from_labels([b"a"] * 127)
    assert len(longest) == len(most) == 255
    for name in (longest, most):
        question = Question(name, 1)
        assert read_question(header() + question.wire) == (question, 12 + 255 + 4)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            names.from_labels([b"web.demo", b"svc", b"cluster", b"local"]), id="a dot inside a label"
        ),
        pytest.param(names.from_labels([b"web", b"demo", b"svc", b"cluster.local"]), id="a dot in the zone"),
        pytest.param(names.from_labels([b"web\0", b"demo", b"svc", b"cluster", b"local"]), id="a NUL"),
        pytest.param(names.from_labels([b"w\xe9b", b"demo", b"svc", b"cluster", b"local"]), id="not UTF-8"),
    ],
)
def test_B9_odd_octets_are_no_other_name(name: bytes) -> None:
    reply = web().send(query(name))
    assert reply is not None
    # Not every reader takes such a name; the header is enough.
    assert reply[3] & 0xF in (Rcode.NXDOMAIN, Rcode.REFUSED)
    assert struct.unpack_from("!H", reply, 6) == (0,)


def test_B9_a_label_that_ends_like_our_zone_is_not_in_it() -> None:
    inside_one_label = names.from_labels([b"x\x03web\x04demo\x03svc\x07cluster\x05local"])
    assert inside_one_label.endswith(names.from_text(NAME))
    assert web().ask(inside_one_label).status == "REFUSED"


def test_B10_any_is_answered_with_one_set() -> None:
    cluster = Cluster(service("demo/web", "10.96.1.1", "fd00::1"))
    assert cluster.ask(NAME, RType.ANY).answers == [f"{NAME}. 5 A 10.96.1.1"]
    assert len(cluster.ask(ZONE, RType.ANY).answers) == 1


@pytest.mark.parametrize("qtype", [RType.AXFR, RType.IXFR])
@pytest.mark.parametrize("stream", [False, True])
def test_B10_transfers_are_refused(qtype: int, stream: bool) -> None:
    for name in (ZONE, "nothing." + ZONE):
        assert web().ask(name, qtype, stream=stream).status == "REFUSED"


def test_B10_opt_as_a_question_is_formerr() -> None:
    assert web().ask(NAME, RType.OPT).status == "FORMERR"
    assert web().ask("nothing." + ZONE, RType.OPT).status == "FORMERR"


@given(
    st.lists(st.binary(min_size=1, max_size=63), max_size=3),
    st.integers(0, 65535),
    st.sampled_from([None, 0, 512, 4096]),
    st.booleans(),
)
def test_our_parser_reads_what_dnslib_writes(
    labels: list[bytes], qtype: int, size: int | None, dnssec_ok: bool
) -> None:
    written = dnslib.DNSRecord(
        dnslib.DNSHeader(id=99, rd=1), q=dnslib.DNSQuestion(dnslib.DNSLabel(labels), qtype)
    )
    if size is not None:
        written.add_ar(dnslib.EDNS0(udp_len=size, flags="do" if dnssec_ok else ""))
    edns = None if size is None else Edns(size, dnssec_ok)
    expected = Query(99, RD, Question(names.from_labels(labels), qtype), edns)
    assert read_query(bytes(written.pack())) == expected


def test_a_query_of_every_octet_is_never_more_than_an_expected_error() -> None:
    message = query(NAME, opt=opt(options=option(10, b"c" * 8)))
    cluster = web()
    for at in range(len(message)):
        for octet in (0, 1, 0x3F, 0x40, 0x80, 0xC0, 0xFF):
            cluster.responder.respond(message[:at] + bytes((octet,)) + message[at + 1 :], stream=False)
        cluster.responder.respond(message[:at], stream=False)


mutations = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=12)


@settings(max_examples=300)
@given(mutations, st.binary(max_size=40), st.sampled_from([1, 28, 33, 12, 255]), st.booleans())
def test_a_mutated_query_is_never_more_than_an_expected_error(
    changes: list[tuple[int, int]], more: bytes, qtype: int, stream: bool
) -> None:
    message = bytearray(query(NAME, qtype, opt=opt(options=option(10, b"c" * 8))) + more)
    for at, octet in changes:
        message[at % len(message)] = octet
    Cluster(service("demo/web", "10.96.1.1")).responder.respond(bytes(message), stream=stream)


@settings(max_examples=200)
@given(st.binary(max_size=2000), st.integers(0, 65535), st.booleans())
def test_random_bytes_up_to_64_KiB_are_never_more_than_an_expected_error(
    octets: bytes, size: int, with_header: bool
) -> None:
    message = ((header() if with_header else b"") + octets * (1 + size // (len(octets) + 1)))[:65535]
    Cluster().responder.respond(message, stream=True)


@pytest.mark.parametrize("size", [1227, 4091, 16384])
def test_a_name_through_a_long_chain_of_pointers_is_refused_after_few_steps(size: int) -> None:
    """Such names cost other parsers the square of the message's length."""
    links = (size - 15) // 2
    chain = b"".join(
        struct.pack("!H", 0xC000 | (12 if link == 0 else 13 + 2 * link)) for link in range(links)
    )
    message = header() + b"\x01a\0" + chain
    reader = NameReader(message)
    with pytest.raises(Malformed):
        reader.read(len(message) - 2)
    assert reader.steps <= NameReader.MOST_POINTERS + 1


def test_names_of_one_message_share_one_bound() -> None:
    reader = NameReader(header() + names.from_labels([b"a"] * 127))

    def read_all() -> None:
        for _ in range(NameReader.MOST_STEPS):
            reader.read(12)

    with pytest.raises(Malformed):
        read_all()
    assert reader.steps <= NameReader.MOST_STEPS + 1


@given(st.binary(max_size=300), st.integers(0, 320))
def test_reading_a_record_anywhere_is_never_more_than_malformed(message: bytes, at: int) -> None:
    try:
        *_, rdata_at, end = read_record_head(message, at)
    except Malformed:
        return
    assert at < rdata_at <= end <= len(message)


def test_the_flags_of_a_query_that_say_nothing_are_dropped() -> None:
    strange = read_query(header(RD | RA | 0x0400 | 0x0040 | 3) + query(NAME)[12:])
    assert isinstance(strange, Query)
    assert strange.flags == RD
