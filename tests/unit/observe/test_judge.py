"""Snapshots that are well and ones that are not, judged; and bundles that say the same after a journey."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.errors import KubenetError, Malformed
from kubenet.model.links import Address, FdbEntry, Link, LinkKind, Neighbor, Route, Vxlan, state_of
from kubenet.model.objects import EndpointSlice, Node, Pod, Service
from kubenet.observe.bundle_text import decode, encode
from kubenet.observe.checks.services import node_rules
from kubenet.observe.events import PlaceKind, PlaceName
from kubenet.observe.explain import walks
from kubenet.observe.judge import exit_code, judge, verdicts_json, verdicts_junit, verdicts_text
from kubenet.observe.names import Cluster
from kubenet.observe.snapshot import Flow, Lookup, Ping, Reach, Snapshot
from kubenet.observe.state import PlaceState, PolicyRule

GATEWAY = IPv4Address("169.254.1.1")
VIP, DNS = IPv4Address("10.96.0.80"), IPv4Address("10.96.0.10")
EVERYWHERE = IPv4Network("0.0.0.0/0")
SAVED = """*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -j KUBENET-FORWARD
COMMIT
*nat
-A POSTROUTING -j KUBENET-POSTROUTING
-A KUBENET-POSTROUTING -s 10.244.0.0/16 -j MASQUERADE
-A KUBE-POSTROUTING -j MASQUERADE
-A KUBE-SERVICES -d 10.96.0.80/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-A
-A KUBE-SVC-A -m comment --comment "t/web -> 10.244.2.2:8080" -j KUBE-SEP-A
-A KUBE-SEP-A -s 10.244.2.2/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 10.244.2.2:8080
COMMIT
"""


def mac(number: int) -> str:
    return f"0e:58:00:00:00:{number:02x}"


def pod_ip(node: int) -> IPv4Address:
    return IPv4Address(f"10.244.{node}.2")


def node_state(number: int, other: int) -> PlaceState:
    end = IPv4Address(f"10.244.{other}.0")
    links = state_of(
        Link("eth0", LinkKind.VETH, mac(90 + number), 1500),
        Link(
            "kubenet.1",
            LinkKind.VXLAN,
            mac(number),
            1450,
            vxlan=Vxlan(1, IPv4Address(f"172.30.0.{number}"), 8472, "eth0"),
        ),
        Link("k1", LinkKind.VETH, mac(60), 1450),
        Address("eth0", IPv4Interface(f"172.30.0.{number}/16")),
        Address("kubenet.1", IPv4Interface(f"10.244.{number}.0/32")),
        Route(IPv4Network(f"10.244.{other}.0/24"), "kubenet.1", end, onlink=True),
        Route(IPv4Network(f"{pod_ip(number)}/32"), "k1"),
        Route(EVERYWHERE, "eth0", IPv4Address("172.30.255.254")),
        Neighbor("kubenet.1", end, mac(other)),
        Neighbor("k1", pod_ip(number), mac(30 + number)),
        FdbEntry("kubenet.1", mac(other), IPv4Address(f"172.30.0.{other}")),
    )
    name = f"node-{number}"
    sysctls = {"net.ipv4.ip_forward": "1"}
    return PlaceState(PlaceName(name, PlaceKind.NODE, name), links, sysctls, iptables=SAVED)


def pod_state(node: int) -> PlaceState:
    links = state_of(
        Link("eth0", LinkKind.VETH, mac(30 + node), 1450),
        Address("eth0", IPv4Interface((pod_ip(node), 32))),
        Route(EVERYWHERE, "eth0", GATEWAY, onlink=True),
        Neighbor("eth0", GATEWAY, mac(60)),
    )
    return PlaceState(PlaceName(f"t/pod-{node}", PlaceKind.POD, f"node-{node}"), links)


def cluster() -> Cluster:
    def node(number: int) -> Node:
        addresses = [{"type": "InternalIP", "address": f"172.30.0.{number}"}]
        conditions = [{"type": "Ready", "status": "True"}]
        fields = {
            "metadata": {"name": f"node-{number}"},
            "spec": {"podCIDR": f"10.244.{number}.0/24"},
            "status": {"addresses": addresses, "conditions": conditions},
        }
        return msgspec.convert(fields, Node)

    def pod(number: int) -> Pod:
        secret = [
            {"name": "c", "env": [{"name": "PASSWORD", "value": "hunter2"}], "args": ["--token=hunter2"]}
        ]
        fields = {
            "metadata": {"name": f"pod-{number}", "namespace": "t", "annotations": {"note": "hunter2"}},
            "spec": {"nodeName": f"node-{number}", "containers": secret},
            "status": {"phase": "Running", "podIP": str(pod_ip(number))},
        }
        return msgspec.convert(fields, Pod)

    web = {
        "metadata": {"name": "web", "namespace": "t"},
        "spec": {"clusterIP": str(VIP), "selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    dns = {"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {"clusterIP": str(DNS)}}
    ends = {
        "metadata": {"name": "web-1", "namespace": "t", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": [str(pod_ip(2))], "conditions": {"ready": True}}],
        "ports": [{"port": 8080}],
    }
    services = (msgspec.convert(web, Service), msgspec.convert(dns, Service))
    return Cluster((node(1), node(2)), (pod(1), pod(2)), services, (msgspec.convert(ends, EndpointSlice),))


def healthy() -> Snapshot:
    states = [node_state(1, 2), node_state(2, 1), pod_state(1), pod_state(2)]
    return Snapshot(
        cluster(),
        {state.place.name: state for state in states},
        {"t/pod-1": (str(DNS),)},
        {"node-1": ()},
        (Flow("node-1", DNS, 53, pod_ip(2), 53),),
        (Ping("t/pod-1", "t/pod-2", True), Ping("t/pod-1", "t/pod-2", True, True)),
        (Reach("t/pod-1", "node-1", "t/web 80", "connected", True),),
        (Lookup("node-1", pod_ip(2), "web.t.svc.cluster.local", (VIP,), "NOERROR"),),
        taken_at="2026-11-20T00:00:00+00:00",
    )


def codes(snapshot: Snapshot) -> set[tuple[str, str]]:
    return {(found.code, found.where) for verdict in judge(snapshot) for found in verdict.findings}


def test_what_is_well_has_no_finding_and_exit_code_0() -> None:
    verdicts = judge(healthy())
    assert codes(healthy()) == set()
    assert exit_code(verdicts) == 0
    assert verdicts_text(verdicts, 0.1).endswith("no findings, 14 checks in 0.10 s")


def without(snapshot: Snapshot, place: str, table: str, key: Callable[[object], bool]) -> Snapshot:
    """Leave out the entries of one table of one place that ``key`` is true of."""
    state = snapshot.states[place]
    entries = getattr(state.links, table)
    left = {k: v for k, v in entries.items() if not key(v)}
    return with_state(snapshot, replace(state, links=replace(state.links, **{table: left})))


def with_state(snapshot: Snapshot, state: PlaceState) -> Snapshot:
    return replace(snapshot, states={**snapshot.states, state.place.name: state})


def with_link(snapshot: Snapshot, place: str, ifname: str, **changes: object) -> Snapshot:
    state = snapshot.states[place]
    link = replace(state.links.links[ifname], **changes)  # type: ignore[arg-type]
    return with_state(
        snapshot, replace(state, links=replace(state.links, links={**state.links.links, ifname: link}))
    )


def with_rules(snapshot: Snapshot, place: str, old: str, new: str) -> Snapshot:
    state = snapshot.states[place]
    assert old in state.iptables
    return with_state(snapshot, replace(state, iptables=state.iptables.replace(old, new)))


Change = Callable[[Snapshot], Snapshot]


def lost(place: str, table: str, ifname: str = "") -> Change:
    """Leave out what a table holds of an interface, or all that it holds."""
    return lambda s: without(s, place, table, lambda e: not ifname or getattr(e, "ifname", "") == ifname)


def changed(place: str, **fields: object) -> Change:
    return lambda s: with_state(s, replace(s.states[place], **fields))  # type: ignore[arg-type]


def link(place: str, ifname: str, **fields: object) -> Change:
    return lambda s: with_link(s, place, ifname, **fields)


def rules(place: str, old: str, new: str = "") -> Change:
    return lambda s: with_rules(s, place, old, new)


def told(**fields: object) -> Change:
    return lambda s: replace(s, **fields)  # type: ignore[arg-type]


def stranger(s: Snapshot) -> Snapshot:
    """The pod's gateway has a MAC address that nobody has."""
    return with_link(s, "node-1", "k1", mac=mac(61))


