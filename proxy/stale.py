"""Which UDP flows the kernel has to forget after a change. *Pure.*

The nat table sees the first packet of a flow only; the rest follows conntrack. A UDP client that keeps its
socket would go on talking to an endpoint that is gone, or to nobody if it began before there was one. TCP
needs no help: such a connection is reset and made anew.

A flow is left alone as long as it goes to an endpoint that still serves, also one that policy or topology no
longer choose, so a restart cuts nothing.

Source: conntrack(8); Kubernetes issues 19029, 122740, 139628.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from kubenet.model.protocol import Protocol
from proxy.policy import ServingPort
from proxy.ports import IPAddress, ServicePortName, parse_ip

_FIELD = re.compile(r"\b(src|dst|sport|dport)=(\S+)")

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


def read_flows(text: str) -> frozenset[Flow]:
    """Return the flows in the output of ``conntrack -L``; lines that say something else are skipped.

    An entry prints its addresses twice: as the client sent them, and as the answer comes back.
    """
    flows = set()
    for line in text.splitlines():
        fields = _FIELD.findall(line)
        if [name for name, _ in fields] != ["src", "dst", "sport", "dport"] * 2:
            continue
        destination, answering = parse_ip(fields[1][1]), parse_ip(fields[4][1])
        if destination and answering:
            flows.add(Flow(destination, int(fields[3][1]), answering, int(fields[6][1])))
    return frozenset(flows)


def stale_flows(
    flows: Iterable[Flow], serving: Sequence[ServingPort], node_ips: Collection[IPAddress] = ()
) -> frozenset[Flow]:
    """Return the flows to a service port that no endpoint of it answers.

    ``node_ips`` are the node's own addresses: only there does an untranslated flow to a node port concern us.
    """
    ports = [each.port for each in serving if each.port.protocol is Protocol.UDP]
    by_address = {(port.cluster_ip, port.port): port for port in ports}
    by_node_port = {port.node_port: port for port in ports if port.node_port}
    stale = set()
    for flow in flows:
        port = by_address.get((flow.destination, flow.port))
        if port is None and (flow.translated or flow.destination in node_ips):
            port = by_node_port.get(flow.port)
        if port is None:
            continue
        alive = {endpoint.socket for endpoint in port.endpoints if endpoint.ready or endpoint.serving}
        # Without any endpoint, an untranslated flow is one that is being refused: nothing to forget.
        if (flow.answering, flow.answering_port) not in alive and (alive or flow.translated):
            stale.add(flow)
    return frozenset(stale)


def udp_endpoints(serving: Iterable[ServingPort]) -> dict[ServicePortName, frozenset[Socket]]:
    """Return who serves each UDP service port: flows can only become stale when this changes."""
    return {
        each.port.name: frozenset(e.socket for e in each.port.endpoints if e.ready or e.serving)
        for each in serving
        if each.port.protocol is Protocol.UDP
    }
