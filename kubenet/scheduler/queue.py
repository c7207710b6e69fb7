"""The pods without a node: which is next, which must wait for what. *Pure*: time is an argument.

A pod is *ready*; or *parked*, since no node could take it, until something changes that may help; or
*delayed* after a failed write. The oldest ready pod is always next.

Source: kube-scheduler's scheduling queue (active, unschedulable and back-off queues).
"""

import heapq
from dataclasses import dataclass, field

FIRST_DELAY_S = 0.1
MOST_DELAY_S = 10.0


@dataclass(slots=True)
class SchedulingQueue:
    """Pods by ``namespace/name``, each in one place at a time."""

    _ages: dict[str, str] = field(default_factory=dict)  # when each pod was created
    _ready: set[str] = field(default_factory=set)
    _heap: list[tuple[str, str]] = field(default_factory=list)  # (created, key): may hold what has moved on
    _parked: set[str] = field(default_factory=set)
    _due_s: dict[str, float] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)

    def add(self, key: str, created: str) -> None:
        """Make a pod ready at once, wherever it was before."""
        self._parked.discard(key)
        self._due_s.pop(key, None)
        self._ages[key] = created
        self._make_ready(key)

    def remove(self, key: str) -> None:
        """Forget a pod: it has a node, or is gone."""
        self._parked.discard(key)
        self._ready.discard(key)
        for known in (self._ages, self._due_s, self._failures):
            known.pop(key, None)

    def take(self, now_s: float) -> str | None:
        """Return the oldest pod that is ready, and drop it from the queue; or None."""
        for key in [key for key, due_s in self._due_s.items() if due_s <= now_s]:
            del self._due_s[key]
            self._make_ready(key)
        while self._heap:
            _, key = heapq.heappop(self._heap)
            if key in self._ready:
                self._ready.discard(key)
                return key
        return None

    def park(self, key: str) -> None:
        """Keep a pod that no node could take until ``wake``."""
        if key in self._ages and key not in self._ready:
            self._parked.add(key)

    def wake(self) -> None:
        """Make all parked pods ready: something has changed that may help them."""
        for key in self._parked:
            self._make_ready(key)
        self._parked.clear()

    def retry(self, key: str, now_s: float) -> float:
        """Make a pod ready again later, each time twice as late; return the wait."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s = min(MOST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 20))
        if key in self._ages and key not in self._ready:
            self._parked.discard(key)
            self._due_s[key] = now_s + delay_s
        return delay_s

    def next_due_s(self) -> float | None:
        """Return when the next delayed pod becomes ready."""
        return min(self._due_s.values(), default=None)

    def _make_ready(self, key: str) -> None:
        if key not in self._ready:
            self._ready.add(key)
            heapq.heappush(self._heap, (self._ages[key], key))
