"""What we say to rtnetlink reads back as what was meant, and no bytes make the reader stumble."""

import errno
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kubenet.errors import InvalidInput
from kubenet.kernel import codec, decode, uapi
from kubenet.kernel.netlink import CodecError, Request, attributes, number_in, pack, text_in, unpack
from kubenet.model.links import (
    Address,
    FdbEntry,
    IPInterface,
    Link,
    LinkKind,
    MacAddress,
    Neighbor,
    Route,
    VethPeer,
    Vxlan,
)
from tests.strategies import (
    addresses,
    fdb_entries,
    groups,
    ifnames,
    ip_interfaces,
    links,
    macs,
    mtus,
    neighbors,
    routes,
)

Reader = Callable[[bytes], object]

VETH = Link("v0", LinkKind.VETH, mtu=1450, peer=VethPeer("eth0", "pod", "0e:00:00:00:00:01"))


@given(links(), st.integers(1, 2**31 - 1), st.integers(1, 99), st.integers(100, 200))
def test_a_new_link_reads_back(link: Link, index: int, master_index: int, underlay_index: int) -> None:
    body = codec.new_link(
        link,
        index=index,
        master_index=master_index if link.master else 0,
        underlay_index=underlay_index,
    ).body
    names = {master_index: link.master, underlay_index: link.vxlan.underlay_ifname if link.vxlan else ""}
    told = decode.link(body)
    assert told.index == index
    assert decode.with_names(told, names) == link


@given(ifnames, macs, mtus, st.integers(0, 99), st.integers(0, 99))
def test_the_peer_of_a_veth_is_named_placed_and_left_down(
    ifname: str, mac: MacAddress, mtu: int, peer_fd: int, peer_index: int
) -> None:
    link = replace(VETH, mtu=mtu, peer=VethPeer(ifname, mac=mac))
    body = codec.new_link(link, peer_fd=peer_fd, peer_index=peer_index).body
    linkinfo = attributes(attributes(body, codec.IFINFOMSG.size)[uapi.IFLA_LINKINFO])
    peer = attributes(linkinfo[uapi.IFLA_INFO_DATA])[uapi.VETH_INFO_PEER]
    told = decode.link(peer)
    assert told.index == peer_index
    assert (told.link.ifname, told.link.mac, told.link.mtu, told.link.up) == (ifname, mac, mtu, False)
    assert number_in(attributes(peer, codec.IFINFOMSG.size), uapi.IFLA_NET_NS_FD) == peer_fd


@given(ifnames, macs, mtus, groups, st.booleans())
def test_all_settings_of_a_link_go_into_one_message(
    ifname: str, mac: MacAddress, mtu: int, group: int, up: bool
) -> None:
    request = codec.set_link(7, ifname=ifname, mac=mac, mtu=mtu, group=group, up=up, master_index=3)
    told = decode.link(request.body)
    assert (told.index, told.master_index) == (7, 3)
    assert told.link == Link(ifname, LinkKind.OTHER, mac=mac, mtu=mtu, up=up, group=group)


@pytest.mark.parametrize(
    ("request_", "flags", "mask"),
    [
        pytest.param(codec.set_link(7, up=True), uapi.IFF_UP, uapi.IFF_UP, id="up"),
        pytest.param(codec.set_link(7, up=False), 0, uapi.IFF_UP, id="down"),
        pytest.param(codec.set_link(7, mtu=1400), 0, 0, id="left as it is"),
    ],
)
def test_only_a_change_of_up_touches_the_flags(request_: Request, flags: int, mask: int) -> None:
    assert codec.IFINFOMSG.unpack_from(request_.body)[3:] == (flags, mask)


def test_a_link_is_set_by_name_when_there_is_no_number() -> None:
    found = attributes(codec.set_link(name="eth0", alias="pod web", netns_fd=5).body, codec.IFINFOMSG.size)
    assert text_in(found, uapi.IFLA_IFNAME) == "eth0"
    assert text_in(found, uapi.IFLA_IFALIAS) == "pod web"
    assert number_in(found, uapi.IFLA_NET_NS_FD) == 5


