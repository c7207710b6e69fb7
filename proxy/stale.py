"""Which UDP flows the kernel has to forget after a change. *Pure.*

The nat table sees the first packet of a flow only; the rest follows conntrack. A UDP client that keeps its
socket would go on talking to an endpoint that is gone, or to nobody if it began before there was one. TCP
needs no help: such a connection is reset and made anew.

A flow is left alone as long as it goes to an endpoint that still serves, also one that policy or topology no
longer choose, so a restart cuts nothing.

Source: Kubernetes issues 19029, 122740, 139628.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from kubenet.model.protocol import Protocol
from proxy.policy import ServingPort
from proxy.ports import IPAddress

Socket = tuple[IPAddress, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """Where a client sent UDP packets to, and who answers for that."""

    destination: IPAddress
    port: int
    answering: IPAddress
    answering_port: int

    @property
    def translated(self) -> bool:
        """Whether the kernel sends it elsewhere than the client did."""
        return (self.destination, self.port) != (self.answering, self.answering_port)


@dataclass(slots=True)
class UdpFrontends:
    """Where UDP service ports answer, and who serves there. Flows can only become stale when this changes."""

    by_address: dict[Socket, frozenset[Socket]] = field(default_factory=dict)
    by_node_port: dict[int, frozenset[Socket]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.by_address)

    def change(self, before: "UdpFrontends", after: "UdpFrontends") -> None:
        """Hold ``after`` where ``before`` was."""
        for place in before.by_address:
            del self.by_address[place]
        for number in before.by_node_port:
            del self.by_node_port[number]
        self.add(after)

    def add(self, more: "UdpFrontends") -> None:
        """Hold ``more``, too."""
        self.by_address |= more.by_address
        self.by_node_port |= more.by_node_port


def udp_frontends(serving: Iterable[ServingPort]) -> UdpFrontends:
    """Return the UDP part of ``serving``. Endpoints that serve while they terminate count."""
    by_address: dict[Socket, frozenset[Socket]] = {}
    by_node_port: dict[int, frozenset[Socket]] = {}
    for port in (each.port for each in serving if each.port.protocol is Protocol.UDP):
        alive = frozenset(e.socket for e in port.endpoints if e.ready or e.serving)
        for ip in (port.cluster_ip, *port.external_addresses):
            by_address[ip, port.port] = alive
        if port.node_port:
            by_node_port[port.node_port] = alive
    return UdpFrontends(by_address, by_node_port)


def only_grew(before: UdpFrontends, after: UdpFrontends) -> bool:
    """Return whether nothing happened but that more endpoints serve where some did: no flow is stale then."""
    at_addresses = _only_grew(before.by_address, after.by_address)
    return at_addresses and _only_grew(before.by_node_port, after.by_node_port)


_K = TypeVar("_K")


def _only_grew(old: Mapping[_K, frozenset[Socket]], new: Mapping[_K, frozenset[Socket]]) -> bool:
    return old.keys() == new.keys() and all(alive and alive <= new[key] for key, alive in old.items())


def stale_flows(
    flows: Iterable[Flow],
    now: UdpFrontends,
    before: UdpFrontends | None = None,
    node_ips: Collection[IPAddress] = (),
) -> frozenset[Flow]:
    """Return the flows to a service port that no endpoint of it answers.

    ``before`` is what was served at the last look: a flow that was sent to what is no longer there, and goes
    somewhere else than it was sent to, is stale as well. Node ports are the node's own, on ``node_ips``.
    """
    earlier = before or UdpFrontends()
    return frozenset(flow for flow in flows if _is_stale(flow, now, earlier, node_ips))


def _is_stale(flow: Flow, now: UdpFrontends, before: UdpFrontends, node_ips: Collection[IPAddress]) -> bool:
    alive = _alive(flow, now, node_ips)
    if alive is None:
        return flow.translated and _alive(flow, before, node_ips) is not None
    # Without any endpoint, an untranslated flow is one that is being refused: nothing to forget.
    return (flow.answering, flow.answering_port) not in alive and bool(alive or flow.translated)


def _alive(flow: Flow, frontends: UdpFrontends, node_ips: Collection[IPAddress]) -> frozenset[Socket] | None:
    """Return who serves where the flow was sent to; None if that is no service port."""
    found = frontends.by_address.get((flow.destination, flow.port))
    if found is None and flow.destination in node_ips:
        found = frontends.by_node_port.get(flow.port)
    return found
