"""The law of the proxy, for nftables: simulate(nftables) = simulate(iptables) = what the policy says."""

from fractions import Fraction
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.model.nft import Chain, Hook, InInterface, Ruleset, Verdict
from kubenet.model.protocol import Protocol
from proxy.compile_iptables import compile_iptables
from proxy.compile_nft import compile_nft
from proxy.nft_names import socket_bytes
from proxy.policy import serve
from proxy.ports import NodeNetwork, ServicePort
from proxy.simulate import Arrives, Packet, Stopped, chances, destinations
from proxy.simulate_nft import nft_chances, nft_destinations
from tests.unit.proxy.strategies import NODE_IPS, clusters
from tests.unit.proxy.test_simulate import (
    HERE,
    HOST,
    NETWORK,
    NODE,
    OUTSIDE,
    POD,
    SOURCES,
    expected_at_cluster_ip,
    expected_at_node_port,
)

LAW = settings(max_examples=20, deadline=None)


def packets_to(port: ServicePort) -> list[tuple[str, int]]:
    places = [(str(ip), port.port) for ip in (port.cluster_ip, *port.external_addresses)]
    return places + [(str(ip), port.node_port) for ip in NODE_IPS if port.node_port]


@LAW
@given(clusters(), st.sampled_from(SOURCES))
def test_row14_row15_row16_row28_row29_row44_cluster_address_reaches_what_policy_allows(
    cluster: tuple[ServicePort, ...], source: object
) -> None:
    serving = serve(cluster, HERE)
    rules = compile_nft(serving, NETWORK)
    for each in serving:
        packet = Packet(ip_address(str(source)), each.port.cluster_ip, each.port.protocol, each.port.port)
        assert nft_destinations(rules, packet, HOST) == expected_at_cluster_ip(each, packet.source)


@LAW
@given(clusters(), st.sampled_from(SOURCES), st.sampled_from(NODE_IPS))
def test_row17_row30_row31_row32_node_port_reaches_what_policy_allows(
    cluster: tuple[ServicePort, ...], source: object, node_ip: object
) -> None:
    serving = serve(cluster, HERE)
    rules = compile_nft(serving, NETWORK)
    for each in (each for each in serving if each.port.node_port):
        packet = Packet(
            ip_address(str(source)), ip_address(str(node_ip)), each.port.protocol, each.port.node_port
        )
        assert nft_destinations(rules, packet, HOST) == expected_at_node_port(each, packet.source)


@LAW
@given(clusters(), st.sampled_from(SOURCES))
def test_both_backends_send_every_packet_to_the_same_places_as_often(
    cluster: tuple[ServicePort, ...], source: object
) -> None:
    serving = serve(cluster, HERE)
    rules, tables = compile_nft(serving, NETWORK), compile_iptables(serving, NETWORK)
    for each in serving:
        for ip, number in packets_to(each.port):
            packet = Packet(ip_address(str(source)), ip_address(ip), each.port.protocol, number)
            assert nft_chances(rules, packet, HOST) == chances(tables, packet, HOST)


@LAW
@given(clusters())
def test_A4_row40_every_endpoint_of_the_pool_has_the_same_share(cluster: tuple[ServicePort, ...]) -> None:
    serving = serve(cluster, HERE)
    rules = compile_nft(serving, NETWORK)
    for each in serving:
        packet = Packet(POD, each.port.cluster_ip, each.port.protocol, each.port.port)
        shares = nft_chances(rules, packet, HOST)
        assert sum(shares.values()) == 1
        assert set(shares.values()) == {Fraction(1, len(shares))}


@LAW
@given(clusters())
def test_A4_row41_row42_a_remembered_client_goes_where_it_went_while_that_serves(
    cluster: tuple[ServicePort, ...],
) -> None:
    serving = serve(cluster, HERE)
    rules = compile_nft(serving, NETWORK)
    for each in serving:
        packet = Packet(POD, each.port.cluster_ip, each.port.protocol, each.port.port)
        pool = each.pool(each.internal)
        for endpoint in each.reachable:
            known = socket_bytes(*endpoint.socket)
            expected = [endpoint] if each.port.affinity_s and endpoint in pool else pool
            got = nft_destinations(rules, packet, HOST, known)
            assert {(o.ip, o.port) for o in got if isinstance(o, Arrives)} == {e.socket for e in expected}