def ghost(s: Snapshot) -> Snapshot:
    (first, second) = s.cluster.pods
    moved = msgspec.structs.replace(
        second, status=msgspec.structs.replace(second.status, pod_ip="10.244.2.7")
    )
    return replace(s, cluster=replace(s.cluster, pods=(first, moved)))


DOCKER = """table ip docker { # handle 7
	chain c { # handle 1
		type filter hook forward priority filter; policy drop;
		ct state established,related accept # handle 2
	}
}
"""


def docker(s: Snapshot) -> Snapshot:
    dropping = with_rules(s, "node-1", ":FORWARD ACCEPT", ":FORWARD DROP")
    return with_rules(dropping, "node-1", "-A FORWARD -j KUBENET-FORWARD\n", "")


ASKED = Lookup("node-1", pod_ip(2), "web.t.svc.cluster.local", (VIP,), "NOERROR")
ONE, TWO = "t/pod-1", "t/pod-2"
FULL = {f"net.netfilter.nf_conntrack_{key}": "9" for key in ("count", "max")}

BROKEN: list[tuple[str, str, Change]] = [
    ("E_POD_NO_ROUTE", ONE, lost(ONE, "routes")),
    ("E_POD_GATEWAY", ONE, lost(ONE, "neighbors")),
    ("E_POD_ADDRESS", ONE, lost(ONE, "addresses")),
    ("E_POD_LINK_DOWN", ONE, link(ONE, "eth0", up=False)),
    ("E_POD_LINK_DOWN", "node-1", link("node-1", "k1", up=False)),
    ("E_POD_HOST_ROUTE", "node-1", lost("node-1", "routes", "k1")),
    ("E_POD_HOST_ROUTE", "node-1", lost("node-1", "neighbors", "k1")),
    ("E_MTU", ONE, link(ONE, "eth0", mtu=1500)),
    ("E_MTU", "node-1", link("node-1", "eth0", mtu=1400)),
    ("E_ROUTE_MISSING", "node-1", lost("node-1", "routes", "kubenet.1")),
    ("E_VXLAN_NEIGH", "node-1", lost("node-1", "neighbors", "kubenet.1")),
    ("E_VXLAN_FDB", "node-1", lost("node-1", "fdb")),
    ("E_VXLAN_LINK", "node-2", lost("node-2", "links", "kubenet.1")),
    ("E_VXLAN_LINK", "node-2", link("node-2", "kubenet.1", up=False)),
    ("E_VXLAN_MAC", "node-1", link("node-2", "kubenet.1", mac=mac(77))),
    ("E_UNDERLAY_LINK", "node-1", link("node-1", "eth0", up=False)),
    ("E_NODE_FORWARD_OFF", "node-1", changed("node-1", sysctls={"net.ipv4.ip_forward": "0"})),
    ("E_POLICY_ROUTING", "node-1", changed("node-1", policy=(PolicyRule(5, "from all lookup 99"),))),
    ("E_BLACKHOLE", "node-1", changed("node-1", unroutable=("blackhole default",))),
    ("E_CONNTRACK_FULL", "node-1", changed("node-1", sysctls=FULL)),
    ("E_FORWARD_POLICY", "node-1", docker),
    ("E_FORWARD_POLICY", "node-1", changed("node-1", nft=DOCKER)),
    ("E_POD_GATEWAY", ONE, stranger),
    ("E_POD_GONE", "t/web", ghost),
    ("E_SERVICE_STALE", "node-2", rules("node-2", "10.244.2.2:8080\nCOMMIT", "10.244.2.9:8080\nCOMMIT")),
    ("E_SERVICE_MISSING", "node-1", rules("node-1", "-d 10.96.0.80/32", "-d 10.96.0.81/32")),
    ("E_HAIRPIN", "node-1", rules("node-1", "-A KUBE-SEP-A -s 10.244.2.2/32 -j KUBE-MARK-MASQ\n")),
    ("E_HAIRPIN", "node-1", rules("node-1", "-A KUBE-POSTROUTING -j MASQUERADE\n")),
    ("E_MASQUERADE", "node-1", rules("node-1", "-s 10.244.0.0/16 -j MASQUERADE", "-j RETURN")),
    ("E_DNS_RESOLV", ONE, told(resolvers={ONE: ("10.96.0.99",)})),
    ("E_DNS_RECORD", TWO, told(lookups=(replace(ASKED, addresses=(DNS,)),))),
    ("E_DNS_RECORD", TWO, told(lookups=(replace(ASKED, rcode="NXDOMAIN"),))),
    ("E_DNS_SERVER", TWO, told(lookups=(replace(ASKED, rcode=""),))),
    ("E_IPAM_LEAK", "node-1", told(records={"node-1": ("t/gone: holds 10.244.1.9",)})),
    ("E_UNREACHABLE", "node-1", told(pings=(Ping(ONE, TWO, False),))),
    ("E_MTU", "node-1", told(pings=(Ping(ONE, TWO, True), Ping(ONE, TWO, False, True)))),
    (
        "E_NO_LISTENER",
        "node-1",
        told(reaches=(Reach(ONE, "node-1", "t/web 80", "connection refused", False),)),
    ),
    (
        "E_SERVICE_UNREACHABLE",
        "node-1",
        told(reaches=(Reach(ONE, "node-1", "t/web 80", "no answer", False),)),
    ),
    ("E_DNS_SERVER", "node-1", told(lookups=(replace(ASKED, server=DNS, rcode=""),))),
]


