"""What we say to the kernel becomes so, and what it tells us is so."""

import errno
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import pytest
from hypothesis import given, settings

from kubenet.errors import NotFound
from kubenet.kernel import codec, inspect, uapi
from kubenet.kernel.netlink import NetlinkError, Request
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nlsocket import Resync
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import (
    DYING_GROUP,
    Address,
    FdbEntry,
    Link,
    LinkKind,
    LinkState,
    Neighbor,
    Route,
    StateDiff,
    VethPeer,
    Vxlan,
    diff_state,
    state_of,
)
from tests.strategies import kernel_states

pytestmark = pytest.mark.netns

MAC = "0e:00:00:00:00:01"
VTEP = IPv4Address("172.30.0.1")
POD_GATEWAY = IPv4Address("10.244.0.1")
NODE = state_of(
    Link("lo", LinkKind.LOOPBACK),
    Link("eth0", LinkKind.VETH, mac=MAC, peer=VethPeer("wire")),
    Link("wire", LinkKind.VETH, group=7),
    Link("cni0", LinkKind.BRIDGE, mac="0e:00:00:00:00:02", mtu=1450),
    Link("v0", LinkKind.VETH, mtu=1450, master="cni0", peer=VethPeer("eth0", "pod", "0e:00:00:00:00:03")),
    Link("vx", LinkKind.VXLAN, mac="0e:00:00:00:00:04", mtu=1450, vxlan=Vxlan(1, VTEP, 8472, "eth0")),
    Address("eth0", IPv4Interface("172.30.0.1/16")),
    Address("eth0", IPv4Interface("172.30.0.250/16")),
    Address("eth0", IPv6Interface("fd00::1/64")),
    Address("cni0", IPv4Interface("10.244.0.1/24")),
    Address("cni0", IPv6Interface("fe80::1/64")),
    Address("vx", IPv4Interface("10.244.0.0/32")),
    Route(IPv4Network("0.0.0.0/0"), "eth0", gateway=IPv4Address("172.30.0.9")),
    Route(IPv4Network("10.244.1.0/24"), "vx", gateway=IPv4Address("10.244.1.0"), onlink=True, mtu=1400),
    Route(IPv4Network("10.8.0.7/32"), "cni0", source=POD_GATEWAY),
    Route(IPv6Network("fd01::/64"), "eth0", gateway=IPv6Address("fd00::9")),
    Neighbor("vx", IPv4Address("10.244.1.0"), "0e:00:00:00:01:04"),
    Neighbor("eth0", IPv6Address("fd00::9"), "0e:00:00:00:01:05"),
    FdbEntry("vx", "0e:00:00:00:01:04", IPv4Address("172.30.0.2")),
)
POD = state_of(
    Link("lo", LinkKind.LOOPBACK),
    Link("eth0", LinkKind.VETH, mac="0e:00:00:00:00:03", mtu=1450),
    Address("eth0", IPv4Interface("10.244.0.2/24")),
    Route(IPv4Network("0.0.0.0/0"), "eth0", gateway=POD_GATEWAY),
)


def owned(state: LinkState, want: LinkState) -> LinkState:
    return state.owned_by(want.links.keys())


def make_so(rtnl: Rtnl, want: LinkState, namespaces: dict[str, NetNs]) -> None:
    """Apply ``want`` over what is there, links that it does not name included (but the loopback)."""
    have = rtnl.observe()
    rtnl.apply(diff_state(have.owned_by((have.links.keys() - {"lo"}) | want.links.keys()), want), namespaces)


def left_to_do(rtnl: Rtnl, want: LinkState) -> StateDiff:
    return diff_state(owned(rtnl.observe(), want), want)


def nothing_to_do() -> StateDiff:
    return diff_state(LinkState(), LinkState())


def test_what_was_applied_is_observed_by_us_and_by_another_reader(
    netns: NetNs, other_netns: NetNs, rtnl: Rtnl
) -> None:
    rtnl.apply(diff_state(LinkState(), NODE), {"pod": other_netns})
    with Rtnl(other_netns) as pod_rtnl:
        pod_rtnl.apply(diff_state(LinkState(), POD))
        for reader, space, want in ((rtnl, netns, NODE), (pod_rtnl, other_netns, POD)):
            seen = owned(reader.observe(), want)
            assert not diff_state(seen, want)
            assert owned(inspect.observe(space), want) == seen


