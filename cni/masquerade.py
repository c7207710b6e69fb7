"""The packet filter rules of one node's pod network, as values. *Pure.*

- nat: what a pod sends to somewhere outside the cluster leaves with the node's own address, because nobody
  out there knows the way to a pod; but for the ranges that the administrator says need no translation.
- filter: forwarding from and to the pods of this node is allowed, also where the administrator's policy for
  the FORWARD chain is to drop.
- raw: a pod must not speak VXLAN to a node. A tunnel end believes whoever sends to its port, so a plain UDP
  socket in a pod could otherwise forge packets of any other pod, on every node.

Source: iptables-extensions(8); RFC 7348 section 7 for the last.
"""

from collections.abc import Iterable
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
    TableWrite,
    Verdict,
)
from kubenet.model.iptables_save import SavedTable, read_rule
from kubenet.model.links import IPNetwork
from kubenet.model.protocol import Protocol

POSTROUTING = "KUBENET-POSTROUTING"
FORWARD = "KUBENET-FORWARD"
GUARD = "KUBENET-GUARD"

_PLACES = {  # by table: the chain of everybody's, ours, and what for
    "nat": ("POSTROUTING", POSTROUTING, "masquerade"),
    "filter": ("FORWARD", FORWARD, "forward pods"),
    "raw": ("PREROUTING", GUARD, "pods speak no VXLAN"),
}
TABLES = tuple(_PLACES)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rules of a node depend on. Ranges of the cluster are reached with the pod's own address."""

    pod_cidrs: tuple[IPNetwork, ...]  # of this node
    cluster_cidrs: tuple[IPNetwork, ...]  # of all pods
    service_cidrs: tuple[IPNetwork, ...]
    vxlan_port: int
    # Where packets of pods come in, as iptables writes it: all host ends (and the tunnel), or the bridge.
    pod_ifnames: tuple[str, ...] = ("k+",)
    plain_cidrs: tuple[IPNetwork, ...] = ()  # outside, but reached with the pod's own address


def compile_tables(around: Surroundings, family: Family) -> tuple[Table, ...]:
    """Return all that the node's tables of one family must hold; nothing if it has no pods of that family."""
    pod_cidrs, cluster_cidrs = _of(family, around.pod_cidrs), _of(family, around.cluster_cidrs)
    # Pods of one node keep their addresses among themselves, also of a family that the cluster's lack.
    own = tuple(cidr for cidr in pod_cidrs if not is_within(cidr, cluster_cidrs))
    here = replace(
        around,
        pod_cidrs=pod_cidrs,
        cluster_cidrs=(*cluster_cidrs, *own),
        service_cidrs=_of(family, around.service_cidrs),
        plain_cidrs=_of(family, around.plain_cidrs),
    )
    return (_nat(here), _filter(here), _raw(here)) if here.pod_cidrs else ()


def is_within(cidr: IPNetwork, ranges: Iterable[IPNetwork]) -> bool:
    """Whether all of ``cidr`` is in one of ``ranges``."""
    first, last = cidr.network_address, cidr.broadcast_address
    return any(first in each and last in each for each in ranges)


def withdrawal(name: str, saved: SavedTable | None) -> TableWrite:
    """Return what takes all of ours out of a table: the chain, and the ways into it."""
    chain, own, why = _PLACES[name]
    have = saved.chains if saved else {}
    (hook,) = _hook(chain, own, why)[chain]
    ways = sum(read_rule(line) == hook for line in have.get(chain, ()))
    return TableWrite(name, removed=[own] if own in have else [], withdrawn=[(chain, hook)] * ways)


def is_ours(chain: str) -> bool:
    """Whether a chain is one of these; other KUBENET chains may belong to other parts of kubenet."""
    return chain in (POSTROUTING, FORWARD, GUARD)


def _of(family: Family, cidrs: tuple[IPNetwork, ...]) -> tuple[IPNetwork, ...]:
    return tuple(cidr for cidr in cidrs if cidr.version == family)


def _nat(around: Surroundings) -> Table:
    inside = dict.fromkeys(
        (*around.cluster_cidrs, *around.service_cidrs, *sorted(around.plain_cidrs, key=str))
    )
    if any(not cidr.prefixlen for cidr in inside):  # all there is: nothing is translated
        return Table("nat", {POSTROUTING: ()}, _hook(*_PLACES["nat"]))
    rules = [
        *(Rule((Destination(cidr),), Verdict.RETURN) for cidr in inside),
        Rule((DestinationKind(AddressKind.MULTICAST),), Verdict.RETURN),
        *(Rule((Source(cidr),), Masquerade()) for cidr in around.pod_cidrs),
    ]
    return Table("nat", {POSTROUTING: tuple(rules)}, _hook(*_PLACES["nat"]))


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
    return Table("filter", {FORWARD: tuple(rules)}, _hook(*_PLACES["filter"]))


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
    return Table("raw", {GUARD: tuple(rules)}, _hook(*_PLACES["raw"]))


def _hook(chain: str, own: str, why: str) -> dict[str, tuple[Rule, ...]]:
    return {chain: (Rule((Comment.of(f"kubenet: {why}"),), Jump(own)),)}
