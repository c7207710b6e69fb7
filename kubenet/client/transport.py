"""HTTP to the API server: bytes in, bytes out, and every failure is an error of ours.

``socket_factory`` decides where the connections live: ``NetNs.socket`` puts each of them into that network
namespace for ever, while the event loop stays where it is.

Source: Kubernetes API concepts; RFC 9112.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import msgspec

from kubenet import __version__
from kubenet.client.decoding import ListReply
from kubenet.client.errors import ApiError, api_error
from kubenet.client.exec_protocol import Credentials
from kubenet.client.identity import Identity
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.lines import LineSplitter
from kubenet.clock import Clock, SystemClock
from kubenet.errors import InvalidInput, Unreachable
from kubenet.model.objects import Json, ObjectT
from kubenet.model.resources import Resource

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

PAGE = (
    500  # objects a list reply, client-go's default: a page decodes in ~15 ms and never weighs more than MBs
)
REQUEST_TIMEOUT_S = 60.0  # kube-apiserver's own --request-timeout
CONNECT_TIMEOUT_S = 10.0
# A half-open connection is found within 30 + 3 x 10 s, also when a watch is silent for minutes.
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 30, 10, 3

log = logging.getLogger(__name__)

T = TypeVar("T")
SocketFactory = Callable[[int, int, int], socket.socket]
_AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[object, ...]]


class ApiClient:
    """One server, one identity, any number of requests at once. Use it as ``async with``."""

    def __init__(
        self,
        config: ClusterConfig,
        *,
        socket_factory: SocketFactory | None = None,
        user_agent: str = f"kubenet/{__version__}",
        clock: Clock | None = None,
    ) -> None:
        self.config = config
        self._socket_factory: SocketFactory = socket_factory or socket.socket
        self._user_agent = user_agent
        self._identity = Identity(config, clock or SystemClock())
        self._tls: tuple[Credentials, ssl.SSLContext | bool] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            limit=0,  # every watch holds a connection
            socket_factory=self._open_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": self._user_agent, "Accept": "application/json"},
            auto_decompress=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session:
            await session.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """Return the body of the reply. Raises ApiError (the server refused) and Unreachable."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        headers = {"Content-Type": content_type} if body is not None else {}
        async with self._reply(method, path, params, body, headers, timeout) as reply:
            return await reply.read()

    async def stream(
        self, path: str, params: Mapping[str, str] | None = None, *, idle_s: float | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield the lines of a reply that goes on for ever: a watch. A last half line is never yielded.

        Ends when the server ends it. Raises ApiError, and Unreachable also for a connection lost midway or
        silent for ``idle_s``.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=idle_s)
        async with self._reply("GET", path, params, None, {}, timeout) as reply:
            splitter = LineSplitter()
            async for chunk in reply.content.iter_any():
                for line in splitter.feed(chunk):
                    yield line

    @asynccontextmanager
    async def _reply(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("ApiClient is used outside its async with block")
        url, who = self.config.server + path, await self._identity.current()
        sent = {**headers, "Authorization": f"Bearer {who.token}"} if who.token else headers
        try:
            async with self._session.request(
                method,
                url,
                params=params,
                data=body,
                headers=sent,
                timeout=timeout,
                ssl=self._tls_as(who),
                server_hostname=self.config.tls_server_name or None,
            ) as reply:
                if reply.status >= 400:
                    raise await self._refusal(reply, f"{method} {path}", who)
                yield reply
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(self.config.server, error) from error

    async def _refusal(self, reply: aiohttp.ClientResponse, subject: str, who: Credentials) -> ApiError:
        if reply.status == 401:
            self._identity.refused(who)  # they may have been renewed since: the next try takes the new ones
        return api_error(reply.status, await reply.read(), subject, reply.headers.get("Retry-After", ""))

    def _tls_as(self, who: Credentials) -> ssl.SSLContext | bool:
        """Return what connections are made with; those of another certificate are not used again."""
        if self._tls is None or self._tls[0] is not who:
            try:
                made = _ssl_context(self.config, who)
            except InvalidInput as error:
                if self._tls is None:
                    raise
                log.warning("%s; what was read before serves on", error)
                made = self._tls[1]  # certificate and key are renewed one after the other
            self._tls = who, made
        return self._tls[1]

    def _open_socket(self, address: _AddressInfo) -> socket.socket:
        opened = self._socket_factory(int(address[0]), int(address[1]), address[2])
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        return opened

    async def get(self, resource: Resource, namespace: str, name: str, type: type[ObjectT]) -> ObjectT:
        """Return one object. Raises ObjectNotFound."""
        return decode(await self.request("GET", resource.path(namespace, name)), type)

    async def list(
        self,
        resource: Resource,
        namespace: str,
        type: type[ObjectT],
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> tuple[ObjectT, ...]:
        """Return all objects, read page by page; an empty namespace means all of them."""
        path, continue_token = resource.path(namespace), ""
        params = {"limit": str(PAGE)} | selectors(label_selector, field_selector)
        found: tuple[ObjectT, ...] = ()
        while True:
            page_params = params | ({"continue": continue_token} if continue_token else {})
            page = decode(await self.request("GET", path, params=page_params), ListReply[msgspec.Raw])
            found += tuple(decode(bytes(raw), type) for raw in page.items or ())
            continue_token = page.metadata.continue_
            if not continue_token:
                return found

    async def create(
        self, resource: Resource, namespace: str, body: Json, *, name: str = "", subresource: str = ""
    ) -> bytes:
        """Create an object, return it as the server stored it; or post to a subresource of ``name``.

        Raises ObjectExists.
        """
        path = resource.path(namespace, name, subresource)
        return await self.request("POST", path, body=msgspec.json.encode(body))

    async def replace(
        self, resource: Resource, namespace: str, name: str, body: Json, *, subresource: str = ""
    ) -> bytes:
        """Put ``body`` in the object's place. Raises Conflict when its resourceVersion is not the latest."""
        path = resource.path(namespace, name, subresource)
        return await self.request("PUT", path, body=msgspec.json.encode(body))

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: Json,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> bytes:
        """Change parts of an object, return the whole. Raises ObjectNotFound, Conflict."""
        path = resource.path(namespace, name, subresource)
        body = msgspec.json.encode(patch)
        return await self.request("PATCH", path, body=body, content_type=content_type)

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, grace_s: int | None = None, uid: str = ""
    ) -> bytes:
        """Delete an object, only the one with ``uid`` if that is given. Raises ObjectNotFound, Conflict."""
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if uid:
            options["preconditions"] = {"uid": uid}
        return await self.request("DELETE", resource.path(namespace, name), body=msgspec.json.encode(options))


def decode(body: bytes, type: type[T]) -> T:
    """Return the object in ``body``. Raises Unreachable when this is not what an API server answers."""
    try:
        return msgspec.json.decode(body, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unreachable(
            f"the server's reply is not a {type.__name__}: {error}", "check that the server is an API server"
        ) from error


def selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    """Return the query parameters of two selectors; an empty selector needs none."""
    pairs = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in pairs.items() if value}


def _ssl_context(config: ClusterConfig, who: Credentials) -> ssl.SSLContext | bool:
    if not config.server.startswith("https://"):
        return True
    try:
        context = ssl.create_default_context(cadata=config.ca_pem.decode() if config.ca_pem else None)
        if config.insecure_skip_tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if who.cert_pem:
            _load_identity(context, who.cert_pem + b"\n" + who.key_pem)
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise InvalidInput(f"{config.server}: certificates of the kubeconfig are unusable: {error}") from None
    return context


def _load_identity(context: ssl.SSLContext, pem: bytes) -> None:
    """OpenSSL loads a certificate from a file only; this one is in memory and never touches a disk."""
    fd = os.memfd_create("identity", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _unreachable(server: str, error: Exception) -> Unreachable:
    timed_out = isinstance(error, asyncio.TimeoutError)
    said = "no answer in time" if timed_out else str(error) or type(error).__name__
    return Unreachable(
        f"{server}: the API server does not answer: {said}",
        f"check that it runs and that this machine reaches it: curl -k {server}/readyz",
    )