def test_applying_twice_says_nothing_to_the_kernel(other_netns: NetNs, rtnl: Rtnl) -> None:
    rtnl.apply(diff_state(LinkState(), NODE), {"pod": other_netns})
    change = diff_state(owned(rtnl.observe(), NODE), NODE)
    assert change == nothing_to_do()
    rtnl.close()
    rtnl.apply(change)  # a single word would fail: the connection is closed
    with pytest.raises(NetlinkError, match="Bad file descriptor"):
        rtnl.observe()


def test_a_pod_and_its_node_carry_a_packet(netns: NetNs, other_netns: NetNs, rtnl: Rtnl) -> None:
    rtnl.apply(diff_state(LinkState(), NODE), {"pod": other_netns})
    with Rtnl(other_netns) as pod_rtnl:
        pod_rtnl.apply(diff_state(LinkState(), POD))
    with (
        netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        other_netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind((str(POD_GATEWAY), 0))
        server.settimeout(5)
        client.sendto(b"hello", server.getsockname())
        assert server.recvfrom(64) == (b"hello", ("10.244.0.2", client.getsockname()[1]))


def a_link(name: str, **change: object) -> Callable[[LinkState], LinkState]:
    def changed(state: LinkState) -> LinkState:
        link = replace(state.links[name], **change)  # type: ignore[arg-type]  # the table below holds what fits
        return replace(state, links={**state.links, name: link})

    return changed


def with_addresses(ifname: str, *interfaces: str) -> Callable[[LinkState], LinkState]:
    def changed(state: LinkState) -> LinkState:
        kept = [a for a in state.addresses if a.ifname != ifname or a.interface.version == 6]
        wanted = [*kept, *(Address(ifname, IPv4Interface(interface)) for interface in interfaces)]
        return replace(state, addresses={address: address for address in wanted})

    return changed


def without_link(state: LinkState) -> LinkState:
    return state.owned_by(state.links.keys() - {"vx"})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(a_link("v0", up=False), id="a link goes down"),
        pytest.param(a_link("v0", mtu=1400), id="a port gets a smaller MTU than its bridge"),
        pytest.param(a_link("v0", master=""), id="a port leaves its bridge"),
        pytest.param(a_link("wire", master="cni0"), id="a link becomes a port"),
        pytest.param(a_link("wire", group=3, mac="0e:00:00:00:00:77"), id="a link changes group and MAC"),
        pytest.param(a_link("cni0", mtu=1500), id="a bridge gets another MTU"),
        pytest.param(a_link("vx", vxlan=Vxlan(2, VTEP, 8472, "eth0")), id="a vxlan device is made anew"),
        pytest.param(a_link("vx", vxlan=Vxlan(1, VTEP, 4789, "wire")), id="on another underlay"),
        pytest.param(without_link, id="a link goes with all that stands on it"),
        pytest.param(
            a_link("vx", mac="0e:00:00:00:00:55"), id="a new MAC, at which neighbours are forgotten"
        ),
        pytest.param(
            with_addresses("eth0", "172.31.0.1/16", "172.30.0.250/16"),
            id="the first address goes, and its network's second one with it",
        ),
        pytest.param(with_addresses("eth0", "172.30.0.7/16"), id="the only address changes, and routes go"),
        pytest.param(with_addresses("cni0", "10.244.0.1/23"), id="the source of a route gets another length"),
        pytest.param(lambda state: replace(state, routes={}, neighbors={}, fdb={}), id="tables are emptied"),
        pytest.param(
            lambda state: replace(
                state,
                routes={route.destination: replace(route, mtu=1300) for route in state.routes.values()},
                neighbors={key: replace(entry, mac=MAC) for key, entry in state.neighbors.items()},
                fdb={key: replace(entry, vtep=IPv4Address("172.30.0.8")) for key, entry in state.fdb.items()},
            ),
            id="every entry changes",
        ),
    ],
)
def test_any_change_takes_one_step(
    other_netns: NetNs, rtnl: Rtnl, change: Callable[[LinkState], LinkState]
) -> None:
    rtnl.apply(diff_state(LinkState(), NODE), {"pod": other_netns})
    want = change(NODE)
    rtnl.apply(diff_state(owned(rtnl.observe(), NODE), want))
    assert left_to_do(rtnl, want) == nothing_to_do()
    assert rtnl.observe().links.keys() == want.links.keys()


@settings(max_examples=10, deadline=None)
@given(kernel_states(), kernel_states())
def test_any_state_can_follow_any_other(first: LinkState, second: LinkState) -> None:
    with NetNs.unnamed() as netns, Rtnl(netns) as rtnl:
        for want in (first, second):
            make_so(rtnl, want, {})
            assert left_to_do(rtnl, want) == nothing_to_do()
            assert owned(inspect.observe(netns), want) == owned(rtnl.observe(), want)
        assert rtnl.observe().links.keys() - {"lo"} == second.links.keys()


