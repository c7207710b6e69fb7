"""Traffic from outside, walked through the rules: rows 17 to 24 and 30 to 33 of the proxy's table."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from kubenet.model.protocol import Protocol
from proxy.compile_iptables import compile_iptables
from proxy.policy import Locality, serve
from proxy.ports import Endpoint, NodeNetwork, ServicePort, ServicePortName, TrafficPolicy
from proxy.simulate import Arrives, Host, Outcome, Packet, Stopped, destinations

NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"), node_ip=ip_address("172.30.0.1"))
POD, STRANGER, NODE, SECOND = "10.244.9.9", "198.51.100.7", "172.30.0.1", "192.168.7.1"
HOST = Host(frozenset(map(ip_address, (NODE, SECOND))))
EXTERNAL, BALANCER = "203.0.113.1", "203.0.113.2"
NEAR, FAR = ip_address("10.244.1.2"), ip_address("10.244.2.2")
LOCAL = TrafficPolicy.LOCAL

REJECTED, DROPPED = Stopped.REJECTED, Stopped.DROPPED
Expected = frozenset[Outcome] | Stopped | None  # None: passes untouched


def to(*ips: object, masqueraded: bool) -> frozenset[Outcome]:
    return frozenset(Arrives(ip, 8080, True, masqueraded) for ip in ips if isinstance(ip, type(NEAR)))


WEB = ServicePort(
    ServicePortName("demo", "web", "http"),
    ip_address("10.96.0.1"),
    80,
    node_port=30080,
    external_ips=(ip_address(EXTERNAL),),
    load_balancer_ips=(ip_address(BALANCER),),
    endpoints=(Endpoint(NEAR, 8080, node_name="here"), Endpoint(FAR, 8080, node_name="far")),
)
ELSEWHERE = replace(WEB, endpoints=WEB.endpoints[1:])
EMPTY = replace(WEB, endpoints=())
TERMINATING = replace(
    WEB, endpoints=tuple(replace(each, ready=False, terminating=True) for each in WEB.endpoints)
)
ALL_MASQUERADED = to(NEAR, FAR, masqueraded=True)
ALL_KEPT = to(NEAR, FAR, masqueraded=False)


def send(
    port: ServicePort, source: str, where: str, at: int, network: NodeNetwork = NETWORK
) -> frozenset[Outcome]:
    tables = compile_iptables(serve([port], Locality("here")), network)
    ifname = "" if HOST.is_local(ip_address(source)) else "eth0"
    packet = Packet(ip_address(source), ip_address(where), port.protocol, at, ifname)
    return destinations(tables, packet, HOST)


def as_set(expected: Expected, where: str, at: int) -> frozenset[Outcome]:
    if expected is None:
        return frozenset({Arrives(ip_address(where), at)})
    return frozenset({expected}) if isinstance(expected, Stopped) else expected


DOORS = [
    pytest.param(NODE, 30080, id="node port"),
    pytest.param(SECOND, 30080, id="node port on the second address"),
    pytest.param(EXTERNAL, 80, id="external address"),
    pytest.param(BALANCER, 80, id="load balancer address"),
]


@pytest.mark.parametrize(("where", "at"), DOORS)
@pytest.mark.parametrize(
    ("port", "policy", "source", "expected"),
    [
        pytest.param(WEB, "Cluster", STRANGER, ALL_MASQUERADED, id="row 31: a stranger, policy Cluster"),
        pytest.param(WEB, "Cluster", POD, ALL_MASQUERADED, id="row 31: a pod, policy Cluster"),
        pytest.param(WEB, "Cluster", NODE, ALL_MASQUERADED, id="row 31: the node, policy Cluster"),
        pytest.param(WEB, "Local", STRANGER, to(NEAR, masqueraded=False), id="row 32: a stranger, Local"),
        pytest.param(WEB, "Local", POD, ALL_KEPT, id="row 32: a pod, Local"),
        pytest.param(WEB, "Local", NODE, ALL_MASQUERADED, id="row 32: the node, Local"),
        pytest.param(ELSEWHERE, "Local", STRANGER, DROPPED, id="row 30: a stranger, none local"),
        pytest.param(ELSEWHERE, "Local", POD, to(FAR, masqueraded=False), id="row 30: a pod, none local"),
        pytest.param(ELSEWHERE, "Local", NODE, to(FAR, masqueraded=True), id="row 30: the node, none local"),
        pytest.param(EMPTY, "Cluster", STRANGER, REJECTED, id="row 28: a stranger, none at all"),
        pytest.param(EMPTY, "Cluster", NODE, REJECTED, id="row 28: the node, none at all"),
        pytest.param(EMPTY, "Local", STRANGER, REJECTED, id="row 28: a stranger, none at all, Local"),
        pytest.param(EMPTY, "Local", POD, REJECTED, id="row 33: a pod, none at all: no short circuit"),
        pytest.param(
            TERMINATING, "Local", STRANGER, to(NEAR, masqueraded=False), id="row 34: terminating, Local"
        ),
        pytest.param(TERMINATING, "Cluster", STRANGER, ALL_MASQUERADED, id="row 34: terminating, Cluster"),
    ],
)
def test_A3_row28_row30_to_row34_who_gets_where(
    port: ServicePort, policy: str, source: str, expected: Expected, where: str, at: int
) -> None:
    port = replace(port, external_policy=TrafficPolicy(policy))
    assert send(port, source, where, at) == as_set(expected, where, at)


RANGED = replace(WEB, source_ranges=(ip_network("198.51.100.0/24"),))
NODE_IN_RANGE = replace(WEB, source_ranges=(ip_network("172.30.0.0/24"),))


@pytest.mark.parametrize(
    ("port", "source", "where", "at", "expected"),
    [
        pytest.param(RANGED, STRANGER, BALANCER, 80, ALL_MASQUERADED, id="in a range"),
        pytest.param(RANGED, "198.51.101.1", BALANCER, 80, DROPPED, id="in no range: dropped, not refused"),
        pytest.param(RANGED, POD, BALANCER, 80, DROPPED, id="a pod in no range"),
        pytest.param(RANGED, "198.51.101.1", NODE, 30080, ALL_MASQUERADED, id="never by node port"),
        pytest.param(RANGED, "198.51.101.1", EXTERNAL, 80, ALL_MASQUERADED, id="never by external address"),
        pytest.param(RANGED, "198.51.101.1", BALANCER, 81, None, id="another port"),
        pytest.param(RANGED, BALANCER, BALANCER, 80, DROPPED, id="the address itself, the node in no range"),
        pytest.param(
            NODE_IN_RANGE, BALANCER, BALANCER, 80, ALL_MASQUERADED, id="the address itself, the node in one"
        ),
        pytest.param(NODE_IN_RANGE, NODE, BALANCER, 80, ALL_MASQUERADED, id="the node, in a range"),
        pytest.param(NODE_IN_RANGE, STRANGER, BALANCER, 80, DROPPED, id="a stranger, the node in a range"),
        pytest.param(
            replace(RANGED, endpoints=()), "198.51.101.1", BALANCER, 80, REJECTED, id="row 28: nobody serves"
        ),
    ],
)
def test_A2_row22_source_ranges(
    port: ServicePort, source: str, where: str, at: int, expected: Expected
) -> None:
    assert send(port, source, where, at) == as_set(expected, where, at)


@pytest.mark.parametrize(
    ("networks", "where", "expected"),
    [
        pytest.param((), NODE, ALL_MASQUERADED, id="none given: the first address"),
        pytest.param((), SECOND, ALL_MASQUERADED, id="none given: the second address"),
        pytest.param(("172.30.0.0/16",), NODE, ALL_MASQUERADED, id="inside"),
        pytest.param(("172.30.0.0/16",), SECOND, None, id="outside"),
        pytest.param(("172.30.0.0/16", "192.168.0.0/16"), SECOND, ALL_MASQUERADED, id="in the second"),
        pytest.param(("0.0.0.0/0",), SECOND, ALL_MASQUERADED, id="everything"),
        pytest.param(("172.30.0.0/16", "0.0.0.0/0"), SECOND, ALL_MASQUERADED, id="everything among others"),
        pytest.param(("2001:db8::/32",), NODE, ALL_MASQUERADED, id="row 25: only of the other family"),
        pytest.param(("203.0.113.0/24",), NODE, None, id="no address of the node"),
        pytest.param((), STRANGER, None, id="not the node's address"),
    ],
)
def test_A2_row18_where_node_ports_listen(networks: tuple[str, ...], where: str, expected: Expected) -> None:
    network = replace(NETWORK, node_port_networks=tuple(map(ip_network, networks)))
    assert send(WEB, "198.51.100.9", where, 30080, network) == as_set(expected, where, 30080)


@pytest.mark.parametrize(
    ("localhost", "networks", "expected"),
    [
        pytest.param(False, (), None, id="not by default"),
        pytest.param(False, ("127.0.0.0/8",), None, id="nor by its network"),
        pytest.param(False, ("126.0.0.0/7",), None, id="nor by one that holds it"),
        pytest.param(True, (), ALL_MASQUERADED, id="when asked for"),
        pytest.param(True, ("127.0.0.0/8",), ALL_MASQUERADED, id="when asked for, and by its network"),
        pytest.param(True, ("172.30.0.0/16",), None, id="when asked for, and other networks"),
    ],
)
def test_A2_row17_row19_node_ports_on_localhost(
    localhost: bool, networks: tuple[str, ...], expected: Expected
) -> None:
    network = replace(
        NETWORK, localhost_node_ports=localhost, node_port_networks=tuple(map(ip_network, networks))
    )
    assert send(WEB, "127.0.0.1", "127.0.0.1", 30080, network) == as_set(expected, "127.0.0.1", 30080)


def test_A2_row19_what_comes_to_localhost_from_the_wire_is_dropped() -> None:
    guarded = replace(NETWORK, localhost_node_ports=True)
    tables = compile_iptables((), guarded)
    martian = Packet(ip_address(STRANGER), ip_address("127.0.0.1"), Protocol.TCP, 10250, "eth0")
    assert destinations(tables, martian, HOST) == {Stopped.DROPPED}
    own = Packet(ip_address("127.0.0.1"), ip_address("127.0.0.1"), Protocol.TCP, 10250)
    assert destinations(tables, own, HOST) == {Arrives(ip_address("127.0.0.1"), 10250)}


def test_A2_row19_never_for_ipv6() -> None:
    six = NodeNetwork(6, localhost_node_ports=True)
    nat, filter_ = compile_iptables((), six)
    assert "KUBE-PROXY-LOCALNET" not in filter_.chains
    assert nat.chains["KUBE-SERVICES"][-1].text(6).startswith("! -d ::1/128 ")


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize(("where", "at"), [*DOORS, pytest.param("10.96.0.1", 80, id="cluster address")])
def test_A2_row23_row24_every_protocol_is_served_and_no_other(
    protocol: Protocol, where: str, at: int
) -> None:
    port = replace(WEB, name=replace(WEB.name, protocol=protocol))
    tables = compile_iptables(serve([port], Locality("here")), NETWORK)
    for sent in Protocol:
        got = destinations(tables, Packet(ip_address(STRANGER), ip_address(where), sent, at, "eth0"), HOST)
        assert got == (ALL_MASQUERADED if sent is protocol else as_set(None, where, at))


@pytest.mark.parametrize(
    ("ifname", "came_by", "masqueraded"),
    [
        pytest.param("pod+", "pod7", False, id="a prefix, from a pod"),
        pytest.param("pod+", "eth0", True, id="a prefix, from elsewhere"),
        pytest.param("cni0", "cni0", False, id="a bridge, from a pod"),
        pytest.param("cni0", "cni01", True, id="a bridge, from another device"),
    ],
)
def test_A4_row44_pods_are_told_by_the_interface(ifname: str, came_by: str, masqueraded: bool) -> None:
    network = replace(NETWORK, pod_ifname=ifname)
    tables = compile_iptables(serve([WEB], Locality("here")), network)
    packet = Packet(ip_address(STRANGER), WEB.cluster_ip, Protocol.TCP, 80, came_by)
    assert destinations(tables, packet, HOST) == to(NEAR, FAR, masqueraded=masqueraded)


@pytest.mark.parametrize("liberal", [False, True])
def test_A4_row47_out_of_window_segments_are_dropped_unless_conntrack_is_liberal(liberal: bool) -> None:
    _, filter_ = compile_iptables((), replace(NETWORK, tcp_liberal=liberal))
    texts = [rule.text() for rule in filter_.chains["KUBE-FORWARD"]]
    assert ("-m conntrack --ctstate INVALID -j DROP" in texts) is not liberal
