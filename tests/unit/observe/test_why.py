"""The kernel's reason of a loss, read with the state of the place."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from kubenet.kernel.nft_trace import RuleEvent
from kubenet.model.links import Address, Link, LinkKind, LinkState, Neighbor, Route, Vxlan, state_of
from kubenet.model.packet import TCP, FiveTuple, Packet
from kubenet.model.packet import Vxlan as Around
from kubenet.observe.events import Drop, PlaceKind, PlaceName, RuleHit
from kubenet.observe.findings import CATALOGUE
from kubenet.observe.names import Names, ServiceAt
from kubenet.observe.state import PlaceState, PolicyRule
from kubenet.observe.why import Loss, why

POD, OTHER, VIP = (IPv4Address(text) for text in ("10.244.0.2", "10.244.1.3", "10.96.0.80"))
NODE_A, NODE_B = IPv4Address("172.30.0.1"), IPv4Address("172.30.0.2")
END = IPv4Address("10.244.1.0")
PACKET = Packet(FiveTuple(POD, OTHER, TCP, 4000, 8080), 7, 63, 60, "SYN")
WRAPPED = replace(PACKET, vxlan=Around(1, NODE_A, NODE_B, 8472))
NODE, WIRE = PlaceName("node-1", PlaceKind.NODE, "node-1"), PlaceName("wire", PlaceKind.WIRE)
HERE = PlaceName("t/a", PlaceKind.POD, "node-1")
LINKS = state_of(
    Link("eth0", LinkKind.VETH, mtu=1500),
    Link("kubenet.1", LinkKind.VXLAN, "0e:58:00:00:00:01", 1450, vxlan=Vxlan(1, NODE_A, 8472, "eth0")),
    Link("k1", LinkKind.VETH, mtu=1450),
    Address("eth0", IPv4Interface("172.30.0.1/16")),
    Route(IPv4Network("10.244.1.0/24"), "kubenet.1", END, onlink=True),
    Route(IPv4Network("10.244.0.2/32"), "k1"),
    Neighbor("kubenet.1", END, "0e:58:00:00:00:02"),
)
NAMES = Names(
    {POD: "t/a", OTHER: "t/b", NODE_A: "node node-1"},
    {(VIP, TCP, 80): ServiceAt("t/web", "http", ())},
    {},
    {VIP: "t/web"},
    {POD: "node-1", OTHER: "node-2"},
)


def loss(
    reason: str,
    ifname: str = "kubenet.1",
    *,
    place: PlaceName = NODE,
    packet: Packet = PACKET,
    links: LinkState = LINKS,
    function: str = "",
    rules: tuple[RuleHit, ...] = (),
    **state: object,
) -> Loss:
    held = PlaceState(place, links, **state)  # type: ignore[arg-type]
    drop = Drop(1, place.name, ifname, reason, function, packet)
    return Loss(drop, held, {place.name: held}, NAMES, rules)


def hit(verdict: str, chain: str, kind: str = "rule") -> RuleHit:
    return RuleHit("node-1", RuleEvent("nft", "filter", chain, 4, kind, verdict), PACKET)  # type: ignore[arg-type]


OFF = {"net.ipv4.ip_forward": "0"}
FULL = {"net.netfilter.nf_conntrack_count": "8", "net.netfilter.nf_conntrack_max": "8"}
TO_VIP = replace(PACKET, flow=FiveTuple(POD, VIP, TCP, 4000, 80))
NO_PORT = replace(PACKET, flow=FiveTuple(POD, VIP, TCP, 4000, 81))


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("E_NODE_FORWARD_OFF", loss("IP_INADDRERRORS", sysctls=OFF)),
        ("E_NODE_FORWARD_OFF", loss("IP_INNOROUTES", sysctls=OFF)),
        ("E_ROUTE_MISSING", loss("IP_INNOROUTES", links=LinkState())),
        ("E_POD_NO_ROUTE", loss("IP_OUTNOROUTES", "", place=HERE, links=LinkState())),
        ("E_POLICY_ROUTING", loss("IP_INNOROUTES", policy=(PolicyRule(5, "from all lookup 99"),))),
        ("E_RP_FILTER", loss("IP_RPFILTER")),
        ("E_VXLAN_FDB", loss("NO_TX_TARGET")),
        ("E_VXLAN_NEIGH", loss("NEIGH_FAILED")),
        ("E_POD_HOST_ROUTE", loss("NEIGH_FAILED", "k1")),
        ("E_UNDERLAY_LINK", loss("NEIGH_FAILED", "eth0")),
        ("E_VXLAN_MAC", loss("OTHERHOST")),
        ("E_POD_BRIDGE_PORT", loss("OTHERHOST", "eth0", place=HERE)),
        ("E_VXLAN_VNI", loss("VXLAN_VNI_NOT_FOUND", "eth0", packet=WRAPPED)),
        ("E_VXLAN_PORT", loss("NO_SOCKET", "eth0", packet=WRAPPED)),
        ("E_NO_LISTENER", loss("NO_SOCKET", "eth0", place=HERE)),
        ("E_MTU", loss("PKT_TOO_BIG")),
        ("E_MTU", loss("NOT_SPECIFIED", "eth0", function="__dev_forward_skb2")),
        ("E_UNDERLAY_DROP", loss("NETFILTER_DROP", "node-1", place=WIRE, packet=WRAPPED)),
        ("E_FORWARD_POLICY", loss("NETFILTER_DROP", rules=(hit("drop", "FORWARD", "policy"),))),
        ("E_FILTER_DROP", loss("NETFILTER_DROP", rules=(hit("drop", "mine"),))),
        ("E_CONNTRACK_FULL", loss("NETFILTER_DROP", sysctls=FULL)),
        ("E_SERVICE_NO_ENDPOINTS", loss("NETFILTER_DROP", packet=TO_VIP, rules=(hit("drop", "x"),))),
        ("E_SERVICE_PORT", loss("NETFILTER_DROP", packet=NO_PORT, rules=(hit("drop", "x"),))),
        ("E_HAIRPIN", loss("IP_LOCAL_SOURCE", "eth0", place=HERE)),
        ("E_BLACKHOLE", loss("NOT_SPECIFIED", unroutable=("blackhole default",))),
        ("E_POD_LINK_DOWN", loss("DEV_READY", "k1")),
        ("E_ROUTE_WRONG", loss("IP_INHDR", packet=replace(PACKET, ttl=1))),
        ("W_OUTSIDE", loss("IP_INADDRERRORS", "br0", place=WIRE)),
        ("E_DROPPED", loss("SOMETHING_NEW", function="new_function")),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.drop.reason} {value.drop.ifname}",
)
def test_a_reason_becomes_a_finding(code: str, given: Loss) -> None:
    found = why(given)
    assert found.code == code
    assert found.evidence
    assert found.component == CATALOGUE[code].component


def test_an_unknown_reason_is_passed_on_in_the_kernels_words() -> None:
    said = why(loss("SOMETHING_NEW", function="new_function")).evidence
    assert said == "the kernel says SOMETHING_NEW in new_function"


def test_commands_are_for_the_lab_or_for_the_node_itself() -> None:
    given = loss("IP_INADDRERRORS", sysctls=OFF)
    assert why(given).next_step == "kubenet lab exec node-1 -- sysctl -w net.ipv4.ip_forward=1"
    assert why(replace(given, in_lab=False)).next_step == "sysctl -w net.ipv4.ip_forward=1"
