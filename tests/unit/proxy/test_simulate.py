"""The law of the proxy: what the rules do with a packet is what the policy says, for any cluster.

The expectation is worked out here from ``policy`` and from the rules for source addresses, in a few lines
that know nothing of chains.
"""

from fractions import Fraction
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.model.iptables import OutInterface, Rule, Table, Verdict
from kubenet.model.protocol import Protocol
from proxy.compile_iptables import compile_iptables
from proxy.policy import Locality, Refusal, ServingPort, Way, serve
from proxy.ports import IPAddress, NodeNetwork, ServicePort, TrafficPolicy
from proxy.service_rules import chain_name
from proxy.simulate import Arrives, Host, Outcome, Packet, Stopped, chances, destinations
from tests.unit.proxy.strategies import NODE_IPS, clusters

NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))
HERE = Locality("here", "z1")
HOST = Host(frozenset(NODE_IPS))

POD = ip_address("10.244.9.9")
BACKEND = ip_address("10.244.1.2")  # one that the random clusters use, so that it meets itself
NODE = NODE_IPS[0]
OUTSIDE = ip_address("203.0.113.7")
SOURCES = (POD, BACKEND, NODE, OUTSIDE)

LAW = settings(max_examples=20, deadline=None)
STOPPED = {Refusal.REJECT: Stopped.REJECTED, Refusal.DROP: Stopped.DROPPED}


def is_pod(source: IPAddress) -> bool:
    return NETWORK.cluster_cidr is not None and source in NETWORK.cluster_cidr


def expected_at_cluster_ip(serving: ServingPort, source: IPAddress) -> frozenset[Outcome]:
    return _expected(serving, serving.internal, source, masqueraded=not is_pod(source))


def expected_at_node_port(serving: ServingPort, source: IPAddress) -> frozenset[Outcome]:
    policy = serving.port.external_policy
    inside = is_pod(source) or source in NODE_IPS
    if policy is TrafficPolicy.LOCAL and inside:
        return _expected(serving, serving.short_circuit, source, masqueraded=source in NODE_IPS)
    return _expected(serving, serving.external, source, masqueraded=policy is TrafficPolicy.CLUSTER)


def _expected(serving: ServingPort, way: Way, source: IPAddress, masqueraded: bool) -> frozenset[Outcome]:
    if isinstance(way, Refusal):
        return frozenset({STOPPED[way]})
    return frozenset(
        # Row 16: an endpoint that reaches itself is masqueraded whatever the policy says.
        Arrives(each.ip, each.port, translated=True, masqueraded=masqueraded or each.ip == source)
        for each in serving.pool(way)
    )


@LAW
@given(clusters(), st.sampled_from(SOURCES))
def test_A2_row14_row15_row16_cluster_address_reaches_what_policy_allows(
    cluster: tuple[ServicePort, ...], source: IPAddress
) -> None:
    serving = serve(cluster, HERE)
    tables = compile_iptables(serving, NETWORK)
    for each in serving:
        packet = Packet(source, each.port.cluster_ip, each.port.protocol, each.port.port)
        assert destinations(tables, packet, HOST) == expected_at_cluster_ip(each, source)


@LAW
@given(clusters(), st.sampled_from(SOURCES), st.sampled_from(NODE_IPS))
def test_A2_row17_A3_row30_row31_row32_node_port_reaches_what_policy_allows(
    cluster: tuple[ServicePort, ...], source: IPAddress, node_ip: IPAddress
) -> None:
    serving = serve(cluster, HERE)
    tables = compile_iptables(serving, NETWORK)
    for each in (each for each in serving if each.port.node_port):
        packet = Packet(source, node_ip, each.port.protocol, each.port.node_port)
        assert destinations(tables, packet, HOST) == expected_at_node_port(each, source)


@LAW
@given(clusters())
def test_A4_row39_every_endpoint_of_the_pool_has_the_same_share(cluster: tuple[ServicePort, ...]) -> None:
    serving = serve(cluster, HERE)
    tables = compile_iptables(serving, NETWORK)
    for each in serving:
        packet = Packet(POD, each.port.cluster_ip, each.port.protocol, each.port.port)
        shares = chances(tables, packet, HOST)
        assert sum(shares.values()) == 1
        assert set(shares.values()) == {Fraction(1, len(shares))}


@LAW
@given(clusters(), st.data())
def test_A4_row41_row42_a_remembered_client_goes_where_it_went(
    cluster: tuple[ServicePort, ...], data: st.DataObject
) -> None:
    serving = serve(cluster, HERE)
    tables = compile_iptables(serving, NETWORK)
    for each in serving:
        for endpoint in each.reachable:
            host = Host(HOST.addresses, frozenset({chain_name("SEP", each.port, endpoint)}))
            packet = Packet(POD, each.port.cluster_ip, each.port.protocol, each.port.port)
            pool = each.pool(each.internal)
            expected = [endpoint] if each.port.affinity_s and endpoint in pool else pool
            got = {(o.ip, o.port) for o in destinations(tables, packet, host) if isinstance(o, Arrives)}
            assert got == {one.socket for one in expected}


@LAW
@given(clusters(), st.sampled_from(SOURCES))
def test_what_is_for_nobody_here_passes_untouched(
    cluster: tuple[ServicePort, ...], source: IPAddress
) -> None:
    tables = compile_iptables(serve(cluster, HERE), NETWORK)
    for target in (ip_address("10.96.77.77"), ip_address("8.8.8.8"), ip_address("10.244.1.2"), NODE_IPS[1]):
        packet = Packet(source, target, Protocol.TCP, 443)
        assert destinations(tables, packet, HOST) == {Arrives(target, 443)}


@LAW
@given(clusters())
def test_A2_row17_node_ports_do_not_listen_on_loopback(cluster: tuple[ServicePort, ...]) -> None:
    loopback = ip_address("127.0.0.1")
    serving = serve(cluster, HERE)
    tables = compile_iptables(serving, NETWORK)
    for each in (each for each in serving if each.port.node_port and each.cluster):
        packet = Packet(loopback, loopback, each.port.protocol, each.port.node_port)
        assert not any(isinstance(o, Arrives) and o.translated for o in destinations(tables, packet, HOST))


def test_the_simulator_refuses_what_it_cannot_know() -> None:
    table = Table("nat", hooks={"PREROUTING": (Rule((OutInterface("eth0"),), Verdict.ACCEPT),)})
    with pytest.raises(ValueError, match="routes nothing"):
        destinations([table], Packet(POD, BACKEND, Protocol.TCP, 80))
