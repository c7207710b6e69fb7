"""Keys waiting for work: each once, never twice at a time, failures later and later.

``KeySchedule`` decides and is *pure* (time is an argument); ``WorkQueue`` waits for it.

Source: client-go util/workqueue (rate limiting queue).
"""

import asyncio
import heapq
from collections import deque
from dataclasses import dataclass, field

from kubenet.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class RetryPace:
    """client-go's DefaultControllerRateLimiter."""

    first_s: float = 0.005
    most_s: float = 1000.0
    per_second: float = 10.0  # over all keys together
    burst: int = 100

    def delay_s(self, failures: int) -> float:
        """Return the wait of one key after its ``failures``-th failure in a row (1, 2, ...)."""
        return float(min(self.most_s, self.first_s * 2 ** min(failures - 1, 60)))


@dataclass(slots=True)
class KeySchedule:
    """Which key is due, which is being worked on, which must wait."""

    pace: RetryPace = field(default_factory=RetryPace)
    _ready: deque[str] = field(default_factory=deque)
    _waiting: set[str] = field(default_factory=set)  # in _ready, or to be put there by done()
    _running: set[str] = field(default_factory=set)
    _delayed: list[tuple[float, str]] = field(default_factory=list)  # a heap
    _due_s: dict[str, float] = field(default_factory=dict)  # the soonest due time of a delayed key
    _failures: dict[str, int] = field(default_factory=dict)
    _tokens_at_s: float = float("-inf")  # when the bucket will have been refilled to the brim

    def add(self, key: str) -> None:
        """Ask for work on ``key``; one that is being worked on is run once more afterwards."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._running:
            self._ready.append(key)

    def add_at(self, key: str, at_s: float) -> None:
        """Add ``key`` at ``at_s``; of several times the soonest counts."""
        if at_s < self._due_s.get(key, float("inf")):
            self._due_s[key] = at_s
            heapq.heappush(self._delayed, (at_s, key))

    def retry(self, key: str, now_s: float) -> float:
        """Add ``key`` again after a failure, later each time; return the wait."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay_s = max(self.pace.delay_s(failures), self._take_token(now_s))
        self.add_at(key, now_s + delay_s)
        return delay_s

    def forget(self, key: str) -> None:
        """Count the failures of ``key`` from nought again."""
        self._failures.pop(key, None)

    def failures(self, key: str) -> int:
        """Return how often ``key`` has failed in a row."""
        return self._failures.get(key, 0)

    def take(self, now_s: float) -> str | None:
        """Return a key to work on, or None; ``done`` must follow."""
        while self._delayed and self._delayed[0][0] <= now_s:
            due_s, key = heapq.heappop(self._delayed)
            if self._due_s.get(key) == due_s:  # else a sooner time has overtaken it
                del self._due_s[key]
                self.add(key)
        if not self._ready:
            return None
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._running.add(key)
        return key

    def done(self, key: str) -> None:
        """Say that the work on ``key`` has ended, well or not."""
        if key not in self._running:
            return
        self._running.discard(key)
        if key in self._waiting:
            self._ready.append(key)

    def next_due_s(self) -> float | None:
        """Return when the next delayed key is due."""
        return self._delayed[0][0] if self._delayed else None

    @property
    def idle(self) -> bool:
        """Whether nothing is ready, running or delayed."""
        return not (self._ready or self._running or self._due_s)

    def _take_token(self, now_s: float) -> float:
        """Return how long until a token of the shared bucket is free, and take it."""
        full_s = self.pace.burst / self.pace.per_second
        self._tokens_at_s = max(self._tokens_at_s, now_s) + 1 / self.pace.per_second
        return max(0.0, self._tokens_at_s - full_s - now_s)


class WorkQueue:
    """A schedule that workers can wait on."""

    def __init__(self, pace: RetryPace = RetryPace(), clock: Clock | None = None) -> None:
        self._schedule = KeySchedule(pace)
        self._clock = clock or SystemClock()
        self._poked = asyncio.Event()
        self._closed = False

    def add(self, key: str) -> None:
        """Ask for work on ``key``. Ignored after ``shut_down``."""
        if not self._closed:
            self._schedule.add(key)
            self._poked.set()

    def add_after(self, key: str, delay_s: float) -> None:
        """Ask for work on ``key`` in ``delay_s`` seconds."""
        if not self._closed:
            self._schedule.add_at(key, self._clock.monotonic() + delay_s)
            self._poked.set()

    def retry(self, key: str) -> float:
        """Ask for work on ``key`` after a failure; return the wait."""
        if self._closed:
            return 0.0
        delay_s = self._schedule.retry(key, self._clock.monotonic())
        self._poked.set()
        return delay_s

    def forget(self, key: str) -> None:
        """Count the failures of ``key`` from nought again: call it after each success."""
        self._schedule.forget(key)

    def done(self, key: str) -> None:
        """Say that the work on ``key`` has ended: call it after each ``get``, whatever happened."""
        self._schedule.done(key)
        self._poked.set()

    def shut_down(self) -> None:
        """Take nothing new; what is ready is still given out, then ``get`` returns None."""
        self._closed = True
        self._poked.set()

    async def get(self) -> str | None:
        """Return the next key, waiting for one; None once shut down and drained."""
        while True:
            now_s = self._clock.monotonic()
            key = self._schedule.take(now_s)
            if key is not None:
                return key
            if self._closed:
                self._poked.set()  # so that every other worker wakes up too
                return None
            self._poked.clear()
            due_s = self._schedule.next_due_s()
            try:
                async with asyncio.timeout(None if due_s is None else max(0.0, due_s - now_s)):
                    await self._poked.wait()
            except TimeoutError:
                continue
