"""Every node's way to every other node's pods. *Pure.*"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from kubenet.model.links import VXLAN_OVERHEAD_V4, Link, Vxlan
from kubenet.model.objects import Node
from kubenet.observe.checks.base import Verdict, address_of, cidr_of, command, nodes_seen, tunnel_of
from kubenet.observe.findings import Finding
from kubenet.observe.snapshot import Snapshot
from kubenet.observe.state import PlaceState, route_to, route_words


def check_overlay(snapshot: Snapshot) -> Verdict:
    """Compare routes, neighbours and forwarding entries of all pairs of nodes."""
    seen = list(nodes_seen(snapshot))
    findings = [*_overlaps(snapshot.cluster.nodes)]
    tunnels = {node.metadata.name: tunnel_of(state) for node, state in seen}
    if any(tunnels.values()):
        usual = _usual([link for link in tunnels.values() if link is not None])
        for node, state in seen:
            findings += _device(snapshot, node, state, tunnels[node.metadata.name], usual)
    for node, state in seen:
        for peer in snapshot.cluster.nodes:
            if peer.metadata.name != node.metadata.name:
                findings += _to_peer(snapshot, state, peer, tunnels)
    pairs = len(seen) * (len(snapshot.cluster.nodes) - 1)
    return Verdict(
        "overlay", f"{pairs} pairs of nodes: route, neighbour, forwarding entry", tuple(findings), pairs
    )


def _overlaps(nodes: Sequence[Node]) -> Iterator[Finding]:
    ranges = [(node.metadata.name, cidr) for node in nodes if (cidr := cidr_of(node))]
    for place, (name, cidr) in enumerate(ranges):
        for other, theirs in ranges[place + 1 :]:
            if cidr.overlaps(theirs):
                yield Finding(
                    "E_CIDR_OVERLAP",
                    name,
                    f"{name} has {cidr}, {other} has {theirs}",
                    "kubectl get nodes -o yaml",
                )


def _usual(links: Sequence[Link]) -> tuple[int, int]:
    """Return the VNI and port that most nodes use."""
    kinds = Counter((link.vxlan.vni, link.vxlan.port) for link in links if link.vxlan)
    return kinds.most_common(1)[0][0] if kinds else (0, 0)


def _device(
    snapshot: Snapshot, node: Node, state: PlaceState, link: Link | None, usual: tuple[int, int]
) -> Iterator[Finding]:
    name = node.metadata.name
    step = command(snapshot, name, "ip -d link show type vxlan")
    if link is None:
        yield Finding("E_VXLAN_LINK", name, f"{name} has no VXLAN device", step)
        return
    if not link.up:
        yield Finding("E_VXLAN_LINK", name, f"{link.ifname} of {name} is down", step, link.ifname)
    if link.vxlan is not None:
        yield from _settings(name, link, link.vxlan, usual, step)
        underlay = state.links.links.get(link.vxlan.underlay_ifname)
        if underlay is not None:
            yield from _underlay(snapshot, name, link, underlay)


def _settings(name: str, link: Link, vxlan: Vxlan, usual: tuple[int, int], step: str) -> Iterator[Finding]:
    vni, port = usual
    if vxlan.vni != vni:
        words = f"{link.ifname} of {name} has VNI {vxlan.vni}, the others {vni}"
        yield Finding("E_VXLAN_VNI", name, words, step, link.ifname)
    if vxlan.port != port:
        words = f"{link.ifname} of {name} uses udp/{vxlan.port}, the others udp/{port}"
        yield Finding("E_VXLAN_PORT", name, words, step, link.ifname)


def _underlay(snapshot: Snapshot, name: str, link: Link, underlay: Link) -> Iterator[Finding]:
    step = command(snapshot, name, "ip link")
    if not underlay.up:
        words = f"{underlay.ifname} of {name} is down"
        yield Finding("E_UNDERLAY_LINK", name, words, step, underlay.ifname)
    if link.mtu + VXLAN_OVERHEAD_V4 > underlay.mtu:
        takes = f"{underlay.ifname} takes {underlay.mtu}"
        words = f"{link.ifname} of {name} takes {link.mtu} bytes and adds 50; {takes}"
        yield Finding("E_MTU", name, words, step, link.ifname)


def _to_peer(
    snapshot: Snapshot, state: PlaceState, peer: Node, tunnels: Mapping[str, Link | None]
) -> Iterator[Finding]:
    name, other, cidr = state.place.name, peer.metadata.name, cidr_of(peer)
    own = tunnel_of(state)
    if cidr is None:
        return
    route = route_to(state.links, cidr[2])
    step = command(snapshot, name, f"ip route get {cidr[2]}")
    if route is None or route.destination.prefixlen == 0:
        yield Finding("E_ROUTE_MISSING", name, f"{name} has no route to the pods of {other} ({cidr})", step)
        return
    if own is None:
        return
    if route.ifname != own.ifname:
        words = f"{name} sends the pods of {other} elsewhere: {route_words(route)}"
        yield Finding("E_ROUTE_WRONG", name, words, step)
        return
    gateway = route.gateway
    neighbor = state.links.neighbors.get((own.ifname, gateway)) if gateway else None
    if neighbor is None:
        words = f"{name} has no neighbour entry for {gateway}, the tunnel end of {other}"
        yield Finding(
            "E_VXLAN_NEIGH",
            name,
            words,
            command(snapshot, name, f"ip neigh show dev {own.ifname}"),
            own.ifname,
        )
        return
    theirs = tunnels.get(other)
    if theirs is not None and theirs.mac and theirs.mac != neighbor.mac:
        words = f"{name} takes the tunnel end of {other} for {neighbor.mac}; it is {theirs.mac}"
        yield Finding(
            "E_VXLAN_MAC", name, words, command(snapshot, name, f"ip neigh show dev {own.ifname}"), own.ifname
        )
    entry = state.links.fdb.get((own.ifname, neighbor.mac))
    ip = address_of(peer)
    if entry is None or (ip is not None and entry.vtep != ip):
        fault = (
            f"sends what is for {other} to {entry.vtep}" if entry else f"has no forwarding entry for {other}"
        )
        words = f"{name} {fault} ({neighbor.mac}, {ip})"
        yield Finding(
            "E_VXLAN_FDB",
            name,
            words,
            command(snapshot, name, f"bridge fdb show dev {own.ifname}"),
            own.ifname,
        )