def test_a_bridge_keeps_the_mtu_it_was_given(rtnl: Rtnl) -> None:
    for mtu in (1450, 1500):
        bridge = Link("br0", LinkKind.BRIDGE, mtu=mtu)
        port = Link("p0", LinkKind.VETH, mtu=1300, master="br0", peer=VethPeer("p1"))
        make_so(rtnl, state_of(bridge, port, Link("p1", LinkKind.VETH, mtu=1300)), {})
        assert rtnl.observe().links["br0"].mtu == mtu
        make_so(rtnl, LinkState(), {})


def test_many_links_are_removed_at_once_and_no_other(rtnl: Rtnl) -> None:
    pairs = [Link(f"a{n}", LinkKind.VETH, peer=VethPeer(f"b{n}")) for n in range(40)]
    ends = [Link(f"b{n}", LinkKind.VETH) for n in range(40)]
    bridge = Link("br0", LinkKind.BRIDGE)
    rtnl.apply(diff_state(LinkState(), state_of(*pairs, *ends, bridge)))
    make_so(rtnl, state_of(bridge), {})
    assert rtnl.observe().links.keys() == {"lo", "br0"}


def test_addresses_that_the_kernel_makes_are_not_observed(rtnl: Rtnl) -> None:
    want = state_of(Link("lo", LinkKind.LOOPBACK), Link("br0", LinkKind.BRIDGE), Link("x", LinkKind.VETH))
    pair = Link("x", LinkKind.VETH, peer=VethPeer("y"))
    rtnl.apply(diff_state(LinkState(), want.union(state_of(pair, Link("y", LinkKind.VETH)))))
    assert rtnl.observe().addresses == {}


def test_our_route_is_seen_beside_one_of_somebody_else(rtnl: Rtnl) -> None:
    want = state_of(Link("br0", LinkKind.BRIDGE), Route(IPv4Network("10.9.0.0/16"), "br0"))
    rtnl.apply(diff_state(LinkState(), want))
    route = codec.new_route(Route(IPv4Network("10.9.0.0/16"), "br0", protocol=4), rtnl.ifindex("br0"))
    preferred = replace(route, flags=uapi.NLM_F_CREATE | 0x800)  # appended behind ours
    rtnl.transact([preferred])
    assert owned(rtnl.observe(), want).routes == want.routes


def test_routes_of_others_that_are_in_the_way_are_not_replaced(rtnl: Rtnl) -> None:
    rtnl.apply(diff_state(LinkState(), state_of(Link("br0", LinkKind.BRIDGE))))
    theirs = Route(IPv4Network("10.9.0.0/16"), "br0", protocol=4)
    rtnl.transact([codec.new_route(theirs, rtnl.ifindex("br0"))])
    want = state_of(Link("br0", LinkKind.BRIDGE), replace(theirs, protocol=107))
    with pytest.raises(NetlinkError, match=r"^add route to .* on br0: File exists"):
        rtnl.apply(diff_state(owned(rtnl.observe(), want), want))
    assert rtnl.observe().routes[theirs.destination] == theirs


UNREACHABLE = Route(IPv4Network("10.9.0.0/16"), "lo", gateway=IPv4Address("192.0.2.1"))


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        pytest.param(
            codec.set_link(name="eth9", up=True),
            errno.ENODEV,
            "set link eth9: up True: No such device",
            id="no link",
        ),
        pytest.param(
            codec.new_route(UNREACHABLE, 1),
            errno.ENETUNREACH,
            r"add route to 10.9.0.0/16 on lo via 192.0.2.1: .* \(Nexthop has invalid gateway\)",
            id="a gateway that nothing covers, in the kernel's own words",
        ),
        pytest.param(
            codec.new_address(99, IPv4Interface("10.0.0.1/8"), ifname="eth9"),
            errno.ENODEV,
            "put address 10.0.0.1/8 on eth9: No such device",
            id="an address on nothing",
        ),
        pytest.param(
            codec.new_link(Link("lo", LinkKind.BRIDGE)),
            errno.EEXIST,
            "make bridge lo: File exists",
            id="a taken name",
        ),
    ],
)
def test_a_refusal_names_what_was_refused(rtnl: Rtnl, request_: Request, code: int, said: str) -> None:
    with pytest.raises(NetlinkError, match=said) as caught:
        rtnl.transact([request_])
    assert caught.value.errno == code


