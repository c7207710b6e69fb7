"""UDP flows to forget: rows 48 to 52 of the proxy's table."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from kubenet.model.protocol import Protocol
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Endpoint, ServicePort, ServicePortName, TrafficPolicy
from proxy.stale import Flow, read_flows, stale_flows, udp_endpoints

VIP = ip_address("10.96.0.10")
NODE = ip_address("172.30.0.1")
A, B = ip_address("10.244.1.2"), ip_address("10.244.1.3")


def dns(*endpoints: Endpoint, protocol: Protocol = Protocol.UDP, node_port: int = 0) -> Sequence[ServingPort]:
    name = ServicePortName("kube-system", "kube-dns", "dns", protocol)
    policy = TrafficPolicy.LOCAL if node_port else TrafficPolicy.CLUSTER
    port = ServicePort(name, VIP, 53, node_port, policy, endpoints=endpoints)
    return serve([port], Locality("here"))


TO_A = Flow(VIP, 53, A, 5300)
UNTRANSLATED = Flow(VIP, 53, VIP, 53)


@pytest.mark.parametrize(
    ("flow", "serving", "stale"),
    [
        pytest.param(TO_A, dns(Endpoint(A, 5300)), False, id="row 52: its endpoint serves on"),
        pytest.param(TO_A, dns(Endpoint(B, 5300)), True, id="row 48: its endpoint is gone"),
        pytest.param(TO_A, dns(Endpoint(A, 5301)), True, id="row 48: its endpoint has another port now"),
        pytest.param(
            TO_A, dns(Endpoint(A, 5300, ready=False, serving=False)), True, id="row 48: it no longer serves"
        ),
        pytest.param(
            TO_A,
            dns(Endpoint(A, 5300, ready=False, terminating=True)),
            False,
            id="row 49: serves, terminating",
        ),
        pytest.param(
            TO_A,
            dns(Endpoint(A, 5300, node_name="far"), node_port=30053),
            False,
            id="row 49: not local, policy Local",
        ),
        pytest.param(TO_A, dns(), True, id="row 50: nobody serves any more"),
        pytest.param(UNTRANSLATED, dns(Endpoint(A, 5300)), True, id="row 51: begun before anybody served"),
        pytest.param(UNTRANSLATED, dns(), False, id="row 51: still nobody serves"),
        pytest.param(TO_A, dns(Endpoint(B, 5300), protocol=Protocol.TCP), False, id="row 54: a TCP service"),
        pytest.param(Flow(VIP, 54, A, 5300), dns(Endpoint(B, 5300)), False, id="another port"),
        pytest.param(Flow(B, 53, B, 53), dns(Endpoint(A, 5300)), False, id="no service at all"),
        pytest.param(
            Flow(NODE, 30053, A, 5300),
            dns(Endpoint(B, 5300), node_port=30053),
            True,
            id="row 48: by node port",
        ),
        pytest.param(
            Flow(NODE, 30053, NODE, 30053),
            dns(Endpoint(A, 5300), node_port=30053),
            True,
            id="row 51: by node port",
        ),
        pytest.param(
            Flow(B, 30053, B, 30053),
            dns(Endpoint(A, 5300), node_port=30053),
            False,
            id="that port of another host",
        ),
    ],
)
def test_A5_row48_to_row54_which_flows_are_stale(
    flow: Flow, serving: Sequence[ServingPort], stale: bool
) -> None:
    assert stale_flows([flow], serving, [NODE]) == ({flow} if stale else frozenset())


def test_flows_are_looked_for_only_when_who_serves_has_changed() -> None:
    assert udp_endpoints(dns(Endpoint(A, 5300))) == udp_endpoints(dns(Endpoint(A, 5300, terminating=True)))
    assert udp_endpoints(dns(Endpoint(A, 5300))) != udp_endpoints(dns(Endpoint(B, 5300)))
    assert udp_endpoints(dns(Endpoint(A, 5300), protocol=Protocol.TCP)) == {}


def test_the_output_of_conntrack_is_read() -> None:
    text = (
        "udp      17 29 src=10.244.9.9 dst=10.96.0.10 sport=51860 dport=53 [UNREPLIED]"
        " src=10.244.1.2 dst=10.244.9.9 sport=5300 dport=51860 mark=0 use=1\n"
        "udp      17 29 src=10.244.9.9 dst=10.96.0.10 sport=51861 dport=53"
        " src=10.244.1.2 dst=10.244.9.9 sport=5300 dport=51861 [ASSURED] mark=0 use=1\n"
        "icmp     1 29 src=10.244.9.9 dst=10.96.0.10 type=8 code=0 id=1"
        " src=10.96.0.10 dst=10.244.9.9 type=0 code=0 id=1 mark=0 use=1\n"
        "conntrack v1.4.7 (conntrack-tools): 2 flow entries have been shown.\n"
    )
    assert read_flows(text) == {TO_A}
    assert read_flows("") == frozenset()
