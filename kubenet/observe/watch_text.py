"""One line for each thing that happens, with the names people know. *Pure.*"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kubenet.kernel.ct_events import ConntrackEvent
from kubenet.model.packet import UDP, FiveTuple, Packet
from kubenet.observe.names import Names

DNS_PORT = 53
_TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    65: "HTTPS",
}
_RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
_PLACE = 26  # columns


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened. Equal ones within a moment become one line."""

    place: str  # node-1/eth0
    what: str  # the reason of a loss, the kind of a change
    text: str

    def line(self, clock: str, count: int) -> str:
        """Return the line that is printed."""
        times = f"  x{count}" if count > 1 else ""
        return f"{clock}  {self.place:<{_PLACE}}  {self.what:<18}  {self.text}{times}"


def counted(happenings: Iterable[Happening]) -> Iterator[tuple[Happening, int]]:
    """Yield each thing once, with how often it happened, in the order of the first time."""
    counts: dict[Happening, int] = {}
    for each in happenings:
        counts[each] = counts.get(each, 0) + 1
    yield from counts.items()


def flow_words(flow: FiveTuple, names: Names) -> str:
    """Return who talks to whom, with names where they are known."""
    text = str(flow).replace(" -> ", " > ")
    ends = names.whose(flow.source), names.whose(flow.destination)
    if ends != (str(flow.source), str(flow.destination)):
        text += f"   {ends[0]} > {ends[1]}"
    return text


def drop_text(packet: Packet, function: str, names: Names) -> str:
    """Return what was lost."""
    words = flow_words(packet.flow, names)
    if packet.vxlan:
        words += f"   in VXLAN {packet.vxlan.vni}"
    return f"{words}   {packet.words()}" + (f" in {function}" if function else "")


def connection_text(event: ConntrackEvent, names: Names) -> str:
    """Return how a connection is translated."""
    words = flow_words(event.original, names)
    back = event.reply
    if back.reversed() != event.original:
        words += f"   answers from {back.source}:{back.source_port} ({names.whose(back.source)})"
        words += f" to {back.destination}:{back.destination_port}"
    return words


def dns_text(packet: Packet, names: Names) -> str:
    """Return a question, or what was answered; empty for what is no DNS."""
    message = packet.payload
    if packet.flow.protocol != UDP or len(message) < 12:
        return ""
    name, kind = _question(message)
    if message[2] & 0x80:
        count = int.from_bytes(message[6:8], "big")
        rcode = _RCODES.get(message[3] & 15, str(message[3] & 15))
        return f"{name} {kind}   {rcode}, {count} answers, from {names.whose(packet.flow.source)}"
    return f"{name} {kind}?   to {names.whose(packet.flow.destination)}"


def _question(message: bytes) -> tuple[str, str]:
    """Return name and type of the first question, as far as the packet was captured."""
    labels, at = [], 12
    while at < len(message) and 0 < message[at] <= 63:
        labels.append(message[at + 1 : at + 1 + message[at]].decode("ascii", "replace"))
        at += 1 + message[at]
    number = int.from_bytes(message[at + 1 : at + 3], "big")
    return ".".join(labels) or ".", _TYPES.get(number, f"TYPE{number}")