def test_a_refusal_stops_nothing_after_it_and_the_first_is_told(rtnl: Rtnl) -> None:
    bridges = [codec.new_link(Link(f"br{n}", LinkKind.BRIDGE)) for n in range(3)]
    nothing = [codec.set_link(name=f"none{n}", up=True) for n in range(400)]
    with pytest.raises(NetlinkError, match="none0"):
        rtnl.transact([bridges[0], *nothing, bridges[1]])
    rtnl.transact([bridges[2]])
    assert rtnl.observe().links.keys() == {"lo", "br0", "br1", "br2"}


def test_what_is_gone_already_is_no_refusal(rtnl: Rtnl) -> None:
    rtnl.apply(diff_state(LinkState(), state_of(Link("br0", LinkKind.BRIDGE))))
    index = rtnl.ifindex("br0")
    requests = [
        codec.delete_fdb(index, FdbEntry("br0", MAC, VTEP)),
        codec.delete_neighbor(index, Neighbor("br0", VTEP, MAC)),
        codec.delete_route(Route(IPv4Network("10.9.0.0/16"), "br0"), index),
        codec.delete_address(index, IPv4Interface("10.0.0.1/8")),
        codec.delete_link(index=index),
        codec.delete_link(index=index),
        codec.delete_link(ifname="br0"),
        codec.delete_link(group=DYING_GROUP),
    ]
    rtnl.transact(requests[1:])
    rtnl.transact(requests[1:])


def test_no_requests_are_fine(rtnl: Rtnl) -> None:
    rtnl.transact([])
    rtnl.apply(diff_state(LinkState(), LinkState()))


def test_the_number_of_a_link(rtnl: Rtnl) -> None:
    assert rtnl.ifindex("lo") == 1
    with pytest.raises(NotFound, match="eth9: no such link"):
        rtnl.ifindex("eth9")


def test_an_unknown_namespace_for_a_peer_is_named_and_nothing_is_made(rtnl: Rtnl) -> None:
    want = state_of(Link("br0", LinkKind.BRIDGE), Link("v0", LinkKind.VETH, peer=VethPeer("eth0", "pod-7")))
    with pytest.raises(NotFound, match="v0: the namespace pod-7 of its peer is not known"):
        rtnl.apply(diff_state(LinkState(), want))
    assert rtnl.observe().links.keys() == {"lo"}


def test_a_veth_that_nobody_made_is_named(rtnl: Rtnl) -> None:
    with pytest.raises(NotFound, match="eth0: no such link"):
        rtnl.apply(diff_state(LinkState(), POD))


def test_a_link_is_moved_and_named_anew(other_netns: NetNs, rtnl: Rtnl) -> None:
    rtnl.transact([codec.new_link(Link("v0", LinkKind.VETH, peer=VethPeer("v1")))])
    index = rtnl.ifindex("v1")
    rtnl.transact([codec.set_link(index, netns_fd=other_netns.fd, ifname="eth0", alias="moved")])
    with Rtnl(other_netns) as there:
        assert there.observe().links.keys() == {"lo", "eth0"}
    assert rtnl.observe().links.keys() == {"lo", "v0"}


def test_a_connection_stays_where_it_was_opened(netns: NetNs, other_netns: NetNs, rtnl: Rtnl) -> None:
    with other_netns.entered():
        rtnl.transact([codec.new_link(Link("br0", LinkKind.BRIDGE))])
        with Rtnl() as here:
            assert here.observe().links.keys() == {"lo"}
    assert rtnl.observe().links.keys() == {"lo", "br0"}
    assert inspect.observe(netns).links.keys() == {"lo", "br0"}


def test_threads_share_one_connection(rtnl: Rtnl) -> None:
    failures: list[str] = []

    def work(number: int) -> None:
        for turn in range(10):
            rtnl.transact([codec.new_link(Link(f"br{number}-{turn}", LinkKind.BRIDGE, up=False))])
            if f"br{number}-{turn}" not in rtnl.links():
                failures.append(f"br{number}-{turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(rtnl.links()) == 41


def test_lost_answers_say_so_and_the_connection_goes_on(rtnl: Rtnl) -> None:
    """A buffer too small for a hundred refusals: some are lost, which must not pass for success."""
    rtnl._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    with pytest.raises(Resync, match="got lost"):
        rtnl.transact([codec.set_link(name=f"none{number}", up=True) for number in range(100)])
    assert rtnl.ifindex("lo") == 1
    assert rtnl.observe().links.keys() == {"lo"}
