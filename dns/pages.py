"""Serves a few pages of text over HTTP: health, readiness, metrics.

Only ``GET`` (and ``HEAD``) of known paths, one request a connection; the listeners outlive a change of what
they show.

Source: RFC 9112.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias

Shown: TypeAlias = tuple[HTTPStatus, str]
Page: TypeAlias = Callable[[], Awaitable[Shown]]

REQUEST_BYTES = 8192
PATIENCE_S = 5.0
MOST_CONNECTIONS = 64


@dataclass(slots=True)
class PageServer:
    """One listening address; ``pages`` may be changed at any time."""

    pages: dict[str, Page] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _open: int = 0

    async def listen(self, listening: socket.socket) -> None:
        """Take connections from a bound socket."""
        self._server = await asyncio.start_server(self._serve, sock=listening, limit=REQUEST_BYTES)

    def close(self) -> None:
        """Take no more connections."""
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= MOST_CONNECTIONS:
                async with asyncio.timeout(PATIENCE_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._reply(head))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client's loss
        finally:
            self._open -= 1
            writer.close()

    async def _reply(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        method, path = words[0], words[1].partition("?")[0] if len(words) == 3 else ""
        page = self.pages.get(path)
        if method not in ("GET", "HEAD"):
            status, text = HTTPStatus.METHOD_NOT_ALLOWED, ""
        elif page is None:
            status, text = HTTPStatus.NOT_FOUND, ""
        else:
            status, text = await page()
        body = text.encode()
        answer = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; version=0.0.4\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode()
        return answer + (b"" if method == "HEAD" else body)
