"""How much history is kept: a pure rule, and the loop that asks the store to forget the rest.

Source: kube-apiserver compacts every 5 minutes; kine keeps at least 1000 revisions.
"""

import logging
from collections import deque
from dataclasses import dataclass

from kubenet.clock import Clock
from kubenet.store.base import Store, StoreFailed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """What a watch can count on: both hold, whichever keeps more."""

    keep_s: float = 300.0
    keep_revisions: int = 1000
    check_every_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Which revision the store had reached at a moment."""

    monotonic_s: float
    revision: int


def forgettable(samples: "deque[Sample]", current: Sample, rule: Retention) -> int:
    """Return the newest revision that may be compacted; 0 if none. Samples are in order of time."""
    old = [sample.revision for sample in samples if current.monotonic_s - sample.monotonic_s >= rule.keep_s]
    return max(0, min(max(old, default=0), current.revision - rule.keep_revisions))


async def run_retention(store: Store, clock: Clock, rule: Retention) -> None:
    """Compact for ever."""
    samples: deque[Sample] = deque()
    compacted = 0
    while True:
        now = Sample(clock.monotonic(), await store.revision())
        samples.append(now)
        target = forgettable(samples, now, rule)
        while samples and samples[0].revision <= target:
            samples.popleft()
        if target > compacted:
            try:
                await store.compact(target)
                compacted = target
            except StoreFailed as error:
                log.warning("store: cannot compact to revision %d: %s", target, error)
        await clock.sleep(rule.check_every_s)
