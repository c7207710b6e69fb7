"""What changes in a namespace is heard, and what gets lost is known to be lost."""

import asyncio
import socket
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface

import pytest

from kubenet.kernel import codec
from kubenet.kernel.events import Changed, Group, Overrun, Subject, Subscription
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import (
    Address,
    FdbEntry,
    Link,
    LinkKind,
    LinkState,
    Neighbor,
    Route,
    VethPeer,
    Vxlan,
    diff_state,
    state_of,
)

pytestmark = pytest.mark.netns

MAC = "0e:00:00:00:00:01"
VTEP = IPv4Address("172.30.0.1")
UNDERLAY = Link("br0", LinkKind.BRIDGE)
OWN_V6 = IPv6Interface("fd00::1/64")
VXLAN = Link("vx", LinkKind.VXLAN, vxlan=Vxlan(1, VTEP, 8472, "br0"))


def test_every_subject_is_heard_with_its_link(netns: NetNs, rtnl: Rtnl) -> None:
    want = state_of(
        UNDERLAY,
        VXLAN,
        Address("br0", IPv4Interface("172.30.0.1/16")),
        Route(IPv4Network("10.9.0.0/16"), "br0"),
        Neighbor("br0", IPv4Address("172.30.0.2"), MAC),
        FdbEntry("vx", MAC, IPv4Address("172.30.0.2")),
    )
    expected = {
        Changed(Subject.LINK, "br0"),
        Changed(Subject.LINK, "vx"),
        Changed(Subject.ADDRESS, "br0"),
        Changed(Subject.ROUTE, "br0", table=254),
        Changed(Subject.NEIGHBOR, "br0"),
        Changed(Subject.FDB, "vx"),
    }
    with Subscription(netns) as subscription:
        assert subscription.read() == []
        rtnl.apply(diff_state(LinkState(), want))
        assert expected <= set(subscription.read())
        rtnl.transact([codec.delete_route(Route(IPv4Network("10.9.0.0/16"), "br0"), rtnl.ifindex("br0"))])
        assert Changed(Subject.ROUTE, "br0", table=254, gone=True) in subscription.read()
        rtnl.transact([codec.delete_link(ifname="vx")])
        assert Changed(Subject.LINK, "vx", gone=True) in subscription.read()


def test_a_link_that_was_there_before_has_its_name(netns: NetNs, rtnl: Rtnl) -> None:
    rtnl.apply(diff_state(LinkState(), state_of(UNDERLAY)))
    with Subscription(netns, [Group.NEIGHBOR]) as subscription:
        rtnl.transact([codec.new_neighbor(rtnl.ifindex("br0"), Neighbor("br0", VTEP, MAC))])
        assert Changed(Subject.NEIGHBOR, "br0") in subscription.read()


def test_only_what_was_asked_for_is_heard(netns: NetNs, rtnl: Rtnl) -> None:
    with Subscription(netns, [Group.ADDRESS_V4]) as subscription:
        rtnl.transact([codec.new_link(UNDERLAY), codec.set_link(name="br0", group=9)])
        index = rtnl.ifindex("br0")
        rtnl.transact([codec.new_address(index, ip) for ip in (IPv4Interface("172.30.0.1/16"), OWN_V6)])
        assert set(subscription.read()) == {Changed(Subject.ADDRESS, "br0")}


def test_a_port_that_leaves_its_bridge_is_not_gone(netns: NetNs, rtnl: Rtnl) -> None:
    pair = Link("p0", LinkKind.VETH, master="br0", peer=VethPeer("p1"))
    rtnl.apply(diff_state(LinkState(), state_of(UNDERLAY, pair, Link("p1", LinkKind.VETH))))
    with Subscription(netns, [Group.LINK]) as subscription:
        rtnl.transact([codec.set_link(name="p0", master_index=0)])
        events = subscription.read()
        assert Changed(Subject.LINK, "p0") in events
        assert Changed(Subject.LINK, "p0", gone=True) not in events


def test_another_namespace_is_not_heard(netns: NetNs, other_netns: NetNs, rtnl: Rtnl) -> None:
    with Subscription(other_netns) as subscription:
        rtnl.transact([codec.new_link(UNDERLAY)])
        assert subscription.read() == []


def test_lost_events_become_an_overrun_and_the_names_are_read_again(netns: NetNs, rtnl: Rtnl) -> None:
    with Subscription(netns) as subscription:
        subscription._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        rtnl.transact([codec.new_link(Link(f"br{number}", LinkKind.BRIDGE)) for number in range(20)])
        assert Overrun() in subscription.read()
        rtnl.transact([codec.new_neighbor(rtnl.ifindex("br19"), Neighbor("br19", VTEP, MAC))])
        assert Changed(Subject.NEIGHBOR, "br19") in subscription.read()


def test_an_event_loop_is_woken(netns: NetNs, rtnl: Rtnl) -> None:
    async def hear() -> None:
        heard = asyncio.Event()
        with Subscription(netns, [Group.LINK]) as subscription:
            asyncio.get_running_loop().add_reader(subscription.fileno(), heard.set)
            await asyncio.to_thread(rtnl.transact, [codec.new_link(UNDERLAY)])
            await asyncio.wait_for(heard.wait(), timeout=5)
            asyncio.get_running_loop().remove_reader(subscription.fileno())

    asyncio.run(hear())
