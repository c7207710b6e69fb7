"""What the proxy counts, as Prometheus reads it and under kube-proxy's names. *Pure.*

Source: Prometheus "Exposition formats", text format 0.0.4; Kubernetes metrics reference (kube-proxy).
"""

import math
import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from proxy.ports import Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

Labels = tuple[str, ...]

# From a millisecond to 16 s, doubling.
SYNC_BUCKETS_S = tuple(0.001 * 2**power for power in range(15))
# kube-proxy's own: fine below a minute, then coarse up to five.
PROGRAMMING_BUCKETS_S = (
    0.25,
    0.5,
    *map(float, range(1, 60)),
    *map(float, range(60, 121, 5)),
    150.0,
    180.0,
    240.0,
    300.0,
)


class Metric:
    """One name with a number for each value of its labels."""

    kind = "untyped"

    def __init__(self, name: str, help_: str, labels: Labels = ()) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a metric")
        self.name = name
        self._help = help_
        self._labels = labels
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def value(self, *labels: str) -> float:
        """Return the number for ``labels``; 0 if there was none yet."""
        return self._values.get(labels, 0.0)

    def labels(self) -> Collection[Labels]:
        """Return what there are numbers for."""
        return tuple(self._values)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the text format."""
        yield f"# HELP {self.name} {self._help.translate(_ESCAPES)}"
        yield f"# TYPE {self.name} {self.kind}"
        yield from self._samples()

    def _samples(self) -> Iterator[str]:
        for labels, number in sorted(self._values.items()):
            yield f"{self.name}{_braces(self._labels, labels)} {_number(number)}"


class Counter(Metric):
    """A number that only grows."""

    kind = "counter"

    def __init__(self, name: str, help_: str, labels: Labels = ()) -> None:
        super().__init__(name, help_, labels)
        self._followed: dict[Labels, float] = {}

    def add(self, amount: float = 1, *labels: str) -> None:
        if amount < 0:
            raise ValueError(f"{self.name} does not shrink")
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def reach(self, number: float, *labels: str) -> None:
        """Follow somebody else's counter, which says ``number`` now and may have started anew."""
        before = self._followed.get(labels, 0.0)
        self._followed[labels] = number
        self.add(number - before if number >= before else number, *labels)

    def keep(self, labels: Collection[Labels]) -> None:
        """Forget all numbers but those for ``labels``: what they were about is gone."""
        for known in (self._values, self._followed):
            for gone in known.keys() - set(labels):
                del known[gone]


class Gauge(Metric):
    """A number that goes up and down."""

    kind = "gauge"

    def set(self, number: float, *labels: str) -> None:
        self._values[labels] = number

    def add(self, amount: float, *labels: str) -> None:
        self._values[labels] = self._values.get(labels, 0.0) + amount


class Histogram(Metric):
    """How often a number was at most so large."""

    kind = "histogram"

    def __init__(
        self, name: str, help_: str, labels: Labels = (), buckets: Sequence[float] = SYNC_BUCKETS_S
    ) -> None:
        super().__init__(name, help_, labels)
        self._buckets = tuple(buckets)
        self._counts: dict[Labels, list[int]] = {}
        self._values = {}  # the sums

    def observe(self, number: float, *labels: str) -> None:
        counts = self._counts.setdefault(labels, [0] * (len(self._buckets) + 1))
        counts[bisect_left(self._buckets, number)] += 1
        self._values[labels] = self._values.get(labels, 0.0) + number

    def count(self, *labels: str) -> int:
        """Return how many numbers there were."""
        return sum(self._counts.get(labels, ()))

    def _samples(self) -> Iterator[str]:
        for labels, counts in sorted(self._counts.items()):
            total = 0
            for bound, count in zip((*self._buckets, math.inf), counts, strict=True):
                total += count
                where = _braces((*self._labels, "le"), (*labels, _number(bound)))
                yield f"{self.name}_bucket{where} {total}"
            where = _braces(self._labels, labels)
            yield f"{self.name}_sum{where} {_number(self._values[labels])}"
            yield f"{self.name}_count{where} {total}"


def _braces(names: Labels, values: Labels) -> str:
    pairs = (f'{name}="{value.translate(_ESCAPES)}"' for name, value in zip(names, values, strict=True))
    return f"{{{','.join(pairs)}}}" if names else ""


def _number(number: float) -> str:
    if math.isinf(number):
        return "+Inf"
    return str(int(number)) if number == int(number) else repr(number)


def render(metrics: Sequence[Metric]) -> str:
    """Return all metrics as one page."""
    return "".join(f"{line}\n" for metric in metrics for line in metric.lines())


_FAMILY = ("ip_family",)
_SERVICE_PORT = ("ip_family", "namespace", "service", "port", "protocol")


