"""What a lab is made of, as data. *Pure.*

A lab is one *wire* namespace with a bridge, and nodes that hang on it by a veth pair each::

    node-1 eth0 ---- node-1 +------------+ node-2 ---- eth0 node-2
                            | wire: br0  |
    node-3 eth0 ---- node-3 +------------+  172.30.255.254/16, the API server's address

Names and addresses follow from the number of the node, so that a reader can tell one from the other without
looking it up. The lab's own root is the wire namespace: nothing of it is ever made in the namespace of the
machine.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import combinations

from kubenet.errors import InvalidInput
from kubenet.model.links import Address, Link, LinkKind, LinkState, Route, VethPeer, state_of

WIRE = "wire"
WIRE_BRIDGE = "br0"
UNDERLAY_IFNAME = "eth0"
UNDERLAY = IPv4Network("172.30.0.0/16")
API_SERVER = IPv4Address("172.30.255.254")
API_SERVER_PORT = 6443
UNDERLAY_MTU = 1500
MAX_NODES = 250
MAX_CLUSTER_PREFIX = 24
RTPROT_STATIC = (
    4  # linux/rtnetlink.h: set by an administrator, so that no daemon of ours takes it for its own
)

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class LabSpec:
    """What the user asks for; a lab is a function of it."""

    name: str
    nodes: int = 3
    balance: str = "random"
    cluster_cidr: IPv4Network = IPv4Network("10.244.0.0/16")
    service_cidr: IPv4Network = IPv4Network("10.96.0.0/16")
    cluster_dns: IPv4Address = IPv4Address("10.96.0.10")
    cluster_domain: str = "cluster.local"
    proxy_mode: str = ""  # iptables, nftables; empty: what the proxy takes by itself
    wiring: str = "routed"  # or bridge
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # beside those a lab knows


@dataclass(frozen=True, slots=True)
class LabNode:
    """One node of the lab."""

    name: str
    ip: IPv4Address

    @property
    def wire_ifname(self) -> str:
        """The bridge port of this node in the wire namespace."""
        return self.name


@dataclass(frozen=True, slots=True)
class Topology:
    """The namespaces of a lab and how they hang together."""

    name: str
    nodes: tuple[LabNode, ...]


def checked(spec: LabSpec) -> LabSpec:
    """Return ``spec`` if a lab can be made of it. Raises InvalidInput."""
    if not _NAME.fullmatch(spec.name):
        raise InvalidInput(
            f"lab name {spec.name!r}: must be 1 to 32 lower-case letters, digits and dashes",
            "kubenet lab up --name demo",
        )
    if not 1 <= spec.nodes <= MAX_NODES:
        raise InvalidInput(f"{spec.nodes} nodes: a lab has 1 to {MAX_NODES}", "kubenet lab up --nodes 3")
    _check_networks(spec)
    return spec


def _check_networks(spec: LabSpec) -> None:
    networks = {"cluster CIDR": spec.cluster_cidr, "service CIDR": spec.service_cidr, "underlay": UNDERLAY}
    for (name, network), (other, taken) in combinations(networks.items(), 2):
        if network.overlaps(taken):
            raise InvalidInput(f"{name} {network} overlaps the {other}, {taken}", "choose another range")
    if spec.cluster_cidr.prefixlen > MAX_CLUSTER_PREFIX:
        raise InvalidInput(
            f"cluster CIDR {spec.cluster_cidr}: each node gets a /{MAX_CLUSTER_PREFIX} of it",
            f"choose a range of at most /{MAX_CLUSTER_PREFIX}",
        )
    if spec.cluster_dns not in spec.service_cidr:
        raise InvalidInput(
            f"cluster DNS {spec.cluster_dns} is no address of the service CIDR {spec.service_cidr}",
            f"for example {spec.service_cidr[10]}",
        )


def topology(spec: LabSpec) -> Topology:
    """Return the namespaces that ``spec`` stands for."""
    nodes = (LabNode(f"node-{number}", UNDERLAY[number]) for number in range(1, spec.nodes + 1))
    return Topology(spec.name, tuple(nodes))


def wire_base() -> LinkState:
    """Return what the wire namespace holds before any node is there."""
    address = IPv4Interface((API_SERVER, UNDERLAY.prefixlen))
    return state_of(
        Link("lo", LinkKind.LOOPBACK),
        Link(WIRE_BRIDGE, LinkKind.BRIDGE, mtu=UNDERLAY_MTU),
        Address(WIRE_BRIDGE, address),
    )


def wire_ports(lab: Topology) -> LinkState:
    """Return the bridge ports of the wire namespace; the nodes make these devices, the wire takes them in."""
    return state_of(
        *(Link(node.wire_ifname, LinkKind.VETH, mtu=UNDERLAY_MTU, master=WIRE_BRIDGE) for node in lab.nodes)
    )


def node_base(node: LabNode) -> LinkState:
    """Return what a node's namespace holds before any daemon runs."""
    return state_of(
        Link("lo", LinkKind.LOOPBACK),
        Link(UNDERLAY_IFNAME, LinkKind.VETH, mtu=UNDERLAY_MTU, peer=VethPeer(node.wire_ifname, netns=WIRE)),
        Address(UNDERLAY_IFNAME, IPv4Interface((node.ip, UNDERLAY.prefixlen))),
        # Nothing is behind it; but without a route a node's own packet to a cluster IP ends before the
        # proxy's rules.
        Route(IPv4Network("0.0.0.0/0"), UNDERLAY_IFNAME, API_SERVER, protocol=RTPROT_STATIC),
    )
