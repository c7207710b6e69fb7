"""Figures about everything that is served, kept up to date by changes alone. *Pure.*"""

from collections.abc import Mapping

from proxy.policy import ServingPort
from proxy.ports import ServicePortName, TrafficPolicy
from proxy.view import Changes
from proxy.vitals import ServiceHealth, service_healths

NO_LOCAL = ("internal", "external")  # the traffic policies, as the metric names them


class Totals:
    """Counts, and the service ports that load balancers ask about."""

    def __init__(self) -> None:
        self.endpoints = 0
        self.no_local = dict.fromkeys(
            NO_LOCAL, 0
        )  # service ports with a policy Local whose pool is elsewhere
        self._asked_about: dict[ServicePortName, ServingPort] = {}

    def count(self, changes: Changes) -> None:
        """Take in what has changed."""
        for name, (before, after) in changes.items():
            if before:
                self._add(before, -1)
                self._asked_about.pop(name, None)
            if after:
                self._add(after, 1)
                if after.port.health_check_node_port:
                    self._asked_about[name] = after

    def _add(self, each: ServingPort, sign: int) -> None:
        self.endpoints += sign * reachable_count(each)
        for policy, lacks in zip(NO_LOCAL, lacks_local(each), strict=True):
            self.no_local[policy] += sign * lacks

    def healths(self, node_name: str) -> Mapping[int, ServiceHealth]:
        """Return what load balancers are told, by health check node port."""
        asked = sorted(self._asked_about.values(), key=lambda each: each.port.name.sort_key)
        return service_healths(asked, node_name)


def reachable_count(each: ServingPort) -> int:
    """Return how many endpoints ``each`` leads to."""
    if not each.local or not each.cluster:
        return len(each.cluster) + len(each.local)
    return len({endpoint.socket for pool in (each.cluster, each.local) for endpoint in pool})


def lacks_local(each: ServingPort) -> tuple[bool, bool]:
    """Return whether a policy Local, internal and external, keeps endpoints elsewhere from serving."""
    local = TrafficPolicy.LOCAL
    elsewhere = bool(each.port.endpoints and not each.local)
    return (
        elsewhere and each.port.internal_policy is local,
        elsewhere and each.port.external and each.port.external_policy is local,
    )
