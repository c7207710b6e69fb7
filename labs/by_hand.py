"""The shell script that builds a lab's network by hand: ip, bridge, sysctl, iptables. *Pure.*

Written from the very values that a lab is built from (``labs.datapath``), so that what a reader types is what
the daemons do. Network namespaces are those of ``ip netns``, with the lab's name in front.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cni.masquerade import Surroundings, compile_tables
from cni.overlay import NodeNet, compile_overlay
from cni.plan import POD, node_state, pod_state
from kubenet.model.iptables import first_write, render_restore
from kubenet.model.links import Link, LinkKind, LinkState, Route
from labs.build import NODE_SYSCTLS
from labs.datapath import TUNNEL, LabPod, node_nets, pods_of
from labs.topology import WIRE, LabSpec, node_base, topology, wire_base, wire_ports


@dataclass(frozen=True, slots=True)
class _Place:
    """A namespace of the script."""

    name: str

    def ip(self, *words: object) -> str:
        return f"ip -n {self.name} {' '.join(map(str, words))}"

    def run(self, *words: object) -> str:
        return f"ip netns exec {self.name} {' '.join(map(str, words))}"


def script(spec: LabSpec, pods_per_node: int) -> str:
    """Return a POSIX shell script that builds the network of ``spec`` with so many pods on each node."""
    nets = node_nets(spec)
    pods = {net.name: pods_of(net, pods_per_node) for net in nets}
    names = [WIRE, *pods, *(pod.name for each in pods.values() for pod in each)]
    lines = [
        "#!/bin/sh",
        f"# The network of lab {spec.name}, by hand. Run it as root; with the word down it takes all away.",
        "set -eu",
        'if [ "${1:-}" = down ]; then',
        f"    for name in {' '.join(_place(spec, name).name for name in names)}; do",
        '        ip netns del "$name"',
        "    done",
        "    exit",
        "fi",
        *_section("The wire: a bridge that all nodes hang on", _wire(spec)),
    ]
    for node, net in zip(topology(spec).nodes, nets, strict=True):
        place = _place(spec, net.name)
        lines += _section(
            f"{net.name}: a namespace with a cable to the wire", _node(spec, place, node_base(node))
        )
    for net in nets:
        peers = [peer for peer in nets if peer is not net]
        overlay = _contents(_place(spec, net.name), compile_overlay(net, peers, TUNNEL), {})
        lines += _section(f"{net.name}: the tunnel, and the way to every other node's pods", overlay)
        lines += _section(f"{net.name}: addresses for the world outside", _masquerade(spec, net))
        for pod in pods[net.name]:
            lines += _section(f"{pod.name}: a namespace with a cable to its node", _pod(spec, net, pod))
    return "\n".join(lines) + "\n"


def _wire(spec: LabSpec) -> Iterator[str]:
    place = _place(spec, WIRE)
    yield f"ip netns add {place.name}"
    yield from _contents(place, wire_base(), {})


def _node(spec: LabSpec, place: _Place, base: LinkState) -> Iterator[str]:
    wire = _place(spec, WIRE)
    yield f"ip netns add {place.name}"
    for key, value in NODE_SYSCTLS.items():
        yield place.run("sysctl", "-qw", f"{key}={value}")
    yield from _contents(place, base, {WIRE: wire})
    port = wire_ports(topology(spec)).links[place.name.removeprefix(f"{spec.name}-")]
    yield wire.ip("link set", port.ifname, "master", port.master, "up")


def _pod(spec: LabSpec, net: NodeNet, pod: LabPod) -> Iterator[str]:
    node, place = _place(spec, net.name), _place(spec, pod.name)
    yield f"ip netns add {place.name}"
    ends = node_state(pod.net)
    yield from _links(node, ends.links.values(), {POD: place})
    yield from _contents(place, pod_state(pod.net), {}, made=True)
    yield from _tables(node, ends)


def _masquerade(spec: LabSpec, net: NodeNet) -> Iterator[str]:
    around = Surroundings(net.pod_cidrs, (spec.cluster_cidr,), (spec.service_cidr,), TUNNEL.port)
    writes = [first_write(table) for table in compile_tables(around, 4)]
    yield _place(spec, net.name).run("iptables-restore", "--noflush", "<<'RULES'")
    yield render_restore(writes).rstrip("\n")
    yield "RULES"


def _contents(
    place: _Place, state: LinkState, peers: dict[str, _Place], *, made: bool = False
) -> Iterator[str]:
    """Yield what fills a namespace: first its links (unless they are there), then what stands on them."""
    if made:
        for link in state.links.values():
            yield place.ip("link set", link.ifname, *_settings(link), "up")
    else:
        yield from _links(place, state.links.values(), peers)
    yield from _tables(place, state)


def _links(place: _Place, links: Iterable[Link], peers: dict[str, _Place]) -> Iterator[str]:
    for link in links:
        if link.kind is LinkKind.LOOPBACK:
            yield place.ip("link set lo up")
        else:
            yield place.ip("link add", link.ifname, *_settings(link), *_kind(link, peers))
            yield place.ip("link set", link.ifname, "up")


def _settings(link: Link) -> list[object]:
    words: list[object] = ["address", link.mac] if link.mac else []
    return words + (["mtu", link.mtu] if link.mtu and link.kind is not LinkKind.LOOPBACK else [])


def _kind(link: Link, peers: dict[str, _Place]) -> list[object]:
    if link.vxlan is not None:
        tunnel = link.vxlan
        words = ["type vxlan id", tunnel.vni, "local", tunnel.local, "dev", tunnel.underlay_ifname]
        return [*words, "dstport", tunnel.port, "nolearning"]
    if link.peer is None:
        return ["type", link.kind.value]
    end = link.peer
    words = ["type veth peer name", end.ifname]
    words += ["address", end.mac] if end.mac else []
    return [*words, "mtu", link.mtu, "netns", peers[end.netns].name]


def _tables(place: _Place, state: LinkState) -> Iterator[str]:
    for address in state.addresses.values():
        yield place.ip("address add", address.interface, "dev", address.ifname)
    for route in sorted(state.routes.values(), key=lambda route: route.gateway is not None):
        yield place.ip("route add", *_way(route))
    for neighbor in state.neighbors.values():
        yield place.ip(
            "neighbour replace", neighbor.ip, "lladdr", neighbor.mac, "dev", neighbor.ifname, "nud permanent"
        )
    for entry in state.fdb.values():
        yield f"bridge -n {place.name} fdb append {entry.mac} dev {entry.ifname} dst {entry.vtep}"


def _way(route: Route) -> list[object]:
    if route.unreachable:
        return ["unreachable", route.destination, "proto", route.protocol]
    words: list[object] = [route.destination]
    words += ["via", route.gateway] if route.gateway else []
    words += ["dev", route.ifname, "proto", route.protocol]
    words += ["src", route.source] if route.source else []
    words += ["mtu", route.mtu] if route.mtu else []
    return words + (["onlink"] if route.onlink else [])


def _place(spec: LabSpec, name: str) -> _Place:
    return _Place(f"{spec.name}-{name}")


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return ["", f"# {title}", *lines]
