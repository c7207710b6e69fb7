"""Faults of the catalogue, one at a time: the story or the check names the place, who, and why.

A check alone has to find what a single small packet does not show (sizes, duplicates, old rules); a story
alone what is no state of ours (a filter between the nodes, a program that does not listen).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kubenet.kernel.run import run
from kubenet.model.packet import ICMP, TCP, UDP
from kubenet.observe.findings import Finding
from kubenet.observe.judge import judge
from kubenet.observe.names import Cluster
from kubenet.observe.probe import Target
from kubenet.observe.survey import survey
from kubenet.observe.trace import trace
from labs.topology import API_SERVER
from tests.netns.observe import world as w

pytestmark = pytest.mark.netns

CLIENT, SERVER_POD = "test/node-1-pod-1", "test/node-2-pod-2"
VTEP = "kubenet.1"


def ip(net: w.Net, place: str, words: str) -> None:
    run(["ip", *words.split()], netns=net.netns(place))


def program(net: w.Net, place: str, words: str) -> None:
    run(words.split(), netns=net.netns(place))


def bridge(net: w.Net, place: str, words: str) -> None:
    run(["bridge", *words.split()], netns=net.netns(place))


def vtep_mac(net: w.Net, node: str) -> str:
    shown = run(["ip", "-br", "link", "show", VTEP], netns=net.netns(node)).stdout.decode()
    return shown.split()[2]


def server(net: w.Net) -> str:
    return str(net.server.address)


def remake_tunnel(net: w.Net, words: str) -> None:
    """Give node-2 a tunnel end that is otherwise the same, and what stands on it."""
    mac = vtep_mac(net, "node-2")
    other = vtep_mac(net, "node-1")
    ip(net, "node-2", f"link del {VTEP}")
    ip(
        net,
        "node-2",
        f"link add {VTEP} address {mac} mtu 1450 type vxlan {words} local 172.30.0.2 dev eth0 nolearning",
    )
    ip(net, "node-2", f"addr add 10.244.1.0/32 dev {VTEP}")
    ip(net, "node-2", f"link set {VTEP} up")
    ip(net, "node-2", f"neigh add 10.244.0.0 lladdr {other} dev {VTEP} nud permanent")
    bridge(net, "node-2", f"fdb append {other} dev {VTEP} dst 172.30.0.1")
    ip(net, "node-2", f"route add 10.244.0.0/24 via 10.244.0.0 dev {VTEP} onlink")


def stale_mac(net: w.Net) -> None:
    ip(net, "node-1", f"neigh replace 10.244.1.0 lladdr 0e:58:00:00:00:99 dev {VTEP} nud permanent")
    bridge(net, "node-1", f"fdb append 0e:58:00:00:00:99 dev {VTEP} dst 172.30.0.2")


def wall(net: w.Net) -> None:
    rules = b"table bridge f { chain c { type filter hook forward priority 0; udp dport 8472 drop; }; }"
    run(["nft", "-f", "-"], netns=net.netns("wire"), stdin=rules)


def asymmetric(net: w.Net) -> None:
    ip(net, "node-2", "route replace 10.244.0.0/24 via 172.30.0.1 dev eth0")
    for name in ("all", VTEP):
        run(["sysctl", "-qw", f"net/ipv4/conf/{name}/rp_filter=1"], netns=net.netns("node-2"))


def secret_table(net: w.Net) -> None:
    ip(net, "node-1", f"rule add from {net.pods['node-1'][0].address} lookup 99")
    ip(net, "node-1", "route add blackhole default table 99")


def twins(net: w.Net) -> None:
    ip(net, "test/node-2-pod-1", f"addr add {server(net)}/32 dev eth0")
    ip(net, "node-2", f"route replace {server(net)}/32 dev {net.pods['node-2'][0].net.host_ifname}")


def moved_endpoint(net: w.Net) -> None:
    """The API server knows of another endpoint than the rules: the proxies have not heard."""
    cluster = net.site.cluster
    other = w.endpoint_slice("test/web", w.HTTP, {"node-1": net.pods["node-1"][1]})
    slices = tuple(other if each.service_key == "test/web" else each for each in cluster.slices)
    net.site.cluster = Cluster(cluster.nodes, cluster.pods, cluster.services, slices)


def stale_flow(net: w.Net) -> None:
    trace(net.site, CLIENT, Target(UDP, w.DNS_VIP, w.DNS, b"q" * 20))
    cluster = net.site.cluster
    other = w.endpoint_slice("kube-system/kube-dns", w.DNS, {"node-1": net.pods["node-1"][1]}, "UDP")
    slices = tuple(other if each.service_key == "kube-system/kube-dns" else each for each in cluster.slices)
    net.site.cluster = Cluster(cluster.nodes, cluster.pods, cluster.services, slices)


def no_hairpin_mark(net: w.Net) -> None:
    for node in net.pods:
        saved = run(["iptables-nft-save", "-t", "nat"], netns=net.netns(node)).stdout.decode()
        for line in saved.splitlines():
            if line.startswith("-A KUBE-SEP") and "KUBE-MARK-MASQ" in line and server(net) in line:
                chain = line.split()[1]
                run(["iptables-nft", "-t", "nat", "-D", chain, "1"], netns=net.netns(node))


def to_server(net: w.Net) -> Target:
    return Target(TCP, net.server.address, w.HTTP)


def to_web(net: w.Net) -> Target:
    return Target(TCP, w.WEB, 80)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is broken, what is sent, and what has to be said."""

    row: str
    inject: Callable[[w.Net], None]
    codes: tuple[str, ...]
    where: str
    component: str
    by: str = "story"  # or check
    source: str = CLIENT
    target: Callable[[w.Net], Target] = to_server
    ifname: str = ""


