"""The cluster's DNS server: follows the API server, answers on its addresses.

It listens from the start and is ready once it knows the whole cluster; before that it answers what it knows
already, forwards what is not ours, and says SERVFAIL to the rest (CoreDNS waits up to 5 s before it listens
at all). Without upstream servers, names outside our zones are REFUSED.

All sockets, to clients and to upstream servers, are opened in one network namespace and used from outside it.
"""

import asyncio
import errno
import logging
import os
import random
import secrets
import socket
import time
from dataclasses import dataclass, field
from typing import TypeVar

from dns import names
from dns.feed import ClusterFeed
from dns.follow import Scope, follow
from dns.forward import Forwarder, Patience, Upstream
from dns.read import Naming
from dns.relay import UpstreamReply
from dns.respond import Forwarding, Responder
from dns.streams import SocketFactory
from dns.transports import Reply, StreamLimits, StreamServer, UdpListener
from dns.upstream import UpstreamSockets
from dns.zone import PodsMode, ZoneConfig
from kubenet.client.transport import ApiClient
from kubenet.errors import AlreadyExists, InvalidInput, KubenetError, NotPermitted
from kubenet.kernel.netns import NetNs
from kubenet.model.links import IPAddress
from kubenet.model.objects import KubeObject

log = logging.getLogger(__name__)

ObjectT = TypeVar("ObjectT", bound=KubeObject)

DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """What one server is told at its start."""

    addresses: tuple[IPAddress, ...]
    netns: NetNs | None = None  # None: the caller's
    port: int = DNS_PORT
    cluster_domain: str = "cluster.local"
    upstreams: tuple[tuple[IPAddress, int], ...] = ()
    ttl_s: int = 5
    pods: PodsMode = PodsMode.INSECURE
    endpoint_pod_names: bool = False
    streams: StreamLimits = field(default_factory=StreamLimits)
    patience: Patience = field(default_factory=Patience)
    ready: asyncio.Event | None = field(default=None, compare=False)

    def zone_config(self) -> ZoneConfig:
        """Return what of this the zone depends on.

        With upstream servers, unknown reverse names are asked there (``fallthrough`` of the usual Corefile);
        without, they are denied. Raises InvalidInput.
        """
        domain = names.from_text(self.cluster_domain.lower())
        if domain == names.ROOT:
            raise InvalidInput("cluster domain: must not be the root")
        if not 0 <= self.ttl_s <= 3600:
            raise InvalidInput(f"ttl {self.ttl_s}: must be 0 to 3600 seconds")
        reverse = (names.IN_ADDR_ARPA, names.IP6_ARPA)
        return ZoneConfig(
            Naming(domain, self.ttl_s, self.endpoint_pod_names),
            self.pods,
            own_addresses=tuple(each for each in self.addresses if not each.is_unspecified),
            reverse=reverse,
            fallthrough=frozenset(reverse) if self.upstreams else frozenset(),
        )


