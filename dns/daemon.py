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
import platform
import random
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from glob import glob
from http import HTTPStatus
from pathlib import Path

from dns.cluster import ClusterNames
from dns.corefile import read_corefile
from dns.deltas import cluster_of
from dns.handover import Offer, Successor, succeed
from dns.interfaces import addresses_of, reachable, with_addresses
from dns.live import Live
from dns.metrics import Figures, added_up, render
from dns.nodelocal import NodeLocal, arrange, undo
from dns.pages import Page, Shown
from dns.places import Front, SocketSource, listens
from dns.plugins.registry import DNS_PORT, read_blocks
from dns.respond import Forwarding
from dns.settings import Block, Kubernetes
from dns.site import Site
from dns.transports import Reply
from dns.watched import read_zone_files
from dns.worker import ServerLink
from dns.workers import Hub, Workers
from kubenet import __version__
from kubenet.client import kubeconfig
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.errors import InvalidInput, KubenetError, TimedOut
from kubenet.kernel.netns import NetNs

log = logging.getLogger(__name__)

OLD_STAYS_S = 5.0  # an old configuration, until what waits for upstream servers is answered
SUCCEED_S = 60.0  # until we know the cluster, while our predecessor still answers
FINISH_S = 10.0  # at the end, for connections that are open and what waits for upstream servers
FINISH_LOOK_S = 0.05
SILENT_S = 180.0  # bookmarks come every minute


