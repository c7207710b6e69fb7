"""A worker's end: hears of the cluster from the server that started it."""

import asyncio
import logging
import socket
from collections.abc import Callable

from dns.cluster import ClusterNames
from dns.deltas import Cluster, Frames, Kind, cluster_of, frame, take

log = logging.getLogger(__name__)

READ_BYTES = 1 << 18


class ServerLink:
    """The way to the server. ``figures`` gives the page of metrics when it asks for it."""

    def __init__(self, descriptor: int, figures: Callable[[], str]) -> None:
        self.ended = asyncio.Event()  # the server is gone
        self._figures = figures
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._names: dict[Cluster, ClusterNames] = {}
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Take over what the server tells, until it ends."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        for cluster in self._names:
            self._writer.write(frame(Kind.FOLLOW, cluster))
        frames = Frames()
        try:
            while piece := await reader.read(READ_BYTES):
                for kind, cluster, content in frames.feed(piece):
                    self._heard(kind, cluster, content)
        except OSError:
            pass
        finally:
            self._writer.close()
            self.ended.set()

    def follow(self, names: ClusterNames) -> None:
        """Keep ``names`` up to date."""
        cluster = cluster_of(names.config)
        self._names[cluster] = names
        if self._writer:
            self._writer.write(frame(Kind.FOLLOW, cluster))

    def ready(self) -> None:
        """Tell the server that we answer."""
        if self._writer:
            self._writer.write(frame(Kind.READY))

    def _heard(self, kind: Kind, cluster: Cluster, content: bytes) -> None:
        if kind is Kind.FIGURES:
            if self._writer:
                self._writer.write(frame(Kind.FIGURES, content=self._figures().encode()))
            return
        names = self._names.get(cluster)
        if names is not None:
            take(names.feed, kind, content)
            names.poke()
