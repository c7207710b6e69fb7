"""Leader election by a Lease: of several processes that could, one does.

The clocks of candidates are not compared: a candidate watches whether the lease changes, and takes it when it
has not for as long as it lasts, by its own monotonic clock. A leader that cannot renew gives up before that.

Source: client-go tools/leaderelection.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum

from kubenet.client.errors import ApiError, Conflict, ObjectNotFound
from kubenet.client.transport import ApiClient
from kubenet.clock import Clock, SystemClock, rfc3339_micro
from kubenet.errors import KubenetError, Unreachable
from kubenet.model.objects import Json, Lease
from kubenet.model.resources import LEASES

log = logging.getLogger(__name__)


class LeadershipLost(KubenetError):
    """Another process may lead by now: stop at once."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a lease lasts, how long its holder tries to renew it, and how often it is looked at."""

    duration_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


class Step(Enum):
    """What a candidate does next."""

    WAIT = "wait"
    TAKE = "take"
    RENEW = "renew"


class Candidate:
    """What one candidate knows; decides, does nothing. Times are of its own monotonic clock."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self._seen = ("", "")
        self._seen_at_s = 0.0

    def step(self, lease: Lease, now_s: float) -> Step:
        """Return what to do, having read the lease."""
        holder, spec = lease.spec.holder_identity or "", lease.spec
        seen = (holder, lease.metadata.resource_version)
        if seen != self._seen:
            self._seen, self._seen_at_s = seen, now_s
        if holder == self.identity:
            return Step.RENEW
        expired = now_s >= self._seen_at_s + (spec.lease_duration_seconds or 0)
        return Step.TAKE if not holder or expired else Step.WAIT


class LeaderElection:
    """One candidate for one lease."""

    def __init__(
        self,
        client: ApiClient,
        lease: tuple[str, str],  # namespace, name
        identity: str,
        terms: Terms | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._client = client
        self._namespace, self._name = lease
        self._candidate = Candidate(identity)
        self._terms = terms or Terms()
        self._clock = clock or SystemClock()

    async def run(self, lead: Callable[[], Coroutine[None, None, None]]) -> None:
        """Wait for the lease, then run ``lead`` while it is held; returns when ``lead`` does.

        Raises LeadershipLost. A cancellation gives the lease back.
        """
        while not await self._tried():
            await self._clock.sleep(self._terms.retry_s)
        log.info("%s leads %s/%s", self._candidate.identity, self._namespace, self._name)
        leading = asyncio.ensure_future(lead())
        renewing = asyncio.ensure_future(self._renew())
        try:
            done, _ = await asyncio.wait((leading, renewing), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            leading.cancel()
            renewing.cancel()
            await asyncio.gather(leading, renewing, return_exceptions=True)
            await self._release()

    async def _renew(self) -> None:
        renewed_at_s = self._clock.monotonic()
        while True:
            await self._clock.sleep(self._terms.retry_s)
            if await self._tried():
                renewed_at_s = self._clock.monotonic()
            elif self._clock.monotonic() - renewed_at_s >= self._terms.renew_deadline_s:
                where = f"{self._namespace}/{self._name}"
                raise LeadershipLost(f"{self._candidate.identity}: the lease {where} is not ours any more")

    async def _tried(self) -> bool:
        """Take or renew the lease if that is right; return whether we hold it now."""
        try:
            async with asyncio.timeout(self._terms.renew_deadline_s):
                return await self._take_or_renew()
        except (ApiError, Unreachable, TimeoutError) as error:
            log.debug("lease %s/%s: %s", self._namespace, self._name, error)
            return False

    async def _take_or_renew(self) -> bool:
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name, Lease)
        except ObjectNotFound:
            await self._client.create(LEASES, self._namespace, self._body(None))
            return True
        step = self._candidate.step(lease, self._clock.monotonic())
        if step is Step.WAIT:
            return False
        try:
            await self._client.patch(LEASES, self._namespace, self._name, self._body(lease))
        except Conflict:
            return False  # another was quicker
        return True

    def _body(self, lease: Lease | None) -> Json:
        now = rfc3339_micro(self._clock.now())
        spec: Json = {
            "holderIdentity": self._candidate.identity,
            "leaseDurationSeconds": max(1, round(self._terms.duration_s)),
            "renewTime": now,
        }
        taken = lease is None or lease.spec.holder_identity != self._candidate.identity
        if taken:
            spec["acquireTime"] = now
        metadata: Json = {"name": self._name}
        if lease is not None:
            metadata["resourceVersion"] = lease.metadata.resource_version
        return {"metadata": metadata, "spec": spec}

    async def _release(self) -> None:
        """Give the lease back if it is ours, so that nobody waits for its end."""
        try:
            lease = await self._client.get(LEASES, self._namespace, self._name, Lease)
            if lease.spec.holder_identity == self._candidate.identity:
                metadata: Json = {"resourceVersion": lease.metadata.resource_version}
                spec: Json = {"holderIdentity": "", "leaseDurationSeconds": 1}
                body: Json = {"metadata": metadata, "spec": spec}
                await self._client.patch(LEASES, self._namespace, self._name, body)
        except (ApiError, Unreachable) as error:
            log.info("lease %s/%s: not given back: %s", self._namespace, self._name, error)
