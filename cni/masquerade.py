"""The packet filter rules of one node's pod network, as values. *Pure.*

- nat: what a pod sends to somewhere outside the cluster leaves with the node's own address, because nobody
out
  there knows the way to a pod.
- filter: forwarding from and to the pods of this node is allowed, also where the administrator's policy for
  the FORWARD chain is to drop.
- raw: a pod must not speak VXLAN to a node. A tunnel end believes whoever sends to its port, so a plain UDP
  socket in a pod could otherwise forge packets of any other pod, on every node.

Source: iptables-extensions(8); RFC 7348 section 7 for the last.
"""

from dataclasses import dataclass, replace

from kubenet.model.iptables import (
    AddressKind,
    Comment,
    CtState,
    Destination,
    DestinationKind,
    DestinationPort,
    Family,
    InInterface,
    InState,
    Jump,
    Masquerade,
    Rule,
    Source,
    Table,
    Verdict,
)
from kubenet.model.links import IPNetwork
from kubenet.model.protocol import Protocol

POSTROUTING = "KUBENET-POSTROUTING"
FORWARD = "KUBENET-FORWARD"
GUARD = "KUBENET-GUARD"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rules of a node depend on. Ranges of the cluster are reached with the pod's own address."""

    pod_cidrs: tuple[IPNetwork, ...]  # of this node
    cluster_cidrs: tuple[IPNetwork, ...]  # of all pods
    service_cidrs: tuple[IPNetwork, ...]
    vxlan_port: int
    # Where packets of pods come in, as iptables writes it: all host ends (and the tunnel), or the bridge.
    pod_ifnames: tuple[str, ...] = ("k+",)


def compile_tables(around: Surroundings, family: Family) -> tuple[Table, ...]:
    """Return all that the node's tables of one family must hold; nothing if it has no pods of that family."""
    here = replace(
        around,
        pod_cidrs=_of(family, around.pod_cidrs),
        cluster_cidrs=_of(family, around.cluster_cidrs),
        service_cidrs=_of(family, around.service_cidrs),
    )
    return (_nat(here), _filter(here), _raw(here)) if here.pod_cidrs else ()


def is_ours(chain: str) -> bool:
    """Whether a chain is one of these; other KUBENET chains may belong to other parts of kubenet."""
    return chain in (POSTROUTING, FORWARD, GUARD)


def _of(family: Family, cidrs: tuple[IPNetwork, ...]) -> tuple[IPNetwork, ...]:
    return tuple(cidr for cidr in cidrs if cidr.version == family)


def _nat(around: Surroundings) -> Table:
    inside = (*around.cluster_cidrs, *around.service_cidrs)
    rules = [
        *(Rule((Destination(cidr),), Verdict.RETURN) for cidr in inside),
        Rule((DestinationKind(AddressKind.MULTICAST),), Verdict.RETURN),
        *(Rule((Source(cidr),), Masquerade()) for cidr in around.pod_cidrs),
    ]
    return Table("nat", {POSTROUTING: tuple(rules)}, _hook("POSTROUTING", POSTROUTING, "masquerade"))


def _filter(around: Surroundings) -> Table:
    """Accept, but leave to those who come behind us what they may want to refuse.

    A packet that still has a Service's address when it is forwarded is for a Service without endpoints, and
    one that belongs to no connection would reset somebody's: the service proxy deals with both.
    """
    rules = [
        Rule((InState(frozenset({CtState.INVALID})),), Verdict.RETURN),
        *(Rule((Destination(cidr),), Verdict.RETURN) for cidr in around.service_cidrs),
        *(
            Rule((match,), Verdict.ACCEPT)
            for cidr in around.pod_cidrs
            for match in (Source(cidr), Destination(cidr))
        ),
    ]
    return Table("filter", {FORWARD: tuple(rules)}, _hook("FORWARD", FORWARD, "forward pods"))


def _raw(around: Surroundings) -> Table:
    """Close the tunnel port to pods: of this node, of other nodes, and through the tunnel itself.

    Pods may use the same port among themselves, so only nodes are closed: addresses of this machine (the
    tunnel end's own is inside the cluster's range) and all that is outside the cluster's ranges.
    """
    to_port = DestinationPort(Protocol.UDP, around.vxlan_port)
    rules = [
        rule
        for ifname in around.pod_ifnames
        for rule in (
            Rule((InInterface(ifname), to_port, DestinationKind(AddressKind.LOCAL)), Verdict.DROP),
            *(
                Rule((InInterface(ifname), to_port, Destination(cidr)), Verdict.RETURN)
                for cidr in around.cluster_cidrs
            ),
            Rule((InInterface(ifname), to_port), Verdict.DROP),
        )
    ]
    return Table("raw", {GUARD: tuple(rules)}, _hook("PREROUTING", GUARD, "pods speak no VXLAN"))


def _hook(chain: str, own: str, why: str) -> dict[str, tuple[Rule, ...]]:
    return {chain: (Rule((Comment.of(f"kubenet: {why}"),), Jump(own)),)}
