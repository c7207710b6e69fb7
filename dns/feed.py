"""Follows the cluster's objects and keeps the zone equal to them. *Pure*: events come in as calls.

Events only note what is in doubt; ``flush`` reads it, a bounded piece at a time, so that a list of a hundred
thousand objects never holds up a query for more than some milliseconds, and a burst of events of one Service
is read once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address

from dns import names
from dns.read import SliceRecords, read_own, read_slice, service_key, with_slices
from dns.service import ServiceKey, ServiceRecords
from dns.zone import Zone, ZoneConfig
from kubenet.model.objects import EndpointSlice, Namespace, Pod, Service

TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
MOST_TRIGGERS = 1000  # between two flushes

_FINISHED = ("Succeeded", "Failed")  # phases of pods whose addresses belong to nobody any more


@dataclass(frozen=True, slots=True)
class Flushed:
    """What a flush gave: the zone from now on, the Services that differ, and what is worth saying."""

    zone: Zone
    changed: tuple[ServiceKey, ...]
    ignored: tuple[str, ...]


class ClusterFeed:
    """The objects as last seen, and the zone they make."""

    def __init__(self, config: ZoneConfig, serial: int, *, some_namespaces: bool = False) -> None:
        self.zone = Zone(config, serial)
        self._some_namespaces = some_namespaces  # show only what is in a namespace that has been told
        self._services: dict[str, ServiceRecords] = {}  # without endpoints
        self._slices: dict[str, dict[str, EndpointSlice]] = {}  # by Service, by slice
        self._service_of: dict[str, str] = {}  # slice -> Service
        self._read: dict[str, tuple[EndpointSlice, SliceRecords]] = {}
        self._namespaces: set[bytes] = set()
        self._pods: dict[str, _Held] = {}
        self._dirty: dict[str, None] = {}  # Services in doubt, oldest doubt first
        self._complete = False
        self.triggered: list[str] = []  # when what changed endpoints of headless Services happened

    @property
    def dirty(self) -> bool:
        """Whether something waits for ``flush``."""
        return bool(self._dirty)

    def service(self, key: str, new: Service | None) -> None:
        """A Service is now ``new``; None: it is gone."""
        own = read_own(new, self.zone.config.naming) if new else None
        if own is None:
            self._services.pop(key, None)
        else:
            self._services[key] = own
        self._dirty[key] = None

    def endpoint_slice(self, key: str, new: EndpointSlice | None) -> None:
        """A slice is now ``new``; it may have changed its Service."""
        before = self._service_of.pop(key, "")
        if before:
            self._slices[before].pop(key)
            self._dirty[before] = None
            if not self._slices[before]:
                del self._slices[before]
        if new is None or not new.service_key:
            self._read.pop(key, None)
            return
        if trigger := new.metadata.annotations.get(TRIGGER_TIME):
            own = self._services.get(new.service_key)
            if own and own.headless and len(self.triggered) < MOST_TRIGGERS:
                self.triggered.append(trigger)
        self._service_of[key] = new.service_key
        self._slices.setdefault(new.service_key, {})[key] = new
        self._dirty[new.service_key] = None

    def namespace(self, key: str, new: Namespace | None) -> None:
        """A Namespace is now ``new``."""
        label = names.label_of(key)
        if label is None or (label in self._namespaces) == (new is not None):
            return
        self._namespaces ^= {label}
        if self._some_namespaces:
            self._dirty |= dict.fromkeys(each for each in self._services if each.startswith(f"{key}/"))
        self.zone = self.zone.with_namespace(label, exists=new is not None)

    def pod(self, key: str, new: Pod | None) -> None:
        """A pod is now ``new``; only a zone with verified pods needs to know."""
        before, after = self._pods.pop(key, None), _held(new) if new else None
        if after:
            self._pods[key] = after
        if before:
            self.zone = self.zone.with_pods(before.addresses, -1, own=before.own)
        if after:
            self.zone = self.zone.with_pods(after.addresses, 1, own=after.own)

    def complete(self) -> None:
        """All objects that exist have been told: once they are flushed, what is not there does not exist."""
        self._complete = True

    def flush(self, most: int = 500) -> Flushed:
        """Read what is in doubt, up to some ``most`` Services and endpoints."""
        changes: dict[ServiceKey, ServiceRecords | None] = {}
        ignored: list[str] = []
        work = 0
        while self._dirty and work < most:
            key = next(iter(self._dirty))
            del self._dirty[key]
            work += 1 + sum(len(each.endpoints or ()) for each in self._slices.get(key, {}).values())
            if (labels := service_key(key)) is None:
                ignored.append(f"{key}: not a name that DNS can tell")
                continue
            records = self._records(key)
            if self.zone.services.get(labels) != records:
                changes[labels] = records
            ignored += self._news(labels, records)
        self.zone = self.zone.with_services(changes)
        if self._complete and not self._dirty and not self.zone.synced:
            self.zone = replace(self.zone, synced=True)
        return Flushed(self.zone, tuple(changes), tuple(ignored))

    def _records(self, key: str) -> ServiceRecords | None:
        service = self._services.get(key)
        if service is None or not self._shows(key):
            return None
        slices = sorted(self._slices.get(key, {}).items())
        return with_slices(service, [self._slice(*each) for each in slices], self.zone.config.naming)

    def _shows(self, key: str) -> bool:
        return not self._some_namespaces or names.label_of(key.partition("/")[0]) in self._namespaces

    def _slice(self, key: str, new: EndpointSlice) -> SliceRecords:
        """Read a slice, or remember it: of fifty slices of a Service one changes at a time."""
        known = self._read.get(key)
        if known and known[0] is new:
            return known[1]
        records = read_slice(new, pod_names=self.zone.config.naming.pod_names)
        self._read[key] = (new, records)
        return records

    def _news(self, labels: ServiceKey, records: ServiceRecords | None) -> Iterable[str]:
        before = self.zone.services.get(labels)
        said = before.ignored if before else ()
        return [text for text in records.ignored if text not in said] if records else []


@dataclass(frozen=True, slots=True)
class _Held:
    """The addresses of a live pod, each with its namespace; ``own``: they are the pod's, not its node's."""

    addresses: tuple[tuple[bytes, bytes], ...]
    own: bool


def _held(pod: Pod) -> _Held | None:
    label = names.label_of(pod.metadata.namespace)
    if label is None or pod.status.phase in _FINISHED:
        return None
    texts = [each.ip for each in pod.status.pod_ips] or [pod.status.pod_ip]
    held: dict[bytes, None] = {}
    for text in texts:
        try:
            held[ip_address(text).packed] = None
        except ValueError:
            continue  # no address yet
    return _Held(tuple((label, packed) for packed in held), not pod.spec.host_network) if held else None