@dataclass(slots=True)
class Panics:
    """Bugs that were met; the command counts them, for it owns the event loop."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """What a server is told that stands in no Corefile."""

    corefile: Path
    port: int = DNS_PORT  # of keys without one
    kubeconfig: Path | None = None
    netns: NetNs | None = None  # None: the caller's
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: asyncio.Event | None = field(default=None, compare=False)
    handover: Path | None = None  # where the sockets come from, and go to
    workers: int = 1  # processes that answer
    command: tuple[str, ...] = ()  # that starts a worker
    worker: int = 0  # which one we are; 0: the server itself
    worker_fd: int = -1  # where a worker hears of the cluster
    node_local: NodeLocal | None = None
    panics: Panics = field(default_factory=Panics, compare=False)

    @property
    def handover_path(self) -> Path | None:
        """Each worker hands over to the one of its number."""
        path = self.handover
        return path.with_name(f"{path.name}.{self.worker}") if path and self.worker else path


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
    blocks = read_blocks(parsed, config.port)
    if any(block.interfaces for block in blocks):
        blocks = with_addresses(blocks, addresses_of(config.netns))
    return blocks, digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Wait:
    """How long to wait for a cluster to be known; None: as the configuration says."""

    most_s: float | None
    required: bool = False


class CorefileServer:
    """A server that can change its configuration while it answers."""

    def __init__(self, config: ServeConfig, successor: Successor | None = None) -> None:
        self.config = config
        self.live: Live | None = None
        self.reload_failed = 0
        self.draining = False
        self.succeeded = False  # somebody else has our sockets
        self._was_ready = False
        self._digest = ""
        self._successor = successor
        shared = config.workers > 1 or config.worker > 0
        self._sockets = SocketSource(config.netns, successor, shared=shared)
        self._front = Front(self._sockets, self._forward, with_pages=not config.worker)
        self._hub = Hub() if config.workers > 1 else None
        self._workers: Workers | None = None
        self._link = ServerLink(config.worker_fd, self._own_metrics) if config.worker else None
        self._clusters: dict[Kubernetes, ClusterNames] = {}
        self._following: dict[Kubernetes, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Serve what the Corefile says. Raises what is wrong with it, or with the sockets.

        Who has a predecessor begins when it knows the cluster, for until then that one answers.
        """
        blocks, digest = read_configuration(self.config)
        if self._link:
            self._linked = self._loop.create_task(self._link.run())
        late = self._successor or self._link  # somebody else answers until we know the cluster
        await self._take(blocks, Wait(SUCCEED_S, required=True) if late else Wait(0.0))
        self._digest = digest
        if self._hub:
            config = self.config
            self._workers = Workers(self._hub, config.command, config.workers - 1, config.netns)
            if self._successor:
                await self._workers.wait_ready(SUCCEED_S)
        if self._successor:
            self._successor.taken()
        if self._link:
            self._link.ready()

    async def reload(self) -> bool:
        """Take the Corefile as it is now; return whether it changed. What is wrong is said, and not taken."""
        before = self._digest
        try:
            blocks, digest = read_configuration(self.config)
            if digest == before:
                return False
            self._digest = digest
            await self._take(blocks, Wait(None, required=True))
        except KubenetError as error:
            self.reload_failed += 1
            if not isinstance(error, InvalidInput):  # what is wrong with a text is said once
                self._digest = before
            log.error("dns: reload: %s; the configuration from before stays", error)  # noqa: TRY400
            return False
        if self._workers:
            self._workers.reload()
        log.info("dns: reloaded %s", self.config.corefile)
        return True

    async def _take(self, blocks: tuple[Block, ...], wait: "Wait") -> None:
        zones = await asyncio.to_thread(read_zone_files, blocks)  # beside the loop: they may be big
        clusters = await self._follow(blocks, wait)
        try:
            live = Live(blocks, clusters, self._sockets.open, zones)
        except BaseException:
            self._forget_clusters(self.live.blocks if self.live else ())
            raise
        try:
            prepared = await self._front.prepare(live)
        except BaseException:
            live.stop()
            self._forget_clusters(self.live.blocks if self.live else ())
            raise
        old, self.live = self.live, live
        live.start()
        self._front.use(live, prepared)
        wanted = listens(live.blocks)
        for listen, server in self._front.pages.items():
            server.pages = {path: self._page(path) for path in wanted[listen]}
        self._forget_clusters(live.blocks)
        if old:
            self._loop.call_later(OLD_STAYS_S, old.stop)

    async def _follow(self, blocks: tuple[Block, ...], wait: "Wait") -> Mapping[Kubernetes, ClusterNames]:
        """Return the zones that the blocks need; ones that nobody knew yet get some time to be complete."""
        for block in blocks:
            config = block.kubernetes
            if config is None or config in self._clusters:
                continue
            own = tuple(each for each in block.bind if not each.is_unspecified) or reachable(
                addresses_of(self.config.netns)
            )
            names = ClusterNames(config, own)
            if self._link:
                self._link.follow(names)
                self._following[config] = self._loop.create_task(_for_ever())
            else:
                if self._hub:
                    names.feed.hub, names.feed.cluster = self._hub, cluster_of(config)
                self._following[config] = self._loop.create_task(self._run(names, self._api(config)))
            self._clusters[config] = names
            try:
                async with asyncio.timeout(config.startup_timeout_s if wait.most_s is None else wait.most_s):
                    await names.synced.wait()
            except TimeoutError:
                if wait.required:
                    self._forget_clusters(self.live.blocks if self.live else ())
                    raise TimedOut("kubernetes: the API server does not tell its objects") from None
        return self._clusters

    async def _run(self, names: ClusterNames, api: ClusterConfig) -> None:
        netns = self.config.netns
        async with ApiClient(api, socket_factory=netns.socket if netns else None) as client:
            await names.run(client)

    def _api(self, config: Kubernetes) -> ClusterConfig:
        if config.endpoint:
            pems = [_pem(path) for path in config.tls] or [b"", b"", b""]
            return ClusterConfig(
                server=config.endpoint, client_cert_pem=pems[0], client_key_pem=pems[1], ca_pem=pems[2]
            )
        path = self.config.kubeconfig or (Path(config.kubeconfig) if config.kubeconfig else None)
        if path is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            return kubeconfig.in_cluster()
        return kubeconfig.load(path, config.context or None)

    def _forget_clusters(self, blocks: Sequence[Block]) -> None:
        wanted = {block.kubernetes for block in blocks}
        for config in [config for config in self._clusters if config not in wanted]:
            del self._clusters[config]
            self._following.pop(config).cancel()
        if self._hub:
            self._hub.forget({cluster_of(config) for config in self._clusters})

    def _forward(self, site: Site, waiting: Forwarding, reply: Reply) -> None:
        assert self.live is not None
        self.live.forward(site, waiting, reply)

    def _page(self, path: str) -> Page:
        return {"/health": self._health, "/ready": self._ready, "/metrics": self._metrics}[path]

    async def _health(self) -> Shown:
        return HTTPStatus.OK, "OK"

    async def _ready(self) -> Shown:
        synced = all(each.synced.is_set() for each in self._clusters.values())
        self._was_ready = self._was_ready or synced
        stays = self._was_ready and any(block.ready_once for block in (self.live.blocks if self.live else ()))
        waiting = [] if synced or stays else ["kubernetes"]
        waiting += ["workers"] if self._workers and not self._workers.ready else []
        waiting += ["lameduck"] if self.draining else []
        if waiting:
            return HTTPStatus.SERVICE_UNAVAILABLE, ",".join(waiting)
        # What is old is still better than nothing: the page says so, and the server stays ready.
        silent_s = self._silent_s()
        old = silent_s is not None and silent_s > SILENT_S
        return HTTPStatus.OK, f"OK, but nothing heard of the API server for {silent_s:.0f} s" if old else "OK"

    def _silent_s(self) -> float | None:
        return max((each.silent_s or 0.0 for each in self._clusters.values()), default=None)

    async def _metrics(self) -> Shown:
        own = self._own_metrics()
        pages = [own, *await self._workers.figures()] if self._workers else []
        return HTTPStatus.OK, added_up(pages) if pages else own

    def _own_metrics(self) -> str:
        parts = self.live.parts if self.live else []
        figures = Figures(
            self._front.sites,
            tuple((f"dns://:{each.part.block.port}", each.cache) for each in parts if each.cache is not None),
            tuple(figures for each in parts for figures in each.forward_figures()),
            self.reload_failed,
            self._digest,
            sum(len(each.feed.zone.services) for each in self._clusters.values()),
            self._silent_s(),
            sum(each.missed for each in self._clusters.values()),
            self.config.panics.count,
            next((each.programming for each in self._clusters.values()), None),
            _process(),
            __version__,
            f"python{platform.python_version()}",
        )
        return render(figures)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve, and look for a new Corefile, until ``stop`` or until a successor has our sockets.

        After ``stop`` we serve some seconds more (``lameduck``); in any case what was asked is answered.
        """
        path = self.config.handover_path
        offer = Offer(path, self._sockets.in_use) if path else None
        looking = self._loop.create_task(self._look())
        events = [stop, *([offer.taken] if offer else []), *([self._link.ended] if self._link else [])]
        waits = [self._loop.create_task(_until(each)) for each in events]
        try:
            while not any(each.done() for each in waits):
                following = self._following.values()
                await asyncio.wait({looking, *waits, *following}, return_when=asyncio.FIRST_COMPLETED)
                for task in [each for each in self._following.values() if each.done()]:
                    await task  # a bug, or a wrong configuration: it must surface
            self.draining = True
            looking.cancel()
            if self._workers:
                self._workers.stop()
            self.succeeded = bool(offer and offer.taken.is_set())
            if not self.succeeded:
                blocks = self.live.blocks if self.live else ()
                await asyncio.sleep(max((block.lameduck_s for block in blocks), default=0.0))
            await self._finish()
        finally:
            for task in (looking, *waits):
                task.cancel()
            if offer:
                offer.close()

    async def _finish(self) -> None:
        """Answer what has been asked, and take no more."""
        self._front.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_S):
                while self._front.connections or (self.live and self.live.busy):
                    await asyncio.sleep(FINISH_LOOK_S)

    async def _look(self) -> None:
        while True:
            blocks = self.live.blocks if self.live else ()
            told = [block for block in blocks if block.reload_s]
            every_s = min((block.reload_s for block in told), default=30.0)
            jitter_s = min((block.reload_jitter_s for block in told), default=0.0)
            await asyncio.sleep(every_s + random.uniform(-jitter_s, jitter_s))
            if told and not self.config.worker:  # a worker is told
                await self.reload()

    async def close(self) -> None:
        """Close everything."""
        if self._workers:
            await self._workers.close(FINISH_S if self.draining else 0.0)
        self._front.close()
        if self.live:
            self.live.stop()
        following = list(self._following.values())
        for task in following:
            task.cancel()
        if following:
            with suppress(asyncio.CancelledError):
                await asyncio.wait(following)


def _process() -> dict[str, float]:
    """Return samples of this process, under the names that Prometheus's own clients use."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "process_cpu_seconds_total": used.ru_utime + used.ru_stime,
        "process_resident_memory_bytes": pages * resource.getpagesize(),
        "process_open_fds": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - only their number
    }


def _pem(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"kubernetes: tls: {path}: {error.strerror}") from error


async def serve(config: ServeConfig, stop: asyncio.Event, again: asyncio.Event | None = None) -> None:
    """Serve until ``stop`` is set; ``again`` asks for a look at the Corefile at once. Raises KubenetError."""
    path = config.handover_path
    successor = await succeed(path) if path else None
    server = CorefileServer(config, successor)
    try:
        if config.node_local:
            arrange(config.node_local, config.netns)
        await server.start()
        if config.ready:
            config.ready.set()
        watching = asyncio.ensure_future(_reload_on(server, again)) if again else None
        try:
            await server.run(stop)
        finally:
            if watching:
                watching.cancel()
    finally:
        await server.close()
        if successor:
            successor.close()
        if config.node_local and not server.succeeded:
            undo(config.node_local, config.netns)


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _reload_on(server: CorefileServer, again: asyncio.Event) -> None:
    while True:
        await again.wait()
        again.clear()
        await server.reload()
