"""The proxy of one node: watch Services and EndpointSlices, and keep the node's rules in step.

Nothing is programmed before both kinds have been listed in full: rules that an earlier run left behind serve
on until then, and a table is never made from half the truth. From then on each change pokes the reconciler, a
burst of them gives one sync, and a sync that changes nothing writes nothing.

The blocking part of a sync (deciding, then the kernel) runs in a thread, so that one process can be the proxy
of many nodes. One sync runs at a time, and a cancelled daemon ends only after the sync under way has.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import ParamSpec, TypeVar

from kubenet.client.transport import ApiClient
from kubenet.clock import Clock, SystemClock
from kubenet.errors import KubenetError
from kubenet.model.objects import EndpointSlice, KubeObject, Service
from kubenet.reconcile import Pace, Reconciler
from proxy.apply_stale import FlowKeeper, KernelFlows
from proxy.backend import Applied, Backend, Flows
from proxy.backends import close_backend, open_backend, woken
from proxy.node_config import ProxyConfig, locality_of, track_rules
from proxy.policy import Locality, Server, ServingPort
from proxy.ports import NodeNetwork, Refused
from proxy.source import ApiSource, Source
from proxy.status import EVERYWHERE, Status, StatusConfig
from proxy.track import Tracker, TrackRules
from proxy.vitals import ServiceHealth, service_healths

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")


async def run_proxy(config: ProxyConfig, client: ApiClient) -> None:
    """Keep the node's rules in step with the cluster for ever; they stay in place when this is cancelled."""
    await run_from(config, ApiSource(client, config.node_name))


async def run_from(config: ProxyConfig, source: Source) -> None:
    """Keep the node's rules in step with ``source`` for ever."""
    status = Status(
        [network.family for network in config.networks],
        StatusConfig(
            config.mode.value,
            config.healthz,
            config.metrics,
            tuple(network.network_address for network in config.node_port_networks if network.prefixlen == 32)
            or EVERYWHERE,
            patience_s=2 * config.check_s,
        ),
    )
    with ExitStack() as undo:
        async with status.served(config.netns), asyncio.TaskGroup() as group:
            reconcilers: list[Reconciler] = []

            def changed(new: KubeObject | None) -> None:
                status.changed(new)
                for reconciler in reconcilers:
                    reconciler.poke()

            source.on_change(changed)
            group.create_task(source.run())
            await source.wait_synced()
            reconcilers.append(_reconciler(config, source, status, undo))
            reconcilers[0].poke()
            group.create_task(reconcilers[0].run())


def _reconciler(config: ProxyConfig, source: Source, status: Status, undo: ExitStack) -> Reconciler:
    """Return what runs the syncs, once everything has been heard of; ``undo`` lets go of the kernel."""
    families = [family_sync(config, network, status) for network in config.networks_of(source.node())]
    syncer = ProxySync(families, source.services, source.slices, config.check_s, status=status)

    async def sync() -> None:
        node = source.node()
        status.node_is(node)
        syncer.move(locality_of(config, node))
        try:
            await syncer.sync()
        finally:
            listen_again()
        if config.ready:
            config.ready.set()

    pace = Pace(config.min_sync_s, resync_s=config.check_s, retry_most_s=5.0)
    reconciler = Reconciler(f"proxy {config.node_name}", sync, pace)
    listen_again = undo.enter_context(woken([family.backend for family in families], reconciler.poke))
    return reconciler


def sync_once(config: ProxyConfig, source: Source) -> Sequence["Synced"]:
    """Make the kernel serve what ``source`` knows by now. Blocks. Raises KubenetError."""
    node = source.node()
    results = []
    for network in config.networks_of(node):
        family = family_sync(config, network)
        family.move(locality_of(config, node))
        try:
            results.append(family.sync(tuple(source.services().values()), tuple(source.slices().values())))
        finally:
            close_backend(family.backend)
    return results


@dataclass(frozen=True, slots=True)
class Seen:
    """The objects that one sync is about. What comes while the first family is synced waits for the next."""

    services: Collection[Service]
    slices: Collection[EndpointSlice]
    as_of_s: float  # monotonic


@dataclass(frozen=True, slots=True)
class Synced:
    """What one sync of one family came to."""

    services: int
    endpoints: int
    applied: Applied
    forgotten: int  # kinds of stale UDP flows
    refused: Collection[Refused]
    serving: Sequence[ServingPort] = ()
    healths: Mapping[int, ServiceHealth] = field(default_factory=dict)  # by health check node port


