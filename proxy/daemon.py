"""The proxy of one node: watch Services and EndpointSlices, and keep the node's rules in step.

Nothing is programmed before both kinds have been listed in full: rules that an earlier run left behind serve
on until then, and a table is never made from half the truth. From then on each change names the Services that
it is about and pokes the reconciler; a burst of them gives one sync, which looks at those Services only. A
sync that changes nothing writes nothing.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from kubenet.client.transport import ApiClient
from kubenet.reconcile import Pace, Reconciler
from proxy.apply_stale import FlowKeeper, KernelFlows
from proxy.backends import flavour_in_use, open_backend, woken
from proxy.family import FamilySync, Seen, Synced
from proxy.guard import guard_jumps
from proxy.node_config import ProxyConfig, locality_of, track_rules
from proxy.ports import Family, NodeNetwork
from proxy.source import ApiSource, Source, SourceChange
from proxy.status import EVERYWHERE, Status, StatusConfig
from proxy.sync import ProxySync

log = logging.getLogger(__name__)


async def run_proxy(config: ProxyConfig, client: ApiClient) -> None:
    """Keep the node's rules in step with the cluster for ever; they stay in place when this is cancelled."""
    await run_from(config, ApiSource(client, config.node_name))


async def run_from(config: ProxyConfig, source: Source) -> None:
    """Keep the node's rules in step with ``source`` for ever."""
    status = _status(config, source)
    with ExitStack() as undo:
        async with status.served(config.netns), asyncio.TaskGroup() as group:
            running: list[_Running] = []

            def changed(change: SourceChange) -> None:
                status.changed(change.new)
                for each in running:
                    each.changed(change)

            source.on_change(changed)
            group.create_task(source.run())
            await source.wait_synced()
            running.append(_Running(config, source, status, undo))
            group.create_task(running[0].guard())
            await running[0].run()


def _status(config: ProxyConfig, source: Source) -> Status:
    ips = tuple(network.network_address for network in config.node_port_networks if network.prefixlen == 32)
    return Status(
        [network.family for network in config.networks],
        StatusConfig(
            config.mode.value,
            config.healthz,
            config.metrics,
            ips or EVERYWHERE,
            config.node_name,
            patience_s=2 * config.check_s,
        ),
        tell=source.tell,
    )


class _Running:
    """The syncs, once everything has been heard of; ``undo`` lets go of the kernel."""

    def __init__(self, config: ProxyConfig, source: Source, status: Status, undo: ExitStack) -> None:
        self._config = config
        self._source = source
        self._status = status
        families = [family_sync(config, network, status) for network in config.networks]
        self._syncer = ProxySync(families, source.look, config.check_s, status=status)
        pace = Pace(config.min_sync_s, resync_s=config.check_s, retry_most_s=5.0)
        self._reconciler = Reconciler(f"proxy {config.node_name}", self._sync, pace)
        self._backends = [family.backend for family in families]
        self._listen_again = undo.enter_context(woken(self._backends, self._reconciler.poke))
        self._listen_again()

    def changed(self, change: SourceChange) -> None:
        """Look at what has changed in the next sync."""
        self._syncer.changed(change.keys)
        self._reconciler.poke()

    async def run(self) -> None:
        """Sync now and whenever something has changed, for ever."""
        self._reconciler.poke()
        await self._reconciler.run()

    async def guard(self) -> None:
        """Put jump rules back that somebody takes away, where nobody would tell us of it."""
        families = [network.family for network in self._config.networks]
        flavour = flavour_in_use(self._backends)
        await guard_jumps(self._config.netns, flavour, families, self._mended)

    def _mended(self, family: Family, count: int) -> None:
        """Look at everything now: who takes jump rules away seldom takes those alone."""
        self._status.mended(family, count)
        self._syncer.doubt()
        self._reconciler.poke()

    async def _sync(self) -> None:
        node = self._source.node()
        self._status.node_is(node)
        self._syncer.move(locality_of(self._config, node), self._config.networks_of(node))
        try:
            await self._syncer.sync()
        finally:
            self._listen_again()
        if self._config.ready:
            self._config.ready.set()


def sync_once(config: ProxyConfig, source: Source) -> Sequence[Synced]:
    """Make the kernel serve what ``source`` knows by now. Blocks. Raises KubenetError."""
    node = source.node()
    seen = Seen(source.look(None), everything=True)
    results = []
    for network in config.networks_of(node):
        family = family_sync(config, network)
        family.move(locality_of(config, node), network)
        try:
            results.append(family.sync(seen))
        finally:
            family.backend.close()
    return results


def family_sync(config: ProxyConfig, network: NodeNetwork, status: Status | None = None) -> FamilySync:
    """Return what keeps the node's own kernel in step."""
    flows = KernelFlows(config.netns, network.family)
    return FamilySync(
        track_rules(config, network),
        locality_of(config, None),
        open_backend(config.mode, config.netns, network),
        FlowKeeper(flows, partial(status.forgot, network.family)) if status else FlowKeeper(flows),
    )
