"""A node with pods behind it and a stranger before it, each a namespace, and connections between them.

    pods    10.244.1.2-6 --- 10.244.1.1 \\
                                          node  172.30.0.1 --- 172.30.0.9 outside
    client  10.244.2.10  --- 10.244.2.1 /

All backends live in one namespace, each on an address of its own. No thread is needed: the kernel finishes a
handshake before anybody accepts it.
"""

import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from kubenet.kernel import sysctl
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import Address, Link, LinkKind, LinkState, Route, VethPeer, diff_state, state_of
from proxy.ports import Endpoint

BACKENDS = (2, 3, 4, 5, 6)
CLIENT = "10.244.2.10"
OUTSIDE = "172.30.0.9"
NODE = "172.30.0.1"
NODE_SEEN_BY_PODS = "10.244.1.1"
PORT = 8080
PATIENCE_S = 5.0  # for what will happen
SILENCE_S = 0.3  # for what must not happen


@dataclass(frozen=True, slots=True)
class Reached:
    """Who answered, and as whom the caller was seen."""

    backend: str
    source: str


class World:
    """The four namespaces, with a listener on every backend."""

    def __init__(self, namespaces: Mapping[str, NetNs], undo: ExitStack) -> None:
        self.node = namespaces["node"]
        self.pods = namespaces["pods"]
        self.client = namespaces["client"]
        self.outside = namespaces["outside"]
        self._undo = undo
        self._listeners = {ip: self._listen(ip) for ip in map(backend_ip, BACKENDS)}

    def _listen(self, ip: str) -> socket.socket:
        listener = self._undo.enter_context(self.pods.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.bind((ip, PORT))
        listener.listen(1024)
        return listener

    def connect(
        self,
        where: NetNs,
        ip: str,
        port: int = 80,
        *,
        source: str = "",
        patience_s: float = PATIENCE_S,
    ) -> Reached:
        """Open a TCP connection, find out who got it, and close it. Raises OSError as connect(2)."""
        with where.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(patience_s)
            if source:
                client.bind((source, 0))
            client.connect((ip, port))
            ready, _, _ = select.select(list(self._listeners.values()), [], [], PATIENCE_S)
            (backend,) = (name for name, listener in self._listeners.items() if listener in ready)
            server, seen = self._listeners[backend].accept()
            with server:
                server.sendall(backend.encode())
                assert client.recv(64).decode() == backend  # the way back is translated too
            return Reached(backend, seen[0])

    def udp_servers(self) -> dict[str, socket.socket]:
        """Return a UDP socket on every backend."""
        servers = {}
        for ip in map(backend_ip, BACKENDS):
            servers[ip] = self._undo.enter_context(self.pods.socket(socket.AF_INET, socket.SOCK_DGRAM))
            servers[ip].bind((ip, PORT))
        return servers

    def udp_client(self, where: NetNs, ip: str, port: int) -> socket.socket:
        """Return a UDP socket that sends to ``ip``:``port``."""
        client = self._undo.enter_context(where.socket(socket.AF_INET, socket.SOCK_DGRAM))
        client.settimeout(PATIENCE_S)
        client.connect((ip, port))
        return client


def ask(client: socket.socket, servers: Mapping[str, socket.socket], patience_s: float = PATIENCE_S) -> str:
    """Send a datagram, let whoever got it answer, and return who that was; empty if nobody got it."""
    client.send(b"who?")
    ready, _, _ = select.select(list(servers.values()), [], [], patience_s)
    for ip, server in servers.items():
        if server in ready:
            _, peer = server.recvfrom(64)
            server.sendto(ip.encode(), peer)
            assert client.recv(64).decode() == ip
            return ip
    return ""


def backend_ip(last: int) -> str:
    return f"10.244.1.{last}"


def endpoints(*lasts: int, node: str = "far") -> tuple[Endpoint, ...]:
    """Return ready endpoints on the backends 10.244.1.``lasts``."""
    return tuple(Endpoint(ip_address(backend_ip(last)), PORT, node_name=node) for last in lasts)


@contextmanager
def running_world(directory: Path) -> Iterator[World]:
    """Build the world, and take it down whatever happens."""
    with ExitStack() as undo:
        namespaces = {}
        for name in ("node", "pods", "client", "outside"):
            path = directory / name
            namespaces[name] = undo.enter_context(NetNs.create(path))
            undo.callback(unpin, path)
        _wire(namespaces)
        yield World(namespaces, undo)


def _wire(namespaces: Mapping[str, NetNs]) -> None:
    node = state_of(
        _pair("pod1", "pods"),
        _pair("pod2", "client"),
        _pair("eth0", "outside"),
        _address("pod1", "10.244.1.1/24"),
        _address("pod2", "10.244.2.1/24"),
        _address("eth0", f"{NODE}/24"),
        _default_route("eth0", OUTSIDE),
    )
    pods = [_address("eth0", f"{backend_ip(last)}/24") for last in BACKENDS]
    _make(namespaces["node"], node, namespaces)
    _make(namespaces["pods"], state_of(*pods, _default_route("eth0", "10.244.1.1")))
    _make(
        namespaces["client"], state_of(_address("eth0", f"{CLIENT}/24"), _default_route("eth0", "10.244.2.1"))
    )
    _make(namespaces["outside"], state_of(_address("eth0", f"{OUTSIDE}/24"), _default_route("eth0", NODE)))
    settings = {"net/ipv4/ip_forward": 1}
    # A redirect spends what the kernel allows itself of ICMP to a host, and a refusal would go missing.
    settings |= {f"net/ipv4/conf/{name}/send_redirects": 0 for name in ("all", "eth0")}
    sysctl.write_all(namespaces["node"], settings)


def _pair(ifname: str, peer_netns: str) -> Link:
    return Link(ifname, LinkKind.VETH, peer=VethPeer("eth0", peer_netns))


def _address(ifname: str, text: str) -> Address:
    return Address(ifname, ip_interface(text))


def _default_route(ifname: str, gateway: str) -> Route:
    return Route(ip_network("0.0.0.0/0"), ifname, ip_address(gateway))


def _make(netns: NetNs, want: LinkState, namespaces: Mapping[str, NetNs] | None = None) -> None:
    """Add ``want`` to a fresh namespace; its loopback device and any end of a pair in it come up."""
    with Rtnl(netns) as rtnl:
        have = rtnl.observe()
        up = {
            name: Link(name, link.kind, link.mac, link.mtu, up=True, group=link.group)
            for name, link in have.links.items()
            if name in ("lo", "eth0")
        }
        rtnl.apply(diff_state(have, want.union(LinkState(links={**up, **want.links}))), namespaces or {})
