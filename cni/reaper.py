"""Deletes the links of pods that are gone, many in one pass of the kernel, while nobody waits.

Deleting one veth pair takes the kernel 12-20 ms, and thirty pairs hardly longer. So a DEL only cuts the pod
off, and leaves the link here. Its address is free again when the link is gone, not earlier.
"""

import logging
import time
from collections.abc import Callable
from threading import Condition

from cni.wires import Wires
from kubenet.errors import KubenetError, TimedOut

log = logging.getLogger(__name__)

GATHER_S = 0.02  # a drain of a node brings many DELs within this time
# A pass over 120 links holds up everybody else's requests for 60 ms; 32 are as good as 120 a link.
BATCH = 32
RETRY_S = 1.0


class Reaper:
    """A thread's work: ``run`` it until ``close``. ``gone`` is told of each link that is no more."""

    def __init__(self, connect: Callable[[], Wires], gone: Callable[[str], None]) -> None:
        self._connect = connect
        self._gone = gone
        self._changed = Condition()
        self._waiting: dict[str, None] = {}  # in the order they came
        self._closed = False

    def put(self, host_ifname: str) -> None:
        """Have the link deleted; asking twice is fine."""
        with self._changed:
            self._waiting[host_ifname] = None
            self._changed.notify_all()

    def wait_gone(self, host_ifname: str, timeout_s: float) -> None:
        """Return once a link that was ``put`` here is gone; any other is fine at once. Raises TimedOut."""
        with self._changed:
            if not self._changed.wait_for(lambda: host_ifname not in self._waiting, timeout_s):
                raise TimedOut(f"{host_ifname}: not deleted within {timeout_s:g} s")

    @property
    def busy(self) -> bool:
        """Whether a link waits to be deleted."""
        return bool(self._waiting)

    def wait_idle(self, timeout_s: float) -> None:
        """Return once nothing waits. Raises TimedOut."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._waiting, timeout_s):
                raise TimedOut(f"{len(self._waiting)} links are not deleted within {timeout_s:g} s")

    def close(self) -> None:
        """Let ``run`` end once nothing waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def run(self) -> None:
        """Delete what is put here; ends after ``close``, with one last try."""
        wires = self._connect()
        try:
            while batch := self._next_batch():
                if not self._bury(wires, batch):
                    if self._closed:
                        return
                    time.sleep(RETRY_S)
        finally:
            wires.close()

    def _next_batch(self) -> list[str]:
        """Wait for work; an empty batch means that there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._closed)
            if len(self._waiting) < BATCH and not self._closed:
                self._changed.wait_for(lambda: len(self._waiting) >= BATCH or self._closed, GATHER_S)
            return list(self._waiting)[:BATCH]

    def _bury(self, wires: Wires, batch: list[str]) -> bool:
        try:
            wires.bury(batch)
        except KubenetError as error:
            log.warning("cni: %d links of deleted pods cannot be removed yet: %s", len(batch), error)
            return False
        for host_ifname in batch:
            self._gone(host_ifname)
        with self._changed:
            for host_ifname in batch:
                del self._waiting[host_ifname]
            self._changed.notify_all()
        return True
