"""An API server that says what the test tells it to, in a network namespace of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from kubenet.client.kubeconfig import ClusterConfig
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.run import run

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]
PORT = 6443
CONFIG = ClusterConfig(server=f"http://127.0.0.1:{PORT}", token="t1")


@dataclass
class Script:
    """Replies in the order in which they are given out; the last one repeats. ``asked`` is what was asked."""

    replies: list[Reply]
    asked: list[web.Request] = field(default_factory=list)

    async def reply(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        await request.read()  # so that a test can look at it afterwards
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return await reply(request)


@asynccontextmanager
async def serving(netns: NetNs, *replies: Reply) -> AsyncIterator[Script]:
    """Serve ``replies`` at CONFIG.server inside ``netns``."""
    script = Script(list(replies))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.reply)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)  # 0.0 means for ever
    await runner.setup()
    listener = netns.socket(2, 1)
    listener.bind(("127.0.0.1", PORT))
    await web.SockSite(runner, listener).start()
    try:
        yield script
    finally:
        await runner.cleanup()


def fresh_netns(path: Path) -> NetNs:
    netns = NetNs.create(path)
    run(["ip", "link", "set", "lo", "up"], netns=netns)
    return netns


def drop_netns(netns: NetNs, path: Path) -> None:
    netns.close()
    unpin(path)


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """A whole reply."""

    async def reply(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return reply


def refusal(code: int, reason: str, message: str = "no") -> Reply:
    return answer({"kind": "Status", "code": code, "reason": reason, "message": message}, code)


def page(version: str, *names: str, continue_token: str = "") -> Reply:
    items = [pod(name, version) for name in names]
    return answer({"metadata": {"resourceVersion": version, "continue": continue_token}, "items": items})


def pod(name: str, version: str) -> dict[str, object]:
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": version}}


def event(kind: str, name: str, version: str) -> bytes:
    return json.dumps({"type": kind, "object": pod(name, version)}).encode() + b"\n"


def watch(*chunks: bytes, hang: bool = False, cut: bool = False) -> Reply:
    """A stream of ``chunks``, then its end; or silence for ever; or a connection that breaks."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        if hang:
            await asyncio.Event().wait()
        if cut and request.transport:
            request.transport.abort()
        return response

    return reply
