"""Packets: what the wiring, the overlay and the packet filter are for."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest

from cni.overlay import NodeNet
from cni.peer_guard import PeerGuard
from cni.plan import Wiring, host_ifname
from kubenet.kernel import codec, iptables
from kubenet.kernel.counters import link_counters
from kubenet.kernel.events import Subscription
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import run
from tests.netns.cni.conftest import CLUSTER_CIDR, LabNode, NodeMaker, Pin, observe

pytestmark = pytest.mark.netns

WITHIN_S = 5.0
TUNNEL = "kubenet.1"
OUTSIDE = "172.30.255.254"


UDP = (socket.AF_INET, socket.SOCK_DGRAM)


def talk(client: NetNs, server: NetNs, address: str, size: int = 10) -> str:
    """Send ``size`` bytes to a TCP server and back; return as whom the server saw the client."""
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    kind = (family, socket.SOCK_STREAM)
    with server.socket(*kind) as listening, client.socket(*kind) as calling:
        listening.bind(("", 0))
        listening.listen()
        calling.settimeout(WITHIN_S)
        listening.settimeout(WITHIN_S)
        calling.connect((address, listening.getsockname()[1]))
        answering, peer = listening.accept()
        with answering:
            answering.settimeout(WITHIN_S)
            sending = threading.Thread(target=calling.sendall, args=(b"x" * size,))
            sending.start()
            got = b""
            while len(got) < size:
                got += answering.recv(65536)
            sending.join()
            answering.sendall(b"y")
            assert calling.recv(1) == b"y"
    return str(peer[0])


def reaches(client: NetNs, server: NetNs, address: str) -> bool:
    """Whether one datagram arrives; it is sent again until it does, or until nothing can come any more."""
    with server.socket(*UDP) as listening, client.socket(*UDP) as calling:
        listening.bind(("", 0))
        listening.settimeout(0.2)
        for _ in range(3):
            try:
                calling.sendto(b"hello", (address, listening.getsockname()[1]))
                listening.recv(100)
            except OSError:
                continue
            return True
    return False


@contextmanager
def pod(node: LabNode, path: Path) -> Iterator[tuple[NetNs, str]]:
    """A pod's namespace and its address."""
    answer = node.runtime.add(f"pod-{path.name}", path)
    with NetNs.open(path) as netns:
        yield netns, answer.address


@pytest.fixture(params=list(Wiring), ids=lambda wiring: str(wiring.value))
def nodes(request: pytest.FixtureRequest, make_node: NodeMaker) -> tuple[LabNode, LabNode]:
    """Two nodes that know each other."""
    one, two = make_node(1, wiring=request.param), make_node(2, wiring=request.param)
    one.start(two.net)
    two.start(one.net)
    return one, two


def test_two_pods_of_one_node_talk_with_their_own_addresses(nodes: tuple[LabNode, LabNode], pin: Pin) -> None:
    with pod(nodes[0], pin("a")) as (a, a_ip), pod(nodes[0], pin("b")) as (b, b_ip):
        assert talk(a, b, b_ip, 100_000) == a_ip
        assert talk(b, a, a_ip, 100_000) == b_ip
        assert talk(a, a, a_ip) == a_ip


def test_a_node_and_its_pod_talk(nodes: tuple[LabNode, LabNode], pin: Pin) -> None:
    node = nodes[0]
    with pod(node, pin("a")) as (a, a_ip):
        talk(node.netns, a, a_ip)
        assert talk(a, node.netns, str(node.net.node_ip)) == a_ip


def test_pods_of_two_nodes_talk_through_the_tunnel_with_their_own_addresses(
    nodes: tuple[LabNode, LabNode], pin: Pin
) -> None:
    one, two = nodes
    with pod(one, pin("a")) as (a, a_ip), pod(two, pin("b")) as (b, b_ip):
        before = link_counters(two.netns)[TUNNEL].rx_packets
        assert talk(a, b, b_ip, 1_000_000) == a_ip
        assert link_counters(two.netns)[TUNNEL].rx_packets > before + 5
        assert talk(b, a, a_ip, 1_000_000) == b_ip


def test_a_node_reaches_a_pod_of_another_as_its_tunnel_end(nodes: tuple[LabNode, LabNode], pin: Pin) -> None:
    one, two = nodes
    with pod(two, pin("b")) as (b, b_ip):
        assert talk(one.netns, b, b_ip) == "10.244.1.0"


def test_a_pod_is_seen_outside_the_cluster_as_its_node(
    nodes: tuple[LabNode, LabNode], pin: Pin, wire: NetNs
) -> None:
    with pod(nodes[0], pin("a")) as (a, _):
        assert talk(a, wire, OUTSIDE) == str(nodes[0].net.node_ip)