@pytest.mark.parametrize(
    ("request_", "index", "found"),
    [
        pytest.param(codec.delete_link(index=7), 7, {}, id="by number"),
        pytest.param(codec.delete_link(ifname="v0"), 0, {uapi.IFLA_IFNAME: b"v0\0"}, id="by name"),
        pytest.param(
            codec.delete_link(group=0), 0, {uapi.IFLA_GROUP: b"\0\0\0\0"}, id="by group, also group 0"
        ),
    ],
)
def test_links_are_deleted(request_: Request, index: int, found: dict[int, bytes]) -> None:
    assert request_.type == uapi.RTM_DELLINK
    assert codec.IFINFOMSG.unpack_from(request_.body)[2] == index
    assert attributes(request_.body, codec.IFINFOMSG.size) == found


@given(addresses(), st.integers(1, 2**31 - 1))
def test_an_address_reads_back(entry: Address, index: int) -> None:
    assume(str(entry.interface) not in ("127.0.0.1/8", "::1/128"))
    for request in (
        codec.new_address(index, entry.interface),
        codec.delete_address(index, entry.interface),
    ):
        assert decode.address(request.body, {index: entry.ifname}, {}) == entry


@given(ip_interfaces, st.booleans())
def test_duplicate_detection_is_switched_off_for_ipv6_only(interface: IPInterface, no_dad: bool) -> None:
    flags = codec.IFADDRMSG.unpack_from(codec.new_address(3, interface, no_dad=no_dad).body)[2]
    assert bool(flags & uapi.IFA_F_NODAD) == (no_dad and interface.version == 6)


@pytest.mark.parametrize(
    ("interface", "mac"),
    [
        pytest.param(IPv4Interface("127.0.0.1/8"), None, id="loopback, IPv4"),
        pytest.param(IPv6Interface("::1/128"), None, id="loopback, IPv6"),
        pytest.param(
            IPv6Interface("fe80::c00:ff:fe00:1/64"), "0e:00:00:00:00:01", id="link-local made of the MAC"
        ),
    ],
)
def test_addresses_that_the_kernel_makes_are_left_out(interface: IPInterface, mac: MacAddress | None) -> None:
    body = codec.new_address(1, interface).body
    assert decode.address(body, {1: "eth0"}, {"eth0": mac}) is None


@pytest.mark.parametrize("protocol", [pytest.param(p, id=f"made by {p}") for p in uapi.IFAPROT_KERNEL])
def test_an_address_that_the_kernel_marks_as_its_own_is_left_out(protocol: int) -> None:
    body = codec.new_address(1, IPv6Interface("fe80::1/64")).body
    marked = body + struct.pack("=HHBxxx", 5, uapi.IFA_PROTO, protocol)
    assert decode.address(body, {1: "eth0"}, {}) == Address("eth0", IPv6Interface("fe80::1/64"))
    assert decode.address(marked, {1: "eth0"}, {}) is None


@given(routes(), st.integers(1, 2**31 - 1))
def test_a_route_reads_back(route: Route, index: int) -> None:
    for request in (codec.new_route(route, index), codec.delete_route(route, index)):
        ranked = decode.route(request.body, {index: route.ifname})
        assert ranked is not None
        assert ranked.route == route


@given(neighbors(), st.integers(1, 2**31 - 1))
def test_a_neighbour_reads_back(neighbor: Neighbor, index: int) -> None:
    for request in (codec.new_neighbor(index, neighbor), codec.delete_neighbor(index, neighbor)):
        assert decode.neighbor(request.body, {index: neighbor.ifname}) == neighbor
        assert decode.fdb(request.body, {index: neighbor.ifname}) is None


@given(fdb_entries(), st.integers(1, 2**31 - 1))
def test_a_forwarding_entry_reads_back(entry: FdbEntry, index: int) -> None:
    for request in (codec.new_fdb(index, entry), codec.delete_fdb(index, entry)):
        assert decode.fdb(request.body, {index: entry.ifname}) == entry
        assert decode.neighbor(request.body, {index: entry.ifname}) is None


