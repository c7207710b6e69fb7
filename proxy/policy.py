"""Which endpoints serve which traffic, seen from one node. *Pure.*

Three kinds of traffic reach a service port on a node. Traffic to the cluster address follows the internal
policy. Traffic from outside to a node port follows the external policy. Traffic from pods and from the node
itself to a node port is let through to the whole cluster even where the external policy is Local, since it
loses nothing by it (the short circuit).

Each policy draws on a pool: Cluster on the usable endpoints anywhere, Local on those of this node. An
endpoint is usable when it is ready; when a pool has no ready endpoint, those that still serve while they
terminate are better than none.

Source: Kubernetes "Virtual IPs and Service Proxies", "Topology Aware Routing"; KEP-1669, KEP-2086, KEP-4444.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from proxy.ports import Endpoint, ServicePort, TrafficPolicy
from proxy.weights import places


class Refusal(Enum):
    """What happens to traffic that no endpoint is there for."""

    REJECT = "reject"  # nobody serves anywhere: tell the client at once
    DROP = "drop"  # another node could: let a load balancer find out


Way: TypeAlias = TrafficPolicy | Refusal
"""The pool that traffic goes to, or why it goes nowhere."""


@dataclass(frozen=True, slots=True)
class Locality:
    """Where we are."""

    node_name: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class ServingPort:
    """A service port with its pools, and what each kind of traffic to it gets.

    A pool that no traffic of this service port can reach is empty. An endpoint stands in it as often as its
    weight says.
    """

    port: ServicePort
    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    internal: Way
    external: Way  # from outside; DROP still lets pods and the node itself through to the cluster

    def pool(self, way: Way) -> tuple[Endpoint, ...]:
        """Return the endpoints behind ``way``; none behind a refusal."""
        match way:
            case TrafficPolicy.CLUSTER:
                return self.cluster
            case TrafficPolicy.LOCAL:
                return self.local
        return ()

    @property
    def short_circuit(self) -> Way:
        """What pods and the node itself get from a node port."""
        return TrafficPolicy.CLUSTER if self.cluster else Refusal.REJECT

    @property
    def reachable(self) -> tuple[Endpoint, ...]:
        """Every endpoint of a pool, in the order of the service port (row 38)."""
        used = {*self.cluster, *self.local}
        return tuple(endpoint for endpoint in self.port.endpoints if endpoint in used)


def serve(ports: Iterable[ServicePort], here: Locality) -> tuple[ServingPort, ...]:
    """Return what this node does for each of ``ports``, in their order."""
    return tuple(serve_port(port, here) for port in ports)


def serve_port(port: ServicePort, here: Locality) -> ServingPort:
    """Return what this node does for ``port``."""
    local_policy = TrafficPolicy.LOCAL
    # Even the external policy Local needs the cluster's pool, for the short circuit.
    uses_cluster = port.internal_policy is TrafficPolicy.CLUSTER or port.external
    uses_local = port.internal_policy is local_policy or (
        port.external and port.external_policy is local_policy
    )
    near = [endpoint for endpoint in port.endpoints if endpoint.node_name == here.node_name]
    cluster = places(_usable(port.endpoints, _near_enough(port.endpoints, here))) if uses_cluster else ()
    local = places(_usable(near)) if uses_local else ()
    anywhere = bool(cluster or _usable(port.endpoints))
    return ServingPort(
        port,
        cluster,
        local,
        internal=_way(port.internal_policy, cluster, local, anywhere),
        external=_way(port.external_policy, cluster, local, anywhere),
    )


def _way(
    policy: TrafficPolicy, cluster: Sequence[Endpoint], local: Sequence[Endpoint], anywhere: bool
) -> Way:
    if not anywhere:
        return Refusal.REJECT
    pool = local if policy is TrafficPolicy.LOCAL else cluster
    return policy if pool else Refusal.DROP


def _usable(
    endpoints: Sequence[Endpoint], wanted: Callable[[Endpoint], bool] = lambda _: True
) -> tuple[Endpoint, ...]:
    """Return the ready endpoints that are ``wanted``; without any, all that serve while they terminate."""
    ready = tuple(endpoint for endpoint in endpoints if endpoint.ready and wanted(endpoint))
    if isinstance(endpoints, tuple) and len(ready) == len(endpoints):
        return endpoints  # the same, held once
    return ready or tuple(endpoint for endpoint in endpoints if endpoint.serving and endpoint.terminating)


def _near_enough(endpoints: Sequence[Endpoint], here: Locality) -> Callable[[Endpoint], bool]:
    """Return what the hints ask for: this node, else this zone, else nothing.

    Hints count only if every ready endpoint carries one of the kind, so that a cluster halfway through a
    change never leaves endpoints without traffic, and only if one of them is meant for us.
    """
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    if _all_hinted([endpoint.node_hints for endpoint in ready], here.node_name):
        return lambda endpoint: here.node_name in endpoint.node_hints
    if _all_hinted([endpoint.zone_hints for endpoint in ready], here.zone):
        return lambda endpoint: here.zone in endpoint.zone_hints
    return lambda _: True


def _all_hinted(hints: Sequence[frozenset[str]], us: str) -> bool:
    return bool(us) and all(hints) and any(us in names for names in hints)
