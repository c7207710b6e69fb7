"""Messages about rules and connections: what is asked for, what is read, and bytes that are neither."""

import struct
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.errors import KubenetError
from kubenet.kernel import nft_uapi as nf
from kubenet.kernel.ct_events import read_event
from kubenet.kernel.netlink import attribute, attributes, nested, text, text_in
from kubenet.kernel.nft_trace import Traced, read_nflog, read_trace, trace_table
from kubenet.model.packet import ICMP, TCP, FiveTuple


def be32(kind: int, number: int) -> bytes:
    return attribute(kind, struct.pack("!I", number))


def test_a_rule_that_jumps_is_read() -> None:
    verdict = nested(5, be32(1, (1 << 32) - 3), text(2, "KUBE-SVC"))
    handle = attribute(3, struct.pack("!Q", 42))
    body = (
        b"\2\0\0\0" + text(1, "nat") + text(2, "KUBE-SERVICES") + handle + be32(4, 3) + verdict + be32(10, 7)
    )
    event = read_trace(body)
    assert event
    assert (event.table, event.chain, event.handle, event.kind) == ("nat", "KUBE-SERVICES", 42, "rule")
    assert (event.verdict, event.target, event.iif) == ("jump", "KUBE-SVC", 7)


def test_a_policy_has_its_verdict_elsewhere() -> None:
    event = read_trace(b"\2\0\0\0" + text(1, "filter") + text(2, "FORWARD") + be32(4, 1) + be32(16, 0))
    assert event
    assert (event.kind, event.verdict) == ("policy", "drop")


@pytest.mark.parametrize(
    ("prefix", "read"),
    [
        ("TRACE: nat:KUBE-SEP-X:rule:2 ", ("nat", "KUBE-SEP-X", 2, "rule")),
        ("TRACE: filter:FORWARD:policy:9 ", ("filter", "FORWARD", 9, "policy")),
        ("somebody logs: ", None),
    ],
)
def test_legacy_iptables_says_it_in_words(prefix: str, read: tuple[str, str, int, str] | None) -> None:
    event = read_nflog(b"\2\0\0\0" + text(10, prefix) + attribute(1, b"\x08\0\0\0"))
    assert (event and (event.table, event.chain, event.handle, event.kind)) == read


def test_the_table_is_owned_and_asks_for_both_directions() -> None:
    requests = trace_table("t", Traced(TCP, 4000, ((IPv4Address("10.0.0.1"), 80),)))
    kinds = [request.type & 0xFF for request in requests]
    assert kinds == [nf.NFNL_MSG_BATCH_BEGIN, 0, *[3, 6, 6, 6] * 2, nf.NFNL_MSG_BATCH_END]
    table = attributes(requests[1].body, 4)
    assert text_in(table, nf.NFTA_TABLE_NAME) == "t"
    assert int.from_bytes(table[nf.NFTA_TABLE_FLAGS], "big") == nf.NFT_TABLE_F_OWNER
    assert sum(struct.pack("!H", 4000) in request.body for request in requests) == 4


def test_an_echo_is_asked_for_by_its_identifier() -> None:
    requests = trace_table("t", Traced(ICMP, 4000))
    assert [request.type & 0xFF for request in requests].count(6) == 2


def tuple_of(source: str, destination: str, sport: int, dport: int) -> bytes:
    ips = nested(1, attribute(1, IPv4Address(source).packed), attribute(2, IPv4Address(destination).packed))
    ports = attribute(2, struct.pack("!H", sport)) + attribute(3, struct.pack("!H", dport))
    return ips + nested(2, attribute(1, bytes([TCP])), ports)


def test_a_connection_tells_how_it_is_translated() -> None:
    there = nested(1, tuple_of("10.244.0.2", "10.96.0.80", 4000, 80))
    back = nested(2, tuple_of("10.244.1.3", "10.244.0.2", 8080, 4000))
    event = read_event(1 << 8, 0x600, b"\2\0\0\0" + there + back + be32(3, 1 << 5) + be32(12, 77))
    assert event
    assert (event.kind, event.ident) == ("new", 77)
    assert event.original == FiveTuple(IPv4Address("10.244.0.2"), IPv4Address("10.96.0.80"), TCP, 4000, 80)
    assert event.reply.source == IPv4Address("10.244.1.3")
    assert event.destination_translated
    assert not event.source_translated


READERS: list[Callable[[bytes], object]] = [read_trace, read_nflog, lambda body: read_event(0x100, 0, body)]


@pytest.mark.parametrize("read", READERS, ids=["rule", "packet log", "connection"])
@given(body=st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(read: Callable[[bytes], object], body: bytes) -> None:
    for attempt in (body, b"\2\0\0\0" + body):
        try:
            read(attempt)
        except KubenetError:
            pass