class DnsServer:
    """The parts of one server, put together; who has the cluster's objects calls ``feed`` and ``poke``."""

    def __init__(self, config: DnsConfig) -> None:
        _check(config)
        self.config = config
        # A serial never goes back over a restart, as long as there is less than one change a second on
        # average.
        self.feed = ClusterFeed(config.zone_config(), serial=int(time.time()))
        self.responder = Responder(
            self.feed.zone, any_of, forwards=bool(config.upstreams), idle_s=config.streams.idle_s
        )
        self.synced = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._poked = False
        upstreams = [Upstream(address, port) for address, port in config.upstreams]
        self.upstream: UpstreamSockets[tuple[Forwarding, Reply]] = UpstreamSockets(
            Forwarder(upstreams, secrets.randbelow, config.patience), self._open, self._deliver, self._refuse
        )
        self.streams = StreamServer(self.responder, self._forward, config.streams)
        self.listeners: list[UdpListener] = []

    async def listen(self) -> None:
        """Open all sockets. Raises InvalidInput, AlreadyExists, NotPermitted; ``close`` what is open then."""
        for address in self.config.addresses:
            bound = bound_socket(self._open, address, self.config.port, socket.SOCK_DGRAM)
            self.listeners.append(UdpListener(bound, self.responder, self._forward))
            bound = bound_socket(self._open, address, self.config.port, socket.SOCK_STREAM)
            await self.streams.listen(bound)

    def close(self) -> None:
        """Close all sockets."""
        for listener in self.listeners:
            listener.close()
        self.streams.close()
        self.upstream.close()

    def poke(self) -> None:
        """The feed has news: take it over, after whatever else happens in this turn of the loop."""
        if not self._poked:
            self._poked = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._poked = False
        flushed = self.feed.flush()
        self.responder.move(flushed.zone, flushed.changed)
        for text in flushed.ignored:
            log.warning("dns: ignored: %s", text)
        if self.feed.dirty:
            self.poke()
        elif flushed.zone.synced:
            self.synced.set()

    def _forward(self, waiting: Forwarding, reply: Reply) -> None:
        self.upstream.ask(waiting.ask, (waiting, reply), stream=waiting.stream)

    def _deliver(self, waiter: tuple[Forwarding, Reply], reply: UpstreamReply | None) -> None:
        waiting, send = waiter
        send(self.responder.complete(waiting, reply))

    def _refuse(self, waiter: tuple[Forwarding, Reply]) -> None:
        waiting, send = waiter
        send(self.responder.refuse(waiting))

    def _open(self, family: int, kind: int) -> socket.socket:
        netns = self.config.netns
        return netns.socket(family, kind) if netns else socket.socket(family, kind)


def bound_socket(
    open_socket: SocketFactory, address: IPAddress, port: int, kind: int, *, shared: bool = False
) -> socket.socket:
    """Return a socket that is bound; ``shared``: other processes of ours are bound there too.

    Raises InvalidInput, AlreadyExists, NotPermitted."""
    opened = open_socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, kind)
    try:
        if address.version == 6:
            # An IPv4 client is then never met as ::ffff:a.b.c.d, which would be a second spelling of it.
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind((str(address), port))
    except OSError as error:
        opened.close()
        raise _bind_error(error, address, port) from error
    return opened


def _check(config: DnsConfig) -> None:
    if not config.addresses:
        raise InvalidInput("dns: no address to listen on")
    own = {(address, config.port) for address in config.addresses}
    for address, port in config.upstreams:
        if (address, port) in own:
            raise InvalidInput(
                f"dns: upstream {address} port {port} is this server: queries would go round",
                "name the servers that the node itself uses",
            )


def _bind_error(error: OSError, address: IPAddress, port: int) -> KubenetError:
    subject = f"dns: cannot listen on {address} port {port}: {os.strerror(error.errno or 0)}"
    match error.errno:
        case errno.EADDRINUSE:
            return AlreadyExists(subject, f"see who does: ss -lunp sport = {port}")
        case errno.EACCES | errno.EPERM:
            return NotPermitted(subject, "run as root, or with CAP_NET_BIND_SERVICE")
        case _:
            return InvalidInput(subject, "give the address to an interface of this namespace first")


def any_of(choices: int) -> int:
    return random.getrandbits(32) % choices


async def run_dns(config: DnsConfig, client: ApiClient) -> None:
    """Serve until cancelled. Raises InvalidInput, AlreadyExists or NotPermitted if it cannot listen."""
    server = DnsServer(config)
    try:
        await server.listen()
        async with asyncio.TaskGroup() as tasks:
            informers = follow(client, server.feed, server.poke, Scope(pods=config.pods is PodsMode.VERIFIED))
            for informer in informers:
                tasks.create_task(informer.run())
            for informer in informers:
                await informer.wait_synced()
            server.feed.complete()
            server.poke()
            await server.synced.wait()
            log.info("dns: serving %d services", len(server.feed.zone.services))
            if config.ready:
                config.ready.set()
    finally:
        server.close()
