"""Poke, and one sync at a time follows: the loop inside every daemon.

Pokes collapse: any number of them during a sync cause exactly one more. A sync that raises ``KubenetError``
is tried again after a delay that doubles; any other exception is a bug and ends the daemon.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kubenet.clock import Clock, SystemClock
from kubenet.errors import KubenetError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a reconciler may run, in seconds."""

    min_interval_s: float = 0.0  # between the end of one sync and the start of the next
    resync_s: float | None = None  # sync at least this often, poked or not
    retry_first_s: float = 0.05
    retry_most_s: float = 30.0

    def retry_delay_s(self, failures: int) -> float:
        """Return how long to wait after the ``failures``-th failure in a row (1, 2, ...)."""
        return float(min(self.retry_most_s, self.retry_first_s * 2 ** min(failures - 1, 20)))


class Reconciler:
    """Runs ``sync`` whenever it was poked, never twice at once."""

    def __init__(
        self, name: str, sync: Callable[[], Awaitable[None]], pace: Pace = Pace(), clock: Clock | None = None
    ) -> None:
        self._name = name
        self._sync = sync
        self._pace = pace
        self._clock = clock or SystemClock()
        self._poked = asyncio.Event()
        self.failures = 0

    def poke(self) -> None:
        """Ask for a sync. Cheap; call it for every event."""
        self._poked.set()

    async def run(self) -> None:
        """Sync for ever; ends only by cancellation or a bug."""
        while True:
            await self._wait()
            self._poked.clear()
            try:
                await self._sync()
            except KubenetError as error:
                self.failures += 1
                delay_s = self._pace.retry_delay_s(self.failures)
                log.warning(
                    "%s: sync failed, try %d, again in %.2g s: %s", self._name, self.failures, delay_s, error
                )
                await self._clock.sleep(delay_s)
                self._poked.set()
            else:
                self.failures = 0
                if self._pace.min_interval_s:
                    await self._clock.sleep(self._pace.min_interval_s)

    async def _wait(self) -> None:
        try:
            # Not wait_for: in Python 3.11 it swallows a cancellation that meets the end of the wait.
            async with asyncio.timeout(self._pace.resync_s):
                await self._poked.wait()
        except TimeoutError:
            return
