"""The VXLAN overlay of one node, as a value computed from the Node objects. *Pure.*

How it works, and how it scales. Each node has one VXLAN device (RFC 7348) that never learns and never
floods. Its pods' packets to another node's range are routed to that node's tunnel end, and three entries a
node say all there is to say:

    route      10.244.2.0/24 via 10.244.2.0 dev kubenet.1 onlink     whose range it is
    neighbour  10.244.2.0 -> 0e:58:...                               the MAC address of the tunnel end
    FDB        0e:58:... -> 172.30.0.2                               the node behind that MAC address

Tables grow with the number of nodes, not of pods. A tunnel end's own address is the first of its range, which
no pod gets; it is also the source address of what the node itself sends to pods elsewhere. Its MAC address is
a function of the node's name and range: a device that was deleted and made again, here or there, is the same,
and no node has to tell another what address it drew.

Learning from packets (the kernel's default) was what early overlays did: the first packet to a pod floods,
and a stale entry black-holes traffic until it ages out.

Law: the order of nodes never shows.
"""

from bisect import bisect_right, insort
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2s
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_network

import msgspec

from cni.flannel import told_by
from kubenet.errors import Malformed
from kubenet.model.links import (
    VXLAN_OVERHEAD_V4,
    VXLAN_OVERHEAD_V6,
    Address,
    FdbEntry,
    IPAddress,
    IPInterface,
    IPNetwork,
    Link,
    LinkKind,
    LinkState,
    MacAddress,
    Neighbor,
    Route,
    Vxlan,
    state_of,
)
from kubenet.model.objects import Node


@dataclass(frozen=True, slots=True)
class NodeNet:
    """A node's part in the overlay: where it is reached, and the ranges behind it, one of a family."""

    name: str
    node_ip: IPAddress
    pod_cidrs: tuple[IPNetwork, ...]
    told_mac: MacAddress = ""  # of the tunnel end, where the node has told it

    @property
    def vtep_mac(self) -> MacAddress:
        """The MAC address of this node's tunnel end."""
        if self.told_mac:
            return self.told_mac
        subject = f"{self.name} {' '.join(str(cidr) for cidr in self.pod_cidrs)}"
        return (b"\x0e\x58" + blake2s(subject.encode(), digest_size=4).digest()).hex(":")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A node that the overlay leaves out, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What all nodes of a cluster agree on, and the device that carries it."""

    vni: int
    port: int
    underlay_ifname: str
    underlay_mtu: int  # bytes

    @property
    def ifname(self) -> str:
        return f"kubenet.{self.vni}"


def node_net(node: Node, vni: int = 1) -> NodeNet | Skipped:
    """Return the part of ``node``, or why it has none yet; what flannel's annotations say goes first."""
    name = node.metadata.name
    try:
        told = told_by(node.metadata.annotations, vni)
    except Malformed as error:
        return Skipped(name, str(error))
    ip = next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")
    ip = told.public_ip or ip
    cidrs = node.spec.pod_cidrs or tuple(filter(None, [node.spec.pod_cidr]))
    if not ip or not cidrs:
        return Skipped(name, "it has no InternalIP yet" if not ip else "it has no podCIDR yet")
    try:
        return NodeNet(name, ip_address(ip), tuple(ip_network(cidr) for cidr in cidrs), told.vtep_mac)
    except ValueError as error:
        return Skipped(name, f"its addresses are wrong: {error}")


def own_net(node: Node) -> NodeNet | Skipped:
    """Return the part of the node we are on: here annotations are what we say, not what we hear."""
    return node_net(
        msgspec.structs.replace(node, metadata=msgspec.structs.replace(node.metadata, annotations={}))
    )


def peers_of(own: NodeNet, nodes: Iterable[Node], vni: int = 1) -> tuple[list[NodeNet], list[Skipped]]:
    """Return the other nodes by name, and those that cannot be reached.

    Of two nodes that claim the same addresses, our own goes first, and then the one whose name does.
    """
    peers: list[NodeNet] = []
    skipped: list[Skipped] = []
    claims = _Claims()
    claims.add(own)
    for node in sorted(nodes, key=lambda node: node.metadata.name):
        if node.metadata.name == own.name:
            continue
        net = node_net(node, vni)
        if isinstance(net, Skipped):
            skipped.append(net)
        elif rival := claims.rival_of(net):
            skipped.append(Skipped(net.name, f"its addresses are those of {rival}"))
        else:
            claims.add(net)
            peers.append(net)
    return peers, skipped


