"""Who may send into the tunnel."""

from collections.abc import Callable
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from cni.guard import TABLE, compile_guard
from cni.overlay import NodeNet, Tunnel
from kubenet.model.nft_change import render

TUNNEL = Tunnel(1, 8472, "eth0", 1500)


def net(number: int, *more: str) -> NodeNet:
    cidrs = (ip_network(f"10.244.{number}.0/24"), *map(ip_network, more))
    return NodeNet(f"node{number}", ip_address(f"172.30.0.{number}"), cidrs)


PEERS = [net(2, "fd00:2::/64"), net(3)]


def test_the_guard_is_as_it_was(golden: Callable[[str, str], None]) -> None:
    golden("cni_guard.txt", render(compile_guard(net(1), PEERS, TUNNEL), TABLE))


@given(st.permutations(PEERS))
def test_the_order_of_peers_never_shows(peers: list[NodeNet]) -> None:
    assert compile_guard(net(1), peers, TUNNEL) == compile_guard(net(1), PEERS, TUNNEL)


def test_a_node_without_peers_lets_nobody_in() -> None:
    elements = compile_guard(net(1), [], TUNNEL).elements
    assert {name: len(each) for name, each in elements.items()} == {
        "port": 1,
        "senders-v4": 0,
        "senders-v6": 0,
    }


def test_a_peer_whose_address_is_in_its_own_range_is_said_once() -> None:
    peer = NodeNet("odd", ip_address("10.244.7.1"), (ip_network("10.244.7.0/24"),))
    assert len(compile_guard(net(1), [peer], TUNNEL).elements["senders-v4"]) == 1
