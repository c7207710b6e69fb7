"""The laws of comparing what a namespace holds with what it shall hold."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest
from hypothesis import given

from kubenet.model.links import (
    ROUTE_PROTOCOL,
    Address,
    FdbEntry,
    Link,
    LinkKind,
    LinkState,
    Neighbor,
    Route,
    Vxlan,
    diff_state,
    patched_state,
    state_of,
)
from tests.strategies import link_states

VTEP = IPv4Address("172.30.0.1")
UNDERLAY = Link("eth0", LinkKind.VETH, mac="0e:00:00:00:00:01", mtu=1500)
VXLAN = Link(
    "vx",
    LinkKind.VXLAN,
    mac="0e:00:00:00:00:02",
    mtu=1450,
    vxlan=Vxlan(1, VTEP, 8472, underlay_ifname="eth0"),
)
OVERLAY = state_of(
    UNDERLAY,
    VXLAN,
    Address("vx", IPv4Interface("10.244.0.0/32")),
    Address("eth0", IPv4Interface("172.30.0.1/16")),
    Route(IPv4Network("10.244.1.0/24"), "vx", gateway=IPv4Address("10.244.1.0"), onlink=True),
    Neighbor("vx", IPv4Address("10.244.1.0"), "0e:00:00:00:00:03"),
    FdbEntry("vx", "0e:00:00:00:00:03", IPv4Address("172.30.0.2")),
)


def with_link(state: LinkState, link: Link) -> LinkState:
    return replace(state, links={**state.links, link.ifname: link})


@given(link_states(), link_states())
def test_what_is_patched_with_the_difference_is_what_was_wanted(have: LinkState, want: LinkState) -> None:
    assert patched_state(have, diff_state(have, want)) == want


@given(link_states())
def test_a_state_does_not_differ_from_itself(state: LinkState) -> None:
    assert not diff_state(state, state)


@given(link_states(), link_states())
def test_all_that_stands_on_a_remade_link_is_made_again(have: LinkState, want: LinkState) -> None:
    change = diff_state(have, want)
    remade = change.links.removed.keys() & change.links.added.keys()
    for table, wanted in (
        (change.addresses, want.addresses),
        (change.routes, want.routes),
        (change.neighbors, want.neighbors),
        (change.fdb, want.fdb),
    ):
        assert {k for k, entry in wanted.items() if entry.ifname in remade} <= table.added.keys()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"mtu": 1400}, id="mtu"),
        pytest.param({"up": False}, id="down"),
        pytest.param({"mac": "0e:00:00:00:00:09"}, id="mac"),
        pytest.param({"master": "cni0"}, id="master"),
        pytest.param({"group": 7}, id="group"),
    ],
)
def test_a_setting_is_changed_in_place(change: dict[str, object]) -> None:
    wanted = replace(VXLAN, **change)  # type: ignore[arg-type]  # the table above holds what fits
    links = diff_state(OVERLAY, with_link(OVERLAY, wanted)).links
    assert (links.added, links.changed, links.removed) == ({}, {"vx": wanted}, {})


@pytest.mark.parametrize(
    "vxlan",
    [
        pytest.param(Vxlan(2, VTEP, 8472, "eth0"), id="vni"),
        pytest.param(Vxlan(1, IPv4Address("172.30.0.9"), 8472, "eth0"), id="local address"),
        pytest.param(Vxlan(1, VTEP, 4789, "eth0"), id="port"),
        pytest.param(Vxlan(1, VTEP, 8472, "eth1"), id="underlay"),
        pytest.param(None, id="a device that learns, which reads as None"),
    ],
)
def test_what_a_vxlan_device_is_cannot_be_set_and_makes_it_anew(vxlan: Vxlan | None) -> None:
    change = diff_state(with_link(OVERLAY, replace(VXLAN, vxlan=vxlan)), OVERLAY)
    assert (change.links.added, change.links.changed) == ({"vx": VXLAN}, {})
    assert change.links.removed.keys() == {"vx"}
    assert change.routes.added == OVERLAY.routes
    assert change.neighbors.added == OVERLAY.neighbors
    assert change.fdb.added == OVERLAY.fdb
    assert [address.ifname for address in change.addresses.added] == ["vx"]


def test_a_vxlan_device_is_made_anew_with_its_underlay() -> None:
    change = diff_state(with_link(OVERLAY, replace(UNDERLAY, kind=LinkKind.BRIDGE)), OVERLAY)
    assert change.links.added.keys() == change.links.removed.keys() == {"eth0", "vx"}
    assert change.fdb.added == OVERLAY.fdb


def test_the_ports_of_a_bridge_that_is_made_anew_are_put_into_it_again() -> None:
    port = Link("v1", LinkKind.VETH, mac="0e:00:00:00:00:05", mtu=1450, master="cni0")
    bridge = Link("cni0", LinkKind.BRIDGE, mac="0e:00:00:00:00:06", mtu=1450)
    change = diff_state(state_of(replace(bridge, kind=LinkKind.OTHER), port), state_of(bridge, port))
    assert change.links.added == {"cni0": bridge}
    assert change.links.changed == {"v1": port}


def test_what_is_left_to_the_kernel_is_no_difference() -> None:
    have = state_of(Link("cni0", LinkKind.BRIDGE, mac="0e:00:00:00:00:06", mtu=1450))
    assert not diff_state(have, state_of(Link("cni0", LinkKind.BRIDGE)))


def test_owned_by_leaves_out_other_devices_and_the_routes_of_others() -> None:
    ours = Route(IPv4Network("10.244.1.0/24"), "vx", protocol=ROUTE_PROTOCOL)
    state = state_of(
        UNDERLAY,
        VXLAN,
        ours,
        Route(IPv4Network("10.244.2.0/24"), "vx", protocol=2),
        Route(IPv4Network("10.244.3.0/24"), "eth0"),
        Neighbor("eth0", VTEP, "0e:00:00:00:00:03"),
    )
    assert state.owned_by({"vx"}) == state_of(VXLAN, ours)


def test_of_two_states_in_one_the_second_wins() -> None:
    first = state_of(replace(UNDERLAY, mtu=1400), Address("eth0", IPv4Interface("10.0.0.1/8")))
    assert first.union(OVERLAY).links["eth0"] == UNDERLAY
    assert first.union(OVERLAY).addresses.keys() == first.addresses.keys() | OVERLAY.addresses.keys()


def test_neighbours_are_said_again_when_their_link_forgets_them() -> None:
    for change in ({"mac": "0e:00:00:00:00:09"}, {"up": False}):
        wanted = with_link(OVERLAY, replace(VXLAN, **change))
        assert diff_state(OVERLAY, wanted).neighbors.changed == OVERLAY.neighbors
    assert not diff_state(OVERLAY, with_link(OVERLAY, replace(VXLAN, mtu=1400))).neighbors


def test_what_the_loss_of_an_address_shakes_is_said_again() -> None:
    ip = IPv4Address("172.30.0.1")
    others = Route(IPv4Network("10.8.0.0/16"), "vx", source=ip)
    own = Route(IPv4Network("10.9.0.0/16"), "eth0")
    second = Address("eth0", IPv4Interface("172.30.0.250/16"))
    have = OVERLAY.union(state_of(second, others, own))
    want = replace(have, addresses={a: a for a in have.addresses if a.interface.ip != ip})
    change = diff_state(have, want)
    assert change.routes.changed.keys() == {others.destination, own.destination}
    assert change.addresses.changed.keys() == {second}
    assert [a.interface.ip for a in change.addresses.removed] == [ip]
