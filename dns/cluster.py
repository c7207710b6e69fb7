"""The cluster's names, kept up to date for as many server blocks as want them."""

import asyncio
import logging
import time
from collections.abc import Callable

from dns.feed import ClusterFeed
from dns.follow import Scope, follow
from dns.read import Naming
from dns.service import ServiceKey
from dns.settings import Kubernetes
from dns.zone import PodsMode, Zone, ZoneConfig
from kubenet.client.transport import ApiClient
from kubenet.model.links import IPAddress

log = logging.getLogger(__name__)

Moved = Callable[[Zone, tuple[ServiceKey, ...]], None]


def zone_config(config: Kubernetes, own_addresses: tuple[IPAddress, ...]) -> ZoneConfig:
    """Return what of a zone the Corefile says."""
    return ZoneConfig(
        Naming(config.domain, config.ttl_s, config.pod_names, hide_empty=config.hide_empty),
        config.pods,
        own_addresses=own_addresses,
        reverse=config.reverse,
        fallthrough=config.falls_through,
    )


class ClusterNames:
    """One zone that follows the API server; ``moved`` of everybody in ``watchers`` is called on change."""

    def __init__(self, config: Kubernetes, own_addresses: tuple[IPAddress, ...]) -> None:
        self.config = config
        self.own_addresses = own_addresses
        self.feed = ClusterFeed(
            zone_config(config, own_addresses),
            serial=int(time.time()),
            some_namespaces=bool(config.namespace_labels),
        )
        self.synced = asyncio.Event()
        self.watchers: list[Moved] = []
        self._loop = asyncio.get_running_loop()
        self._poked = False

    def poke(self) -> None:
        """The feed has news: take it over, after whatever else happens in this turn of the loop."""
        if not self._poked:
            self._poked = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._poked = False
        flushed = self.feed.flush()
        for moved in self.watchers:
            moved(flushed.zone, flushed.changed)
        for text in flushed.ignored:
            log.warning("dns: ignored: %s", text)
        if self.feed.dirty:
            self.poke()
        elif flushed.zone.synced:
            self.synced.set()

    async def run(self, client: ApiClient) -> None:
        """Follow for ever."""
        config = self.config
        scope = Scope(
            pods=config.pods is PodsMode.VERIFIED,
            endpoints=config.endpoints,
            labels=config.labels,
            namespaces=config.namespaces,
            namespace_labels=config.namespace_labels,
        )
        informers = follow(client, self.feed, self.poke, scope)
        async with asyncio.TaskGroup() as tasks:
            for informer in informers:
                tasks.create_task(informer.run())
            for informer in informers:
                await informer.wait_synced()
            self.feed.complete()
            self.poke()
            await self.synced.wait()
            log.info("dns: serving %d services", len(self.feed.zone.services))
