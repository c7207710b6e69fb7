"""Traffic from outside, as packets: rows 17 to 24 and 30 to 33 of the proxy's table.

203.0.113.0/24 is routed to the node by the neighbour, and no address of it is assigned anywhere.
"""

import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest

from kubenet.kernel import sysctl
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import run
from kubenet.model.protocol import Protocol
from proxy.apply_iptables import IptablesBackend, KernelIptables
from proxy.policy import Locality, serve
from proxy.ports import Endpoint, NodeNetwork, ServicePort, ServicePortName, TrafficPolicy
from tests.netns.proxy.world import (
    CLIENT,
    NODE,
    NODE_SEEN_BY_PODS,
    OUTSIDE,
    SILENCE_S,
    World,
    ask,
    backend_ip,
    endpoints,
)

pytestmark = pytest.mark.netns

EXTERNAL, BALANCER = "203.0.113.1", "203.0.113.2"
SECOND = "10.244.2.1"  # the node's address on another link
LOCAL = TrafficPolicy.LOCAL
NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"), node_ip=ip_address(NODE))
WEB = ServicePort(
    ServicePortName("demo", "web", "http"),
    ip_address("10.96.0.1"),
    80,
    node_port=30080,
    external_ips=(ip_address(EXTERNAL),),
    load_balancer_ips=(ip_address(BALANCER),),
    endpoints=endpoints(2),
)
DOORS = [
    pytest.param(NODE, 30080, id="node port"),
    pytest.param(EXTERNAL, 80, id="external address"),
    pytest.param(BALANCER, 80, id="load balancer address"),
]
Apply = Callable[..., None]


@pytest.fixture
def apply(world: World) -> Apply:
    def program(*ports: ServicePort, network: NodeNetwork = NETWORK) -> None:
        IptablesBackend(KernelIptables(world.node, 4), network).apply(serve(ports, Locality("here")))

    return program


def silent(world: World, ip: str, port: int, source: str = "") -> bool:
    try:
        world.connect(world.outside, ip, port, source=source, patience_s=SILENCE_S)
    except TimeoutError:
        return True
    return False


def test_A3_row31_row32_masqueraded_by_policy_cluster_and_kept_by_policy_local(
    world: World, apply: Apply
) -> None:
    doors = [(NODE, 30080), (EXTERNAL, 80), (BALANCER, 80)]
    apply(WEB)
    assert {world.connect(world.outside, *door).source for door in doors} == {NODE_SEEN_BY_PODS}
    apply(replace(WEB, external_policy=LOCAL, endpoints=endpoints(2, node="here")))
    assert {world.connect(world.outside, *door).source for door in doors} == {OUTSIDE}
    assert {world.connect(world.client, *door).source for door in doors} == {CLIENT}
    assert {world.connect(world.node, *door).source for door in doors} == {NODE_SEEN_BY_PODS}


@pytest.mark.parametrize(("ip", "port"), DOORS)
def test_A3_row30_row33_without_a_local_endpoint_only_strangers_are_shut_out(
    world: World, apply: Apply, ip: str, port: int
) -> None:
    apply(replace(WEB, external_policy=LOCAL))
    assert silent(world, ip, port)
    assert world.connect(world.client, ip, port).backend == backend_ip(2)
    assert world.connect(world.node, ip, port).backend == backend_ip(2)


def test_A3_row28_without_endpoints_every_door_refuses_at_once(world: World, apply: Apply) -> None:
    apply(replace(WEB, endpoints=()))
    for where in (world.outside, world.client, world.node):
        for ip, port in ((NODE, 30080), (EXTERNAL, 80), (BALANCER, 80)):
            with pytest.raises(ConnectionRefusedError):
                world.connect(where, ip, port)


def test_A2_row18_node_ports_listen_where_they_are_told_to(world: World, apply: Apply) -> None:
    apply(WEB, network=replace(NETWORK, node_port_networks=(ip_network("172.30.0.0/16"),)))
    assert world.connect(world.outside, NODE, 30080).backend == backend_ip(2)
    with pytest.raises(ConnectionRefusedError):
        world.connect(world.client, SECOND, 30080)
    # A new address is open at once: no sync has to come by.
    run(["ip", "address", "add", "172.30.9.9/32", "dev", "pod2"], netns=world.node)
    assert world.connect(world.client, "172.30.9.9", 30080).backend == backend_ip(2)


def test_A2_row17_row19_localhost_only_when_asked_for(world: World, apply: Apply) -> None:
    apply(WEB)
    with pytest.raises(ConnectionRefusedError):
        world.connect(world.node, "127.0.0.1", 30080)
    sysctl.write(world.node, "net.ipv4.conf.all.route_localnet", "1")
    apply(WEB, network=replace(NETWORK, localhost_node_ports=True))
    assert world.connect(world.node, "127.0.0.1", 30080).backend == backend_ip(2)


