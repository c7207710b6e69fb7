"""The codec of conntrack messages."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.kernel import conntrack, uapi
from kubenet.kernel.conntrack import (
    CTA_ID,
    CTA_IP_DST,
    CTA_IP_SRC,
    CTA_PROTO_DST_PORT,
    CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT,
    CTA_TUPLE_IP,
    CTA_TUPLE_ORIG,
    CTA_TUPLE_PROTO,
    CTA_TUPLE_REPLY,
    CTA_ZONE,
    Family,
    grouped,
    kind_of,
)
from kubenet.kernel.netlink import CodecError, attribute, attributes, nested

ADDRESSES = {4: ("10.244.9.9", "10.96.0.10", "10.244.1.2"), 6: ("fd00::9", "fd00:96::10", "fd00:244::2")}


def side(
    kind: int, family: Family, source: str, destination: str, ports: tuple[int, int], *, plain: bool = True
) -> bytes:
    src = attribute(CTA_IP_SRC[family], ip_address(source).packed)
    dst = attribute(CTA_IP_DST[family], ip_address(destination).packed)
    first, second = (port.to_bytes(2) for port in ports)
    numbers = [attribute(CTA_PROTO_SRC_PORT, first), attribute(CTA_PROTO_DST_PORT, second)]
    if not plain:
        src, dst, numbers = dst, src, numbers[::-1]
    protocol = nested(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, b"\x11"), *numbers)
    return nested(kind, nested(CTA_TUPLE_IP, src, dst), protocol)


def entry(family: Family, *, plain: bool = True, more: bytes = b"") -> bytes:
    client, vip, backend = ADDRESSES[family]
    head = bytes([uapi.AF_INET if family == 4 else uapi.AF_INET6, 0, 0, 0])
    sent = side(CTA_TUPLE_ORIG, family, client, vip, (40000, 53), plain=plain)
    back = side(CTA_TUPLE_REPLY, family, backend, client, (5300, 40000), plain=plain)
    return head + sent + back + more


@pytest.mark.parametrize("plain", [True, False], ids=["as the kernel lays it out", "in another order"])
@pytest.mark.parametrize("family", [4, 6])
def test_an_entry_says_where_it_was_sent_to_and_who_answers(family: Family, plain: bool) -> None:
    _, vip, backend = ADDRESSES[family]
    kind = kind_of(entry(family, plain=plain))
    assert kind
    assert kind.sockets() == ((ip_address(vip), 53), (ip_address(backend), 5300))


def test_entries_alike_come_together() -> None:
    alike = [entry(4), entry(4, more=attribute(CTA_ID, b"\0\0\0\1"))]
    groups = grouped([*alike, entry(6)])
    assert sorted(len(group) for group in groups.values()) == [1, 2]


def test_a_flow_without_ports_is_left_out() -> None:
    client, vip, _ = ADDRESSES[4]
    addresses = nested(
        CTA_TUPLE_IP,
        attribute(CTA_IP_SRC[4], ip_address(client).packed),
        attribute(CTA_IP_DST[4], ip_address(vip).packed),
    )
    protocol = nested(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, b"\x01"))
    icmp = (
        b"\2\0\0\0"
        + nested(CTA_TUPLE_ORIG, addresses, protocol)
        + nested(CTA_TUPLE_REPLY, addresses, protocol)
    )
    assert kind_of(icmp) is None
    assert grouped([icmp]) == {}


def test_a_deletion_names_the_very_flow() -> None:
    ident, zone = attribute(CTA_ID, b"\1\2\3\4"), attribute(CTA_ZONE, b"\0\7")
    request = conntrack.delete(entry(4, more=ident + zone))
    said = attributes(request.body, 4)
    assert said == {
        CTA_TUPLE_ORIG: attributes(entry(4), 4)[CTA_TUPLE_ORIG],
        CTA_ID: b"\1\2\3\4",
        CTA_ZONE: b"\0\7",
    }
    assert request.body[:4] == b"\2\0\0\0"


@pytest.mark.parametrize(
    "body", [b"", b"\2\0\0\0", b"\1\0\0\0", entry(4)[:30]], ids=["nothing", "no flow", "no family", "cut"]
)
def test_what_is_no_flow_cannot_be_deleted(body: bytes) -> None:
    with pytest.raises(CodecError):
        conntrack.delete(body)


@given(st.binary(max_size=200), st.sampled_from([4, 6]), st.integers(0, 120))
def test_no_bytes_raise_anything_but_our_own_error(junk: bytes, family: Family, cut: int) -> None:
    for body in (junk, entry(family)[:cut] + junk):
        try:
            kind_of(body)
            conntrack.delete(body)
        except CodecError:
            pass