class FamilySync:
    """One family's way from objects to the kernel. Calls block; one at a time."""

    def __init__(self, rules: TrackRules, here: Locality, backend: Backend, flows: Flows) -> None:
        self._tracker = Tracker(rules)
        self._server = Server(here)
        self._flows = flows
        self.backend = backend
        self.family = rules.family
        self.known = False  # whether the kernel holds what the last sync wanted

    def move(self, here: Locality) -> None:
        """Be there from the next sync on (row 36)."""
        if here != self._server.here:
            self._server = Server(here)

    def sync(self, services: Collection[Service], slices: Collection[EndpointSlice]) -> Synced:
        """Make the kernel serve what the objects say. Raises KubenetError."""
        tracked = self._tracker.track(services, slices)
        serving = self._server.serve(tracked.service_ports)
        known, self.known = self.known, False
        try:
            applied = self.backend.apply(serving)
        except KubenetError:
            self.known = known  # for whoever asks what failed; the next call knows better
            raise
        self.known = True
        return Synced(
            _count_services(serving),
            _count_endpoints(serving),
            applied,
            self._flows.forget(serving),
            tracked.refused,
            serving,
            service_healths(serving, self._server.here.node_name),
        )


def family_sync(config: ProxyConfig, network: NodeNetwork, status: Status | None = None) -> FamilySync:
    """Return what keeps the node's own kernel in step."""
    flows = KernelFlows(config.netns, network.family)
    return FamilySync(
        track_rules(config, network),
        Locality(config.node_name, config.zone),
        open_backend(config.mode, config.netns, network),
        FlowKeeper(flows, partial(status.forgot, network.family)) if status else FlowKeeper(flows),
    )


def _count_services(serving: Sequence[ServingPort]) -> int:
    return len({(each.port.name.namespace, each.port.name.service) for each in serving})


def _count_endpoints(serving: Sequence[ServingPort]) -> int:
    return sum(len(each.reachable) for each in serving)


class ProxySync:
    """What the reconciler runs: all families, the look for drift when it is due, and one line about it."""

    def __init__(
        self,
        families: Sequence[FamilySync],
        services: Callable[[], Mapping[str, Service]],
        slices: Callable[[], Mapping[str, EndpointSlice]],
        check_s: float,
        clock: Clock | None = None,
        status: Status | None = None,
    ) -> None:
        self._families = families
        self._services = services
        self._slices = slices
        self._check_s = check_s
        self._clock = clock or SystemClock()
        self._checked_s = self._clock.monotonic()
        self._complained: frozenset[Refused] = frozenset()
        self._status = status or Status([family.family for family in families])

    def move(self, here: Locality) -> None:
        """Be there from the next sync on."""
        for family in self._families:
            family.move(here)

    async def sync(self) -> None:
        """Bring the kernel up to date with the objects as they are now. Raises KubenetError."""
        started_s = time.monotonic()
        if self._clock.monotonic() - self._checked_s >= self._check_s:
            await self._look_for_drift()
        seen = Seen(tuple(self._services().values()), tuple(self._slices().values()), self._clock.monotonic())
        with self._status.syncing():
            results = [await self._sync_family(family, seen) for family in self._families]
        # Both families have the same ports here, and each counts its own endpoints.
        await self._status.health_checks(_merged(result.healths for result in results))
        self._report(results, took_ms=(time.monotonic() - started_s) * 1000)

    async def _sync_family(self, family: FamilySync, seen: Seen) -> Synced:
        began_s = time.monotonic()
        try:
            result = await _in_thread(family.sync, seen.services, seen.slices)
        except KubenetError:
            self._status.failed(family.family, full=not family.known)
            raise
        self._status.synced(family.family, seen.as_of_s, time.monotonic() - began_s, result.applied)
        self._status.serving(family.family, result.serving)
        return result

    async def _look_for_drift(self) -> None:
        for family in self._families:
            drifted = await _in_thread(family.backend.drifted)
            self._status.metrics.drift.add(len(drifted), f"IPv{family.family}")
            if drifted:
                log.warning("proxy: somebody changed %s: writing it anew", ", ".join(drifted[:5]))
        self._checked_s = self._clock.monotonic()

    def _report(self, results: Sequence[Synced], took_ms: float) -> None:
        refused = frozenset(each for result in results for each in result.refused)
        for each in sorted(refused - self._complained):
            log.warning("proxy: %s: %s", each.subject, each.reason)
        self._complained = refused
        self._status.metrics.refused.set(len(refused))
        services = max((result.services for result in results), default=0)
        endpoints = sum(result.endpoints for result in results)
        quiet = all(result.applied.unchanged and not result.forgotten for result in results)
        level = logging.DEBUG if quiet else logging.INFO
        log.log(level, "proxy: synced %d services, %d endpoints in %.0f ms", services, endpoints, took_ms)


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
