"""One range a node, cut out of the cluster's."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam.node_cidrs import ClusterRangeExhausted, allocate
from kubenet.errors import InvalidInput
from kubenet.model.links import IPNetwork

CLUSTER = ip_network("10.244.0.0/16")


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        pytest.param([], "10.244.0.0/24", id="the first"),
        pytest.param(["10.244.0.0/24", "10.244.1.0/24"], "10.244.2.0/24", id="the next"),
        pytest.param(["10.244.0.0/24", "10.244.2.0/24"], "10.244.1.0/24", id="a gap"),
        pytest.param(["10.244.0.128/25"], "10.244.1.0/24", id="a smaller range inside counts"),
        pytest.param(["10.244.0.0/22"], "10.244.4.0/24", id="a larger range counts"),
        pytest.param(["10.244.0.0/22", "10.244.1.0/24"], "10.244.4.0/24", id="ranges inside each other"),
        pytest.param(["192.168.0.0/16", "fd00::/64"], "10.244.0.0/24", id="strangers do not count"),
    ],
)
def test_the_lowest_free_range_is_given(used: list[str], expected: str) -> None:
    assert allocate([ip_network(cidr) for cidr in used], CLUSTER, 24) == ip_network(expected)


def test_an_exhausted_cluster_names_its_range_and_count() -> None:
    used: list[IPNetwork] = list(ip_network("10.244.0.0/22").subnets(new_prefix=24))
    with pytest.raises(ClusterRangeExhausted, match=r"10\.244\.0\.0/22: all 4 node ranges of /24"):
        allocate(used, ip_network("10.244.0.0/22"), 24)


def test_a_range_that_covers_the_whole_cluster_leaves_nothing() -> None:
    with pytest.raises(ClusterRangeExhausted):
        allocate([ip_network("10.0.0.0/8")], CLUSTER, 24)


@pytest.mark.parametrize("mask", [15, 33])
def test_a_mask_that_does_not_fit_is_refused(mask: int) -> None:
    with pytest.raises(InvalidInput, match=r"10\.244\.0\.0/16"):
        allocate([], CLUSTER, mask)


def test_ipv6_works_alike() -> None:
    cluster = ip_network("fd00:10:244::/56")
    assert str(allocate([ip_network("fd00:10:244::/64")], cluster, 64)) == "fd00:10:244:1::/64"


@given(st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(20, 32)), max_size=30))
def test_what_is_given_never_overlaps_and_nothing_lower_would_have_done(
    spans: list[tuple[int, int]],
) -> None:
    base = int(CLUSTER.network_address)
    used: list[IPNetwork] = [ip_network((base + offset, mask), strict=False) for offset, mask in spans]
    given_range = allocate(used, CLUSTER, 22)
    free = [c for c in CLUSTER.subnets(new_prefix=22) if not any(c.overlaps(u) for u in used)]
    assert given_range == free[0]