def test_pods_are_forwarded_also_where_the_administrator_forwards_nothing(
    nodes: tuple[LabNode, LabNode], pin: Pin
) -> None:
    for node in nodes:
        iptables.restore(node.netns, "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n")
    with pod(nodes[0], pin("a")) as (a, a_ip), pod(nodes[1], pin("b")) as (b, b_ip):
        assert talk(a, b, b_ip) == a_ip


@pytest.fixture
def node_pair(make_node: NodeMaker) -> tuple[LabNode, LabNode]:
    """Two nodes with routed wiring."""
    one, two = make_node(1), make_node(2)
    one.start(two.net)
    two.start(one.net)
    return one, two


def forged(inner_src: str, inner_dst: str, port: int, vtep_mac: str) -> bytes:
    """A VXLAN packet with a datagram that claims to come from ``inner_src``."""
    payload = b"forged"
    datagram = struct.pack("!HHHH", 9999, port, 8 + len(payload), 0) + payload
    header = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x45, 0, 20 + len(datagram), 0, 0, 64, socket.IPPROTO_UDP, 0),
        *(IPv4Address(inner_src).packed, IPv4Address(inner_dst).packed),
    )
    total = sum(struct.unpack("!10H", header))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    header = header[:10] + struct.pack("!H", checksum) + header[12:]
    ethernet = bytes.fromhex(vtep_mac.replace(":", "")) + b"\x0e\x58\0\0\0\1" + b"\x08\0"
    return struct.pack("!II", 0x08000000, 1 << 8) + ethernet + header + datagram


@pytest.mark.parametrize("target", ["172.30.0.2", "10.244.2.0"], ids=["node address", "tunnel end"])
def test_a_pod_cannot_forge_packets_of_others_through_the_tunnel(
    node_pair: tuple[LabNode, LabNode], pin: Pin, target: str
) -> None:
    one, two = node_pair
    with (
        pod(one, pin("a")) as (a, _),
        pod(two, pin("b")) as (b, b_ip),
        b.socket(*UDP) as listening,
        a.socket(*UDP) as calling,
    ):
        listening.bind(("", 0))
        listening.settimeout(0.3)
        attack = forged("10.244.1.99", b_ip, listening.getsockname()[1], two.net.vtep_mac)
        calling.sendto(attack, (target, 8472))
        with pytest.raises(TimeoutError):
            listening.recv(100)
        for node in node_pair:  # the attack itself works, where the guards are away
            node.stop()
            _unguard(node)
            iptables.restore(node.netns, "*raw\n:KUBENET-GUARD - [0:0]\nCOMMIT\n")
        calling.sendto(attack, (target, 8472))
        assert listening.recvfrom(100)[1][0] == "10.244.1.99"


def _unguard(node: LabNode) -> None:
    guard = PeerGuard(node.netns)
    guard.remove()
    guard.close()


def test_pods_may_use_the_tunnels_port_among_themselves(node_pair: tuple[LabNode, LabNode], pin: Pin) -> None:
    with (
        pod(node_pair[0], pin("a")) as (a, _),
        pod(node_pair[1], pin("b")) as (b, b_ip),
        b.socket(*UDP) as listening,
        a.socket(*UDP) as calling,
    ):
        listening.bind(("", 8472))
        listening.settimeout(WITHIN_S)
        calling.sendto(b"hello", (b_ip, 8472))
        assert listening.recv(100) == b"hello"


def _fdb_lost(rtnl: Rtnl) -> None:
    index = rtnl.ifindex(TUNNEL)
    rtnl.transact([codec.delete_fdb(index, entry) for entry in rtnl.observe().fdb.values()])


def _neighbor_lost(rtnl: Rtnl) -> None:
    index = rtnl.ifindex(TUNNEL)
    ours = [n for n in rtnl.observe().neighbors.values() if n.ifname == TUNNEL]
    rtnl.transact([codec.delete_neighbor(index, entry) for entry in ours])


def _route_lost(rtnl: Rtnl) -> None:
    index = rtnl.ifindex(TUNNEL)
    ours = [r for r in rtnl.observe().routes.values() if r.ifname == TUNNEL]
    rtnl.transact([codec.delete_route(route, index) for route in ours])


def _device_lost(rtnl: Rtnl) -> None:
    rtnl.transact([codec.delete_link(ifname=TUNNEL)])


def _device_down(rtnl: Rtnl) -> None:
    rtnl.transact([codec.set_link(name=TUNNEL, up=False)])


def _other_mac(rtnl: Rtnl) -> None:
    rtnl.transact([codec.set_link(name=TUNNEL, mac="0a:00:00:00:00:01")])


