"""What all checks share. *Pure.*"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network

from kubenet.model.links import Link, LinkKind
from kubenet.model.objects import Node, Pod
from kubenet.observe.events import PlaceKind
from kubenet.observe.findings import Finding
from kubenet.observe.snapshot import Snapshot
from kubenet.observe.state import PlaceState
from kubenet.observe.why import command_in


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check came to."""

    component: str
    looked_at: str  # "12 pods: address, route, veth"
    findings: tuple[Finding, ...]
    count: int  # of things looked at; 0: there was nothing


def ip_of(pod: Pod) -> IPv4Address | None:
    """Return a pod's IPv4 address."""
    text = pod.status.pod_ip
    return IPv4Address(text) if text and ":" not in text else None


def running_pods(snapshot: Snapshot) -> list[Pod]:
    """Return the pods that have a network of their own, and whose namespace was looked at."""
    return [
        pod
        for pod in snapshot.cluster.pods
        if ip_of(pod)
        and not pod.spec.host_network
        and pod.metadata.key in snapshot.states
        and pod.status.phase not in ("Succeeded", "Failed")
    ]


def cidr_of(node: Node) -> IPv4Network | None:
    """Return a node's IPv4 range for pods."""
    for text in node.spec.pod_cidrs or (node.spec.pod_cidr,):
        if text and ":" not in text:
            network = ip_network(text)
            assert isinstance(network, IPv4Network)
            return network
    return None


def address_of(node: Node) -> IPv4Address | None:
    """Return a node's own IPv4 address."""
    found = (a.address for a in node.status.addresses if a.type == "InternalIP" and ":" not in a.address)
    text = next(found, "")
    return IPv4Address(text) if text else None


def nodes_seen(snapshot: Snapshot) -> Iterator[tuple[Node, PlaceState]]:
    """Yield the nodes that were looked at."""
    for node in snapshot.cluster.nodes:
        state = snapshot.states.get(node.metadata.name)
        if state is not None and state.place.kind is PlaceKind.NODE:
            yield node, state


def tunnel_of(state: PlaceState) -> Link | None:
    """Return a node's VXLAN device; of several, the first by name."""
    found = sorted(name for name, link in state.links.links.items() if link.kind is LinkKind.VXLAN)
    return state.links.links[found[0]] if found else None


def command(snapshot: Snapshot, place: str, words: str) -> str:
    """Return a command to be typed for a place."""
    return command_in(place, words, snapshot.in_lab)