@pytest.mark.parametrize(
    ("code", "where", "broken"), BROKEN, ids=[f"{code} {where}" for code, where, _ in BROKEN]
)
def test_a_broken_invariant_is_found_where_it_is(
    code: str, where: str, broken: Callable[[Snapshot], Snapshot]
) -> None:
    snapshot = broken(healthy())
    assert (code, where) in codes(snapshot)
    verdicts = judge(snapshot)
    assert exit_code(verdicts) == 1
    assert code in verdicts_text(verdicts, 1.0)
    assert ElementTree.fromstring(verdicts_junit(verdicts, 1.0)).findall(f".//failure[@type='{code}']")
    assert verdicts_json(verdicts)["healthy"] is False


def test_nothing_to_check_has_a_code_of_its_own() -> None:
    assert exit_code(judge(Snapshot(Cluster(), {}))) == 5


def test_a_service_without_pods_is_found() -> None:
    snapshot = healthy()
    bare = replace(snapshot.cluster, slices=())
    assert ("E_SERVICE_NO_ENDPOINTS", "t/web") in codes(replace(snapshot, cluster=bare))


def test_a_flow_to_an_endpoint_that_is_gone_is_found() -> None:
    snapshot = healthy()
    web = snapshot.cluster.services[0]
    udp = msgspec.structs.replace(web.spec.ports[0], protocol="UDP")
    spec = msgspec.structs.replace(web.spec, ports=(udp,))
    services = (msgspec.structs.replace(web, spec=spec), *snapshot.cluster.services[1:])
    flows = (Flow("node-1", VIP, 80, pod_ip(1), 8080),)
    found = codes(replace(snapshot, cluster=replace(snapshot.cluster, services=services), flows=flows))
    assert ("E_CONNTRACK_STALE", "node-1") in found