FAULTS = [
    Fault("1-no-way-out", lambda n: ip(n, CLIENT, "route del default"), ("E_POD_NO_ROUTE",), CLIENT, "cni"),
    Fault(
        "2-link-down",
        lambda n: ip(n, SERVER_POD, "link set eth0 down"),
        ("E_POD_LINK_DOWN", "E_POD_HOST_ROUTE"),
        "node-2",
        "cni",
    ),
    Fault(
        "3-orphan-route",
        lambda n: ip(n, "node-2", f"route del {server(n)}"),
        ("E_POD_HOST_ROUTE",),
        "node-2",
        "cni",
    ),
    Fault(
        "4-generous-mask",
        lambda n: ip(n, CLIENT, f"addr add {n.pods['node-1'][0].address}/8 dev eth0"),
        ("E_POD_ADDRESS",),
        CLIENT,
        "cni",
        ifname="eth0",
    ),
    Fault(
        "5-forward-nothing",
        lambda n: program(n, "node-2", "sysctl -qw net.ipv4.ip_forward=0"),
        ("E_NODE_FORWARD_OFF",),
        "node-2",
        "agent",
        ifname=VTEP,
    ),
    Fault("6-two-of-a-kind", twins, ("E_DUPLICATE_IP",), "test/node-2-pod-1", "ipam", by="check"),
    Fault(
        "11-one-way-street",
        lambda n: ip(n, "node-1", "route del 10.244.1.0/24"),
        ("E_ROUTE_MISSING",),
        "node-1",
        "agent",
    ),
    Fault(
        "12-who-is-vtep",
        lambda n: bridge(n, "node-1", f"fdb del {vtep_mac(n, 'node-2')} dev {VTEP} dst 172.30.0.2"),
        ("E_VXLAN_FDB",),
        "node-1",
        "agent",
        ifname=VTEP,
    ),
    Fault(
        "13-silent-arp",
        lambda n: ip(n, "node-1", f"neigh del 10.244.1.0 dev {VTEP}"),
        ("E_VXLAN_NEIGH",),
        "node-1",
        "agent",
        ifname=VTEP,
    ),
    Fault("14-wrong-mac", stale_mac, ("E_VXLAN_MAC",), "node-2", "agent", ifname=VTEP),
    Fault(
        "15-other-vni",
        lambda n: remake_tunnel(n, "id 2 dstport 8472"),
        ("E_VXLAN_VNI",),
        "node-2",
        "agent",
        ifname="eth0",
    ),
    Fault(
        "16-port-4789",
        lambda n: remake_tunnel(n, "id 1 dstport 4789"),
        ("E_VXLAN_PORT",),
        "node-2",
        "agent",
        ifname="eth0",
    ),
    Fault(
        "17-one-cidr-two-nodes",
        lambda n: ip(n, "node-1", f"route replace 10.244.1.0/24 dev {n.pods['node-1'][1].net.host_ifname}"),
        ("E_ROUTE_WRONG",),
        "node-1",
        "agent",
    ),
    Fault("18-wall-in-the-wire", wall, ("E_UNDERLAY_DROP",), "wire", "underlay"),
    Fault(
        "19-big-ones-vanish",
        lambda n: ip(n, "wire", "link set node-2 mtu 1400"),
        ("E_MTU",),
        "node-1",
        "underlay",
        by="check",
    ),
    Fault(
        "20-pod-mtu",
        lambda n: ip(n, CLIENT, "link set eth0 mtu 1500"),
        ("E_MTU",),
        CLIENT,
        "underlay",
        by="check",
        ifname="eth0",
    ),
    Fault("21-wrong-door", asymmetric, ("E_RP_FILTER",), "node-2", "kernel", ifname=VTEP),
    Fault(
        "22-docker-was-here",
        lambda n: program(n, "node-2", "iptables-nft -P FORWARD DROP"),
        ("E_FORWARD_POLICY",),
        "node-2",
        "kernel",
    ),
    Fault("23-secret-table", secret_table, ("E_POLICY_ROUTING", "E_BLACKHOLE"), "node-1", "kernel"),
    Fault(
        "24-nobody-home",
        lambda n: None,
        ("E_SERVICE_NO_ENDPOINTS",),
        "node-1",
        "object",
        target=lambda n: Target(TCP, w.EMPTY, 80),
    ),
    Fault("25-dead-end", moved_endpoint, ("E_SERVICE_STALE",), "node-1", "proxy", by="check"),
    Fault(
        "26-wrong-port",
        lambda n: None,
        ("E_NO_LISTENER",),
        SERVER_POD,
        "app",
        target=lambda n: Target(TCP, n.server.address, 9999),
    ),
    Fault(
        "28-talking-to-myself",
        no_hairpin_mark,
        ("E_HAIRPIN",),
        SERVER_POD,
        "proxy",
        source=SERVER_POD,
        target=to_web,
    ),
    Fault("30-ghost-of-dns", stale_flow, ("E_CONNTRACK_STALE",), "node-1", "proxy", by="check"),
    Fault(
        "31-no-return-ticket",
        lambda n: program(n, "node-1", "iptables-nft -t nat -D POSTROUTING 2"),
        ("E_MASQUERADE",),
        "node-1",
        "agent",
        target=lambda n: Target(ICMP, API_SERVER),
    ),
    Fault(
        "48-split",
        lambda n: ip(n, "wire", "link set node-2 down"),
        ("E_UNDERLAY_LINK",),
        "node-1",
        "underlay",
    ),
    Fault(
        "filter-rule",
        lambda n: program(n, "node-2", f"iptables-nft -I FORWARD 1 -d {server(n)} -j DROP"),
        ("E_FILTER_DROP",),
        "node-2",
        "kernel",
    ),
    Fault(
        "gateway-forgotten",
        lambda n: ip(n, CLIENT, "neigh del 169.254.1.1 dev eth0"),
        ("E_POD_GATEWAY",),
        CLIENT,
        "cni",
        ifname="eth0",
    ),
]


def found_by(fault: Fault, net: w.Net) -> list[Finding]:
    if fault.by == "check":
        return [found for verdict in judge(survey(net.site)) for found in verdict.findings]
    story = trace(net.site, fault.source, fault.target(net), timeout_s=0.3).story
    assert not story.well
    return [story.finding] if story.finding else []


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.row for fault in FAULTS])
def test_E3_a_fault_is_located(tmp_path: Path, fault: Fault) -> None:
    with w.network(tmp_path, "iptables-nft") as net:
        fault.inject(net)
        said = found_by(fault, net)
    match = [each for each in said if each.code in fault.codes and each.where == fault.where]
    assert match, said
    assert match[0].component == fault.component
    assert fault.ifname in ("", match[0].ifname)
    assert replace(match[0], evidence="") != match[0]


def test_E3_a_healthy_network_has_no_findings(tmp_path: Path) -> None:
    with w.network(tmp_path, "iptables-nft") as net:
        said = [found for verdict in judge(survey(net.site)) for found in verdict.findings]
    # One Service has no endpoints, on purpose; and what answers for DNS knows no names.
    assert {found.code for found in said} <= {"E_SERVICE_NO_ENDPOINTS", "E_DNS_RECORD"}
