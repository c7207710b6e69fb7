"""Ports of the node that lead to pods: packets prove it (rows P1, C2, A2, D1)."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from cni.hostports import TABLE
from cni.overlay import NodeNet
from cni.plan import Wiring
from kubenet.kernel import sysctl
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import Nftables
from kubenet.kernel.run import run
from tests.netns.cni.conftest import CLUSTER_CIDR, LabNode, NodeMaker, Pin

pytestmark = pytest.mark.netns

WITHIN_S = 3.0
SCTP = 132
TYPES = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, SCTP),
}


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6


@contextmanager
def echo(netns: NetNs, protocol: str, port: int, family: socket.AddressFamily) -> Iterator[None]:
    """A server in a pod: it answers with the address of whoever asks."""
    with netns.socket(family, *TYPES[protocol]) as serving:
        if family == socket.AF_INET6:
            serving.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        serving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        serving.bind(("", port))
        if protocol != "udp":
            serving.listen()
        thread = threading.Thread(target=_serve, args=(serving, protocol))
        thread.start()
        try:
            yield
        finally:
            serving.shutdown(socket.SHUT_RDWR) if protocol != "udp" else _wake(netns, family, port)
            thread.join(WITHIN_S)


def _wake(netns: NetNs, family: socket.AddressFamily, port: int) -> None:
    with netns.socket(family, socket.SOCK_DGRAM) as calling:
        calling.sendto(b"", ("127.0.0.1" if family == socket.AF_INET else "::1", port))


def _serve(serving: socket.socket, protocol: str) -> None:
    while True:
        try:
            if protocol == "udp":
                said, peer = serving.recvfrom(100)
                if not said:
                    return
                serving.sendto(str(peer[0]).encode(), peer)
            else:
                answering, peer = serving.accept()
                with answering:
                    answering.sendall(str(peer[0]).encode())
        except OSError:
            return


def ask(client: NetNs, address: str, port: int, protocol: str = "tcp", source: str = "") -> str:
    """Return as whom the server saw the client; an empty string if nobody answers."""
    with client.socket(family_of(address), *TYPES[protocol]) as calling:
        calling.settimeout(0.5)
        try:
            if source:
                calling.bind((source, 0))
            calling.connect((address, port))
            if protocol == "udp":
                calling.send(b"who am I")
            return calling.recv(100).decode()
        except OSError:
            return ""


def mapping(port: int, protocol: str = "tcp", host_ip: str = "", container_port: int = 80) -> dict[str, Any]:
    entry = {"hostPort": port, "containerPort": container_port, "protocol": protocol}
    return {**entry, "hostIP": host_ip} if host_ip else entry


def ports(*mappings: dict[str, Any]) -> dict[str, Any]:
    return {"runtimeConfig": {"portMappings": list(mappings)}}


@dataclass
class Cluster:
    """Two nodes that know each other, a pod with ports on the first, and one without on each."""

    one: LabNode
    two: LabNode
    server: NetNs
    neighbor: NetNs
    far: NetNs
    wire: NetNs
    server_ip: str
    neighbor_ip: str


@pytest.fixture(params=list(Wiring), ids=lambda wiring: str(wiring.value))
def cluster(request: pytest.FixtureRequest, make_node: NodeMaker, pin: Pin, wire: NetNs) -> Iterator[Cluster]:
    one, two = make_node(1, wiring=request.param), make_node(2, wiring=request.param)
    one.start(two.net)
    two.start(one.net)
    paths = [pin(name) for name in ("server", "neighbor", "far")]
    wanted = [mapping(8080, protocol) for protocol in TYPES]
    wanted.append(mapping(8081, "tcp", str(one.net.node_ip)))
    wanted.append({"hostPort": 0, "containerPort": 99})  # as runtimes list ports that nobody wants
    server = one.runtime.add("server", paths[0], **ports(*wanted))
    neighbor = one.runtime.add("neighbor", paths[1])
    assert two.runtime.add("far", paths[2]).code == 0
    with NetNs.open(paths[0]) as a, NetNs.open(paths[1]) as b, NetNs.open(paths[2]) as c:
        yield Cluster(one, two, a, b, c, wire, server.address, neighbor.address)


@pytest.mark.parametrize("protocol", TYPES)
def test_P1_a_port_of_the_node_leads_to_the_pod_from_everywhere(cluster: Cluster, protocol: str) -> None:
    node_ip = str(cluster.one.net.node_ip)
    try:
        cluster.wire.socket(socket.AF_INET, *TYPES[protocol]).close()
    except OSError:
        pytest.skip(f"this kernel has no {protocol}")
    with echo(cluster.server, protocol, 80, socket.AF_INET):
        assert ask(cluster.wire, node_ip, 8080, protocol) == "172.30.255.254"
        assert ask(cluster.two.netns, node_ip, 8080, protocol) == str(cluster.two.net.node_ip)
        assert ask(cluster.far, node_ip, 8080, protocol)
        assert ask(cluster.one.netns, node_ip, 8080, protocol)
        assert ask(cluster.neighbor, node_ip, 8080, protocol)
        assert ask(cluster.server, node_ip, 8080, protocol)  # hairpin: the pod itself
        assert not ask(cluster.wire, node_ip, 8079, protocol)


def test_P1_a_port_of_one_address_of_the_node_is_a_port_of_that_address_only(cluster: Cluster) -> None:
    node_ip = str(cluster.one.net.node_ip)
    with echo(cluster.server, "tcp", 80, socket.AF_INET):
        assert ask(cluster.wire, node_ip, 8081)
        assert not ask(cluster.neighbor, "10.244.1.0", 8081)
        assert ask(cluster.neighbor, "10.244.1.0", 8080)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_P1_a_port_of_the_node_is_also_at_127_0_0_1_for_the_node_itself_and_for_nobody_else(
    cluster: Cluster, protocol: str
) -> None:
    with echo(cluster.server, protocol, 80, socket.AF_INET):
        assert ask(cluster.one.netns, "127.0.0.1", 8080, protocol)
        # As the conformance suite does it, from another of the node's addresses.
        assert ask(cluster.one.netns, "127.0.0.1", 8080, protocol, source=str(cluster.one.net.node_ip))
        assert not ask(cluster.neighbor, "127.0.0.1", 8080, protocol)


def test_P1_one_port_leads_to_three_pods_by_address_and_protocol(
    make_node: NodeMaker, pin: Pin, wire: NetNs
) -> None:
    """What Kubernetes' conformance suite asks for: no conflict unless address, port and protocol agree."""
    node = make_node()
    node.start()
    node_ip, port = str(node.net.node_ip), 54323
    wanted = {"local": mapping(port, "tcp", "127.0.0.1"), "tcp": mapping(port, "tcp", node_ip)}
    wanted["udp"] = mapping(port, "udp", node_ip)
    pods = {}
    for name, each in wanted.items():
        path = pin(name)
        assert node.runtime.add(name, path, **ports(each)).code == 0
        pods[name] = NetNs.open(path)
    try:
        ways = {"local": ("127.0.0.1", "tcp"), "tcp": (node_ip, "tcp"), "udp": (node_ip, "udp")}
        for name, (address, protocol) in ways.items():
            with echo(pods[name], protocol, 80, socket.AF_INET):  # no other of the three answers
                assert ask(node.netns, address, port, protocol, source=node_ip)
                assert ask(node.netns, address, port, protocol)
                assert bool(ask(wire, node_ip, port, protocol)) is (name != "local")
    finally:
        for netns in pods.values():
            netns.close()