def pod_mtu(tunnel: Tunnel, own: NodeNet) -> int:
    """Return the largest packet that fits into the tunnel, in bytes."""
    overhead = VXLAN_OVERHEAD_V4 if own.node_ip.version == 4 else VXLAN_OVERHEAD_V6
    return tunnel.underlay_mtu - overhead


def compile_overlay(
    own: NodeNet, peers: Iterable[NodeNet], tunnel: Tunnel, direct: Container[str] = ()
) -> LinkState:
    """Return everything that the node's namespace must hold for the overlay, and nothing else.

    Peers whose names are in ``direct`` are next hops on the underlay. They keep their place in the tunnel,
    since they may send through it.
    """
    device = Link(
        tunnel.ifname,
        LinkKind.VXLAN,
        mac=own.vtep_mac,
        mtu=pod_mtu(tunnel, own),
        vxlan=Vxlan(tunnel.vni, own.node_ip, tunnel.port, tunnel.underlay_ifname),
    )
    addresses = [Address(tunnel.ifname, _tunnel_end(cidr)) for cidr in own.pod_cidrs]
    families = {cidr.version for cidr in own.pod_cidrs}
    entries = [entry for peer in peers for entry in _way_to(peer, tunnel, families, peer.name in direct)]
    return state_of(device, *addresses, *entries)


def own_ranges(own: NodeNet) -> LinkState:
    """Return routes that refuse what is for an address of this node that no pod has.

    Without them such a packet goes back the default route, whence it comes again until its time is up. The
    route of each pod is longer, and so goes before.
    """
    return state_of(*(Route(cidr, "", unreachable=True) for cidr in own.pod_cidrs))


def on_link(peers: Iterable[NodeNet], networks: Iterable[IPNetwork]) -> frozenset[str]:
    """Return the names of those peers that are in one of the underlay's own networks."""
    near = tuple(networks)
    return frozenset(peer.name for peer in peers if any(peer.node_ip in network for network in near))


def _way_to(
    peer: NodeNet, tunnel: Tunnel, families: Container[int], direct: bool
) -> Iterator[Route | Neighbor | FdbEntry]:
    ifname, mac = tunnel.ifname, peer.vtep_mac
    yield FdbEntry(ifname, mac, peer.node_ip)
    for cidr in peer.pod_cidrs:
        if cidr.version in families:
            yield Neighbor(ifname, cidr.network_address, mac)
            if direct and cidr.version == peer.node_ip.version:
                yield Route(cidr, tunnel.underlay_ifname, peer.node_ip)
            else:
                yield Route(cidr, ifname, cidr.network_address, onlink=True)


def _tunnel_end(cidr: IPNetwork) -> IPInterface:
    address = cidr.network_address
    return IPv4Interface(address) if address.version == 4 else IPv6Interface(address)


class _Claims:
    """Which addresses belong to which node; no two of the ranges overlap, so neighbours in order tell."""

    def __init__(self) -> None:
        self._nodes: dict[IPAddress, str] = {}
        self._macs: dict[MacAddress, str] = {}
        self._firsts: dict[int, list[int]] = {4: [], 6: []}  # of each range, sorted
        self._ranges: dict[tuple[int, int], tuple[int, str]] = {}  # (family, first): last, node

    def add(self, net: NodeNet) -> None:
        self._nodes[net.node_ip] = net.name
        if net.told_mac:
            self._macs[net.told_mac] = net.name
        for cidr in net.pod_cidrs:
            first = int(cidr.network_address)
            insort(self._firsts[cidr.version], first)
            self._ranges[cidr.version, first] = int(cidr.broadcast_address), net.name

    def rival_of(self, net: NodeNet) -> str:
        """Return the name of a node that has one of these addresses, or an empty string."""
        rivals = [self._nodes.get(net.node_ip, ""), self._macs.get(net.told_mac, "")]
        rivals += [self._owner(cidr) for cidr in net.pod_cidrs]
        return next(filter(None, rivals), "")

    def _owner(self, cidr: IPNetwork) -> str:
        firsts = self._firsts[cidr.version]
        place = bisect_right(firsts, int(cidr.broadcast_address))
        if not place:
            return ""
        last, name = self._ranges[cidr.version, firsts[place - 1]]
        return name if last >= int(cidr.network_address) else ""
