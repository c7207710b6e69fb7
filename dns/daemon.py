"""The DNS server that a Corefile describes: sockets, reload, the HTTP pages, and an end without loss.

A new configuration is read and built beside the old one and takes its place between two queries. Sockets
belong to the server and not to the configuration: those that both want stay as they are, so that no query is
lost. What is wrong with a new configuration is said, and the old one stays.

Source: manual pages of the plugins reload, health and ready of CoreDNS.
"""

import asyncio
import hashlib
import logging
import os
import random
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from glob import glob
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

from dns.cluster import ClusterNames
from dns.corefile import read_corefile
from dns.live import Live
from dns.metrics import Figures, UpstreamFigures, render
from dns.pages import PageServer
from dns.plugins.registry import DNS_PORT, read_blocks
from dns.respond import Forwarding
from dns.server import bound_socket
from dns.settings import Block, Kubernetes, Listen
from dns.site import Site
from dns.transports import Reply, StreamLimits, StreamServer, UdpListener
from kubenet.client import kubeconfig
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.errors import InvalidInput, KubenetError, TimedOut
from kubenet.kernel.netns import NetNs
from kubenet.model.links import IPAddress

log = logging.getLogger(__name__)

EVERYWHERE = (ip_address("0.0.0.0"), ip_address("::"))
OLD_STAYS_S = 5.0  # an old configuration, until what waits for upstream servers is answered

Place: TypeAlias = tuple[int, tuple[IPAddress, ...]]  # port, addresses; none: all


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """What a server is told that stands in no Corefile."""

    corefile: Path
    port: int = DNS_PORT  # of keys without one
    kubeconfig: Path | None = None
    netns: NetNs | None = None  # None: the caller's
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: asyncio.Event | None = field(default=None, compare=False)


@dataclass(slots=True)
class _Open:
    """The sockets of one place."""

    site: Site
    listeners: list[UdpListener]
    streams: StreamServer


def read_configuration(config: ServeConfig) -> tuple[tuple[Block, ...], str]:
    """Return the server blocks and the digest of all that was read. Raises InvalidInput."""
    digest = hashlib.sha512()

    def read(path: Path) -> str:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path}: {error}", "name a Corefile with --conf") from error
        digest.update(text.encode())
        return text

    def read_files(pattern: str, importer: str) -> Sequence[tuple[str, str]]:
        found = sorted(glob(str(Path(importer).parent / pattern)))  # noqa: PTH207 - absolute patterns too
        if not found and not set(pattern) & set("*?["):
            raise InvalidInput(f"{pattern}: no such snippet or file")
        return [(name, read(Path(name))) for name in found]

    text = read(config.corefile)
    parsed = read_corefile(text, str(config.corefile), env=config.environment, read_files=read_files)
    return read_blocks(parsed, config.port), digest.hexdigest()


