"""Is this proxy well, and is its node fit for traffic? *Pure: time is an argument.*

A proxy is well as long as no change has waited too long for its sync. A node is fit for new traffic of load
balancers unless it is on its way out. Liveness is about the first alone, so that a node that is drained does
not have its proxy restarted.

Source: KEP-3836 (kube-proxy improved ingress connectivity reliability), KEP-3458; kube-proxy's /healthz.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from kubenet.clock import rfc3339_micro
from kubenet.model.objects import Node
from proxy.policy import ServingPort
from proxy.ports import Family

LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler"
WEIGHT_HEADER = "X-Load-Balancing-Endpoint-Weight"


@dataclass(slots=True)
class _FamilyState:
    waiting_since_s: float | None = None  # monotonic
    updated: datetime | None = None


class Vitals:
    """What /healthz and /livez tell."""

    def __init__(self, families: Sequence[Family], patience_s: float) -> None:
        self._patience_s = patience_s
        self._states = {family: _FamilyState() for family in families}
        self.node: Node | None = None

    def queued(self, now_s: float) -> None:
        """A change has come that waits for its sync."""
        for state in self._states.values():
            if state.waiting_since_s is None:
                state.waiting_since_s = now_s

    def updated(self, family: Family, began_s: float, moment: datetime) -> None:
        """A sync that began at ``began_s`` has ended well: what waited before that waits no more."""
        state = self._states[family]
        if state.waiting_since_s is not None and state.waiting_since_s <= began_s:
            state.waiting_since_s = None
        state.updated = moment

    def well(self, now_s: float) -> Mapping[Family, bool]:
        """Return which family's rules follow the cluster."""
        return {
            family: state.waiting_since_s is None or now_s - state.waiting_since_s < self._patience_s
            for family, state in self._states.items()
        }

    @property
    def node_eligible(self) -> bool:
        """Whether the node is to get new traffic."""
        if self.node is None:
            return True
        leaving = any(taint.key == LEAVING_TAINT for taint in self.node.spec.taints)
        return not leaving and self.node.metadata.deletion_timestamp is None

    def healthz(self, now_s: float, moment: datetime) -> tuple[int, bytes]:
        """Return status and body of /healthz."""
        return self._answer(now_s, moment, eligible=self.node_eligible)

    def livez(self, now_s: float, moment: datetime) -> tuple[int, bytes]:
        """Return status and body of /livez: it says the same, but counts on no node."""
        return self._answer(now_s, moment, eligible=True)

    def _answer(self, now_s: float, moment: datetime, *, eligible: bool) -> tuple[int, bytes]:
        well = self.well(now_s)
        healthy = eligible and all(well.values())
        updated = [state.updated for state in self._states.values() if state.updated]
        body = {
            "lastUpdated": _time(max(updated, default=None)),
            "currentTime": _time(moment),
            "nodeEligible": self.node_eligible,
            "healthy": healthy,
            "status": {
                f"IPv{family}": {
                    "lastUpdated": _time(state.updated),
                    "healthy": well[family],
                }
                for family, state in self._states.items()
            },
        }
        return (200 if healthy else 503), msgspec.json.encode(body)


def _time(moment: datetime | None) -> str:
    return rfc3339_micro(moment) if moment else ""


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """What a load balancer is told about one Service on this node (rows 56 and 57)."""

    namespace: str
    name: str
    local_endpoints: int  # ready ones: those that only serve while they terminate do not count

    def answer(self, *, proxy_well: bool) -> tuple[int, bytes]:
        """Return status and body."""
        body = {
            "service": {"namespace": self.namespace, "name": self.name},
            "localEndpoints": self.local_endpoints,
            "serviceProxyHealthy": proxy_well,
        }
        return (200 if self.local_endpoints and proxy_well else 503), msgspec.json.encode(body)


def service_healths(serving: Sequence[ServingPort], node_name: str) -> dict[int, ServiceHealth]:
    """Return what is to be told on which port. An endpoint counts once, however many ports it has."""
    found: dict[int, ServiceHealth] = {}
    local: dict[int, set[object]] = {}
    for port in (each.port for each in serving if each.port.health_check_node_port):
        number = port.health_check_node_port
        holder = found.setdefault(number, ServiceHealth(port.name.namespace, port.name.service, 0))
        if (holder.namespace, holder.name) != (port.name.namespace, port.name.service):
            continue  # two Services with one number: the first by name has it
        ips = {e.ip for e in port.endpoints if e.ready and e.node_name == node_name}
        local.setdefault(number, set()).update(ips)
    return {
        number: ServiceHealth(health.namespace, health.name, len(local.get(number, ())))
        for number, health in found.items()
    }