def test_S6_nobody_on_the_wire_reaches_127_0_0_1_nor_a_port_there(
    node: LabNode, pin: Pin, wire: NetNs
) -> None:
    path = pin("p")
    assert node.runtime.add("c", path, **ports(mapping(8080, "tcp", "127.0.0.1"), mapping(8081))).code == 0
    run(["ip", "route", "add", "127.0.0.0/8", "via", str(node.net.node_ip), "table", "99"], netns=wire)
    run(["ip", "rule", "add", "pref", "0", "ipproto", "tcp", "lookup", "99"], netns=wire)
    run(["ip", "rule", "add", "pref", "1", "lookup", "local"], netns=wire)
    run(["ip", "rule", "del", "pref", "0", "lookup", "local"], netns=wire)
    sysctl.write(wire, "net.ipv4.conf.wire.route_localnet", 1)
    sysctl.write(node.netns, "net.ipv4.conf.all.route_localnet", 1)  # the worst that somebody could do
    with NetNs.open(path) as server, echo(server, "tcp", 80, socket.AF_INET):
        assert not ask(wire, "127.0.0.1", 8080)
        assert not ask(wire, "127.0.0.1", 8081)
        assert ask(node.netns, "127.0.0.1", 8080)
        node.stop()  # the attack is one: without the guard it succeeds
        run(["nft", "flush", "chain", "ip", TABLE, "guard"], netns=node.netns)
        assert ask(wire, "127.0.0.1", 8080)


