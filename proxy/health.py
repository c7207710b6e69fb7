"""Small HTTP servers: /healthz, /livez, /metrics, /proxyMode, and one for each health check node port.

Each connection gets one answer and is closed. The sockets are opened in the node's namespace.

Source: RFC 9112; Kubernetes "Virtual IPs and Service Proxies" (healthCheckNodePort).
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus

from kubenet.kernel.netns import NetNs
from proxy.ports import IPAddress
from proxy.vitals import WEIGHT_HEADER, ServiceHealth

log = logging.getLogger(__name__)

Address = tuple[IPAddress, int]
Reply = tuple[int, str, bytes, Mapping[str, str]]  # status, content type, body, further headers
Routes = Callable[[str], Reply | None]  # takes the path; None: there is no such thing here

JSON = "application/json"
_HEAD_BYTES = 8192
_PATIENCE_S = 5.0  # for a request, and for a reader of the answer


def json_reply(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
    """Return a reply in JSON."""
    return status, JSON, body, headers or {}


def open_listener(netns: NetNs | None, ip: IPAddress, port: int) -> socket.socket:
    """Return a listening TCP socket. Raises OSError."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
    made = netns.socket(family, kind) if netns else socket.socket(family, kind)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ip.version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((str(ip), port))
        made.listen()
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


class HttpServer:
    """Answers GET and HEAD on some sockets until it is closed."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._servers: list[asyncio.Server] = []

    async def start(self, listener: socket.socket) -> None:
        """Serve on ``listener`` too, which now belongs to the server."""
        self._servers.append(await asyncio.start_server(self._serve, sock=listener, limit=_HEAD_BYTES))

    def close(self) -> None:
        """Stop listening; answers under way are finished."""
        for server in self._servers:
            server.close()
        self._servers = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._answer(head))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # whoever asks like this gets no answer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    await writer.wait_closed()

    def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _encoded((400, "text/plain", b"not an HTTP request\n", {}))
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return _encoded((405, "text/plain", b"GET and HEAD only\n", {"Allow": "GET, HEAD"}))
        reply = self._routes(target.split("?", 1)[0]) or (404, "text/plain", b"not found\n", {})
        return _encoded(reply, with_body=method == "GET")


def _encoded(reply: Reply, *, with_body: bool = True) -> bytes:
    status, content_type, body, more = reply
    headers = {
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
        **more,
    }
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body if with_body else b"")


class HealthCheckServers:
    """A server for each health check node port, as long as its Service has one."""

    def __init__(
        self,
        netns: NetNs | None,
        addresses: Sequence[IPAddress],
        proxy_well: Callable[[], bool],
        failed: Callable[[ServiceHealth, int, str], None],
    ) -> None:
        self._netns = netns
        self._addresses = addresses
        self._proxy_well = proxy_well
        self._failed = failed
        self._told: Mapping[int, ServiceHealth] = {}
        self._servers: dict[int, HttpServer] = {}

    async def update(self, want: Mapping[int, ServiceHealth]) -> None:
        """Serve ``want``. A port that cannot be opened is told of, and tried again by the next call."""
        self._told = want
        for port in [port for port in self._servers if port not in want]:
            self._servers.pop(port).close()
        for port in [port for port in want if port not in self._servers]:
            try:
                listeners = self._listeners(port)
            except OSError as error:
                self._failed(want[port], port, error.strerror or str(error))
                continue
            self._servers[port] = server = HttpServer(lambda _, port=port: self._reply(port))  # type: ignore[misc]
            for listener in listeners:
                await server.start(listener)

    def close(self) -> None:
        """Stop all of them."""
        for server in self._servers.values():
            server.close()
        self._servers = {}

    def _listeners(self, port: int) -> list[socket.socket]:
        with contextlib.ExitStack() as undo:
            opened = []
            for ip in self._addresses:
                opened.append(open_listener(self._netns, ip, port))
                undo.callback(opened[-1].close)
            undo.pop_all()
        return opened

    def _reply(self, port: int) -> Reply | None:
        health = self._told.get(port)
        if health is None:
            return None
        status, body = health.answer(proxy_well=self._proxy_well())
        return json_reply(status, body, {WEIGHT_HEADER: str(health.local_endpoints)})
