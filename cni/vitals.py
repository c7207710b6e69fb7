"""How the agent is: what it counts, and a small HTTP server that tells (/healthz, /metrics).

Each connection gets one answer and is closed.

Source: RFC 9112; Prometheus text exposition format 0.0.4.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from kubenet.errors import KubenetError
from kubenet.kernel.netns import NetNs
from kubenet.model.links import IPAddress

_HEAD_BYTES = 8192
_PATIENCE_S = 5.0
STALE_AFTER_S = 150.0  # two and a half of the longest pauses between two syncs


@dataclass(slots=True)
class Vitals:
    """Counted by the agent's threads, read by the server; each is written by one thread only."""

    syncs: int = 0
    failures: int = 0
    last_sync_s: float = 0.0  # monotonic
    last_took_s: float = 0.0
    peers: int = 0
    attachments: Callable[[], int] = lambda: 0
    limited: str = "the node has no pod range yet"
    checksums: str = "unknown"  # of the tunnel: see cni.checksums
    rival: str = ""  # the configuration that the runtime uses instead of ours

    def began(self) -> None:
        """Count a sync that begins."""
        self.syncs += 1

    def ended(self, took_s: float, now_s: float, peers: int) -> None:
        """Count a sync that made everything as it shall be."""
        self.last_took_s, self.last_sync_s, self.peers, self.limited = took_s, now_s, peers, ""

    def failed(self, reason: str) -> None:
        """Count a sync that failed."""
        self.failures += 1
        self.limited = reason

    def complaint(self, now_s: float) -> str:
        """Return why the agent is not well; an empty string if it is."""
        if not self.limited and now_s - self.last_sync_s > STALE_AFTER_S:
            return f"the last sync was {now_s - self.last_sync_s:.0f} s ago"
        return self.limited

    def metrics(self) -> str:
        """Return the metrics as text."""
        return "".join(
            f"# HELP {name} {words}\n# TYPE {name} {kind}\n{name} {value:g}\n"
            for name, kind, words, value in self._metrics()
        )

    def _metrics(self) -> Iterator[tuple[str, str, str, float]]:
        yield "kubenet_agent_syncs_total", "counter", "Comparisons of the node's network.", self.syncs
        yield "kubenet_agent_sync_failures_total", "counter", "Those that failed.", self.failures
        yield "kubenet_agent_sync_seconds", "gauge", "How long the last one took.", self.last_took_s
        yield "kubenet_agent_peers", "gauge", "Other nodes in the overlay.", self.peers
        yield "kubenet_agent_attachments", "gauge", "Interfaces of pods.", self.attachments()
        yield (
            "kubenet_agent_other_network",
            "gauge",
            "Whether the runtime uses another one.",
            bool(self.rival),
        )
        repaired = self.checksums == "repaired"
        yield "kubenet_agent_checksum_workaround", "gauge", "Whether the tunnel's offload is off.", repaired
        yield "kubenet_agent_healthy", "gauge", "Whether the last sync succeeded.", not self.limited


@asynccontextmanager
async def serving_vitals(vitals: Vitals, netns: NetNs, address: IPAddress, port: int) -> AsyncIterator[None]:
    """Answer at ``address`` while the block runs. Raises KubenetError when the port cannot be had."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    listener = netns.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(address), port))
    except OSError as error:
        listener.close()
        raise KubenetError(
            f"{address}:{port}: cannot be listened at: {error.strerror}", "choose another with --listen"
        ) from error
    server = await asyncio.start_server(
        lambda reader, writer: _serve(vitals, reader, writer), sock=listener, limit=_HEAD_BYTES
    )
    async with server:
        yield


async def _serve(vitals: Vitals, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(vitals, head, asyncio.get_running_loop().time()))
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass  # whoever asks like this gets no answer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def answer(vitals: Vitals, head: bytes, now_s: float) -> bytes:
    """Return the reply to a request. *Pure* but for what ``vitals`` counts."""
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or words[0] not in ("GET", "HEAD"):
        status, body = HTTPStatus.BAD_REQUEST, "GET and HEAD only\n"
    elif words[1] == "/healthz":
        complaint = vitals.complaint(now_s)
        status = HTTPStatus.SERVICE_UNAVAILABLE if complaint else HTTPStatus.OK
        body = f"{complaint or 'ok'}\n"
    elif words[1] == "/metrics":
        status, body = HTTPStatus.OK, vitals.metrics()
    else:
        status, body = HTTPStatus.NOT_FOUND, "there are /healthz and /metrics\n"
    content = body.encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: text/plain; version=0.0.4; charset=utf-8",
        f"Content-Length: {len(content)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if words[0] == "HEAD" else content)
