"""What a hostile pod with raw sockets sends as somebody else arrives nowhere (reliability.md S4)."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_network

import pytest
from scapy.all import (
    ARP,
    BOOTP,
    DHCP,
    IP,
    UDP,
    Dot1Q,
    Ether,
    ICMPv6ND_NA,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    Packet,
    Raw,
)

from cni.overlay import NodeNet
from cni.plan import GATEWAY_MAC, Wiring, host_ifname
from cni.senders import link_local
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import run
from tests.netns.cni.conftest import CLUSTER_CIDR, LabNode, NodeMaker, Pin, observe

pytestmark = pytest.mark.netns

MARK = b"as somebody else"
BROADCAST = "ff:ff:ff:ff:ff:ff"
OTHER_MAC = "0a:00:00:00:00:66"


@dataclass
class Scene:
    """A hostile pod, its victim on the same node, a third pod, and a pod of another node."""

    node: LabNode
    attacker: NetNs
    victim: NetNs
    far: NetNs
    ips: dict[str, tuple[str, str]]  # by name: the two families
    macs: dict[str, str]  # where a frame for each has to go

    @property
    def mac(self) -> str:
        """The attacker's own."""
        return observe(self.attacker).links["eth0"].mac or ""

    @property
    def bridged(self) -> bool:
        return self.node.config.wiring is Wiring.BRIDGE

    def ip(self, who: str) -> str:
        return self.ips[who][0]

    def ip6(self, who: str) -> str:
        return self.ips[who][1]


@pytest.fixture(params=list(Wiring), ids=lambda wiring: str(wiring.value))
def scene(request: pytest.FixtureRequest, make_node: NodeMaker, pin: Pin) -> Iterator[Scene]:
    cidrs = (CLUSTER_CIDR, ip_network("fd00::/16"))
    nodes = [make_node(number, cluster_cidrs=cidrs, wiring=request.param) for number in (1, 2)]
    for number, node in enumerate(nodes, start=1):
        v6 = ip_network(f"fd00:{number}::/64")
        node.net = NodeNet(node.net.name, node.net.node_ip, (*node.net.pod_cidrs, v6))
    nodes[0].start(nodes[1].net)
    nodes[1].start(nodes[0].net)
    ips = {"node": (str(nodes[0].net.node_ip), "fd01::1")}
    paths = {name: pin(name) for name in ("attacker", "victim", "third", "far")}
    for name, path in paths.items():
        added = nodes[name == "far"].runtime.add(name, path).json
        one, two = (str(entry["address"]).partition("/")[0] for entry in added["ips"])
        ips[name] = one, two
    bridge = observe(nodes[0].netns).links.get("cni0")
    out = bridge.mac if bridge and bridge.mac else GATEWAY_MAC
    macs = dict.fromkeys((*paths, "node"), out)
    with (
        NetNs.open(paths["attacker"]) as attacker,
        NetNs.open(paths["victim"]) as victim,
        NetNs.open(paths["far"]) as far,
    ):
        if bridge:
            macs["victim"] = observe(victim).links["eth0"].mac or ""
        yield Scene(nodes[0], attacker, victim, far, ips, macs)


def v4(scene: Scene, source: str, target: str = "victim") -> Packet:
    packet = IP(src=source, dst=scene.ip(target)) / UDP(sport=9, dport=9999) / Raw(MARK)
    return Ether(src=scene.mac, dst=scene.macs[target]) / packet


def v6(scene: Scene, source: str, target: str = "victim") -> Packet:
    packet = IPv6(src=source, dst=scene.ip6(target)) / UDP(sport=9, dport=9999) / Raw(MARK)
    return Ether(src=scene.mac, dst=scene.macs[target]) / packet


def dhcp_offer(scene: Scene) -> Packet:
    offer = BOOTP(op=2, yiaddr="10.9.9.9", siaddr=scene.ip("attacker"))
    lease = DHCP(options=[("message-type", "offer"), ("router", scene.ip("attacker")), "end"])
    return (
        Ether(src=scene.mac, dst=BROADCAST)
        / IP(src=scene.ip("attacker"), dst="255.255.255.255")
        / UDP(sport=67, dport=68)
        / offer
        / lease
        / Raw(MARK)
    )


