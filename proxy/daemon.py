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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import ParamSpec, TypeVar

from kubenet.client.informer import Informer
from kubenet.client.transport import ApiClient
from kubenet.clock import Clock, SystemClock
from kubenet.kernel.netns import NetNs
from kubenet.model.objects import EndpointSlice, Service
from kubenet.model.resources import ENDPOINTSLICES, SERVICES
from kubenet.reconcile import Pace, Reconciler
from proxy.apply_iptables import IptablesBackend, KernelIptables
from proxy.apply_stale import FlowKeeper
from proxy.backend import Applied, Backend, Flows
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Balance, Family, IPNetwork, NodeNetwork, Refused
from proxy.track import NOT_OURS, TrackRules, track

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

_SELECTOR = ",".join(f"!{label}" for label in sorted(NOT_OURS))


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """What a node's proxy has to know."""

    node_name: str
    netns: NetNs | None = None  # None: where the process is
    cluster_cidr: IPNetwork | None = None
    cluster_cidr_v6: IPv6Network | None = None  # without it nothing is done for IPv6
    service_cidrs: tuple[IPNetwork, ...] = ()
    default_balance: Balance = Balance.RANDOM
    masquerade_all: bool = False
    zone: str = ""
    min_sync_s: float = 0.1  # from the end of one sync to the start of the next
    check_s: float = 30.0  # how often to see whether somebody else changed our rules
    ready: asyncio.Event | None = None  # set once the node's rules are in place

    @property
    def networks(self) -> tuple[NodeNetwork, ...]:
        """One for each family that is proxied."""
        cidrs: dict[Family, IPNetwork | None] = {4: self.cluster_cidr}
        if self.cluster_cidr_v6 is not None:
            cidrs[6] = self.cluster_cidr_v6
        return tuple(NodeNetwork(family, cidr, self.masquerade_all) for family, cidr in cidrs.items())


async def run_proxy(config: ProxyConfig, client: ApiClient) -> None:
    """Keep the node's rules in step with the cluster for ever; they stay in place when this is cancelled."""
    services = Informer(client, SERVICES, Service, label_selector=_SELECTOR)
    slices = Informer(client, ENDPOINTSLICES, EndpointSlice, label_selector=_SELECTOR)
    families = [family_sync(config, network) for network in config.networks]
    syncer = ProxySync(families, services.cache.objects, slices.cache.objects, check_s=config.check_s)

    async def sync() -> None:
        await syncer.sync()
        if config.ready:
            config.ready.set()

    pace = Pace(config.min_sync_s, resync_s=config.check_s, retry_most_s=5.0)
    reconciler = Reconciler(f"proxy {config.node_name}", sync, pace)
    async with asyncio.TaskGroup() as group:
        for informer in (services, slices):
            informer.on_change(lambda _: reconciler.poke())
            group.create_task(informer.run())
        await services.wait_synced()
        await slices.wait_synced()
        reconciler.poke()
        group.create_task(reconciler.run())


@dataclass(frozen=True, slots=True)
class Synced:
    """What one sync of one family came to."""

    services: int
    endpoints: int
    applied: Applied
    forgotten: int  # kinds of stale UDP flows
    refused: Collection[Refused]


class FamilySync:
    """One family's way from objects to the kernel. Calls block; one at a time."""

    def __init__(self, rules: TrackRules, here: Locality, backend: Backend, flows: Flows) -> None:
        self._rules = rules
        self._here = here
        self._flows = flows
        self.backend = backend

    def sync(self, services: Collection[Service], slices: Collection[EndpointSlice]) -> Synced:
        """Make the kernel serve what the objects say. Raises KubenetError."""
        tracked = track(services, slices, self._rules)
        serving = serve(tracked.service_ports, self._here)
        applied = self.backend.apply(serving)
        forgotten = self._flows.forget(serving)
        return Synced(
            _count_services(serving), _count_endpoints(serving), applied, forgotten, tracked.refused
        )


def family_sync(config: ProxyConfig, network: NodeNetwork) -> FamilySync:
    """Return what keeps the node's own kernel in step."""
    return FamilySync(
        TrackRules(network.family, config.default_balance, config.service_cidrs),
        Locality(config.node_name, config.zone),
        IptablesBackend(KernelIptables(config.netns, network.family), network),
        FlowKeeper(config.netns, network.family),
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
    ) -> None:
        self._families = families
        self._services = services
        self._slices = slices
        self._check_s = check_s
        self._clock = clock or SystemClock()
        self._checked_s = self._clock.monotonic()
        self._complained: frozenset[Refused] = frozenset()

    async def sync(self) -> None:
        """Bring the kernel up to date with the objects as they are now. Raises KubenetError."""
        started_s = time.monotonic()
        if self._clock.monotonic() - self._checked_s >= self._check_s:
            await self._look_for_drift()
        services, slices = tuple(self._services().values()), tuple(self._slices().values())
        results = [await _in_thread(family.sync, services, slices) for family in self._families]
        self._report(results, took_ms=(time.monotonic() - started_s) * 1000)

    async def _look_for_drift(self) -> None:
        for family in self._families:
            drifted = await _in_thread(family.backend.drifted)
            if drifted:
                log.warning("proxy: somebody changed %s: writing it anew", ", ".join(drifted[:5]))
        self._checked_s = self._clock.monotonic()

    def _report(self, results: Sequence[Synced], took_ms: float) -> None:
        refused = frozenset(each for result in results for each in result.refused)
        for each in sorted(refused - self._complained):
            log.warning("proxy: %s: %s", each.subject, each.reason)
        self._complained = refused
        services = max((result.services for result in results), default=0)
        endpoints = sum(result.endpoints for result in results)
        quiet = all(result.applied.unchanged and not result.forgotten for result in results)
        level = logging.DEBUG if quiet else logging.INFO
        log.log(level, "proxy: synced %d services, %d endpoints in %.0f ms", services, endpoints, took_ms)


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
