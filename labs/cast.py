"""Who plays which role in an exercise. *Pure.*

Three nodes, ``a``, ``b`` and ``c``, drawn by seed. On ``a`` lives the ``client`` and its ``neighbour`` (a web
server), on ``b`` the ``server`` that the client wants and a ``guest`` (a client), on ``c`` the ``bystander``
and the web server ``other``. Whatever is broken between a and b, c shows that the rest is fine.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from cni.plan import host_ifname
from kubenet.errors import InvalidInput

TUNNEL_IFNAME = "kubenet.1"
NODES_NEEDED = 3
NOBODY = 250  # an address of a node's range that no pod of a small lab has


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node as an exercise sees it."""

    name: str
    ip: IPv4Address
    pod_cidr: IPv4Network


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod of the stage."""

    name: str
    node: str
    ip: IPv4Address
    uid: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What stands on the stage."""

    nodes: tuple[NodeFacts, ...]
    pods: tuple[PodFacts, ...]
    service_ips: Mapping[str, str]  # NAMESPACE/NAME -> cluster IP

    def pod(self, name: str) -> PodFacts:
        """Return the pod of that name. Raises InvalidInput."""
        for pod in self.pods:
            if pod.name == name:
                return pod
        raise InvalidInput(f"no pod {name!r} on the stage", "kubenet break giveup, then start again")


def roles(facts: Facts, seed: int) -> dict[str, str]:
    """Return for each role who plays it. Raises InvalidInput if the lab is too small."""
    if len(facts.nodes) < NODES_NEEDED:
        raise InvalidInput(
            f"a lab of {len(facts.nodes)} nodes: exercises need {NODES_NEEDED}", "kubenet lab up --nodes 3"
        )
    nodes = random.Random(seed).sample(sorted(facts.nodes, key=lambda node: node.name), NODES_NEEDED)
    cast = {"tunnel": TUNNEL_IFNAME, "web_vip": facts.service_ips["shop/web"]}
    cast["dns_vip"] = facts.service_ips["kube-system/kube-dns"]
    for letter, node in zip("abc", nodes, strict=True):
        cast |= _node_roles(letter, node)
    actors = (
        {"client": "client", "neighbour": "web"},
        {"server": "web", "guest": "client"},
        {"bystander": "client", "other": "web"},
    )
    for node, played in zip(nodes, actors, strict=True):
        for role, kind in played.items():
            cast |= _pod_roles(role, facts.pod(f"{kind}-{number_of(node.name)}"))
    return cast


def number_of(node: str) -> str:
    """Return the number of a node, which its pods bear as well."""
    return node.rpartition("-")[2]


def probes_of(facts: Facts) -> Sequence[tuple[str, str]]:
    """Return every pair of client and web pod: the paths that must work when nothing is broken."""
    clients = [pod.name for pod in facts.pods if pod.name.startswith("client-")]
    servers = [str(pod.ip) for pod in facts.pods if pod.name.startswith("web-")]
    return [(client, server) for client in clients for server in servers]


def _node_roles(letter: str, node: NodeFacts) -> dict[str, str]:
    return {
        letter: node.name,
        f"{letter}_ip": str(node.ip),
        f"{letter}_cidr": str(node.pod_cidr),
        f"{letter}_vtep": str(node.pod_cidr.network_address),
        f"{letter}_nobody": str(node.pod_cidr[NOBODY]),
    }


def _pod_roles(role: str, pod: PodFacts) -> dict[str, str]:
    return {
        role: f"pod/{pod.name}",
        f"{role}_name": pod.name,
        f"{role}_ip": str(pod.ip),
        f"{role}_ifname": host_ifname(pod.uid, "eth0"),
    }