ATTACKS: dict[str, Callable[[Scene], Packet]] = {
    "IPv4 of another pod": lambda s: v4(s, s.ip("third")),
    "IPv4 of the victim itself": lambda s: v4(s, s.ip("victim")),
    "IPv4 of a pod of another node": lambda s: v4(s, s.ip("far")),
    "IPv4 of the node": lambda s: v4(s, s.ip("node")),
    "IPv4 of a Service": lambda s: v4(s, "10.96.0.10"),
    "IPv4 from outside": lambda s: v4(s, "198.51.100.7"),
    "IPv4 of the gateway": lambda s: v4(s, "169.254.1.1"),
    "IPv4 of loopback": lambda s: v4(s, "127.0.0.1"),
    "IPv4 of nobody": lambda s: v4(s, "0.0.0.0"),
    "IPv4 of another pod, to another node": lambda s: v4(s, s.ip("third"), "far"),
    "IPv6 of another pod": lambda s: v6(s, s.ip6("third")),
    "IPv6 from outside": lambda s: v6(s, "2001:db8::7"),
    "IPv6 of another pod, to another node": lambda s: v6(s, s.ip6("third"), "far"),
    "a VLAN tag": lambda s: (
        Ether(src=s.mac, dst=s.macs["victim"])
        / Dot1Q(vlan=7)
        / IP(src=s.ip("third"), dst=s.ip("victim"))
        / UDP(dport=9999)
        / Raw(MARK)
    ),
    "a DHCP server": dhcp_offer,
    "IPv4 of another pod, as broadcast": lambda s: (
        Ether(src=s.mac, dst=BROADCAST)
        / IP(src=s.ip("third"), dst="255.255.255.255")
        / UDP(dport=9999)
        / Raw(MARK)
    ),
}


def send(netns: NetNs, packet: Packet) -> None:
    with netns.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        raw.send(bytes(packet))


def sniffer(netns: NetNs) -> socket.socket:
    """A socket that sees every frame that comes in."""
    raw = netns.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    raw.bind(("eth0", 3))
    return raw


def marked(raw: socket.socket, until: bytes) -> list[bytes]:
    """Return the frames with our mark that came before the one with ``until``."""
    raw.settimeout(3)
    seen: list[bytes] = []
    while True:
        got, where = raw.recvfrom(4096)
        if until in got:
            return seen
        if MARK in got and where[2] != socket.PACKET_OUTGOING:
            seen.append(got)


def test_S4_what_is_sent_as_somebody_else_is_not_delivered(scene: Scene) -> None:
    arrived: dict[str, int] = {}
    honest = scene.attacker.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sniffer(scene.victim) as near, sniffer(scene.far) as far, honest:
        for attack, forge in ATTACKS.items():
            packet = forge(scene)
            for mac in (scene.mac, OTHER_MAC, scene.macs["victim"]):
                packet.src = mac
                send(scene.attacker, packet)
            end = f"the honest end of {attack}.".encode()
            for who in ("victim", "far"):
                honest.sendto(end, (scene.ip(who), 9998))
            arrived[attack] = len(marked(near, end)) + len(marked(far, end))
    assert arrived == dict.fromkeys(ATTACKS, 0)


def test_S4_a_bridge_learns_no_mac_address_that_is_not_the_pods_own(scene: Scene) -> None:
    if not scene.bridged:
        pytest.skip("a router learns nothing from frames")
    stolen = scene.macs["victim"]
    packet = v4(scene, scene.ip("attacker"), "node")
    for mac in (stolen, OTHER_MAC):
        packet.src = mac
        send(scene.attacker, packet)
    told = run(["bridge", "fdb", "show", "br", "cni0"], netns=scene.node.netns).stdout.decode()
    port = host_ifname("attacker", "eth0")
    learned = [
        line.split()[0] for line in told.splitlines() if f"dev {port} " in line and "permanent" not in line
    ]
    assert not {stolen, OTHER_MAC} & set(learned)


def test_S4_the_pods_own_packets_are_delivered_also_from_a_raw_socket(scene: Scene) -> None:
    with sniffer(scene.victim) as near, sniffer(scene.far) as far:
        send(scene.attacker, v4(scene, scene.ip("attacker")))
        send(scene.attacker, v6(scene, scene.ip6("attacker")))
        send(scene.attacker, v4(scene, scene.ip("attacker"), "far"))
        with scene.attacker.socket(socket.AF_INET, socket.SOCK_DGRAM) as honest:
            for who in ("victim", "far"):
                honest.sendto(b"the honest end", (scene.ip(who), 9998))
        assert len(marked(near, b"the honest end")) == 2
        assert len(marked(far, b"the honest end")) == 1


def meet(netns: NetNs, address: str) -> None:
    """Have whoever is there looked up, if anybody can be."""
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.socket(kind, socket.SOCK_DGRAM) as calling, suppress(OSError):
        calling.sendto(b"hello", (address, 9997))


def bridge_of(scene: Scene, version: int) -> str:
    """The gateway of the pods, where it can be asked."""
    return {4: "10.244.1.1", 6: "fd00:1::1"}[version] if scene.bridged else scene.ips["node"][version == 6]


def all_neighbors(scene: Scene) -> set[tuple[str, str]]:
    """Who is known by which MAC address on the node and in the victim, learned or not."""
    known = set()
    for name, netns in (("node", scene.node.netns), ("victim", scene.victim)):
        for line in run(["ip", "neighbour"], netns=netns).stdout.decode().splitlines():
            words = line.split()
            if "lladdr" in words:
                known.add((f"{name} {' '.join(words[:3])}", words[words.index("lladdr") + 1]))
    return {entry for entry in known if "172.30." not in entry[0]}