HARM: dict[str, Callable[[Rtnl], None]] = {
    "forwarding entries lost": _fdb_lost,
    "neighbours lost": _neighbor_lost,
    "routes lost": _route_lost,
    "device deleted": _device_lost,
    "device down": _device_down,
    "another MAC address": _other_mac,
}


@pytest.mark.parametrize("harm", HARM)
def test_N12_whatever_somebody_did_to_the_overlay_one_sync_repairs_it(
    node_pair: tuple[LabNode, LabNode], pin: Pin, harm: str
) -> None:
    one, two = node_pair
    with pod(one, pin("a")) as (a, _), pod(two, pin("b")) as (b, b_ip):
        assert reaches(a, b, b_ip)
        with Rtnl(one.netns) as rtnl:
            HARM[harm](rtnl)
        assert not reaches(a, b, b_ip)
        assert one.agent is not None
        one.agent.sync(one.net, [two.net])
        assert reaches(a, b, b_ip)


def test_a_second_sync_writes_nothing(node_pair: tuple[LabNode, LabNode]) -> None:
    one, two = node_pair
    assert one.agent is not None
    before = rules_of(one)
    with Subscription(one.netns) as events:
        one.agent.sync(one.net, [two.net])
        assert events.read() == []
    assert rules_of(one) == before


def rules_of(node: LabNode) -> list[str]:
    """All rules of a node."""
    saved = [iptables.save(node.netns, table) for table in ("nat", "filter", "raw")]
    return [line for text in saved for line in text.splitlines() if line.startswith("-A")]


def test_peers_that_come_and_go_leave_no_trace(node_pair: tuple[LabNode, LabNode]) -> None:
    one, two = node_pair
    assert one.agent is not None
    before = observe(one.netns)
    many = [
        NodeNet(f"n{number}", ip_address(f"172.30.1.{number}"), (ip_network(f"10.244.{number}.0/24"),))
        for number in range(10, 60)
    ]
    one.agent.sync(one.net, [two.net, *many])
    assert len(observe(one.netns).fdb) == len(before.fdb) + 50
    one.agent.sync(one.net, [two.net])
    assert observe(one.netns) == before


def test_a_node_that_moved_is_followed(make_node: NodeMaker, pin: Pin) -> None:
    one, two = make_node(1), make_node(2)
    one.start(NodeNet("node2", ip_address("172.30.0.77"), two.net.pod_cidrs))
    two.start(one.net)
    with pod(one, pin("a")) as (a, _), pod(two, pin("b")) as (b, b_ip):
        assert not reaches(a, b, b_ip)
        assert one.agent is not None
        one.agent.sync(one.net, [two.net])
        assert reaches(a, b, b_ip)


def test_a_tunnel_that_was_made_otherwise_is_made_anew(make_node: NodeMaker) -> None:
    node = make_node(1)
    made_by_hand = "type vxlan id 7 dev eth0 local 172.30.0.1 dstport 4789"
    argv = ["ip", "link", "add", TUNNEL, *made_by_hand.split()]
    run(argv, netns=node.netns)
    node.start()
    vxlan = observe(node.netns).links[TUNNEL].vxlan
    assert vxlan is not None
    assert (vxlan.vni, vxlan.port) == (1, 8472)


@pytest.mark.parametrize("mtu", [1400, 8950], ids=["smaller", "larger"])
@pytest.mark.parametrize("wiring", list(Wiring), ids=lambda wiring: str(wiring.value))
def test_the_mtu_follows_the_underlay_also_that_of_pods_that_run(
    make_node: NodeMaker, pin: Pin, wiring: Wiring, mtu: int
) -> None:
    node = make_node(1, wiring=wiring)
    agent = node.start()
    paths = {name: pin(name) for name in ("old", "asked", "new")}
    added = node.runtime.add("old", paths["old"])
    assert node.runtime.add("asked", paths["asked"], mtu=1300).code == 0
    with Rtnl(node.netns) as rtnl:
        rtnl.transact([codec.set_link(name="eth0", mtu=mtu)])
    agent.sync(node.net, ())
    assert observe(node.netns).links[TUNNEL].mtu == mtu - 50
    assert node.runtime.add("new", paths["new"]).code == 0
    wanted = {"old": mtu - 50, "asked": 1300, "new": mtu - 50}
    links = observe(node.netns).links
    for name, path in paths.items():
        with NetNs.open(path) as netns:
            assert observe(netns).links["eth0"].mtu == wanted[name]
        assert links[host_ifname(name, "eth0")].mtu == wanted[name]
    assert node.runtime.call("CHECK", "old", paths["old"], prevResult=added.json).code == 0
    with NetNs.open(paths["old"]) as a, NetNs.open(paths["new"]) as b:
        assert talk(a, b, "10.244.1.4", 100_000) == added.address