class ProxyMetrics:
    """All that the proxy tells about itself. Cheap to count; read by another thread at any time."""

    def __init__(self) -> None:
        rules = "kubeproxy_sync_proxy_rules"
        self.sync_s = Histogram(f"{rules}_duration_seconds", "Time to sync the rules.", _FAMILY)
        self.full_sync_s = Histogram(
            "kubeproxy_sync_full_proxy_rules_duration_seconds",
            "Time to sync the rules when the kernel's state had to be read first.",
            _FAMILY,
        )
        self.partial_sync_s = Histogram(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds",
            "Time to sync the rules when the kernel's state was known.",
            _FAMILY,
        )
        self.last_sync_s = Gauge(f"{rules}_last_timestamp_seconds", "When rules were last synced.", _FAMILY)
        self.last_queued_s = Gauge(
            f"{rules}_last_queued_timestamp_seconds", "When a sync was last asked for.", _FAMILY
        )
        self.programming_s = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "Time from the change of a Service or Pod to the rules that follow it.",
            _FAMILY,
            PROGRAMMING_BUCKETS_S,
        )
        self.endpoint_changes_pending = Gauge(
            f"{rules}_endpoint_changes_pending", "EndpointSlice changes not synced yet.", _FAMILY
        )
        self.endpoint_changes = Counter(
            f"{rules}_endpoint_changes_total", "EndpointSlice changes seen.", _FAMILY
        )
        self.service_changes_pending = Gauge(
            f"{rules}_service_changes_pending", "Service changes not synced yet.", _FAMILY
        )
        self.service_changes = Counter(f"{rules}_service_changes_total", "Service changes seen.", _FAMILY)
        self.iptables_total = Gauge(
            f"{rules}_iptables_total", "Rules of ours in a table.", ("table", *_FAMILY)
        )
        self.iptables_last = Gauge(
            f"{rules}_iptables_last", "Rules of a table written by the last sync.", ("table", *_FAMILY)
        )
        self.restore_failures = Counter(
            f"{rules}_iptables_restore_failures_total", "Writes that iptables refused.", _FAMILY
        )
        self.partial_restore_failures = Counter(
            f"{rules}_iptables_partial_restore_failures_total",
            "Writes of changed chains alone that iptables refused.",
            _FAMILY,
        )
        self.nftables_failures = Counter(
            f"{rules}_nftables_sync_failures_total", "Writes that nftables refused.", _FAMILY
        )
        self.nftables_cleanup_failures = Counter(
            f"{rules}_nftables_cleanup_failures_total", "Removals that nftables refused.", _FAMILY
        )
        self.no_local_endpoints = Gauge(
            f"{rules}_no_local_endpoints_total",
            "Service ports with a policy Local and no endpoint here.",
            ("traffic_policy", *_FAMILY),
        )
        self.healthz = Counter("kubeproxy_proxy_healthz_total", "Answers of /healthz.", ("code",))
        self.livez = Counter("kubeproxy_proxy_livez_total", "Answers of /livez.", ("code",))
        self.flows_s = Histogram(
            "kubeproxy_conntrack_reconciler_sync_duration_seconds", "Time to look for stale flows.", _FAMILY
        )
        self.flows_deleted = Counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total", "Stale flows forgotten.", _FAMILY
        )
        self.refused = Gauge(
            "kubenet_proxy_refused_objects",
            "Parts of objects that are not proxied, for a reason that is logged.",
        )
        self.iptables_invalid = Counter(
            "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
            "Packets that iptables dropped because they belong to no connection.",
        )
        self.invalid = Counter(
            "kubenet_proxy_ct_state_invalid_dropped_packets_total",
            "Packets that were dropped because they belong to no connection.",
            _FAMILY,
        )
        self.endpoint_connections = Counter(
            "kubenet_proxy_endpoint_connections_total",
            "Connections that this node has sent to an endpoint (--connection-metrics).",
            (*_SERVICE_PORT, "endpoint"),
        )
        self.service_connections = Counter(
            "kubenet_proxy_service_connections_total",
            "Connections that this node has sent to the endpoints of a service port (--connection-metrics).",
            _SERVICE_PORT,
        )
        self.drift = Counter("kubenet_proxy_drift_total", "Chains that somebody else changed.", _FAMILY)

    def page(self) -> str:
        """Return everything in the text format."""
        return render([each for each in vars(self).values() if isinstance(each, Metric)])


def family_name(family: Family) -> str:
    """Return a family as the label ip_family spells it."""
    return f"IPv{family}"


def trigger_time(annotations: Mapping[str, str]) -> datetime | None:
    """Return when what an EndpointSlice tells of happened (row 63); None if it does not say."""
    text = annotations.get(TRIGGER_ANNOTATION, "")
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else None
