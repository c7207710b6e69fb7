"""The API server: HTTP on given sockets, in front of a store.

A request is routed by ``route`` (pure), judged by ``query`` and the kind's strategy (pure), and carried out
by ``reads``, ``writes`` or ``streams``. Whatever refuses it raises ``StatusError``, which becomes a Status
object here.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from aiohttp import web

from kubenet.apiserver import codec, discovery
from kubenet.apiserver.addresses import ServiceAddresses
from kubenet.apiserver.attributes import of_path, of_target
from kubenet.apiserver.authenticator import Authenticator
from kubenet.apiserver.authorizer import Authorizer
from kubenet.apiserver.bootstrap import bootstrap, bootstrap_rights
from kubenet.apiserver.cache import Cache
from kubenet.apiserver.definitions import Definitions
from kubenet.apiserver.entries import CacheLimits
from kubenet.apiserver.garbage import GarbageCollector
from kubenet.apiserver.gate import Access, Call, Gate
from kubenet.apiserver.kinds import Catalogue
from kubenet.apiserver.metrics import TEXT_TYPE
from kubenet.apiserver.misbehaviour import Misbehaviour, Mischief
from kubenet.apiserver.openapi import v2_document, v3_document, v3_index
from kubenet.apiserver.openapi_v2 import v2_protobuf
from kubenet.apiserver.requests import Requests, Rights, Sent
from kubenet.apiserver.retention import Retention, run_retention
from kubenet.apiserver.reviews import Reviews
from kubenet.apiserver.route import Target, route
from kubenet.apiserver.status import StatusError, method_not_allowed, no_such_path, too_large
from kubenet.apiserver.streams import Streams
from kubenet.apiserver.timed import TimedStore
from kubenet.apiserver.tokens import ISSUER
from kubenet.apiserver.view import negotiated
from kubenet.apiserver.writes import Writer
from kubenet.clock import Clock, SystemClock
from kubenet.model.objects import Json
from kubenet.store.base import Store

log = logging.getLogger(__name__)

OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
HEALTH_PATHS = ("/healthz", "/livez", "/readyz")
STOP_TIMEOUT_S = 1.0
HANDSHAKE_TIMEOUT_S = 5.0  # a client that says nothing holds no more than a descriptor, and not for long
BACKLOG = 512
LINGER_S = 0.2  # how long the rest of a refused body is read, so that the client sees the refusal


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What a server is told: the range of cluster IPs, and how its own Service is reached."""

    service_cidr: IPv4Network = field(default_factory=lambda: IPv4Network("10.96.0.0/16"))
    advertised_port: int = 443
    cache: CacheLimits = field(default_factory=CacheLimits)
    retention: Retention = field(default_factory=Retention)
    misbehaviour: Misbehaviour | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket; without TLS whoever reaches it is the administrator."""

    socket: socket.socket
    tls: ssl.SSLContext | None = None


class ApiServer:
    """One API server; ``start`` it once."""

    def __init__(
        self,
        store: Store,
        config: ServerConfig | None = None,
        clock: Clock | None = None,
        access: Access | None = None,
    ) -> None:
        self._config = config or ServerConfig()
        self._access = access
        clock = clock or SystemClock()
        credentials = (access or Access()).credentials
        addresses = ServiceAddresses(self._config.service_cidr)
        self._catalogue = Catalogue()
        self._cache = Cache(store, self._config.cache, self._catalogue)
        authenticator = Authenticator(self._cache, credentials, clock)
        authorizer = Authorizer(self._cache)
        reviews = Reviews(self._cache, authorizer, authenticator, clock)
        self._gate = Gate(access or Access(), authenticator, authorizer, clock)
        self._store = store = TimedStore(store, self._gate.metrics, clock)
        self._writer = Writer(store, self._cache, addresses, clock)
        wanted = self._config.misbehaviour
        self._mischief = Mischief(wanted) if wanted else None
        self._streams = Streams(store, self._cache, self._mischief)
        self._definitions = Definitions(self._cache, self._writer, clock)
        self._garbage = GarbageCollector(self._cache, self._writer, clock)
        rights = Rights(authorizer, reviews, credentials.signer)
        self._requests = Requests(self._cache, self._writer, self._streams, clock, rights)
        self._clock = clock
        self._addresses = addresses
        self._runner: web.ServerRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: list[asyncio.Server] = []

    async def start(self, listeners: Sequence[Listener | socket.socket]) -> None:
        """Serve on listening sockets; returns once requests are answered. Raises StoreFailed."""
        try:
            await self._start([Listener(one) if isinstance(one, socket.socket) else one for one in listeners])
        except BaseException:
            await self.stop()
            raise

    async def _start(self, listeners: Sequence[Listener]) -> None:
        await self._cache.load()
        self._writer.load_addresses()
        retention = run_retention(self._store, self._clock, self._config.retention)
        work = (self._cache.run(), self._garbage.run(), self._definitions.run(), retention)
        self._tasks = [asyncio.create_task(one) for one in work]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        await bootstrap(self._cache, self._writer, self._addresses.api_address, self._config.advertised_port)
        if self._access is not None:
            await bootstrap_rights(self._cache, self._writer)
        server = web.Server(self._serve, auto_decompress=False, access_log=None, lingering_time=LINGER_S)
        self._runner = web.ServerRunner(server, shutdown_timeout=STOP_TIMEOUT_S)
        await self._runner.setup()
        for listener in listeners:
            self._listening.append(await self._listen(listener))

    async def _listen(self, listener: Listener) -> asyncio.Server:
        assert self._runner is not None
        protocols = self._runner.server
        assert protocols is not None
        return await asyncio.get_running_loop().create_server(
            protocols,
            sock=listener.socket,
            ssl=listener.tls,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if listener.tls else None,
            backlog=BACKLOG,
        )

    @property
    def revision(self) -> int:
        """The newest revision that reads and watches show."""
        return self._cache.revision

    async def stop(self) -> None:
        """End all watches and requests, and stop serving. The store stays open."""
        self._streams.close()
        for server in self._listening:
            server.close()
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
        call = self._gate.call()
        code = 500
        try:
            response = await self._answered(request, call)
            code = response.status
            return response
        finally:
            self._gate.finish(call, request.remote or "", code)

    async def _answered(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        try:
            return await self._answer(request, call)
        except StatusError as error:
            response = _json(error.body(), error.code)
            if retry := error.details.get("retryAfterSeconds"):
                response.headers["Retry-After"] = str(retry)
            if error.code == 413:
                response.force_close()  # the rest of the body is not read
            return response

    async def _answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        call.user = self._gate.identify(request)
        path = request.rel_url.raw_path.rstrip("/")
        target = (
            route(path, self._catalogue)
            if path.startswith(("/api/", "/apis/")) and not _is_group(path)
            else None
        )
        if isinstance(target, Target):
            call.asked = of_target(request.method, target, request.query)
        else:
            call.asked = of_path(request.method, path)
        self._gate.check(call)
        with self._gate.room(call):
            if isinstance(target, Target):
                return await self._carry_out(request, target, call)
            if request.method not in ("GET", "HEAD"):
                raise method_not_allowed()
            if target is not None:
                return _json(discovery.resource_list(self._catalogue, target.group, target.version))
            return self._fixed_answer(path, request.headers.get("Accept", ""))

    async def _carry_out(self, request: web.BaseRequest, target: Target, call: Call) -> web.StreamResponse:
        target.check_method(request.method)
        if self._mischief is not None:
            self._mischief.request()
        view = negotiated(
            request.headers.get("Accept", ""), request.query.get("includeObject", ""), self._clock.now()
        )
        if request.method == "GET":
            return await self._requests.read(request, target, view)
        return await self._requests.write(request, target, view, Sent(call.user, await _body(request)))

    def _fixed_answer(self, path: str, accept: str) -> web.Response:
        """Return the answer of a path that is no object. Raises StatusError (404)."""
        if path in HEALTH_PATHS:
            return web.Response(text="ok")
        if path == "/metrics":
            kept = ((plural, len(shelf.entries)) for plural, shelf in self._cache.shelves.items())
            text = self._gate.metrics.text(kept, self._streams.count)
            return web.Response(body=text.encode(), headers={"Content-Type": TEXT_TYPE})
        if path in ("/openid/v1/jwks", "/.well-known/openid-configuration"):
            return self._token_keys(path)
        if path in ("/api", "/apis") and discovery.wants_aggregated(accept):
            body = codec.encoded(discovery.aggregated(self._catalogue, core=path == "/api"))
            return web.Response(body=body, headers={"Content-Type": discovery.AGGREGATED})
        if path.startswith("/openapi/"):
            return _openapi(self._catalogue, path, accept)
        return _json(_document(self._catalogue, path))

    def _token_keys(self, path: str) -> web.Response:
        """Return what others need to check our tokens. Source: OpenID Connect Discovery 1.0."""
        signer = self._access.credentials.signer if self._access else None
        if signer is None:
            raise no_such_path()
        if path == "/openid/v1/jwks":
            return _json({"keys": [signer.public()]})
        return _json(
            {
                "issuer": ISSUER,
                "jwks_uri": f"{ISSUER}/openid/v1/jwks",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }
        )


def _openapi(catalogue: Catalogue, path: str, accept: str) -> web.Response:
    """Return a document about all kinds, or about those of a group. Raises StatusError (404)."""
    if path == "/openapi/v2" and "proto" in accept:
        return web.Response(body=v2_protobuf(), headers={"Content-Type": OPENAPI_V2})
    if path == "/openapi/v2":
        return _json(v2_document())
    if path == "/openapi/v3":
        return _json(v3_index(catalogue))
    body = v3_document(catalogue, path.removeprefix("/openapi/v3/"))
    if body is None:
        raise no_such_path()
    return web.Response(body=body, content_type=codec.JSON_TYPE)


def _is_group(path: str) -> bool:
    """Return whether a path is that of a group without a version."""
    return path.startswith("/apis/") and path.count("/") == 2


def _document(catalogue: Catalogue, path: str) -> Json:
    """Return a JSON document about what is served. Raises StatusError (404)."""
    if path == "/version":
        return discovery.version()
    if path == "/api":
        return discovery.api_versions()
    if path == "/apis":
        return discovery.api_groups(catalogue)
    if _is_group(path) and (group := discovery.api_group(catalogue, path.removeprefix("/apis/"))):
        return group
    if path == "":
        return {
            "paths": [
                *discovery.paths(catalogue),
                *HEALTH_PATHS,
                "/metrics",
                "/openapi/v2",
                "/openapi/v3",
                "/version",
            ]
        }
    raise no_such_path()


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