def test_a_bundle_says_the_same_and_keeps_no_secret() -> None:
    for snapshot in (healthy(), BROKEN[0][2](healthy())):
        raw = encode(snapshot)
        assert b"hunter2" not in raw
        again = decode(raw)
        assert again.states == snapshot.states
        assert codes(again) == codes(snapshot)
        assert encode(again) == raw


@given(st.binary(max_size=60), st.integers(min_value=0, max_value=4000))
def test_a_damaged_bundle_is_malformed(scribble: bytes, at: int) -> None:
    raw = bytearray(encode(healthy()))
    raw[at : at + len(scribble)] = scribble
    try:
        decode(bytes(raw))
    except KubenetError:
        pass
    with pytest.raises(Malformed):
        decode(scribble)


def test_the_rules_of_our_nftables_table_are_read_too() -> None:
    nft = """table ip kubenet-proxy { # handle 1 progname python
	flags owner

	map endpoints { # handle 4
		type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service
		elements = { 10.96.0.10 . udp . domain . 0x00000000 : 10.244.1.3 . domain,
			10.96.0.80 . tcp . http . 0x00000001 : 10.244.1.3 . 8080,
			10.96.0.80 . tcp . http . 0x01000000 : 10.244.1.9 . 8080 }
	}

	map services { # handle 12
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . mark . mark
		elements = { 10.96.0.80 . tcp . 80 : 0.0.0.0 . 0x63c9a246 . 0x6f164eb2,
			10.96.0.81 . tcp . 80 : 0.0.0.0 . 0x8d0e3081 . 0x9c3771e9 }
	}
}
"""
    rules = node_rules(PlaceState(PlaceName("n", PlaceKind.NODE), nft=nft))
    assert rules
    assert rules.services == {
        (DNS, "udp", 53): frozenset({(IPv4Address("10.244.1.3"), 53)}),
        (VIP, "tcp", 80): frozenset({(IPv4Address("10.244.1.3"), 8080)}),
        (IPv4Address("10.96.0.81"), "tcp", 80): frozenset(),
    }


