"""DNS over HTTPS: a question in, a message out, by the same way as over any stream.

HTTP/1.1 only; most clients speak it if the server offers nothing else. Without a certificate (no plugin
``tls``) it is plain HTTP, for a proxy in front.

Source: RFC 8484.
"""

import asyncio
import base64
import binascii
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, TypeAlias

from aiohttp import web

from dns.relay import read_reply
from dns.respond import Forwarding, Response
from kubenet.errors import KubenetError

MEDIA_TYPE = "application/dns-message"
PATH = "/dns-query"
MESSAGE_BYTES = 65535
PATIENCE_S = 10.0  # for upstream servers
_SERVERS_FAULT = 2

Reply: TypeAlias = Callable[[bytes], None]
ForwardTo: TypeAlias = Callable[[Forwarding, Reply], None]


class Answers(Protocol):
    """Who knows the answers."""

    def respond(self, message: bytes, *, stream: bool, client: str) -> Response | None:
        """Return the reply, what to ask upstream for it, or None for silence."""
        ...


class DohServer:
    """Answers the requests of any number of listening sockets."""

    def __init__(self, answers: Answers, forward: ForwardTo, context: ssl.SSLContext | None) -> None:
        self._answers = answers
        self._forward = forward
        self._context = context
        application = web.Application(client_max_size=MESSAGE_BYTES + 1024)
        application.router.add_get(PATH, self._get)
        application.router.add_post(PATH, self._post)
        self._runner = web.AppRunner(application, access_log=None, handle_signals=False, keepalive_timeout=10)

    async def listen(self, listening: socket.socket) -> None:
        """Take connections from a bound socket."""
        if self._runner.server is None:
            await self._runner.setup()
        site = web.SockSite(self._runner, listening, ssl_context=self._context)
        await site.start()

    def close(self) -> None:
        """Take no more connections; those that are open end with what they wait for."""
        self._closing = asyncio.get_running_loop().create_task(self._runner.cleanup())

    async def _get(self, request: web.Request) -> web.Response:
        encoded = request.query.get("dns", "")
        try:
            message = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except (binascii.Error, ValueError):
            message = b""
        if not message:
            raise web.HTTPBadRequest(text="dns: needs a message in base64url")
        return await self._answer(request, message)

    async def _post(self, request: web.Request) -> web.Response:
        if request.content_type != MEDIA_TYPE:
            raise web.HTTPUnsupportedMediaType(text=f"send {MEDIA_TYPE}")
        return await self._answer(request, await request.read())

    async def _answer(self, request: web.Request, message: bytes) -> web.Response:
        if len(message) > MESSAGE_BYTES:
            raise web.HTTPRequestEntityTooLarge(MESSAGE_BYTES, len(message))
        try:
            response = self._answers.respond(message, stream=True, client=request.remote or "0.0.0.0")
        except KubenetError as error:
            raise web.HTTPInternalServerError(text=str(error)) from error
        if isinstance(response, Forwarding):
            response = await self._forwarded(response)
        if not isinstance(response, bytes):  # silence, or a zone transfer, which has no form here
            raise web.HTTPBadRequest(text="not a query that can be answered here")
        headers = {"Cache-Control": f"max-age={least_ttl_s(response)}"}
        return web.Response(body=response, content_type=MEDIA_TYPE, headers=headers)

    async def _forwarded(self, waiting: Forwarding) -> bytes:
        arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def reply(message: bytes) -> None:
            if not arrived.done():
                arrived.set_result(message)

        self._forward(waiting, reply)
        try:
            return await asyncio.wait_for(arrived, PATIENCE_S)
        except TimeoutError:
            raise web.HTTPGatewayTimeout(text="no upstream server answered") from None


def least_ttl_s(message: bytes) -> int:
    """Return how long an answer may be kept: the shortest life of its records, 0 for failures."""
    try:
        reply = read_reply(message)
    except KubenetError:
        return 0
    if reply.rcode == _SERVERS_FAULT:
        return 0
    return min((span.ttl_s for span in reply.records if span.section < 2), default=0)