class CorefileServer:
    """A server that can change its configuration while it answers."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.live: Live | None = None
        self.reload_failed = 0
        self.draining = False
        self._digest = ""
        self._open: dict[Place, _Open] = {}
        self._pages: dict[Listen, PageServer] = {}
        self._clusters: dict[Kubernetes, ClusterNames] = {}
        self._following: dict[Kubernetes, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Serve what the Corefile says. Raises what is wrong with it, or with the sockets."""
        blocks, digest = read_configuration(self.config)
        await self._take(blocks, wait_s=0)
        self._digest = digest

    async def reload(self) -> bool:
        """Take the Corefile as it is now; return whether it changed. What is wrong is said, and not taken."""
        try:
            blocks, digest = read_configuration(self.config)
            if digest == self._digest:
                return False
            self._digest = digest  # said once, not every half minute
            await self._take(blocks, wait_s=None)
        except KubenetError as error:
            self.reload_failed += 1
            log.error("dns: reload: %s; the configuration from before stays", error)  # noqa: TRY400
            return False
        log.info("dns: reloaded %s", self.config.corefile)
        return True

    async def _take(self, blocks: tuple[Block, ...], wait_s: float | None) -> None:
        clusters = await self._follow(blocks, wait_s)
        live = Live(blocks, clusters, self._socket)
        opened: dict[Place, _Open] = {}
        pages: dict[Listen, PageServer] = {}
        try:
            await self._open_places(live, opened)
            await self._open_pages(blocks, pages)
        except BaseException:
            for each in opened.values():
                _close(each)
            for page in pages.values():
                page.close()
            live.stop()
            self._forget_clusters(self.live.blocks if self.live else ())
            raise
        self._swap(live, opened, pages)

    def _swap(self, live: Live, opened: Mapping[Place, _Open], pages: Mapping[Listen, PageServer]) -> None:
        old, self.live = self.live, live
        live.start()
        places = _places(live.blocks)
        for place, found in self._open.items():
            if place in places:
                found.site.use(live.of_blocks(partial(_is_at, place)))
        for gone in [place for place in self._open if place not in places]:
            _close(self._open.pop(gone))
        self._open.update(opened)
        wanted = _listens(live.blocks)
        for listen in [listen for listen in self._pages if listen not in wanted]:
            self._pages.pop(listen).close()
        self._pages.update(pages)
        for listen, server in self._pages.items():
            server.pages = {path: self._page(path) for path in wanted[listen]}
        self._forget_clusters(live.blocks)
        if old:
            self._loop.call_later(OLD_STAYS_S, old.stop)

    async def _follow(
        self, blocks: tuple[Block, ...], wait_s: float | None
    ) -> Mapping[Kubernetes, ClusterNames]:
        """Return the zones that the blocks need; ones that nobody knew yet get some time to be complete."""
        for block in blocks:
            config = block.kubernetes
            if config is None or config in self._clusters:
                continue
            own = tuple(each for each in block.bind if not each.is_unspecified)
            names = ClusterNames(config, own)
            self._following[config] = self._loop.create_task(self._run(names, self._api(config)))
            self._clusters[config] = names
            try:
                async with asyncio.timeout(config.startup_timeout_s if wait_s is None else wait_s):
                    await names.synced.wait()
            except TimeoutError:
                if wait_s is None:
                    self._forget_clusters(self.live.blocks if self.live else ())
                    raise TimedOut("kubernetes: the API server does not tell its objects") from None
        return self._clusters

    async def _run(self, names: ClusterNames, api: ClusterConfig) -> None:
        netns = self.config.netns
        async with ApiClient(api, socket_factory=netns.socket if netns else None) as client:
            await names.run(client)

    def _api(self, config: Kubernetes) -> ClusterConfig:
        if config.endpoint:
            return ClusterConfig(server=config.endpoint)
        path = self.config.kubeconfig or (Path(config.kubeconfig) if config.kubeconfig else None)
        if path is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            return kubeconfig.in_cluster()
        return kubeconfig.load(path, config.context or None)

    def _forget_clusters(self, blocks: Sequence[Block]) -> None:
        wanted = {block.kubernetes for block in blocks}
        for config in [config for config in self._clusters if config not in wanted]:
            del self._clusters[config]
            self._following.pop(config).cancel()

    async def _open_places(self, live: Live, opened: dict[Place, _Open]) -> None:
        for place in _places(live.blocks):
            if place in self._open:
                continue
            site = Site(place[0], live.of_blocks(partial(_is_at, place)))
            forward = partial(self._forward, site)
            streams = StreamServer(site, forward, StreamLimits())
            found = opened[place] = _Open(site, [], streams)
            for address in place[1] or EVERYWHERE:
                try:
                    bound = bound_socket(self._socket, address, place[0], socket.SOCK_DGRAM)
                except (OSError, InvalidInput):
                    if place[1] or address.version == 4:
                        raise
                    continue  # this machine has no IPv6
                found.listeners.append(UdpListener(bound, site, forward))
                await streams.listen(bound_socket(self._socket, address, place[0], socket.SOCK_STREAM))

    def _forward(self, site: Site, waiting: Forwarding, reply: Reply) -> None:
        assert self.live is not None
        self.live.forward(site, waiting, reply)

    async def _open_pages(self, blocks: Sequence[Block], pages: dict[Listen, PageServer]) -> None:
        for listen in _listens(blocks):
            if listen not in self._pages:
                address = listen.address or EVERYWHERE[0]
                server = pages[listen] = PageServer()
                await server.listen(bound_socket(self._socket, address, listen.port, socket.SOCK_STREAM))

    def _page(self, path: str) -> "partial[tuple[HTTPStatus, str]]":
        return partial({"/health": self._health, "/ready": self._ready, "/metrics": self._metrics}[path])

    def _health(self) -> tuple[HTTPStatus, str]:
        return HTTPStatus.OK, "OK"

    def _ready(self) -> tuple[HTTPStatus, str]:
        waiting = [] if all(each.synced.is_set() for each in self._clusters.values()) else ["kubernetes"]
        waiting += ["lameduck"] if self.draining else []
        return (HTTPStatus.SERVICE_UNAVAILABLE, ",".join(waiting)) if waiting else (HTTPStatus.OK, "OK")

    def _metrics(self) -> tuple[HTTPStatus, str]:
        parts = self.live.parts if self.live else []
        servers = [
            UpstreamFigures(upstream, forwarder.health.is_down(number))
            for each in parts
            for forwarder in each.forwarders
            for number, upstream in enumerate(forwarder.upstreams)
        ]
        figures = Figures(
            tuple(each.site for each in self._open.values()),
            tuple((f"dns://:{each.part.block.port}", each.cache) for each in parts if each.cache is not None),
            tuple(servers),
            self.reload_failed,
            self._digest,
            sum(len(each.feed.zone.services) for each in self._clusters.values()),
        )
        return HTTPStatus.OK, render(figures)

    def _socket(self, family: int, kind: int) -> socket.socket:
        netns = self.config.netns
        return netns.socket(family, kind) if netns else socket.socket(family, kind)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve, and look for a new Corefile, until ``stop``; then some seconds more (``lameduck``)."""
        looking = self._loop.create_task(self._look())
        stopping = self._loop.create_task(stop.wait())
        try:
            while not stop.is_set():
                await asyncio.wait(
                    {looking, stopping, *self._following.values()}, return_when=asyncio.FIRST_COMPLETED
                )
                for task in [each for each in self._following.values() if each.done()]:
                    await task  # a bug, or a wrong configuration: it must surface
            self.draining = True
            looking.cancel()
            blocks = self.live.blocks if self.live else ()
            await asyncio.sleep(max((block.lameduck_s for block in blocks), default=0.0))
        finally:
            looking.cancel()
            stopping.cancel()

    async def _look(self) -> None:
        while True:
            blocks = self.live.blocks if self.live else ()
            told = [block for block in blocks if block.reload_s]
            every_s = min((block.reload_s for block in told), default=30.0)
            jitter_s = min((block.reload_jitter_s for block in told), default=0.0)
            await asyncio.sleep(every_s + random.uniform(-jitter_s, jitter_s))
            if told:
                await self.reload()

    async def close(self) -> None:
        """Close everything."""
        for found in self._open.values():
            _close(found)
        for page in self._pages.values():
            page.close()
        if self.live:
            self.live.stop()
        following = list(self._following.values())
        for task in following:
            task.cancel()
        if following:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(following)


async def serve(config: ServeConfig, stop: asyncio.Event, again: asyncio.Event | None = None) -> None:
    """Serve until ``stop`` is set; ``again`` asks for a look at the Corefile at once. Raises KubenetError."""
    server = CorefileServer(config)
    try:
        await server.start()
        if config.ready:
            config.ready.set()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_reload_on(server, again)) if again else None
            await server.run(stop)
            if watching:
                watching.cancel()
    finally:
        await server.close()


async def _reload_on(server: CorefileServer, again: asyncio.Event) -> None:
    while True:
        await again.wait()
        again.clear()
        await server.reload()


def _places(blocks: Sequence[Block]) -> dict[Place, None]:
    return {(block.port, block.bind): None for block in blocks}


def _is_at(place: Place, block: Block) -> bool:
    return (block.port, block.bind) == place


def _listens(blocks: Sequence[Block]) -> dict[Listen, list[str]]:
    """Return the pages of each HTTP listener."""
    found: dict[Listen, list[str]] = {}
    for block in blocks:
        pages = {"/health": block.health, "/ready": block.ready, "/metrics": block.prometheus}
        for path, listen in pages.items():
            if listen and path not in found.setdefault(listen, []):
                found[listen].append(path)
    return found


def _close(found: _Open) -> None:
    for listener in found.listeners:
        listener.close()
    found.streams.close()
