"""What the server counts, in the text form that Prometheus reads. *Pure.*

Names and labels are kube-apiserver's, so that its dashboards show something.

Source: Prometheus documentation, "Text-based format".
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

Labels = tuple[tuple[str, str], ...]


class Histogram:
    """How often something took how long."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self._sum_s = 0.0

    def add(self, taken_s: float) -> None:
        self._counts[bisect_left(BUCKETS_S, taken_s)] += 1
        self._sum_s += taken_s

    def lines(self, name: str, labels: Labels) -> Iterator[str]:
        reached = 0
        for limit_s, count in zip((*BUCKETS_S, float("inf")), self._counts, strict=True):
            reached += count
            shown = "+Inf" if limit_s == float("inf") else f"{limit_s:g}"
            yield f"{name}_bucket{_braces((*labels, ('le', shown)))} {reached}"
        yield f"{name}_sum{_braces(labels)} {self._sum_s:g}"
        yield f"{name}_count{_braces(labels)} {reached}"


@dataclass(slots=True)
class Metrics:
    """The server's counters; changed by the event loop alone."""

    requests: Counter[Labels] = field(default_factory=Counter)
    durations: dict[Labels, Histogram] = field(default_factory=dict)
    store: dict[Labels, Histogram] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)  # readOnly, mutating, longRunning
    refused: int = 0

    def request(self, verb: str, resource: str, code: int, taken_s: float | None) -> None:
        """Count a request that has been answered; ``taken_s`` None for one that stays open."""
        self.requests[("code", str(code)), ("resource", resource), ("verb", verb)] += 1
        if taken_s is not None:
            labels = (("resource", resource), ("verb", verb))
            self.durations.setdefault(labels, Histogram()).add(taken_s)

    def stored(self, operation: str, taken_s: float) -> None:
        """Count a write of the store."""
        self.store.setdefault((("operation", operation),), Histogram()).add(taken_s)

    def text(self, objects: Iterable[tuple[str, int]], watches: int) -> str:
        """Return everything; ``objects`` is how many are kept of each resource."""
        lines = [
            *_family("apiserver_request_total", "counter", self.requests.items()),
            *_histograms("apiserver_request_duration_seconds", self.durations),
            *_histograms("apiserver_storage_duration_seconds", self.store),
            *_family(
                "apiserver_current_inflight_requests",
                "gauge",
                (((("request_kind", kind),), self.in_flight[kind]) for kind in ("mutating", "readOnly")),
            ),
            *_family("apiserver_longrunning_requests", "gauge", [((), self.in_flight["longRunning"])]),
            *_family("apiserver_registered_watchers", "gauge", [((), watches)]),
            *_family("apiserver_rejected_requests_total", "counter", [((), self.refused)]),
            *_family(
                "apiserver_storage_objects",
                "gauge",
                (((("resource", resource),), count) for resource, count in objects),
            ),
        ]
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, samples: Iterable[tuple[Labels, int]]) -> Iterator[str]:
    yield f"# TYPE {name} {kind}"
    for labels, value in sorted(samples):
        yield f"{name}{_braces(labels)} {value}"


def _histograms(name: str, histograms: dict[Labels, Histogram]) -> Iterator[str]:
    yield f"# TYPE {name} histogram"
    for labels in sorted(histograms):
        yield from histograms[labels].lines(name, labels)


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