def test_the_tables_are_walked_to_the_endpoint_and_through_the_tunnel() -> None:
    (walk,) = walks(healthy(), "t/pod-1", VIP, 6, 80)
    assert walk.places == ("t/pod-1", "node-1", "node-2", "t/pod-2")
    assert walk.finding is None
    broken = without(healthy(), "node-1", "fdb", lambda f: True)
    (ends,) = walks(broken, "t/pod-1", VIP, 6, 80)
    assert ends.finding
    assert (ends.finding.code, ends.finding.where) == ("E_VXLAN_FDB", "node-1")


def test_a_cable_that_is_no_port_of_the_bridge_is_found() -> None:
    snapshot = healthy()
    state = snapshot.states["node-1"]
    bridge = state_of(
        Link("cni0", LinkKind.BRIDGE, mac(50), 1450),
        Address("cni0", IPv4Interface("10.244.1.1/24")),
        Link("k7", LinkKind.VETH, mac(51), 1450, master="cni0"),
        Link("k8", LinkKind.VETH, mac(52), 1450),
    )
    found = codes(with_state(snapshot, replace(state, links=state.links.union(bridge))))
    assert ("E_POD_BRIDGE_PORT", "node-1") in found


def test_a_pod_that_does_not_start_is_found_with_whose_turn_it_is() -> None:
    snapshot = healthy()
    told = {"conditions": [{"type": "Ready", "status": "False", "message": "code 11: not now"}]}
    bodies: list[dict[str, object]] = [
        {"metadata": {"name": "u", "namespace": "t"}, "spec": {"nodeName": "node-1"}},
        {"metadata": {"name": "w", "namespace": "t"}, "spec": {"nodeName": "node-2"}, "status": told},
        {"metadata": {"name": "l", "namespace": "t"}},
    ]
    unseen, waiting, lonely = (msgspec.convert(body, Pod) for body in bodies)
    pods = (*snapshot.cluster.pods, unseen, waiting, lonely)
    found = codes(replace(snapshot, cluster=replace(snapshot.cluster, pods=pods)))
    assert {("E_POD_UNSEEN", "node-1"), ("E_POD_PENDING", "node-2"), ("E_POD_UNSCHEDULED", "t/l")} <= found


def test_an_endpoint_that_no_pod_has_is_found() -> None:
    snapshot = healthy()
    body = {
        "metadata": {"name": "old", "namespace": "t", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.250"]}, {"addresses": ["192.0.2.1"]}],
    }
    slices = (*snapshot.cluster.slices, msgspec.convert(body, EndpointSlice))
    found = codes(replace(snapshot, cluster=replace(snapshot.cluster, slices=slices)))
    assert ("E_POD_GONE", "t/web") in found


def test_a_packet_filter_of_somebody_else_is_a_warning() -> None:
    snapshot = healthy()
    text = """table ip docker {
\tchain forward {
\t\ttype filter hook forward priority 0; policy drop;
\t}
}
table ip harmless {
\tchain count {
\t\tcounter packets 1 bytes 2
\t}
}
table ip filter {
\tchain INPUT {
\t\tdrop
\t}
}
"""
    state = replace(snapshot.states["node-1"], nft=text)
    found = [
        each for verdict in judge(with_state(snapshot, state), ["underlay"]) for each in verdict.findings
    ]
    assert [(each.code, each.where) for each in found] == [("W_FOREIGN_FILTER", "node-1")]
    assert "ip docker" in found[0].evidence