def test_P1_a_routed_neighbor_keeps_its_address(cluster: Cluster) -> None:
    if cluster.one.config.wiring is Wiring.BRIDGE:
        pytest.skip("on a bridge the answer would go past the node")
    with echo(cluster.server, "tcp", 80, socket.AF_INET):
        assert ask(cluster.neighbor, str(cluster.one.net.node_ip), 8080) == cluster.neighbor_ip


def contents(node: LabNode) -> dict[str, int]:
    """How many elements each set of the node's table has; empty without a table."""
    with closing(Nftables(node.netns, 4, TABLE, owned=False)) as nft:
        ruleset = nft.read(dict)
        return {name: len(each) for name, each in ruleset.elements.items()} if ruleset else {}


def test_D1_a_del_takes_the_ports_back(node: LabNode, pin: Pin) -> None:
    assert node.runtime.add("plain", pin("plain")).code == 0
    assert not any(contents(node).values())
    path = pin("p")
    assert node.runtime.add("c", path, **ports(mapping(8080), mapping(8080, "udp"))).code == 0
    assert contents(node) == {"any": 2, "ports": 0, "targets": 2, "loops": 1}
    assert node.runtime.delete("c", path).code == 0
    assert not any(contents(node).values())
    assert node.runtime.delete("c", path).code == 0


def test_A2_a_port_that_another_pod_has_is_refused_and_nothing_stays(node: LabNode, pin: Pin) -> None:
    paths = pin("one"), pin("two")
    assert node.runtime.add("one", paths[0], **ports(mapping(8080))).code == 0
    before = contents(node), node.links()
    refused = node.runtime.add("two", paths[1], **ports(mapping(8081), mapping(8080)))
    assert refused.error == 105
    assert (contents(node), node.links()) == before
    assert node.runtime.delete("one", paths[0]).code == 0
    assert node.runtime.add("two", paths[1], **ports(mapping(8081), mapping(8080))).code == 0


def test_C2_a_check_sees_that_a_port_does_not_lead_there(node: LabNode, pin: Pin) -> None:
    path = pin("p")
    added = node.runtime.add("c", path, **ports(mapping(8080)))
    conf = {"prevResult": added.json, **ports(mapping(8080))}
    assert node.runtime.call("CHECK", "c", path, **conf).code == 0
    assert node.agent is not None
    node.stop()  # as long as an agent owns the table, nobody else can touch it
    run(["nft", "flush", "map", "ip", TABLE, "any"], netns=node.netns)
    node.start()
    assert node.runtime.call("CHECK", "c", path, **conf).code == 0  # the next agent has put it right
    assert contents(node)["any"] == 1


def test_C2_without_its_element_a_check_fails(node: LabNode, pin: Pin) -> None:
    path = pin("p")
    added = node.runtime.add("c", path, **ports(mapping(8080)))
    assert node.agent is not None
    publisher = node.agent.attachments._publisher
    tables = publisher._tables  # type: ignore[attr-defined]
    from cni.hostports import sets_of
    from kubenet.model.nft_change import RulesetChange

    held = next(iter(tables[4]._published.values()))
    out = RulesetChange(elements_out={"any": held["any"]}, shapes=sets_of(4))
    tables[4]._nft.commit(out)
    answer = node.runtime.call("CHECK", "c", path, prevResult=added.json, **ports(mapping(8080)))
    assert answer.error == 100
    assert "8080/tcp" in answer.json["msg"]
    node.agent.tend()
    assert node.runtime.call("CHECK", "c", path, prevResult=added.json, **ports(mapping(8080))).code == 0