ROUTE = Route(IPv4Network("10.9.0.0/16"), "eth0", gateway=IPv4Address("10.0.0.1"))
HEADER = codec.RTMSG.unpack_from(codec.new_route(ROUTE, 3).body)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param(0, 28, id="another family"),
        pytest.param(4, 255, id="another table"),
        pytest.param(7, 6, id="a blackhole"),
        pytest.param(8, uapi.RTM_F_CLONED, id="a cached route"),
    ],
)
def test_routes_that_the_model_does_not_speak_of_are_left_out(field: int, value: int) -> None:
    header = [*HEADER[:field], value, *HEADER[field + 1 :]]
    body = codec.RTMSG.pack(*header) + codec.new_route(ROUTE, 3).body[codec.RTMSG.size :]
    assert decode.route(body, {3: "eth0"}) is None


def test_a_large_table_number_stands_in_its_attribute() -> None:
    body = codec.new_route(ROUTE, 3).body + struct.pack("=HHI", 8, uapi.RTA_TABLE, 1000)
    assert decode.route(body, {3: "eth0"}) is None


def test_the_metric_of_a_route_is_told() -> None:
    body = codec.new_route(ROUTE, 3).body + struct.pack("=HHI", 8, uapi.RTA_PRIORITY, 256)
    assert decode.route(body, {3: "eth0"}) == decode.RankedRoute(ROUTE, 256)


def test_learned_neighbours_and_forwarding_entries_are_left_out() -> None:
    ip, mac = IPv4Address("10.0.0.2"), "0e:00:00:00:00:02"
    for body, reader in (
        (codec.new_neighbor(3, Neighbor("eth0", ip, mac)).body, decode.neighbor),
        (codec.new_fdb(3, FdbEntry("eth0", mac, ip)).body, decode.fdb),
    ):
        family, index, _, flags, kind = codec.NDMSG.unpack_from(body)
        reachable = codec.NDMSG.pack(family, index, 0x02, flags, kind) + body[codec.NDMSG.size :]
        assert reader(body, {3: "eth0"}) is not None
        assert reader(reachable, {3: "eth0"}) is None


def test_what_stands_on_a_link_that_is_not_here_is_left_out() -> None:
    assert decode.route(codec.new_route(ROUTE, 3).body, {4: "eth0"}) is None
    assert decode.address(codec.new_address(3, IPv4Interface("10.0.0.1/8")).body, {}, {}) is None


def test_a_vxlan_device_that_learns_is_not_taken_for_ours() -> None:
    vxlan = Vxlan(1, IPv4Address("172.30.0.1"), 8472, "eth0")
    body = codec.new_link(Link("vx", LinkKind.VXLAN, vxlan=vxlan), underlay_index=2).body
    off = struct.pack("=HHBxxx", 5, uapi.IFLA_VXLAN_LEARNING, 0)
    on = struct.pack("=HHBxxx", 5, uapi.IFLA_VXLAN_LEARNING, 1)
    assert off in body
    assert decode.link(body).link.vxlan == replace(vxlan, underlay_ifname="")
    assert decode.link(body.replace(off, on)).link.vxlan is None


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(codec.delete_link(index=3), id="link"),
        pytest.param(codec.delete_address(3, IPv4Interface("10.0.0.1/8")), id="address"),
        pytest.param(codec.delete_route(ROUTE, 3), id="route"),
        pytest.param(
            codec.delete_neighbor(3, Neighbor("e", IPv4Address(1), "0e:00:00:00:00:02")), id="neighbour"
        ),
        pytest.param(codec.delete_fdb(3, FdbEntry("e", "0e:00:00:00:00:02", IPv4Address(1))), id="fdb"),
    ],
)
def test_to_delete_what_is_gone_is_forgiven(request_: Request) -> None:
    assert {errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL} == set(request_.forgiven)