def test_a_pod_whose_namespace_cannot_be_found_keeps_its_mtu_at_both_ends(
    node_pair: tuple[LabNode, LabNode], pin: Pin
) -> None:
    one, two = node_pair
    with pod(one, pin("a")) as (a, a_ip), pod(two, pin("b")) as (b, b_ip):
        unpin(pin_path := Path(one.attached()[0].netns))
        with Rtnl(one.netns) as rtnl:
            rtnl.transact([codec.set_link(name="eth0", mtu=1400)])
        assert one.agent is not None
        one.agent.sync(one.net, [two.net])
        assert not pin_path.exists()
        assert observe(a).links["eth0"].mtu == observe(one.netns).links[one.attached()[0].host_ifname].mtu
        assert talk(a, b, b_ip, 100_000) == a_ip  # the kernel tells it which size fits


def test_dual_stack_pods_talk_over_both_families_on_one_node_and_on_two(
    make_node: NodeMaker, pin: Pin
) -> None:
    cidrs = (CLUSTER_CIDR, ip_network("fd00::/16"))
    nodes = [make_node(number, cluster_cidrs=cidrs) for number in (1, 2)]
    for node in nodes:
        number = node.net.name[-1]
        v6 = ip_network(f"fd00:{number}::/64")
        node.net = NodeNet(node.net.name, node.net.node_ip, (*node.net.pod_cidrs, v6))
    for node, peer in (nodes, reversed(nodes)):
        node.start(peer.net)
    with (
        pod(nodes[0], pin("a")) as (a, _),
        pod(nodes[0], pin("b")) as (b, _),
        pod(nodes[1], pin("c")) as (c, _),
    ):
        assert talk(a, b, "fd00:1::3") == "fd00:1::2"
        assert talk(a, c, "fd00:2::2", 100_000) == "fd00:1::2"
        assert talk(a, c, "10.244.2.2") == "10.244.1.2"


@pytest.mark.parametrize("wiring", list(Wiring), ids=lambda wiring: str(wiring.value))
def test_nodes_that_reach_each_other_over_ipv6_carry_pods_of_both_families(
    make_node: NodeMaker, pin: Pin, wiring: Wiring
) -> None:
    cidrs = (CLUSTER_CIDR, ip_network("fd00::/16"))
    nodes = [make_node(number, cluster_cidrs=cidrs, wiring=wiring) for number in (1, 2)]
    for number, node in enumerate(nodes, start=1):
        run(["ip", "address", "add", f"fd01::{number}/64", "dev", "eth0", "nodad"], netns=node.netns)
        ranges = (*node.net.pod_cidrs, ip_network(f"fd00:{number}::/64"))
        node.net = NodeNet(node.net.name, ip_address(f"fd01::{number}"), ranges)
    for node, peer in (nodes, reversed(nodes)):
        node.start(peer.net)
        assert observe(node.netns).links[TUNNEL].mtu == 1500 - 70
    with pod(nodes[0], pin("a")) as (a, a_ip), pod(nodes[1], pin("c")) as (c, _):
        before = link_counters(nodes[1].netns)[TUNNEL].rx_packets
        assert talk(a, c, "10.244.2.2", 200_000) == a_ip
        assert talk(a, c, "fd00:2::2", 200_000) == "fd00:1::2"
        assert link_counters(nodes[1].netns)[TUNNEL].rx_packets > before + 5


def test_a_node_that_changes_to_an_ipv6_address_is_followed(
    node_pair: tuple[LabNode, LabNode], pin: Pin
) -> None:
    one, two = node_pair
    with pod(one, pin("a")) as (a, a_ip), pod(two, pin("b")) as (b, b_ip):
        assert reaches(a, b, b_ip)
        for number, node in enumerate(node_pair, start=1):
            run(["ip", "address", "add", f"fd01::{number}/64", "dev", "eth0", "nodad"], netns=node.netns)
            node.net = replace(node.net, node_ip=ip_address(f"fd01::{number}"))
        for node, peer in (node_pair, reversed(node_pair)):
            assert node.agent is not None
            node.agent.sync(node.net, [peer.net])
        assert observe(a).links["eth0"].mtu == 1500 - 70
        assert talk(a, b, b_ip, 100_000) == a_ip
        guards = run(["nft", "list", "tables"], netns=one.netns).stdout.decode()
        assert "table ip6 kubenet-overlay" in guards
        assert "table ip kubenet-overlay" not in guards