def test_A5_ports_stay_while_the_agent_is_away_and_the_next_takes_them_over(
    node: LabNode, pin: Pin, wire: NetNs
) -> None:
    path = pin("p")
    assert node.runtime.add("c", path, **ports(mapping(8080))).code == 0
    node_ip = str(node.net.node_ip)
    with NetNs.open(path) as server, echo(server, "tcp", 80, socket.AF_INET):
        node.stop()
        assert ask(wire, node_ip, 8080)
        node.start()
        assert ask(wire, node_ip, 8080)
        assert node.runtime.delete("c").code == 0
        assert not ask(wire, node_ip, 8080)


def test_P1_udp_clients_that_keep_their_port_follow_the_pod(node: LabNode, pin: Pin, wire: NetNs) -> None:
    node_ip = str(node.net.node_ip)
    one, two = pin("one"), pin("two")
    with wire.socket(socket.AF_INET, socket.SOCK_DGRAM) as calling:
        calling.settimeout(0.5)

        def heard() -> bool:
            calling.sendto(b"hello", (node_ip, 5353))
            try:
                return bool(calling.recv(100))
            except OSError:
                return False

        assert not heard()  # a flow to the node itself is in its table now
        for path in (one, two):
            assert node.runtime.add(path.name, path, **ports(mapping(5353, "udp"))).code == 0
            with NetNs.open(path) as server, echo(server, "udp", 80, socket.AF_INET):
                assert heard()
            assert node.runtime.delete(path.name, path).code == 0
        assert not heard()


def test_P1_ports_of_a_dual_stack_pod_lead_there_over_both_families(
    make_node: NodeMaker, pin: Pin, wire: NetNs
) -> None:
    node = make_node(1, cluster_cidrs=(CLUSTER_CIDR, ip_network("fd00::/16")))
    node.net = NodeNet(node.net.name, node.net.node_ip, (*node.net.pod_cidrs, ip_network("fd00:1::/64")))
    node.start()
    run(["ip", "address", "add", "fd01::1/64", "dev", "eth0", "nodad"], netns=node.netns)
    run(["ip", "address", "add", "fd01::fe/64", "dev", "wire", "nodad"], netns=wire)
    path, other = pin("p"), pin("other")
    assert node.runtime.add("c", path, **ports(mapping(8080), mapping(8081, "tcp", "::"))).code == 0
    assert node.runtime.add("other", other).code == 0
    with NetNs.open(path) as server, NetNs.open(other) as client:
        with echo(server, "tcp", 80, socket.AF_INET6):
            assert ask(wire, "fd01::1", 8080) == "fd01::fe"
            assert ask(node.netns, "fd01::1", 8080)
            assert ask(client, "fd01::1", 8080) == "fd00:1::3"
            assert ask(server, "fd01::1", 8080)
            assert ask(client, "fd01::1", 8081)
            assert ask(node.netns, "::1", 8080, source="fd01::1")
            assert not ask(node.netns, "::1", 8080)  # IPv6 lets nothing leave lo from ::1
        with echo(server, "tcp", 80, socket.AF_INET):
            assert ask(client, "172.30.0.1", 8080)
            assert not ask(client, "172.30.0.1", 8081)


def test_P1_a_mapping_that_cannot_be_is_refused(node: LabNode, pin: Pin) -> None:
    path = pin("p")
    for wrong in (
        mapping(70000),
        mapping(80, "icmp"),
        mapping(80, "tcp", "nowhere"),
        mapping(80, container_port=0),
    ):
        assert node.runtime.add("c", path, **ports(wrong)).error == 7
    assert node.nothing_left()
