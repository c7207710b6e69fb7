"""The API server: HTTP on given sockets, in front of a store.

A request is routed by ``route`` (pure), judged by ``query`` and the kind's strategy (pure), and carried out
by ``reads``, ``writes`` or ``streams``. Whatever refuses it raises ``StatusError``, which becomes a Status
object here.
"""

import asyncio
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from aiohttp import web

from kubenet.apiserver import codec, discovery
from kubenet.apiserver.addresses import ServiceAddresses
from kubenet.apiserver.bootstrap import bootstrap
from kubenet.apiserver.cache import Cache
from kubenet.apiserver.entries import CacheLimits
from kubenet.apiserver.garbage import GarbageCollector
from kubenet.apiserver.requests import Requests
from kubenet.apiserver.retention import Retention, run_retention
from kubenet.apiserver.route import GroupVersion, route
from kubenet.apiserver.status import StatusError, method_not_allowed, no_such_path, too_large
from kubenet.apiserver.streams import Streams
from kubenet.apiserver.view import negotiated
from kubenet.apiserver.writes import Writer
from kubenet.clock import Clock, SystemClock
from kubenet.model.objects import Json
from kubenet.store.base import Store

log = logging.getLogger(__name__)

OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
HEALTH_PATHS = ("/healthz", "/livez", "/readyz")
STOP_TIMEOUT_S = 1.0
LINGER_S = 0.2  # how long the rest of a refused body is read, so that the client sees the refusal


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What a server is told: the range of cluster IPs, and how its own Service is reached."""

    service_cidr: IPv4Network = field(default_factory=lambda: IPv4Network("10.96.0.0/16"))
    advertised_port: int = 443
    cache: CacheLimits = field(default_factory=CacheLimits)
    retention: Retention = field(default_factory=Retention)


class ApiServer:
    """One API server; ``start`` it once."""

    def __init__(self, store: Store, config: ServerConfig | None = None, clock: Clock | None = None) -> None:
        self._store = store
        self._config = config or ServerConfig()
        clock = clock or SystemClock()
        addresses = ServiceAddresses(self._config.service_cidr)
        self._cache = Cache(store, self._config.cache)
        self._writer = Writer(store, self._cache, addresses, clock)
        self._streams = Streams(store, self._cache)
        self._garbage = GarbageCollector(self._cache, self._writer, clock)
        self._requests = Requests(self._cache, self._writer, self._streams, clock)
        self._clock = clock
        self._addresses = addresses
        self._runner: web.ServerRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on listening sockets; returns once requests are answered. Raises StoreFailed."""
        try:
            await self._start(sockets)
        except BaseException:
            await self.stop()
            raise

    async def _start(self, sockets: Sequence[socket.socket]) -> None:
        await self._cache.load()
        self._writer.load_addresses()
        retention = run_retention(self._store, self._clock, self._config.retention)
        work = (self._cache.run(), self._garbage.run(), retention)
        self._tasks = [asyncio.create_task(one) for one in work]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        await bootstrap(self._cache, self._writer, self._addresses.api_address, self._config.advertised_port)
        server = web.Server(self._serve, auto_decompress=False, access_log=None, lingering_time=LINGER_S)
        self._runner = web.ServerRunner(server, shutdown_timeout=STOP_TIMEOUT_S)
        await self._runner.setup()
        for listener in sockets:
            await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """End all watches and requests, and stop serving. The store stays open."""
        self._streams.close()
        if self._runner is not None:
            await self._runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part of the server that ends by itself is a bug: say so, and hang up on all watchers."""
        if not task.cancelled():
            log.critical("apiserver: a part of it has ended", exc_info=task.exception())
            self._streams.close()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except StatusError as error:
            response = _json(error.body(), error.code)
            if retry := error.details.get("retryAfterSeconds"):
                response.headers["Retry-After"] = str(retry)
            if error.code == 413:
                response.force_close()  # the rest of the body is not read
            return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path.rstrip("/")
        if fixed := _fixed_answer(path, request.headers.get("Accept", "")):
            if request.method != "GET":
                raise method_not_allowed()
            return fixed
        target = route(path)
        if isinstance(target, GroupVersion):
            return _json(discovery.resource_list(target.group, target.version))
        target.check_method(request.method)
        view = negotiated(
            request.headers.get("Accept", ""), request.query.get("includeObject", ""), self._clock.now()
        )
        if request.method == "GET":
            return await self._requests.read(request, target, view)
        body = await _body(request)
        return await self._requests.write(request, target, view, body)


def _fixed_answer(path: str, accept: str) -> web.Response | None:
    """Return the answer of the paths that are no objects, or None."""
    if path in HEALTH_PATHS:
        return web.Response(text="ok")
    if path == "/version":
        return _json(discovery.version())
    if path in ("/api", "/apis"):
        if discovery.wants_aggregated(accept):
            body = codec.encoded(discovery.aggregated(core=path == "/api"))
            return web.Response(body=body, headers={"Content-Type": discovery.AGGREGATED})
        return _json(discovery.api_versions() if path == "/api" else discovery.api_groups())
    if path == "/openapi/v2":
        # An empty document makes kubectl skip its own validation; a half-filled one makes it fail.
        return web.Response(body=b"", headers={"Content-Type": OPENAPI_V2})
    if not path.startswith(("/api/", "/apis/")):
        raise no_such_path()
    if path.count("/") == 2 and (group := discovery.api_group(path.removeprefix("/apis/"))):
        return _json(group)
    return None


def _json(value: Json, code: int = 200) -> web.Response:
    return web.Response(body=codec.encoded(value), status=code, content_type=codec.JSON_TYPE)


async def _body(request: web.BaseRequest) -> bytes:
    """Return the body. Raises StatusError (413) as soon as it is known to be too large."""
    if (request.content_length or 0) > codec.BODY_MOST_BYTES:
        raise too_large(codec.BODY_MOST_BYTES)
    chunks, size_bytes = [], 0
    async for chunk in request.content.iter_any():
        size_bytes += len(chunk)
        if size_bytes > codec.BODY_MOST_BYTES:
            raise too_large(codec.BODY_MOST_BYTES)
        chunks.append(chunk)
    return b"".join(chunks)
