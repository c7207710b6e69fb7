"""Every node gets its part of the cluster's pod ranges, once."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.controllers.node_ranges import decide
from kubenet.manager.config import ManagerConfig
from kubenet.model.links import IPNetwork
from kubenet.model.objects import Node

DUAL = ManagerConfig(IPv4Network("10.244.0.0/16"), 24, IPv6Network("fd00:10:244::/48"), 64).pod_ranges


def _node(name: str, *cidrs: str, **metadata: object) -> Node:
    spec = {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)} if cidrs else {}
    return msgspec.convert({"metadata": {"name": name, **metadata}, "spec": spec}, Node)


def _given(*nodes: Node, ranges: Sequence[tuple[IPNetwork, int]] = DUAL) -> dict[str, object]:
    return {patch.name: patch.body for patch in decide(nodes, ranges)}


def test_with_dual_stack_a_node_gets_one_of_each_family() -> None:
    assert _given(_node("a")) == {
        "a": {"spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:10:244::/64"]}}
    }


def test_ipv6_alone_is_a_cluster_too() -> None:
    ranges = ManagerConfig(IPv6Network("fd00:10:244::/48"), 64).pod_ranges
    assert _given(_node("a"), ranges=ranges) == {
        "a": {"spec": {"podCIDR": "fd00:10:244::/64", "podCIDRs": ["fd00:10:244::/64"]}}
    }


def test_what_a_node_has_stays_and_nobody_else_gets_it() -> None:
    given = _given(_node("a", "10.244.0.0/24", "fd00:10:244:1::/64"), _node("b"))
    assert given == {
        "b": {"spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:244::/64"]}}
    }


def test_a_node_that_goes_gets_nothing() -> None:
    assert _given(_node("a", deletionTimestamp="2024-01-01T00:00:00Z")) == {}


def test_when_a_range_is_used_up_the_first_nodes_have_theirs() -> None:
    ranges = ManagerConfig(IPv4Network("10.0.0.0/23"), 24).pod_ranges
    assert list(_given(*map(_node, "abc"), ranges=ranges)) == ["a", "b"]


@pytest.mark.parametrize("family", [4, 6])
@given(count=st.integers(1, 40), taken=st.sets(st.integers(0, 255), max_size=20))
def test_no_two_nodes_share_an_address(family: int, count: int, taken: set[int]) -> None:
    cluster = IPv4Network("10.244.0.0/16") if family == 4 else IPv6Network("fd00::/56")
    mask = 24 if family == 4 else 64
    parts = list(cluster.subnets(new_prefix=mask))
    have = [_node(f"h{number}", str(parts[number])) for number in taken]
    new = [_node(f"n{number}") for number in range(count)]
    patches = list(decide([*have, *new], ManagerConfig(cluster, mask).pod_ranges))
    bodies = [msgspec.convert({"metadata": {"name": p.name}, **p.body}, Node) for p in patches]
    given = [ip_network(node.spec.pod_cidr) for node in bodies]
    used = [parts[number] for number in taken] + given
    assert len(set(used)) == len(used) == len(taken) + count
