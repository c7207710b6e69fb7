"""Servers of pods: each tells every client who it is and as whom it sees the client.

One thread serves all sockets; each is opened in the namespace of its pod. Over TCP the answer comes at once,
and what a client sends comes back until it closes; over UDP every datagram gets the answer.
"""

import selectors
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Thread
from typing import Self

from kubenet.kernel.netns import NetNs

KINDS = {"TCP": socket.SOCK_STREAM, "UDP": socket.SOCK_DGRAM, "SCTP": socket.SOCK_STREAM}
PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client learned: which server answered, and as whom it sees the client."""

    name: str
    client: str


class Servers:
    """The servers of all pods."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._orders: list[Callable[[], None]] = []
        self._running = True
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running = False
        self._wake.send(b".")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]  # only sockets are registered
        self._selector.close()
        self._wake.close()

    def start(self, netns: NetNs, name: str, ports: Iterable[tuple[str, int]]) -> list[socket.socket]:
        """Serve ports, of pairs such as ``("TCP", 80)``, as ``name``."""
        opened = [_listening(netns, protocol, port) for protocol, port in ports]
        for one in opened:
            self._order(lambda one=one: self._selector.register(one, selectors.EVENT_READ, name))  # type: ignore[misc]
        return opened

    def stop(self, opened: list[socket.socket]) -> None:
        """Close servers, with the connections that they serve."""
        for one in opened:
            self._order(lambda one=one: self._close(one))  # type: ignore[misc]
        while any(one.fileno() >= 0 for one in opened):
            self._wake.send(b".")

    def _order(self, act: Callable[[], object]) -> None:
        self._orders.append(lambda: (act(), None)[1])
        self._wake.send(b".")

    def _run(self) -> None:
        while self._running:
            for key, _ in self._selector.select():
                if key.data is None:
                    self._woken.recv(4096)
                    while self._orders:
                        self._orders.pop(0)()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj.fileno() >= 0:
                    self._serve(key.fileobj, key.data)

    def _serve(self, ready: socket.socket, name: str) -> None:
        try:
            if ready.type == socket.SOCK_DGRAM:
                _, client = ready.recvfrom(2048)
                ready.sendto(_answer(name, client), client)
            elif ready.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                connection, client = ready.accept()
                self._selector.register(connection, selectors.EVENT_READ, name)
                connection.send(_answer(name, client))
            elif said := ready.recv(4096):
                ready.send(said)
            else:
                self._close(ready)
        except OSError:
            if ready.type == socket.SOCK_STREAM and not ready.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                self._close(ready)

    def _close(self, one: socket.socket) -> None:
        self._selector.unregister(one)
        one.close()


def _listening(netns: NetNs, protocol: str, port: int) -> socket.socket:
    proto = socket.IPPROTO_SCTP if protocol == "SCTP" else 0
    one = netns.socket(socket.AF_INET6, KINDS[protocol], proto)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    one.bind(("::", port))
    if protocol != "UDP":
        one.listen(64)
    return one


def _answer(name: str, client: tuple[object, ...]) -> bytes:
    return f"{name} {str(client[0]).removeprefix('::ffff:')}\n".encode()


@dataclass(frozen=True, slots=True)
class Place:
    """Where questions are asked from."""

    name: str
    netns: NetNs
    ip: str

    def ask(
        self, address: str, port: int, protocol: str = "TCP", own_port: int = 0, within_s: float = PATIENCE_S
    ) -> Seen:
        """Ask a server. Raises OSError, such as ConnectionRefusedError and TimeoutError."""
        with self.calling(address, port, protocol, own_port, within_s) as client:
            return told(client)

    def calling(
        self, address: str, port: int, protocol: str = "TCP", own_port: int = 0, within_s: float = PATIENCE_S
    ) -> socket.socket:
        """Return a connected socket. Raises OSError."""
        return _calling(
            self.netns.socket(_family(address), KINDS[protocol]), (address, port), own_port, within_s
        )

    def answered(self, address: str, port: int, protocol: str = "TCP") -> bool:
        """Whether a server answers soon."""
        try:
            self.ask(address, port, protocol, within_s=0.3)
        except OSError:
            return False
        return True

    def refused(self, address: str, port: int, protocol: str = "TCP") -> bool:
        """Whether a question is turned down, and not only unanswered."""
        try:
            self.ask(address, port, protocol, within_s=0.3)
        except TimeoutError:
            return False
        except (ConnectionRefusedError, PermissionError):  # the latter: UDP that REJECT stops on its own node
            return True
        return False

    def names(self, address: str, port: int, protocol: str = "TCP", times: int = 12) -> set[str]:
        """Return which servers answer."""
        return {self.ask(address, port, protocol).name for _ in range(times)}


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6


def _calling(client: socket.socket, server: tuple[str, int], own_port: int, within_s: float) -> socket.socket:
    try:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.settimeout(within_s)
        if own_port:
            client.bind(("", own_port))
        client.connect(server)
    except OSError:
        client.close()
        raise
    return client


def told(client: socket.socket) -> Seen:
    """Return what the server of a connected socket tells."""
    if client.type == socket.SOCK_DGRAM:
        client.send(b"hostName\n")
    words = client.recv(200).decode().split()
    if len(words) != 2:
        raise ConnectionResetError(f"the server said {words}")
    return Seen(words[0], words[1])
