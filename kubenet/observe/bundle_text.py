"""A snapshot as JSON, and back. *Pure.*

What could be a secret never gets in: of a container only its name and ports, of objects no annotations.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from typing import TypeVar

import msgspec

from kubenet.errors import Malformed
from kubenet.model.links import (
    Address,
    FdbEntry,
    Link,
    LinkKind,
    LinkState,
    Neighbor,
    Route,
    Vxlan,
    state_of,
)
from kubenet.model.objects import EndpointSlice, KubeObject, Node, Pod, Service
from kubenet.observe.events import PlaceKind, PlaceName
from kubenet.observe.names import Cluster
from kubenet.observe.snapshot import Flow, Lookup, Ping, Reach, Snapshot
from kubenet.observe.state import PlaceState, PolicyRule

FORMAT = 1
ObjectT = TypeVar("ObjectT", bound=KubeObject)


class _Links(msgspec.Struct, frozen=True):
    links: list[tuple[str, str, str | None, int, bool, str, int]] = []
    vxlan: dict[str, tuple[int, str, int, str]] = {}
    addresses: list[tuple[str, str]] = []
    routes: list[tuple[str, str, str, bool, str, int, int, bool]] = []
    neighbors: list[tuple[str, str, str]] = []
    fdb: list[tuple[str, str, str]] = []


class _State(msgspec.Struct, frozen=True):
    name: str
    kind: str
    node: str
    links: _Links
    sysctls: dict[str, str]
    policy: list[PolicyRule]
    nft: str
    iptables: str
    legacy: str
    unroutable: list[str]


class _Bundle(msgspec.Struct, frozen=True):
    format: int
    taken_at: str
    in_lab: bool
    nodes: list[Node]
    pods: list[Pod]
    services: list[Service]
    slices: list[EndpointSlice]
    states: list[_State]
    resolvers: dict[str, list[str]]
    records: dict[str, list[str]]
    flows: list[tuple[str, str, int, str, int]]
    pings: list[Ping]
    reaches: list[Reach]
    lookups: list[tuple[str, str, str, list[str], str]]


def encode(snapshot: Snapshot) -> bytes:
    """Return the snapshot as JSON."""
    cluster = snapshot.cluster
    bundle = _Bundle(
        FORMAT,
        snapshot.taken_at,
        snapshot.in_lab,
        [_bare(node) for node in cluster.nodes],
        [_redacted(pod) for pod in cluster.pods],
        [_bare(service) for service in cluster.services],
        [_bare(each) for each in cluster.slices],
        [_state(state) for state in snapshot.states.values()],
        {key: list(words) for key, words in snapshot.resolvers.items()},
        {key: list(words) for key, words in snapshot.records.items()},
        [(f.node, str(f.destination), f.port, str(f.answering), f.answering_port) for f in snapshot.flows],
        list(snapshot.pings),
        list(snapshot.reaches),
        [(e.node, str(e.server), e.name, [str(a) for a in e.addresses], e.rcode) for e in snapshot.lookups],
    )
    return msgspec.json.encode(bundle)


def _bare(each: ObjectT) -> ObjectT:
    return msgspec.structs.replace(each, metadata=msgspec.structs.replace(each.metadata, annotations={}))


def _redacted(pod: Pod) -> Pod:
    containers = tuple(
        msgspec.structs.replace(each, env=(), command=(), args=(), image="") for each in pod.spec.containers
    )
    return _bare(msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, containers=containers)))


def _state(state: PlaceState) -> _State:
    place = state.place
    return _State(
        place.name,
        place.kind.value,
        place.node,
        _links(state.links),
        dict(state.sysctls),
        list(state.policy),
        state.nft,
        state.iptables,
        state.legacy,
        list(state.unroutable),
    )


def _links(links: LinkState) -> _Links:
    plain = [
        (link.ifname, link.kind.value, link.mac, link.mtu, link.up, link.master, link.group)
        for link in links.links.values()
    ]
    vxlan = {
        name: (link.vxlan.vni, str(link.vxlan.local), link.vxlan.port, link.vxlan.underlay_ifname)
        for name, link in links.links.items()
        if link.vxlan
    }
    return _Links(
        plain,
        vxlan,
        [(a.ifname, str(a.interface)) for a in links.addresses],
        [
            (
                str(r.destination),
                r.ifname,
                str(r.gateway or ""),
                r.onlink,
                str(r.source or ""),
                r.protocol,
                r.mtu,
                r.unreachable,
            )
            for r in links.routes.values()
        ],
        [(n.ifname, str(n.ip), n.mac) for n in links.neighbors.values()],
        [(f.ifname, f.mac, str(f.vtep)) for f in links.fdb.values()],
    )


def decode(raw: bytes) -> Snapshot:
    """Return the snapshot. Raises Malformed."""
    try:
        bundle = msgspec.json.decode(raw, type=_Bundle)
        if bundle.format != FORMAT:
            raise Malformed(f"the bundle has format {bundle.format}, and this reads {FORMAT}")
        return _snapshot(bundle)
    except (msgspec.DecodeError, ValueError) as error:
        raise Malformed(f"not the snapshot of a bundle: {error}") from error


def _snapshot(bundle: _Bundle) -> Snapshot:
    states = [_place_state(each) for each in bundle.states]
    return Snapshot(
        Cluster(tuple(bundle.nodes), tuple(bundle.pods), tuple(bundle.services), tuple(bundle.slices)),
        {state.place.name: state for state in states},
        {key: tuple(words) for key, words in bundle.resolvers.items()},
        {key: tuple(words) for key, words in bundle.records.items()},
        tuple(Flow(n, IPv4Address(to), port, IPv4Address(by), p) for n, to, port, by, p in bundle.flows),
        tuple(bundle.pings),
        tuple(bundle.reaches),
        tuple(
            Lookup(node, IPv4Address(server), name, tuple(map(IPv4Address, told)), rcode)
            for node, server, name, told, rcode in bundle.lookups
        ),
        bundle.in_lab,
        bundle.taken_at,
    )


def _place_state(each: _State) -> PlaceState:
    return PlaceState(
        PlaceName(each.name, PlaceKind(each.kind), each.node),
        state_of(*_entries(each.links)),
        each.sysctls,
        tuple(each.policy),
        each.nft,
        each.iptables,
        each.legacy,
        tuple(each.unroutable),
    )


def _entries(links: _Links) -> Iterable[Link | Address | Route | Neighbor | FdbEntry]:
    for ifname, kind, mac, mtu_bytes, up, master, group in links.links:
        told = links.vxlan.get(ifname)
        vxlan = Vxlan(told[0], ip_address(told[1]), told[2], told[3]) if told else None
        yield Link(ifname, LinkKind(kind), mac, mtu_bytes, up, master, group, vxlan)
    for ifname, interface in links.addresses:
        yield Address(ifname, ip_interface(interface))
    for to, ifname, gateway, onlink, source, protocol, mtu, unreachable in links.routes:
        yield Route(
            ip_network(to),
            ifname,
            ip_address(gateway) if gateway else None,
            onlink,
            ip_address(source) if source else None,
            protocol,
            mtu,
            unreachable,
        )
    yield from (Neighbor(ifname, ip_address(ip), mac) for ifname, ip, mac in links.neighbors)
    yield from (FdbEntry(ifname, mac, ip_address(vtep)) for ifname, mac, vtep in links.fdb)
