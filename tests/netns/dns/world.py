"""A server's namespace and a client's, joined by a wire, and everything that asks and answers in them.

server  172.31.0.2 .3, fd00:31::2 ::3  ----  172.31.0.1, fd00:31::1  client
"""

import asyncio
import select
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from ipaddress import ip_address, ip_interface
from pathlib import Path

from dns.forward import Patience
from dns.framing import FrameReader, framed
from dns.server import DnsConfig, DnsServer
from dns.transports import StreamLimits
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import Address, Link, LinkKind, LinkState, VethPeer, diff_state, state_of
from kubenet.model.objects import EndpointSlice, Namespace, ObjectMeta, Service
from tests.unit.dns.world import Seen, query, seen, service

CLIENT = "172.31.0.1"
SERVER = "172.31.0.2"
OTHER = "172.31.0.3"  # another address of the server
CLIENT6 = "fd00:31::1"
SERVER6 = "fd00:31::2"
OTHER6 = "fd00:31::3"
ZONE = "cluster.local"
WEB = f"web.demo.svc.{ZONE}"
PATIENCE_S = 5.0  # for what will happen
SILENCE_S = 0.15  # for what must not happen

LIMITS = StreamLimits()
IMPATIENT = Patience(try_s=0.15, tries=2)


class World:
    """The two namespaces."""

    def __init__(self, server: NetNs, client: NetNs) -> None:
        self.server = server
        self.client = client


@contextmanager
def running_world(directory: Path) -> Iterator[World]:
    """Build the world, and take it down whatever happens."""
    with ExitStack() as undo:
        namespaces: dict[str, NetNs] = {}
        for name in ("server", "client"):
            namespaces[name] = undo.enter_context(NetNs.create(directory / name))
            undo.callback(unpin, directory / name)
        pair = Link("eth0", LinkKind.VETH, peer=VethPeer("eth0", "client"))
        held = [f"{ip}/24" for ip in (SERVER, OTHER)] + [f"{ip}/64" for ip in (SERVER6, OTHER6)]
        _make(namespaces["server"], state_of(pair, *(_address(each) for each in held)), namespaces)
        _make(namespaces["client"], state_of(_address(f"{CLIENT}/24"), _address(f"{CLIENT6}/64")), {})
        _until_wired(namespaces["server"], namespaces["client"])
        yield World(namespaces["server"], namespaces["client"])


