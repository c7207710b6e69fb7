"""The overlay, computed from Node objects."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.overlay import (
    NodeNet,
    Skipped,
    Tunnel,
    compile_overlay,
    node_net,
    on_link,
    own_ranges,
    peers_of,
    pod_mtu,
)
from kubenet.model.objects import Node
from tests.unit.cni.test_plan import told

TUNNEL = Tunnel(1, 8472, "eth0", 1500)


def node(name: str, ip: str = "", *cidrs: str, **spec: Any) -> Node:
    """A Node object as the API has it."""
    addresses = [{"type": "Hostname", "address": name}]
    if ip:
        addresses.append({"type": "InternalIP", "address": ip})
    fields = {
        "metadata": {"name": name},
        "spec": {"podCIDRs": list(cidrs), "podCIDR": cidrs[0] if cidrs else "", **spec},
        "status": {"addresses": addresses},
    }
    return msgspec.convert(fields, Node)


def net(number: int) -> NodeNet:
    return NodeNet(f"node{number}", ip_address(f"172.30.0.{number}"), (ip_network(f"10.244.{number}.0/24"),))


NODES = [node(f"node{n}", f"172.30.0.{n}", f"10.244.{n}.0/24") for n in (1, 2, 3)]


def test_an_overlay_of_three_nodes_is_as_it_was(golden: Callable[[str, str], None]) -> None:
    peers, skipped = peers_of(net(1), NODES)
    assert skipped == []
    golden("cni_overlay.txt", told(compile_overlay(net(1), peers, TUNNEL)))


def test_dual_stack_nodes_share_one_tunnel_end(golden: Callable[[str, str], None]) -> None:
    nets = [
        NodeNet(
            f"node{n}",
            ip_address(f"172.30.0.{n}"),
            (ip_network(f"10.244.{n}.0/24"), ip_network(f"fd00:{n}::/64")),
        )
        for n in (1, 2)
    ]
    golden("cni_overlay_dual.txt", told(compile_overlay(nets[0], nets[1:], TUNNEL)))


@given(st.permutations([*NODES, node("x"), node("y", "172.30.0.2", "10.244.9.0/24")]))
def test_the_order_of_nodes_never_shows(nodes: list[Node]) -> None:
    peers, skipped = peers_of(net(1), nodes)
    assert [peer.name for peer in peers] == ["node2", "node3"]
    assert [entry.name for entry in skipped] == ["x", "y"]
    assert compile_overlay(net(1), peers, TUNNEL) == compile_overlay(net(1), [net(2), net(3)], TUNNEL)


def test_every_peer_costs_one_route_one_neighbour_and_one_forwarding_entry() -> None:
    peers = [net(number) for number in range(2, 202)]
    state = compile_overlay(net(1), peers, TUNNEL)
    assert (len(state.routes), len(state.neighbors), len(state.fdb)) == (200, 200, 200)
    assert len({entry.mac for entry in state.fdb.values()}) == 200


def test_all_nodes_agree_on_the_mac_address_of_a_tunnel_end() -> None:
    seen_by_others = compile_overlay(net(2), [net(1)], TUNNEL)
    own = compile_overlay(net(1), [net(2)], TUNNEL).links["kubenet.1"].mac
    assert own is not None
    assert [entry.mac for entry in seen_by_others.fdb.values()] == [own]
    assert [entry.mac for entry in seen_by_others.neighbors.values()] == [own]
    assert int(own[:2], 16) & 0b11 == 0b10


def test_a_peer_that_is_near_is_a_next_hop_and_keeps_its_place_in_the_tunnel() -> None:
    far = NodeNet("far", ip_address("10.9.9.9"), (ip_network("10.244.9.0/24"), ip_network("fd00:9::/64")))
    near = NodeNet("near", ip_address("172.30.0.2"), (ip_network("10.244.2.0/24"), ip_network("fd00:2::/64")))
    own = NodeNet("own", ip_address("172.30.0.1"), (ip_network("10.244.1.0/24"), ip_network("fd00:1::/64")))
    direct = on_link([near, far], [ip_network("172.30.0.0/16"), ip_network("fe80::/64")])
    assert direct == {"near"}
    state = compile_overlay(own, [near, far], TUNNEL, direct)
    ways = {str(destination): route.ifname for destination, route in state.routes.items()}
    assert ways == {
        "10.244.2.0/24": "eth0",
        "fd00:2::/64": "kubenet.1",  # its next hop would be of the other family
        "10.244.9.0/24": "kubenet.1",
        "fd00:9::/64": "kubenet.1",
    }
    assert state.fdb == compile_overlay(own, [near, far], TUNNEL).fdb


def test_a_node_refuses_what_is_for_addresses_of_its_own_that_no_pod_has() -> None:
    (route,) = own_ranges(net(1)).routes.values()
    assert (str(route.destination), route.ifname, route.unreachable) == ("10.244.1.0/24", "", True)


@pytest.mark.parametrize(
    ("underlay_mtu", "ip", "mtu"),
    [(1500, "172.30.0.1", 1450), (9000, "172.30.0.1", 8950), (1500, "fd00::1", 1430)],
)
def test_the_mtu_leaves_room_for_the_outer_headers(underlay_mtu: int, ip: str, mtu: int) -> None:
    own = NodeNet("n", ip_address(ip), (ip_network("10.244.1.0/24"),))
    assert pod_mtu(Tunnel(1, 8472, "eth0", underlay_mtu), own) == mtu


@pytest.mark.parametrize(
    ("given_node", "reason"),
    [
        pytest.param(node("n", "", "10.244.5.0/24"), "no InternalIP", id="no address yet"),
        pytest.param(node("n", "172.30.0.5"), "no podCIDR", id="no range yet"),
        pytest.param(node("n", "172.30.0.500", "10.244.5.0/24"), "172.30.0.500", id="no address at all"),
        pytest.param(node("n", "172.30.0.5", "10.244.5.1/24"), "10.244.5.1/24", id="a range with host bits"),
        pytest.param(node("n", "172.30.0.5; reboot", "10.244.5.0/24"), "wrong", id="something hostile"),
    ],
)
def test_a_node_that_cannot_be_reached_is_left_out_with_the_reason(given_node: Node, reason: str) -> None:
    got = node_net(given_node)
    assert isinstance(got, Skipped)
    assert reason in got.reason


def test_the_older_field_for_the_range_counts_where_the_newer_is_missing() -> None:
    got = node_net(node("n", "172.30.0.5", podCIDR="10.244.5.0/24"))
    assert isinstance(got, NodeNet)
    assert got.pod_cidrs == (ip_network("10.244.5.0/24"),)


@pytest.mark.parametrize(
    ("ip", "cidr", "rival"),
    [
        pytest.param("172.30.0.9", "10.244.1.0/24", "node1", id="our own range"),
        pytest.param("172.30.0.9", "10.244.1.128/25", "node1", id="a part of ours"),
        pytest.param("172.30.0.9", "10.244.0.0/16", "node3", id="all ranges"),
        pytest.param("172.30.0.9", "10.244.2.0/23", "node3", id="two ranges"),
        pytest.param("172.30.0.1", "10.244.9.0/24", "node1", id="our own address"),
        pytest.param("172.30.0.2", "10.244.9.0/24", "node2", id="the address of another"),
    ],
)
def test_a_node_that_claims_what_another_has_is_left_out(ip: str, cidr: str, rival: str) -> None:
    peers, skipped = peers_of(net(1), [*NODES, node("thief", ip, cidr)])
    assert [peer.name for peer in peers] == ["node2", "node3"]
    assert skipped == [Skipped("thief", f"its addresses are those of {rival}")]
