"""The loop around a pure controller: a key comes out of the queue, a decision is made, its writes are done.

A key is never worked on twice at a time. What fails is tried again, later each time; a refusal because
somebody else was faster (409) is no failure to speak of, only a decision to be made anew.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable

from kubenet.client.errors import Conflict, ObjectExists, ObjectNotFound
from kubenet.client.queue import RetryPace, WorkQueue
from kubenet.client.writer import Writer
from kubenet.clock import Clock
from kubenet.controllers.decision import Decision
from kubenet.errors import KubenetError
from kubenet.model.writes import Write

log = logging.getLogger(__name__)

WORKERS = 4
# The bucket of all keys together is for refusals that nothing but time cures; conflicts come in bursts.
PACE = RetryPace(per_second=100.0, burst=1000, most_s=60.0)


class ControlLoop:
    """Keys in, writes out."""

    def __init__(self, name: str, decide: Callable[[str], Decision], writer: Writer, clock: Clock) -> None:
        self.name = name
        self._decide = decide
        self._writer = writer
        self._queue = WorkQueue(PACE, clock)

    def add(self, *keys: str) -> None:
        """Have a look at these keys soon."""
        for key in keys:
            self._queue.add(key)

    async def run(self) -> None:
        """Work for ever; ends only by cancellation or a bug."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._work(), name=f"{self.name} {number}")

    async def _work(self) -> None:
        while (key := await self._queue.get()) is not None:
            try:
                await self._sync(key)
            finally:
                self._queue.done(key)

    async def _sync(self, key: str) -> None:
        try:
            decision = self._decide(key)
            await self._writer.carry_out(decision.writes)
        except (Conflict, ObjectExists, ObjectNotFound) as error:
            delay_s = self._queue.retry(key)
            log.debug("%s: %s: overtaken, again in %.3f s: %s", self.name, key, delay_s, error)
        except KubenetError as error:
            delay_s = self._queue.retry(key)
            log.warning("%s: %s: again in %.3g s: %s", self.name, key, delay_s, error)
        else:
            self._queue.forget(key)
            if decision.again_s is not None:
                self._queue.add_after(key, decision.again_s)
            if decision.writes:
                log.info("%s: %s: %s", self.name, key, summary(decision.writes))


def summary(writes: Iterable[Write]) -> str:
    """Return writes in a few words: ``3 create pods, patch replicasets/status``."""
    counted = Counter(_words(write) for write in writes)
    return ", ".join(words if count == 1 else f"{count} {words}" for words, count in counted.items())


def _words(write: Write) -> str:
    subresource = getattr(write, "subresource", "")
    return f"{type(write).__name__.lower()} {write.resource.plural}" + (
        f"/{subresource}" if subresource else ""
    )