def test_A2_row19_what_the_wire_brings_for_localhost_is_dropped(world: World, apply: Apply) -> None:
    sysctl.write(world.node, "net.ipv4.conf.all.route_localnet", "1")
    with (
        world.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as private,
        world.outside.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as wire,
    ):
        private.bind(("127.0.0.1", 10250))
        private.settimeout(SILENCE_S)
        frame = datagram(OUTSIDE, "127.0.0.1", 10250)
        where = ("eth0", 0x0800, 0, 0, mac_of(world, "eth0"))
        wire.sendto(frame, where)
        assert private.recv(64) == b"martian"  # so route_localnet alone opens the door (CVE-2020-8558)
        apply(WEB, network=replace(NETWORK, localhost_node_ports=True))
        wire.sendto(frame, where)
        with pytest.raises(TimeoutError):
            private.recv(64)


def mac_of(world: World, ifname: str) -> bytes:
    with Rtnl(world.node) as rtnl:
        return bytes.fromhex(str(rtnl.observe().links[ifname].mac).replace(":", ""))


def datagram(source: str, destination: str, port: int, payload: bytes = b"martian") -> bytes:
    """Return an IPv4 packet with a UDP datagram in it; its UDP checksum is left out, as IPv4 allows."""
    length = 28 + len(payload)
    addresses = ip_address(source).packed + ip_address(destination).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack("!10H", header))
    checksum = ~(total % 0xFFFF) & 0xFFFF
    header = header[:10] + struct.pack("!H", checksum) + header[12:]
    return header + struct.pack("!HHHH", 4000, port, length - 20, 0) + payload


def test_A2_row22_source_ranges_shut_out_by_silence_and_at_the_balancer_only(
    world: World, apply: Apply
) -> None:
    apply(replace(WEB, source_ranges=(ip_network("198.51.100.0/24"),)))
    assert silent(world, BALANCER, 80)
    assert world.connect(world.outside, NODE, 30080).backend == backend_ip(2)
    assert world.connect(world.outside, EXTERNAL, 80).backend == backend_ip(2)
    apply(replace(WEB, source_ranges=(ip_network("172.30.0.0/29"), ip_network("172.30.0.8/29"))))
    assert world.connect(world.outside, BALANCER, 80).backend == backend_ip(2)


def test_A2_row23_one_number_serves_tcp_and_udp(world: World, apply: Apply) -> None:
    udp = replace(WEB, name=replace(WEB.name, protocol=Protocol.UDP), endpoints=endpoints(3))
    apply(WEB, udp)
    servers = world.udp_servers()
    for ip, port in ((NODE, 30080), (EXTERNAL, 80), (BALANCER, 80)):
        assert world.connect(world.outside, ip, port).backend == backend_ip(2)
        assert ask(world.udp_client(world.outside, ip, port), servers) == backend_ip(3)
    apply(udp)  # one goes, the other stays
    assert ask(world.udp_client(world.outside, NODE, 30080), servers) == backend_ip(3)
    with pytest.raises(ConnectionRefusedError):
        world.connect(world.outside, NODE, 30080)


def test_A2_row24_sctp_has_the_same_rules(world: World, apply: Apply) -> None:
    apply(replace(WEB, name=replace(WEB.name, protocol=Protocol.SCTP)))
    try:
        listener = world.pods.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    except OSError:
        return  # this kernel has no SCTP sockets; that it takes the rules is what it can show
    with listener, world.client.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as client:
        listener.bind((backend_ip(2), 8080))
        listener.listen()
        client.settimeout(5)
        client.connect(("10.96.0.1", 80))


def test_A7_row70_of_many_services_the_last_is_reached(world: World, apply: Apply) -> None:
    """Behind chains that fan out, in the kernel."""
    base = int(IPv4Address("10.96.16.0"))
    many = [
        replace(
            WEB,
            name=ServicePortName("demo", f"s{number:04}", "http"),
            cluster_ip=IPv4Address(base + number),
            node_port=0,
            external_ips=(),
            load_balancer_ips=(),
            endpoints=(Endpoint(ip_address(backend_ip(2 + number % 5)), 8080),) if number % 10 else (),
        )
        for number in range(600)
    ]
    apply(*many)
    for number in (1, 299, 599):
        reached = world.connect(world.client, str(IPv4Address(base + number)))
        assert reached.backend == backend_ip(2 + number % 5)
    with pytest.raises(ConnectionRefusedError):
        world.connect(world.client, str(IPv4Address(base + 590)))
    apply(*many[:20])  # and back to one list, the chains between gone
    assert world.connect(world.client, str(IPv4Address(base + 11))).backend == backend_ip(3)
    assert "KUBE-IP-" not in KernelIptables(world.node, 4).save("nat")
