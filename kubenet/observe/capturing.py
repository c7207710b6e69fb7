"""Take packets of one pod, Service or node at every interface that they pass, whole, until told to stop."""

import select
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

from kubenet.kernel.packet_socket import PacketSocket
from kubenet.model.packet import ETHERNET_BYTES, Packet, decode
from kubenet.observe.pcapng import Captured
from kubenet.observe.place import Site

REMEMBERED = 65536  # packets that may come by again, translated


class Relevant:
    """Tells which packets are about some addresses, also after NAT has changed them."""

    def __init__(self, addresses: Collection[IPv4Address]) -> None:
        self._addresses = frozenset(addresses)
        self._prints: dict[tuple[int, ...], None] = {}

    def is_relevant(self, packet: Packet) -> bool:
        """Return whether to show a packet; without addresses, any."""
        if not self._addresses:
            return True
        flow = (packet.about or packet).flow
        if flow.source in self._addresses or flow.destination in self._addresses:
            self._prints[packet.fingerprint] = None
            if len(self._prints) > REMEMBERED:
                del self._prints[next(iter(self._prints))]
            return True
        return packet.fingerprint in self._prints


class Capture:
    """Packet sockets in all places of a site."""

    def __init__(self, site: Site, addresses: Collection[IPv4Address]) -> None:
        """Listen. Raises NotPermitted."""
        self._relevant = Relevant(addresses)
        self._sockets: dict[int, tuple[str, PacketSocket]] = {}
        self._poller = select.poll()
        with ExitStack() as undo:
            for place in site.places:
                opened = PacketSocket(place.netns)
                undo.callback(opened.close)
                self._sockets[opened.fileno()] = (place.name.name, opened)
                self._poller.register(opened.fileno(), select.POLLIN)
            self._undo = undo.pop_all()

    def take(self, timeout_s: float) -> Iterator[Captured]:
        """Yield the packets that come within a time, in order of time as far as they are there together."""
        taken: list[Captured] = []
        for fd, _ in self._poller.poll(timeout_s * 1000):
            place, opened = self._sockets[fd]
            for frame in opened.read():
                packet = decode(frame.frame[ETHERNET_BYTES:])
                if packet is not None and self._relevant.is_relevant(packet):
                    name = f"{place}/{frame.ifname}"
                    taken.append(Captured(frame.time_ns, name, frame.frame, frame.length, frame.sent))
        yield from sorted(taken, key=lambda each: each.time_ns)

    def close(self) -> None:
        """Stop."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
