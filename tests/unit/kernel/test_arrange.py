"""A change is put into the order the kernel needs."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from kubenet.errors import InvalidInput, NotFound
from kubenet.kernel import arrange, uapi
from kubenet.kernel.decode import NumberedLink
from kubenet.kernel.netlink import Request
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

MAC = "0e:00:00:00:00:01"
BRIDGE = Link("br0", LinkKind.BRIDGE, mac=MAC, mtu=1450)
PAIR = Link("v0", LinkKind.VETH, mac=MAC, mtu=1450, peer=VethPeer("v1"))
OTHER_END = Link("v1", LinkKind.VETH, mac=MAC, mtu=1450, master="br0")
VXLAN = Link("vx", LinkKind.VXLAN, mac=MAC, mtu=1400, vxlan=Vxlan(1, IPv4Address("172.30.0.1"), 8472, "v0"))
GATEWAY = IPv4Address("10.244.1.0")
FULL = state_of(
    BRIDGE,
    PAIR,
    OTHER_END,
    VXLAN,
    Address("v0", IPv4Interface("172.30.0.1/16")),
    Route(IPv4Network("10.9.0.0/16"), "v0", gateway=IPv4Address("10.8.0.1")),
    Route(IPv4Network("10.8.0.0/16"), "v0"),
    Neighbor("vx", GATEWAY, MAC),
    FdbEntry("vx", MAC, IPv4Address("172.30.0.2")),
)


def numbered(state: LinkState) -> dict[str, NumberedLink]:
    """Number links in the order of their names, from 2 on, as a kernel might."""
    index_of = {name: place for place, name in enumerate(sorted(state.links), 2)}
    return {
        name: NumberedLink(
            index_of[name],
            replace(link, master=""),
            master_index=index_of.get(link.master, 0),
            underlay_index=index_of.get(link.vxlan.underlay_ifname, 0) if link.vxlan else 0,
        )
        for name, link in state.links.items()
    }


def acts(requests: list[Request]) -> list[str]:
    return [request.what for request in requests]


def from_nothing(want: LinkState) -> StateDiff:
    return diff_state(LinkState(), want)


def test_links_are_made_layer_by_layer() -> None:
    pending = arrange.to_make(from_nothing(FULL))
    layers = []
    while pending:
        now = {link.ifname for link in arrange.makeable_now(pending)}
        layers.append(now)
        pending = {name: link for name, link in pending.items() if name not in now}
    assert layers == [{"br0", "v0"}, {"vx"}]


def test_links_that_stand_on_each_other_are_refused() -> None:
    circle = {name: replace(BRIDGE, ifname=name, master=master) for name, master in (("x", "y"), ("y", "x"))}
    with pytest.raises(InvalidInput, match="links that stand on each other: x, y"):
        arrange.makeable_now(circle)


def test_a_link_on_the_other_end_of_a_pair_waits_for_the_pair() -> None:
    vxlan = replace(VXLAN, vxlan=Vxlan(1, IPv4Address("172.30.0.1"), 8472, "v1"))
    assert arrange.makeable_now({"v0": PAIR, "vx": vxlan}) == [PAIR]


def test_the_other_end_of_a_pair_is_not_made_but_set() -> None:
    here = diff_state(LinkState(), state_of(PAIR, replace(OTHER_END, peer=VethPeer("v0")), BRIDGE))
    assert arrange.to_make(here).keys() == {"v0", "br0"}
    bare = numbered(state_of(BRIDGE, PAIR, replace(OTHER_END, master="", mtu=1500)))
    assert acts(arrange.contents(here, bare)) == ["set link v1: mtu 1450 master_index 2"]


def test_a_loopback_and_an_end_made_from_elsewhere_are_set() -> None:
    want = state_of(Link("lo", LinkKind.LOOPBACK), Link("eth0", LinkKind.VETH, mtu=1450))
    have = numbered(
        state_of(Link("lo", LinkKind.LOOPBACK, up=False), Link("eth0", LinkKind.VETH, mtu=1500, up=False))
    )
    change = from_nothing(want)
    assert arrange.to_make(change) == {}
    assert arrange.names_used(change) == {"lo", "eth0"}
    assert acts(arrange.contents(change, have)) == ["set link lo: up True", "set link eth0: mtu 1450 up True"]


def test_tables_are_filled_from_the_ground_up() -> None:
    assert acts(arrange.contents(from_nothing(FULL), numbered(FULL))) == [
        "put address 172.30.0.1/16 on v0",
        "add route to 10.8.0.0/16 on v0",
        "add route to 10.9.0.0/16 on v0 via 10.8.0.1",
        f"set neighbour 10.244.1.0 on vx to {MAC}",
        f"set forwarding of {MAC} on vx to 172.30.0.2",
    ]


def test_what_is_as_it_shall_be_needs_no_word() -> None:
    change = diff_state(LinkState(), state_of(OTHER_END))  # says it is new, but it is there already
    assert arrange.contents(change, numbered(FULL)) == []


def test_a_changed_route_takes_the_place_of_the_old_one() -> None:
    route = Route(IPv4Network("10.8.0.0/16"), "v0", mtu=1400)
    change = diff_state(FULL, replace(FULL, routes={**FULL.routes, route.destination: route}))
    (request,) = arrange.contents(change, numbered(FULL))
    assert request.flags == uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE


def test_a_new_route_never_takes_the_place_of_anything() -> None:
    (request,) = arrange.contents(
        from_nothing(state_of(Route(IPv4Network("10.8.0.0/16"), "v0"))), numbered(FULL)
    )
    assert request.flags == uapi.NLM_F_CREATE | uapi.NLM_F_EXCL


def test_things_are_removed_from_the_top_down() -> None:
    bare = replace(FULL, addresses={}, routes={}, neighbors={}, fdb={})
    assert acts(arrange.removals(diff_state(FULL, bare), numbered(FULL))) == [
        f"delete forwarding of {MAC} on vx",
        "delete neighbour 10.244.1.0 on vx",
        "delete route to 10.9.0.0/16 on v0",
        "delete route to 10.8.0.0/16 on v0",
        "take address 172.30.0.1/16 from v0",
    ]


def test_what_stands_on_a_link_goes_with_it() -> None:
    without = state_of(*(link for link in FULL.links.values() if link.ifname != "vx"))
    without = replace(FULL, links=without.links, neighbors={}, fdb={})
    assert acts(arrange.removals(diff_state(FULL, without), numbered(FULL))) == ["delete link vx"]


def test_a_link_that_is_gone_already_is_not_deleted() -> None:
    assert arrange.removals(diff_state(state_of(VXLAN), LinkState()), {}) == []


def test_many_links_go_in_groups_of_32() -> None:
    requests = arrange.delete_links({f"v{number}": number for number in range(10, 50)})
    deletions = [place for place, request in enumerate(requests) if request.type == uapi.RTM_DELLINK]
    assert deletions == [32, 41]
    assert requests[0].what == f"set link v10: group {DYING_GROUP}"
    assert requests[32].what == f"delete the links of group {DYING_GROUP}"


def test_no_links_are_no_request() -> None:
    assert arrange.delete_links({}) == []


@pytest.mark.parametrize(
    ("mtu", "born_with"),
    [pytest.param(1450, 1500, id="another than the default"), pytest.param(1500, 1499, id="the default")],
)
def test_the_mtu_of_a_bridge_is_set_after_its_birth_so_that_it_stays(mtu: int, born_with: int) -> None:
    made, settled = arrange.make(replace(BRIDGE, mtu=mtu), {}, None)
    assert born_with.to_bytes(4, "little") in made.body
    assert settled.what == f"set link br0: mtu {mtu}"


def test_a_missing_master_is_named_with_the_link_that_wants_it() -> None:
    with pytest.raises(NotFound, match="br9: no such link, and v0 stands on it"):
        arrange.make(replace(PAIR, master="br9"), {}, None)


def test_a_missing_link_is_named() -> None:
    with pytest.raises(NotFound, match="v0: no such link"):
        arrange.contents(from_nothing(state_of(Address("v0", IPv4Interface("10.0.0.1/8")))), {})
