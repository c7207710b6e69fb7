"""Random rules and random clusters."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import strategies as st

from kubenet.model.iptables import (
    AddressKind,
    Comment,
    CtState,
    Destination,
    DestinationKind,
    DestinationPort,
    Dnat,
    EveryNth,
    Family,
    FlipMark,
    InInterface,
    InState,
    Jump,
    Marked,
    Masquerade,
    Match,
    OfProtocol,
    OneIn,
    OutInterface,
    PutOnList,
    Reject,
    Rule,
    SeenWithin,
    SetMark,
    Source,
    SourceKind,
    Target,
    Verdict,
)
from kubenet.model.protocol import Protocol
from proxy.ports import Balance, Endpoint, ServicePort, ServicePortName, TrafficPolicy

_ports = st.integers(1, 65535)
_chains = st.sampled_from(["KUBE-SVC-ABCDEFGHIJKLMNOP", "KUBE-MARK-MASQ", "a.b-c_d", "KUBE-A"])
_ifnames = st.sampled_from(["eth0", "pod+", "eth0.1", "lo"])
_bits = st.sampled_from([0x4000, 1, 0x80000000])
_bools = st.booleans()


def _networks(family: Family) -> st.SearchStrategy[str]:
    return st.sampled_from(
        ["10.244.0.0/16", "10.96.0.1/32", "10.244.1.0/25"]
        if family == 4
        else ["fd00:244::/48", "fd00:96::1/128", "fd00:244:0:1::/64"]
    )


def _matches(family: Family) -> st.SearchStrategy[Match]:
    networks = _networks(family).map(ip_network)
    return st.one_of(
        st.builds(Source, networks, _bools),
        st.builds(Destination, networks, _bools),
        st.builds(InInterface, _ifnames, _bools),
        st.builds(OutInterface, _ifnames, _bools),
        st.builds(OfProtocol, st.sampled_from(Protocol)),
        st.builds(DestinationPort, st.sampled_from(Protocol), _ports),
        st.builds(DestinationKind, st.sampled_from(AddressKind), _bools),
        st.builds(SourceKind, st.sampled_from(AddressKind), _bools),
        st.builds(InState, st.frozensets(st.sampled_from(CtState), min_size=1), _bools),
        st.builds(Marked, _bits, _bools),
        st.builds(OneIn, st.integers(2, 5000)),
        st.builds(EveryNth, st.integers(2, 5000)),
        st.builds(SeenWithin, _chains, st.integers(1, 86400)),
        st.builds(PutOnList, _chains),
        st.builds(Comment.of, st.text(max_size=40)),
    )


def _targets(family: Family) -> st.SearchStrategy[Target]:
    addresses: st.SearchStrategy[IPv4Address | IPv6Address] = st.ip_addresses(v=family)
    return st.one_of(
        st.builds(Jump, _chains),
        st.sampled_from(Verdict),
        st.builds(Reject),
        st.builds(Dnat, addresses, _ports),
        st.builds(Masquerade, _bools),
        st.builds(SetMark, _bits),
        st.builds(FlipMark, _bits),
    )


def rules(family: Family) -> st.SearchStrategy[Rule]:
    """Return any rule that can be said."""
    unique = st.lists(_matches(family), max_size=5, unique_by=lambda match: (match.rank, type(match)))
    return st.builds(Rule, unique.map(_one_protocol).map(tuple), _targets(family))


def _one_protocol(matches: list[Match]) -> list[Match]:
    """Keep the first match of each rank that may be there only once."""
    kept: Mapping[object, Match] = {
        (match.rank if match.rank < 9 else type(match)): match for match in reversed(matches)
    }
    return list(kept.values())


POD_NODES = ("here", "far", "")
NODE_IPS = tuple(map(ip_address, ("172.30.0.1", "192.168.7.1")))


@st.composite
def _endpoints(draw: st.DrawFn, shared: tuple[int, ...]) -> Endpoint:
    last = draw(st.sampled_from(shared))
    hints = st.frozensets(st.sampled_from(["z1", "z2"]), max_size=2)
    return Endpoint(
        ip_address(f"10.244.1.{last}"),
        draw(st.sampled_from([80, 8080])),
        ready=draw(_bools),
        serving=draw(_bools),
        terminating=draw(_bools),
        node_name=draw(st.sampled_from(POD_NODES)),
        zone_hints=draw(hints),
        node_hints=draw(st.frozensets(st.sampled_from(["here", "far"]), max_size=1)),
    )


@st.composite
def _service_ports(draw: st.DrawFn, number: int) -> ServicePort:
    endpoints = draw(
        st.lists(_endpoints(tuple(range(2, 8))), max_size=5, unique_by=lambda endpoint: endpoint.socket)
    )
    policies = st.sampled_from(TrafficPolicy)
    return ServicePort(
        ServicePortName(
            "demo", f"s{number}", draw(st.sampled_from(["", "http"])), draw(st.sampled_from(Protocol))
        ),
        ip_address(f"10.96.0.{number + 1}"),
        draw(st.sampled_from([53, 80])),
        node_port=draw(st.sampled_from([0, 30000 + number])),
        internal_policy=draw(policies),
        external_policy=draw(policies),
        affinity_s=draw(st.sampled_from([0, 0, 60])),
        balance=draw(st.sampled_from([Balance.RANDOM, Balance.ROUND_ROBIN])),
        endpoints=tuple(sorted(endpoints, key=str)),
    )


@st.composite
def clusters(draw: st.DrawFn) -> tuple[ServicePort, ...]:
    """Return a few service ports that may share endpoints, in any state and with any policy."""
    count = draw(st.integers(1, 4))
    return tuple(draw(_service_ports(number)) for number in range(count))
