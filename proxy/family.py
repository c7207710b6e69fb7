"""One address family's way from objects to the kernel.

A change goes the short way: the view says which service ports changed, the backend writes what differs, and
only their flows are looked for. Where the kernel's state is not known (at the start, after a refusal, after
somebody else wrote) everything is compared with it; what was not done before a failure is done then.
"""

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from proxy.backend import Applied, Backend, Flows, StateUnknown
from proxy.policy import Locality
from proxy.ports import Family, NodeNetwork, Refused, ServicePortName
from proxy.totals import Totals
from proxy.track import ServiceObjects, TrackRules
from proxy.view import Changes, PortChange, View
from proxy.vitals import ServiceHealth

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """The Services that one sync is about; ``everything`` if there are no others."""

    objects: Collection[ServiceObjects]
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Synced:
    """What one sync of one family came to."""

    services: int
    endpoints: int
    applied: Applied
    forgotten: int  # kinds of stale UDP flows
    refused: frozenset[Refused]
    took_s: float = 0.0
    no_local: Mapping[str, int] = field(default_factory=dict)  # by traffic policy
    healths: Mapping[int, ServiceHealth] = field(default_factory=dict)  # by health check node port


class FamilySync:
    """Keeps one family in step. Calls block; one at a time."""

    def __init__(self, rules: TrackRules, here: Locality, backend: Backend, flows: Flows) -> None:
        self._view = View(rules, here)
        self._totals = Totals()
        self._flows = flows
        self._undone: dict[ServicePortName, PortChange] = {}  # worked out, and not yet in the kernel
        self.backend = backend
        self.family: Family = rules.family
        self.known = False  # whether the kernel held what we wanted when the last sync began
        self._known = False

    def move(self, here: Locality, network: NodeNetwork) -> None:
        """Be there from the next sync on (rows 18, 36). Costs a look at everything if that is elsewhere."""
        self.backend.move(network)
        if here != self._view.here:
            self._note(self._view.move(here))

    def sync(self, seen: Seen) -> Synced:
        """Make the kernel serve what the objects say. Raises KubenetError; the next call then catches up."""
        began_s = time.monotonic()
        self._note(self._view.replace(seen.objects) if seen.everything else self._view.update(seen.objects))
        applied = self._write()
        changes, self._undone = self._undone, {}
        forgotten = self._flows.forget(changes.values())
        return Synced(
            self._view.services,
            self._totals.endpoints,
            applied,
            forgotten,
            self._view.refused,
            time.monotonic() - began_s,
            self._totals.no_local,
            self._totals.healths(self._view.here.node_name),
        )

    def _note(self, changes: Changes) -> None:
        self._totals.count(changes)
        for name, change in changes.items():
            earlier = self._undone.get(name)
            self._undone[name] = PortChange(earlier.before, change.after) if earlier else change

    def _write(self) -> Applied:
        self.known, self._known = self._known, False
        applied = self._write_changes() if self.known else self.backend.apply(tuple(self._view.ports()))
        self._known = True
        return applied

    def _write_changes(self) -> Applied:
        try:
            return self.backend.apply_changed({name: each.after for name, each in self._undone.items()})
        except StateUnknown as unknown:
            log.warning("proxy: IPv%d: %s: comparing everything", self.family, unknown)
            return self.backend.apply(tuple(self._view.ports()))