SERVICE_CIDR = NodeNetwork(4, NETWORK.cluster_cidr, service_cidrs=(ip_network("10.96.0.0/16"),))


@LAW
@given(clusters(), st.sampled_from(SOURCES))
def test_A2_row26_a_strange_port_is_refused_and_a_strange_address_dropped(
    cluster: tuple[ServicePort, ...], source: object
) -> None:
    rules = compile_nft(serve(cluster, HERE), SERVICE_CIDR)
    for each in cluster:
        packet = Packet(ip_address(str(source)), each.cluster_ip, Protocol.TCP, 9)
        assert nft_destinations(rules, packet, HOST) == {Stopped.REJECTED}
    nowhere = Packet(ip_address(str(source)), ip_address("10.96.77.77"), Protocol.TCP, 80)
    assert nft_destinations(rules, nowhere, HOST) == {Stopped.DROPPED}
    # iptables lets both pass: that is the one difference.
    tables = compile_iptables(serve(cluster, HERE), SERVICE_CIDR)
    assert destinations(tables, nowhere, HOST) == {Arrives(nowhere.destination, 80)}


@LAW
@given(clusters(), st.sampled_from(SOURCES))
def test_what_is_for_nobody_here_passes_untouched(cluster: tuple[ServicePort, ...], source: object) -> None:
    rules = compile_nft(serve(cluster, HERE), NETWORK)
    for target in ("10.97.77.77", "8.8.8.8", "10.244.1.2", str(NODE_IPS[1])):
        packet = Packet(ip_address(str(source)), ip_address(target), Protocol.TCP, 443)
        assert nft_destinations(rules, packet, HOST) == {Arrives(ip_address(target), 443)}


@LAW
@given(clusters())
def test_A2_row18_node_ports_listen_where_they_shall(cluster: tuple[ServicePort, ...]) -> None:
    serving = serve(cluster, HERE)
    own = NodeNetwork(4, NETWORK.cluster_cidr, node_ip=NODE_IPS[0])
    listed = NodeNetwork(4, NETWORK.cluster_cidr, node_port_networks=(ip_network("192.168.0.0/16"),))
    for each in (each for each in serving if each.port.node_port and each.cluster):
        for network, here, elsewhere in ((own, NODE, NODE_IPS[1]), (listed, NODE_IPS[1], NODE)):
            rules = compile_nft(serving, network)
            for target, opened in ((here, True), (elsewhere, False), (ip_address("127.0.0.1"), False)):
                packet = Packet(POD, target, each.port.protocol, each.port.node_port)
                passed = {Arrives(target, each.port.node_port)}
                assert (nft_destinations(rules, packet, HOST) != passed) == opened


@pytest.mark.parametrize(
    ("source", "passes"),
    [
        pytest.param("203.0.113.7", True, id="a stranger inside a range"),
        pytest.param("198.51.100.7", False, id="a stranger outside"),
        pytest.param("192.0.2.1", True, id="the balancer's address, since the node is inside a range"),
    ],
)
def test_A2_row22_source_ranges_guard_the_load_balancers_address(source: str, passes: bool) -> None:
    from dataclasses import replace

    from tests.unit.proxy.test_compile_iptables import web

    ranges = tuple(map(ip_network, ("203.0.113.0/24", "203.0.113.0/25", "172.30.0.0/16")))
    address = ip_address("192.0.2.1")
    port = replace(web(2, 3), load_balancer_ips=(address,), source_ranges=ranges)
    network = NodeNetwork(4, NETWORK.cluster_cidr, node_ip=NODE_IPS[0])
    rules = compile_nft(serve([port], HERE), network)
    got = nft_destinations(rules, Packet(ip_address(source), address, Protocol.TCP, 80), HOST)
    assert (got != {Stopped.DROPPED}) == passes
    assert nft_destinations(rules, Packet(OUTSIDE, port.cluster_ip, Protocol.TCP, 80), HOST) != got or passes


def test_the_simulator_refuses_what_it_cannot_know() -> None:
    rule = (InInterface("eth0"), Verdict.DROP)
    rules = Ruleset(4, {}, {"in": Chain((rule,), Hook.PREROUTING), "out": Chain((), Hook.POSTROUTING)})
    with pytest.raises(ValueError, match="cannot tell"):
        nft_destinations(rules, Packet(POD, OUTSIDE, Protocol.TCP, 80), HOST)
