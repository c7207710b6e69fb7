"""The open sockets of a server, by place: an address and a port, and what answers there.

Sockets belong to the server and not to its configuration: those that both the old and the new one want stay
open, so that a change of configuration loses no query. They may also have been another process's before.
"""

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import TypeAlias

from dns.doh import DohServer
from dns.handover import SocketName, Successor
from dns.live import Live
from dns.pages import PageServer
from dns.plugins.values import TlsFiles
from dns.respond import Forwarding
from dns.secure import load, server_context
from dns.server import bound_socket
from dns.settings import Block, Listen
from dns.site import Site
from dns.transports import Reply, StreamLimits, StreamServer, UdpListener
from kubenet.errors import InvalidInput
from kubenet.kernel.netns import NetNs
from kubenet.model.links import IPAddress

_ALPN = {"tls": ("dot",), "https": ("http/1.1",)}
EVERYWHERE = (ip_address("0.0.0.0"), ip_address("::"))

ForwardOf: TypeAlias = Callable[[Site, Forwarding, Reply], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server block is asked."""

    port: int
    addresses: tuple[IPAddress, ...]  # none: all
    scheme: str = "dns"  # or tls, https
    tls: TlsFiles | None = None


class SocketSource:
    """Opens sockets in one namespace; those that a predecessor left are used again."""

    def __init__(
        self, netns: NetNs | None, successor: Successor | None = None, *, shared: bool = False
    ) -> None:
        self._netns = netns
        self._shared = shared  # with workers
        self._left = successor.sockets if successor else {}
        self._bound: dict[SocketName, socket.socket] = {}

    def open(self, family: int, kind: int) -> socket.socket:
        """Return a new socket, not bound."""
        return self._netns.socket(family, kind) if self._netns else socket.socket(family, kind)

    def bound(self, address: IPAddress, port: int, kind: int) -> socket.socket:
        """Return a bound socket. Raises InvalidInput, AlreadyExists, NotPermitted."""
        name = str(address), port, int(kind)
        opened = self._left.pop(name, None) or bound_socket(
            self.open, address, port, kind, shared=self._shared
        )
        self._bound[name] = opened
        return opened

    def in_use(self) -> Mapping[SocketName, socket.socket]:
        """Return the bound sockets that are open."""
        self._bound = {name: each for name, each in self._bound.items() if each.fileno() != -1}
        return self._bound


@dataclass(slots=True)
class _Open:
    """The sockets of one place."""

    site: Site
    listeners: list[UdpListener]
    streams: StreamServer
    doh: DohServer | None = None
    context: ssl.SSLContext | None = None

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()
        self.streams.close()
        if self.doh:
            self.doh.close()


class Front:
    """All places of a server, and its HTTP listeners."""

    def __init__(self, sockets: SocketSource, forward: ForwardOf, *, with_pages: bool = True) -> None:
        self.with_pages = with_pages
        self.pages: dict[Listen, PageServer] = {}
        self._sockets = sockets
        self._forward = forward
        self._open: dict[Place, _Open] = {}

    @property
    def sites(self) -> tuple[Site, ...]:
        """What answers, by port."""
        return tuple(each.site for each in self._open.values())

    @property
    def connections(self) -> int:
        """How many TCP connections of clients are open."""
        return sum(len(each.streams.connections) for each in self._open.values())

    async def prepare(self, live: Live) -> "Prepared":
        """Open what ``live`` needs and is not open; raises what bound_socket does, and all is as before."""
        prepared = Prepared({}, {})
        try:
            for place in _places(live.blocks):
                if place not in self._open:
                    await self._open_place(place, live, prepared)
                elif place.tls:
                    server_context(place.tls, _ALPN[place.scheme])  # raises now, not when it is used
            for listen in listens(live.blocks) if self.with_pages else ():
                if listen not in self.pages:
                    address = listen.address or EVERYWHERE[0]
                    server = prepared.pages[listen] = PageServer()
                    await server.listen(self._sockets.bound(address, listen.port, socket.SOCK_STREAM))
        except BaseException:
            prepared.close()
            raise
        return prepared

    async def _open_place(self, place: Place, live: Live, prepared: "Prepared") -> None:
        site = Site(place.port, live.of_blocks(partial(_is_at, place)))
        forward = partial(self._forward, site)
        streams = StreamServer(site, forward, StreamLimits(), site.meter)
        found = prepared.opened[place] = _Open(site, [], streams)
        if place.tls:
            found.context = server_context(place.tls, _ALPN[place.scheme])
        if place.scheme == "https":
            found.doh = DohServer(site, forward, found.context)
        for address in place.addresses or EVERYWHERE:
            try:
                listening = self._sockets.bound(address, place.port, socket.SOCK_STREAM)
            except (OSError, InvalidInput):
                if place.addresses or address.version == 4:
                    raise
                continue  # this machine has no IPv6
            if found.doh:
                await found.doh.listen(listening)
                continue
            await streams.listen(listening, found.context)
            if place.scheme == "dns":
                bound = self._sockets.bound(address, place.port, socket.SOCK_DGRAM)
                found.listeners.append(UdpListener(bound, site, forward, site.meter))

    def use(self, live: Live, prepared: "Prepared") -> None:
        """Answer as ``live`` says from the next query on, and close what it does not need."""
        places, wanted = _places(live.blocks), listens(live.blocks)
        for place, found in self._open.items():
            if place in places:
                if place.tls and found.context:
                    load(found.context, place.tls)  # it may have been renewed
                found.site.use(live.of_blocks(partial(_is_at, place)))
        for gone in [place for place in self._open if place not in places]:
            self._open.pop(gone).close()
        for listen in [listen for listen in self.pages if listen not in wanted]:
            self.pages.pop(listen).close()
        self._open.update(prepared.opened)
        self.pages.update(prepared.pages)

    def drain(self) -> None:
        """Take no more queries and connections; what has been asked is still answered."""
        for found in self._open.values():
            for listener in found.listeners:
                listener.stop()
            found.streams.drain()
        for page in self.pages.values():
            page.close()

    def close(self) -> None:
        """Close everything."""
        for found in self._open.values():
            found.close()
        for page in self.pages.values():
            page.close()


@dataclass(slots=True)
class Prepared:
    """Sockets that are open for a configuration that is not in use yet."""

    opened: dict[Place, _Open]
    pages: dict[Listen, PageServer]

    def close(self) -> None:
        """The configuration is not taken."""
        for each in self.opened.values():
            each.close()
        for page in self.pages.values():
            page.close()


def listens(blocks: Sequence[Block]) -> dict[Listen, list[str]]:
    """Return the pages of each HTTP listener."""
    found: dict[Listen, list[str]] = {}
    for block in blocks:
        pages = {"/health": block.health, "/ready": block.ready, "/metrics": block.prometheus}
        for path, listen in pages.items():
            if listen and path not in found.setdefault(listen, []):
                found[listen].append(path)
    return found


def _places(blocks: Sequence[Block]) -> dict[Place, None]:
    return {_place_of(block): None for block in blocks}


def _place_of(block: Block) -> Place:
    return Place(block.port, block.bind, block.scheme, block.tls if block.scheme != "dns" else None)


def _is_at(place: Place, block: Block) -> bool:
    return _place_of(block) == place
