"""What the reconciler runs: all families, the look for drift when it is due, and one line about it.

The blocking part of a sync (deciding, then the kernel) runs in a thread, so that one process can be the proxy
of many nodes. One sync runs at a time, and one that is cancelled ends only when the kernel is done.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from kubenet.clock import Clock, SystemClock
from kubenet.errors import KubenetError
from proxy.family import FamilySync, Seen, Synced
from proxy.policy import Locality
from proxy.ports import NodeNetwork, Refused, ServicePortName
from proxy.status import Status
from proxy.track import ServiceObjects
from proxy.vitals import ServiceHealth

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

Look = Callable[[Collection[str] | None], Collection[ServiceObjects]]
"""Returns the Services of these keys as they are now, each with its slices; None asks for all."""


class ProxySync:
    """Keeps all families in step with what ``look`` shows. Tell it of changes, then ``sync``."""

    def __init__(
        self,
        families: Sequence[FamilySync],
        look: Look,
        check_s: float,
        clock: Clock | None = None,
        status: Status | None = None,
    ) -> None:
        self._families = families
        self._look = look
        self._check_s = check_s
        self._clock = clock or SystemClock()
        self._checked_s = self._clock.monotonic()
        self._changed: set[str] | None = None  # Services to look at; None: all there are
        self._complained: frozenset[Refused] = frozenset()
        self._status = status or Status([family.family for family in families])

    def changed(self, keys: Iterable[str]) -> None:
        """Look at these Services in the next sync."""
        if self._changed is not None:
            self._changed.update(keys)

    def doubt(self) -> None:
        """Look in the next sync whether somebody else changed our rules."""
        self._checked_s = self._clock.monotonic() - self._check_s

    def move(self, here: Locality, networks: Sequence[NodeNetwork]) -> None:
        """Be there from the next sync on; ``networks`` are those of the families."""
        for family, network in zip(self._families, networks, strict=True):
            family.move(here, network)

    async def sync(self) -> None:
        """Bring the kernel up to date with the objects as they are now. Raises KubenetError."""
        if self._clock.monotonic() - self._checked_s >= self._check_s:
            await self._look_for_drift()
        began_s, as_of_s = time.perf_counter(), self._clock.monotonic()
        changed, self._changed = self._changed, set()
        with self._status.syncing():
            try:
                results = await self._sync_families(Seen(self._look(changed), changed is None), as_of_s)
            except BaseException:
                self._changed = None if changed is None else self._changed | changed
                raise
        # Both families have the same ports here, and each counts its own endpoints.
        await self._status.health_checks(_merged(result.healths for result in results))
        self._report(results, took_ms=(time.perf_counter() - began_s) * 1000)

    async def _sync_families(self, seen: Seen, as_of_s: float) -> list[Synced]:
        """Sync each of them, whatever becomes of the others. Raises the first KubenetError."""
        results: list[Synced] = []
        errors: list[KubenetError] = []
        outcomes = await _in_thread(lambda: [_outcome(family, seen) for family in self._families])
        for family, outcome in zip(self._families, outcomes, strict=True):
            if isinstance(outcome, KubenetError):
                self._status.failed(family.family, full=not family.known)
                errors.append(outcome)
                continue
            self._status.synced(family.family, as_of_s, outcome.took_s, outcome.applied)
            self._status.no_local(family.family, outcome.no_local)
            results.append(outcome)
        if errors:
            raise errors[0]
        return results

    async def _look_for_drift(self) -> None:
        for family in self._families:
            drifted, invalid, connections = await _in_thread(_looked_at, family)
            self._status.invalid_dropped(family.family, invalid)
            self._status.connections(family.family, connections)
            self._status.metrics.drift.add(len(drifted), f"IPv{family.family}")
            if drifted:
                log.warning("proxy: somebody changed %s: writing it anew", ", ".join(drifted[:5]))
        self._checked_s = self._clock.monotonic()

    def _report(self, results: Sequence[Synced], took_ms: float) -> None:
        self._complain(frozenset().union(*(result.refused for result in results)))
        quiet = all(result.applied.unchanged and not result.forgotten for result in results)
        level = logging.DEBUG if quiet else logging.INFO
        if log.isEnabledFor(level):
            services = max((result.services for result in results), default=0)
            endpoints = sum(result.endpoints for result in results)
            log.log(level, "proxy: synced %d services, %d endpoints in %.1f ms", services, endpoints, took_ms)

    def _complain(self, refused: frozenset[Refused]) -> None:
        if refused == self._complained:
            return
        for each in sorted(refused - self._complained):
            log.warning("proxy: %s: %s", each.subject, each.reason)
            self._status.refused(each)
        self._complained = refused
        self._status.metrics.refused.set(len(refused))


def _looked_at(family: FamilySync) -> tuple[Sequence[str], int, Mapping[tuple[ServicePortName, str], int]]:
    backend = family.backend
    return backend.drifted(), backend.invalid_dropped(), backend.connections()


def _outcome(family: FamilySync, seen: Seen) -> Synced | KubenetError:
    try:
        return family.sync(seen)
    except KubenetError as error:
        return error


def _merged(healths: Iterable[Mapping[int, ServiceHealth]]) -> dict[int, ServiceHealth]:
    merged: dict[int, ServiceHealth] = {}
    for each in healths:
        for port, health in each.items():
            other = merged.get(port, health)
            merged[port] = max(health, other, key=lambda one: one.local_endpoints)
    return merged


async def _in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what ``call`` returns, run in a thread. When cancelled, wait for its end first.

    A thread cannot be stopped, and what it still did after us would be done to a namespace that may be gone.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait({work})
        if not work.cancelled() and (error := work.exception()):
            log.debug("proxy: the sync under way at the end failed: %s", error)
        raise