def _until_wired(server: NetNs, client: NetNs) -> None:
    """Return once a packet arrives: the kernel lets a new link carry any up to a second after it is up."""
    with (
        server.socket(socket.AF_INET, socket.SOCK_DGRAM) as target,
        client.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        target.bind((SERVER, 9))
        deadline = time.monotonic() + PATIENCE_S
        while not select.select([target], [], [], 0.01)[0]:
            assert time.monotonic() < deadline, "the wire carries nothing"
            source.sendto(b"are you there?", (SERVER, 9))


def _address(text: str) -> Address:
    return Address("eth0", ip_interface(text))


def _make(netns: NetNs, want: LinkState, namespaces: Mapping[str, NetNs]) -> None:
    with Rtnl(netns) as rtnl:
        have = rtnl.observe()
        up = {
            name: Link(name, link.kind, link.mac, link.mtu, up=True, group=link.group)
            for name, link in have.links.items()
            if name in ("lo", "eth0")
        }
        rtnl.apply(diff_state(have, want.union(LinkState(links={**up, **want.links}))), namespaces)


@asynccontextmanager
async def serving(
    world: World,
    *objects: Service | EndpointSlice,
    addresses: tuple[str, ...] = (SERVER,),
    upstreams: tuple[tuple[str, int], ...] = (),
    streams: StreamLimits = LIMITS,
    patience: Patience = IMPATIENT,
) -> AsyncIterator[DnsServer]:
    """Serve a cluster of ``objects`` (one Service if none is given) in the server's namespace."""
    config = DnsConfig(
        tuple(map(ip_address, addresses)),
        netns=world.server,
        upstreams=tuple((ip_address(ip), port) for ip, port in upstreams),
        streams=streams,
        patience=patience,
    )
    server = DnsServer(config)
    try:
        await server.listen()
        server.feed.namespace("demo", Namespace(metadata=ObjectMeta(name="demo")))
        for each in objects or (service("demo/web", "10.96.1.1"),):
            take = server.feed.service if isinstance(each, Service) else server.feed.endpoint_slice
            take(each.metadata.key, each)  # type: ignore[arg-type]
        server.feed.complete()
        server.poke()
        await asyncio.wait_for(server.synced.wait(), PATIENCE_S)
        yield server
    finally:
        server.close()


def on(case: Callable[[], Awaitable[None]]) -> None:
    """Run a test's case in a loop of its own."""

    async def bounded() -> None:
        async with asyncio.timeout(20):
            await case()

    asyncio.run(bounded())


def udp_socket(world: World, server: str = SERVER, *, source: tuple[str, int] | None = None) -> socket.socket:
    """Return a socket of the client that hears only what comes from ``server``."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    opened = world.client.socket(family, socket.SOCK_DGRAM)
    opened.setblocking(False)
    if source:
        opened.bind(source)
    opened.connect((server, 53))
    return opened


async def exchange(opened: socket.socket, message: bytes, patience_s: float = PATIENCE_S) -> bytes | None:
    """Send a datagram and return what comes back, None for silence."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(opened, message)
    try:
        return await asyncio.wait_for(loop.sock_recv(opened, 65535), patience_s)
    except TimeoutError:
        return None


async def ask(
    world: World, name: str = WEB, qtype: int = 1, *, server: str = SERVER, opt: bytes = b""
) -> Seen:
    """Ask over UDP from the client's namespace."""
    with udp_socket(world, server) as opened:
        reply = await exchange(opened, query(name, qtype, opt=opt))
    assert reply is not None, f"no answer for {name}"
    return seen(reply)


class Stream:
    """A TCP connection of the client."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = FrameReader()
        self._loop = asyncio.get_running_loop()

    async def send(self, octets: bytes) -> None:
        await self._loop.sock_sendall(self._connection, octets)

    async def messages(self, count: int) -> list[bytes]:
        """Return the next ``count`` messages, fewer if the server ends the connection."""
        found: list[bytes] = list(self._frames.messages())
        while len(found) < count:
            piece = await asyncio.wait_for(self._piece(), PATIENCE_S)
            if not piece:
                break
            self._frames.feed(piece)
            found += self._frames.messages()
        return found

    async def closed(self) -> bool:
        """Return once the server has ended the connection; True if nothing came before."""
        return await asyncio.wait_for(self._piece(), PATIENCE_S) == b""

    async def _piece(self) -> bytes:
        try:
            return await self._loop.sock_recv(self._connection, 65536)
        except ConnectionResetError:
            return b""

    def end(self) -> None:
        """Send no more."""
        self._connection.shutdown(socket.SHUT_WR)


@asynccontextmanager
async def stream(world: World, server: str = SERVER) -> AsyncIterator[Stream]:
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with world.client.socket(family, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (server, 53))
        yield Stream(connection)


class Upstream:
    """A server on the client's address that does what it is told with each query.

    ``answer(message, tcp)`` gives the datagrams, or TCP octets, to send back.
    """

    def __init__(
        self, world: World, answer: Callable[[bytes, bool], list[bytes]], *, port: int = 5300
    ) -> None:
        self.asked: list[tuple[bytes, bool]] = []
        self.ports: list[int] = []
        self._answer = answer
        self._udp = world.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = world.client.socket(socket.AF_INET, socket.SOCK_STREAM)
        for opened in (self._udp, self._tcp):
            opened.bind((CLIENT, port))
        self._tcp.listen()
        self._stop_read, self._stop_write = socket.socketpair()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Upstream":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_write.close()
        self._thread.join()
        for opened in (self._udp, self._tcp, self._stop_read):
            opened.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._udp, self._tcp, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            if self._udp in ready:
                message, source = self._udp.recvfrom(65535)
                self.asked.append((message, False))
                self.ports.append(source[1])
                for reply in self._answer(message, False):
                    self._udp.sendto(reply, source)
            if self._tcp in ready:
                self._over_tcp()

    def _over_tcp(self) -> None:
        connection, _ = self._tcp.accept()
        with connection:
            connection.settimeout(PATIENCE_S)
            message = connection.recv(65535)[2:]
            self.asked.append((message, True))
            for octets in self._answer(message, True):
                connection.sendall(octets)
                time.sleep(0.01)


def framed_in_two(message: bytes) -> list[bytes]:
    """Return the octets of a message on a stream, in two pieces."""
    whole = framed(message)
    return [whole[:1], whole[1:]]
