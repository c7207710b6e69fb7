"""Streams to upstream servers: TCP and TLS connections, kept open for a while and used again.

A connection carries one question at a time, so an answer on it can belong to nothing else. What was given up
midway closes its connection.

Source: RFC 7766 section 6.2 (reuse), RFC 7858 (DNS over TLS), RFC 8310 section 8.1 (the name is verified).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dns.forward import Transport, Upstream
from dns.framing import FrameReader, framed
from dns.settings import ClientTls
from kubenet.errors import InvalidInput

READ_BYTES = 65535

SocketFactory = Callable[[int, int], socket.socket]  # family and kind


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """How connections are made, and how long they are kept."""

    tls: ssl.SSLContext | None = None
    servername: str = ""
    expire_s: float = 10.0
    most_idle: int = 16  # to one server


@dataclass(slots=True)
class _Idle:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    until: float


class UpstreamStreams:
    """Connections to the servers of one ``forward``."""

    def __init__(self, config: StreamConfig, open_socket: SocketFactory) -> None:
        self.reused = self.made = 0
        self._config = config
        self._open_socket = open_socket
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Upstream, list[_Idle]] = {}

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for kept in self._idle.values():
            for each in kept:
                each.writer.close()
        self._idle.clear()

    async def exchange(self, upstream: Upstream, message: bytes) -> bytes | None:
        """Return the next message that comes back, None if the stream ends before. Raises OSError."""
        while kept := self._taken(upstream):
            # The server may have closed it meanwhile; then a new one is tried.
            with suppress(OSError):
                if (reply := await self._ask(upstream, kept, message)) is not None:
                    self.reused += 1
                    return reply
        self.made += 1
        return await self._ask(upstream, await self._connected(upstream), message)

    def _taken(self, upstream: Upstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        kept = self._idle.get(upstream, [])
        while kept:
            last = kept.pop()
            if last.until > self._loop.time() and not last.reader.at_eof():
                return last.reader, last.writer
            last.writer.close()
        return None

    async def _ask(
        self,
        upstream: Upstream,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        message: bytes,
    ) -> bytes | None:
        reader, writer = connection
        done = False
        try:
            writer.write(framed(message))
            await writer.drain()
            frames = FrameReader()
            while piece := await reader.read(READ_BYTES):
                frames.feed(piece)
                for reply in frames.messages():
                    done = not frames.partial  # more than one answer: not to be trusted again
                    return reply
            return None
        finally:
            if done:
                self._keep(upstream, reader, writer)
            else:
                writer.close()

    def _keep(self, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kept = self._idle.setdefault(upstream, [])
        if len(kept) >= self._config.most_idle or self._config.expire_s <= 0:
            writer.close()
        else:
            kept.append(_Idle(reader, writer, self._loop.time() + self._config.expire_s))

    async def _connected(self, upstream: Upstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        family = socket.AF_INET if upstream.address.version == 4 else socket.AF_INET6
        opened = self._open_socket(family, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            await self._loop.sock_connect(opened, (str(upstream.address), upstream.port))
            if upstream.transport is Transport.PLAIN:
                return await asyncio.open_connection(sock=opened)
            name = upstream.servername or self._config.servername or str(upstream.address)
            return await asyncio.open_connection(sock=opened, ssl=self._config.tls, server_hostname=name)
        except BaseException:
            opened.close()
            raise


def client_context(config: ClientTls | None) -> ssl.SSLContext:
    """Return what connections over TLS are made with. Raises InvalidInput for files that are no good."""
    try:
        context = ssl.create_default_context(cafile=config.ca if config and config.ca else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config and config.cert:
            context.load_cert_chain(config.cert, config.key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"forward: tls: {error}", "give PEM files that exist") from error
    return context
