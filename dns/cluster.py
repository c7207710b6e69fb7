"""The cluster's names, kept up to date for as many server blocks as want them."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from dns.follow import Informers, Scope, follow
from dns.read import Naming
from dns.service import ServiceKey
from dns.settings import Kubernetes
from dns.tally import Histogram
from dns.workers import ToldFeed
from dns.zone import PodsMode, Zone, ZoneConfig
from kubenet.client.errors import ApiError
from kubenet.client.transport import ApiClient
from kubenet.errors import Unreachable
from kubenet.model.links import IPAddress

log = logging.getLogger(__name__)

COMPARE_S = 300.0  # between two looks at all objects beside the watches

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
        self.feed = ToldFeed(
            zone_config(config, own_addresses),
            serial=int(time.time()),
            some_namespaces=bool(config.namespace_labels),
        )
        self.synced = asyncio.Event()
        self.watchers: list[Moved] = []
        self.missed = 0  # changes that the watches did not tell, found by comparing
        # CoreDNS's buckets, in seconds.
        self.programming = Histogram(tuple(0.001 * 2**n for n in range(20)))
        self._informers: Informers = []
        self._loop = asyncio.get_running_loop()
        self._poked = False

    @property
    def silent_s(self) -> float | None:
        """How long nothing has been heard of some kind of object; None before anything is followed."""
        return max((each.silent_s for each in self._informers), default=None)

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
        if not self.feed.dirty:
            self._note_programming()
        for text in flushed.ignored:
            log.warning("dns: ignored: %s", text)
        if self.feed.dirty:
            self.poke()
        elif flushed.zone.synced:
            self.synced.set()

    def _note_programming(self) -> None:
        """Note how old the changes are that can be seen from now on; not those of the first list."""
        triggered, self.feed.triggered = self.feed.triggered, []
        for text in triggered if self.synced.is_set() and self._informers else ():
            with suppress(ValueError):
                self.programming.add(max(0.0, time.time() - datetime.fromisoformat(text).timestamp()))

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
        self._informers = informers = follow(client, self.feed, self.poke, scope)
        async with asyncio.TaskGroup() as tasks:
            for informer in informers:
                tasks.create_task(informer.run())
            for informer in informers:
                await informer.wait_synced()
            self.feed.complete()
            self.poke()
            await self.synced.wait()
            log.info("dns: serving %d services", len(self.feed.zone.services))
            while True:
                await asyncio.sleep(COMPARE_S * random.uniform(0.8, 1.2))
                await self.compare()

    async def compare(self) -> None:
        """Look whether the watches have told everything, and repair what they did not."""
        for informer in self._informers:
            try:
                self.missed += await informer.compare()
            except (ApiError, Unreachable) as error:
                log.warning("dns: cannot compare with the API server: %s", error)
                return