@pytest.mark.parametrize(
    ("link", "said"),
    [
        pytest.param(
            Link("lo", LinkKind.LOOPBACK), "lo: a link of kind loopback cannot be made", id="loopback"
        ),
        pytest.param(
            Link("v0", LinkKind.VETH), "v0: a veth is made together with its peer", id="veth, no peer"
        ),
        pytest.param(
            Link("vx", LinkKind.VXLAN), "vx: a vxlan needs a network identifier", id="vxlan, no details"
        ),
        pytest.param(Link("sixteen-octets-x", LinkKind.BRIDGE), "not an interface name", id="name too long"),
        pytest.param(Link("", LinkKind.BRIDGE), "not an interface name", id="no name"),
        pytest.param(Link("a\0b", LinkKind.BRIDGE), "not an interface name", id="zero byte in the name"),
        pytest.param(Link("br0", LinkKind.BRIDGE, mac="0e:00"), "not a MAC address", id="short MAC"),
        pytest.param(Link("br0", LinkKind.BRIDGE, mac="no"), "not a MAC address", id="no MAC at all"),
    ],
)
def test_a_link_that_cannot_be_is_refused_before_the_kernel_is_asked(link: Link, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        codec.new_link(link)


READERS = [
    pytest.param(lambda body: decode.with_names(decode.link(body), {}), codec.IFINFOMSG.size, id="link"),
    pytest.param(
        lambda body: decode.address(body, {3: "e"}, {"e": None}), codec.IFADDRMSG.size, id="address"
    ),
    pytest.param(lambda body: decode.route(body, {3: "e"}), codec.RTMSG.size, id="route"),
    pytest.param(lambda body: decode.neighbor(body, {3: "e"}), codec.NDMSG.size, id="neighbour"),
    pytest.param(lambda body: decode.fdb(body, {3: "e"}), codec.NDMSG.size, id="forwarding entry"),
]
SPECIMENS = [
    codec.new_link(VETH, index=3, peer_fd=4),
    codec.new_link(
        Link("vx", LinkKind.VXLAN, vxlan=Vxlan(1, IPv4Address(1), 8472, "e"), mac="0e:00:00:00:00:02")
    ),
    codec.new_address(3, IPv4Interface("10.0.0.1/8")),
    codec.new_address(3, IPv6Interface("fe80::1/64")),
    codec.new_route(replace(ROUTE, mtu=1400, source=IPv4Address("10.0.0.9")), 3),
    codec.new_neighbor(3, Neighbor("e", IPv4Address(1), "0e:00:00:00:00:02")),
    codec.new_fdb(3, FdbEntry("e", "0e:00:00:00:00:02", IPv4Address(1))),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The body of one of our messages, cut off, or with some bytes overwritten, or simply any bytes."""
    body = bytearray(draw(st.sampled_from(SPECIMENS)).body)
    for _ in range(draw(st.integers(0, 4))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return draw(st.binary(max_size=64) | st.just(bytes(body[: draw(st.integers(0, len(body)))])))


@pytest.mark.parametrize(("reader", "_"), READERS)
@given(body=damaged())
def test_damaged_bytes_are_a_value_or_a_codec_error(reader: Reader, _: int, body: bytes) -> None:
    try:
        reader(body)
    except CodecError:
        pass


@pytest.mark.parametrize(("reader", "header"), READERS)
def test_a_header_that_is_cut_off_is_refused(reader: Reader, header: int) -> None:
    for length in range(header):
        with pytest.raises(CodecError, match="header"):
            reader(bytes(length))


@pytest.mark.parametrize(("reader", "header"), READERS)
def test_an_attribute_longer_than_the_message_is_refused(reader: Reader, header: int) -> None:
    with pytest.raises(CodecError, match="attribute of 9 bytes in the 8"):
        reader(bytes(header) + struct.pack("=HHI", 9, 1, 0))


@given(st.lists(st.sampled_from(SPECIMENS), min_size=1, max_size=5))
def test_a_batch_is_cut_into_the_messages_it_was_made_of(requests: list[Request]) -> None:
    datagram = b"".join(pack(request, number, uapi.NLM_F_ACK) for number, request in enumerate(requests))
    told = list(unpack(datagram))
    assert [(m.type, m.sequence, m.body) for m in told] == [
        (request.type, number, request.body) for number, request in enumerate(requests)
    ]
    assert all(m.flags & (uapi.NLM_F_REQUEST | uapi.NLM_F_ACK) == 5 for m in told)
