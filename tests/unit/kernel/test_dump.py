"""Imprints: equal bytes mean an equal state, and clocks do not count."""

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.kernel import codec
from kubenet.kernel.decode import NumberedLink
from kubenet.kernel.dump import Dump
from kubenet.kernel.netlink import CodecError, attribute
from kubenet.model.links import FdbEntry, Link, LinkKind, Neighbor, Route

TUNNEL = "kubenet.1"
LINKS = {
    name: NumberedLink(index, Link(name, LinkKind.OTHER))
    for index, name in enumerate(("lo", "eth0", TUNNEL, "k1"), start=1)
}
CACHEINFO = 3  # NDA_CACHEINFO
MACS = st.sampled_from(["0a:00:00:00:00:01", "0a:00:00:00:00:02"])
VTEPS = st.sampled_from([IPv4Address("172.30.0.2"), IPv4Address("172.30.0.3"), IPv6Address("fd00::2")])
ON = st.sampled_from(["eth0", TUNNEL])


def index(ifname: str) -> int:
    return LINKS[ifname].index if ifname else 0


def clock(ticks: int) -> bytes:
    """What the kernel tells of an entry's age, after all that lasts."""
    return attribute(CACHEINFO, struct.pack("=IIII", ticks, ticks, ticks, 1))


routes = st.builds(
    lambda number, ifname, mtu: Route(ip_network(f"10.244.{number}.0/24"), ifname, mtu=mtu),
    st.integers(0, 2),
    ON,
    st.sampled_from([0, 1400]),
) | st.just(Route(ip_network("10.244.9.0/24"), "", unreachable=True))
neighbors = st.builds(Neighbor, ON, VTEPS, MACS)
entries = st.builds(FdbEntry, ON, MACS, VTEPS)


@st.composite
def dumps(draw: st.DrawFn) -> Dump:
    ticks = draw(st.integers(0, 2**32 - 1))
    told_routes = draw(st.lists(routes, max_size=3, unique_by=lambda r: r.destination))
    told_neighbors = draw(st.lists(neighbors, max_size=3, unique_by=lambda n: (n.ifname, n.ip)))
    told_fdb = draw(st.lists(entries, max_size=3, unique_by=lambda e: (e.ifname, e.mac)))
    return Dump(
        LINKS,
        [],
        [codec.new_route(each, index(each.ifname)).body for each in told_routes],
        [codec.new_neighbor(index(each.ifname), each).body + clock(ticks) for each in told_neighbors],
        [codec.new_fdb(index(each.ifname), each).body + clock(ticks) for each in told_fdb],
    )


@given(dumps(), dumps())
def test_equal_imprints_mean_equal_states_and_clocks_do_not_count(one: Dump, other: Dump) -> None:
    same_state = one.state().owned_by((TUNNEL, "")) == other.state().owned_by((TUNNEL, ""))
    if one.imprint((TUNNEL,)) == other.imprint((TUNNEL,)):
        assert same_state
    later = replace(other, neighbors=one.neighbors, fdb=one.fdb, routes=one.routes)
    assert later.imprint((TUNNEL,)) == one.imprint((TUNNEL,))


@given(neighbors, entries, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_an_entry_that_only_grew_older_is_the_same(
    neighbor: Neighbor, entry: FdbEntry, now: int, later: int
) -> None:
    def told(ticks: int) -> Dump:
        return Dump(
            LINKS,
            [],
            [],
            [codec.new_neighbor(index(neighbor.ifname), neighbor).body + clock(ticks)],
            [codec.new_fdb(index(entry.ifname), entry).body + clock(ticks)],
        )

    assert told(now).imprint((TUNNEL, "eth0")) == told(later).imprint((TUNNEL, "eth0"))


def test_routes_of_pods_on_other_links_do_not_count() -> None:
    pod = codec.new_route(Route(IPv4Network("10.244.1.7/32"), "k1"), index("k1")).body
    assert Dump(LINKS, [], [pod], [], []).imprint((TUNNEL,)) == Dump(LINKS, [], [], [], []).imprint((TUNNEL,))


@pytest.mark.parametrize("table", ["routes", "neighbors", "fdb"])
def test_bytes_that_are_cut_short_are_refused(table: str) -> None:
    tables: dict[str, list[bytes]] = {"routes": [], "neighbors": [], "fdb": [], table: [b"\x02\x18"]}
    with pytest.raises(CodecError):
        Dump(LINKS, [], **tables).imprint((TUNNEL,))