def test_S4_a_poisoned_answer_changes_nobodys_neighbor(scene: Scene) -> None:
    """ARP and neighbour advertisements that claim the addresses of others."""
    for target in (scene.ip("third"), scene.ip6("third"), str(bridge_of(scene, 4)), str(bridge_of(scene, 6))):
        meet(scene.victim, target)
    before = all_neighbors(scene)
    routes = observe(scene.node.netns).routes
    for who in ("victim", "third", "node"):
        for operation in (1, 2):
            claim = ARP(op=operation, psrc=scene.ip(who), pdst=scene.ip("node"), hwsrc=OTHER_MAC)
            send(scene.attacker, Ether(src=OTHER_MAC, dst=BROADCAST) / claim)
            send(scene.attacker, Ether(src=scene.mac, dst=BROADCAST) / claim)
        advertisement = ICMPv6ND_NA(tgt=scene.ip6(who), R=1, S=1, O=1) / ICMPv6NDOptDstLLAddr(
            lladdr=OTHER_MAC
        )
        for source in (scene.ip6(who), scene.ip6("attacker")):
            told = Ether(src=scene.mac, dst="33:33:00:00:00:01") / IPv6(src=source, dst="ff02::1", hlim=255)
            send(scene.attacker, told / advertisement)
    with sniffer(scene.victim) as near, scene.far.socket(socket.AF_INET, socket.SOCK_DGRAM) as honest:
        honest.sendto(b"the honest end", (scene.ip("victim"), 9998))
        assert marked(near, b"the honest end") == []
    after = all_neighbors(scene)
    assert before <= after
    # With routed wiring a claim is remembered for the attacker's own link, by which nothing is sent there.
    own = f"dev {host_ifname('attacker', 'eth0')}"
    assert not [entry for entry in after - before if own not in entry[0]]
    assert observe(scene.node.netns).routes == routes


def test_S4_a_pod_that_advertises_itself_as_router_becomes_none(scene: Scene) -> None:
    advertisement = (
        IPv6(src="fe80::66", dst="ff02::1", hlim=255)
        / ICMPv6ND_RA(routerlifetime=1800)
        / ICMPv6NDOptSrcLLAddr(lladdr=OTHER_MAC)
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8:66::", prefixlen=64)
    )
    own = link_local(scene.mac)
    for mac, source in ((OTHER_MAC, "fe80::66"), (scene.mac, "fe80::66"), (scene.mac, str(own))):
        advertisement.src = source
        send(scene.attacker, Ether(src=mac, dst="33:33:00:00:00:01") / advertisement)
    for netns in (scene.node.netns, scene.victim):
        shown = run(["ip", "-6", "route", "show", "proto", "ra"], netns=netns).stdout
        assert shown == b""
        addresses = run(["ip", "-6", "address"], netns=netns).stdout
        assert b"2001:db8:66" not in addresses


def test_S4_the_attacks_work_where_the_guard_is_away(scene: Scene) -> None:
    """Otherwise the tests above would prove nothing."""
    scene.node.stop()
    family, chain = ("bridge", "prerouting") if scene.bridged else ("ip", "guard")
    run(["nft", "flush", "chain", family, "kubenet-cni", chain], netns=scene.node.netns)
    with sniffer(scene.victim) as near, scene.far.socket(socket.AF_INET, socket.SOCK_DGRAM) as honest:
        send(scene.attacker, v4(scene, scene.ip("third")))
        with suppress(TimeoutError):
            honest.sendto(b"the honest end", (scene.ip("victim"), 9998))
        assert len(marked(near, b"the honest end")) == 1


def test_C2_A5_what_a_pod_may_send_is_checked_and_known_to_the_next_agent(scene: Scene, pin: Pin) -> None:
    if not scene.bridged:
        pytest.skip("the routing table says it")
    node, path = scene.node, pin("p")
    added = node.runtime.add("c", path, runtimeConfig={"mac": "0a:00:00:00:00:77"})
    assert node.runtime.call("CHECK", "c", path, prevResult=added.json).code == 0
    node.stop()
    node.start()
    with NetNs.open(path) as netns, sniffer(scene.victim) as near:
        with netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as calling:
            calling.sendto(b"with a MAC address of its own", (scene.ip("victim"), 9998))
        assert marked(near, b"with a MAC address of its own") == []
    node.stop()
    run(["nft", "flush", "set", "bridge", "kubenet-cni", "v4"], netns=node.netns)
    node.start()
    assert node.runtime.call("CHECK", "c", path, prevResult=added.json).code == 0  # it has put it right
    assert node.runtime.delete("c").code == 0
    shown = run(["nft", "list", "table", "bridge", "kubenet-cni"], netns=node.netns).stdout.decode()
    assert "0a:00:00:00:00:77" not in shown
