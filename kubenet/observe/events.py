"""What was seen and what was reported of one flow, before anybody thinks about it. *Pure.*"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from kubenet.kernel.ct_events import ConntrackEvent
from kubenet.kernel.nft_trace import RuleEvent
from kubenet.model.packet import Packet


class PlaceKind(Enum):
    """What a namespace is to the cluster."""

    NODE = "node"
    POD = "pod"
    WIRE = "wire"


@dataclass(frozen=True, slots=True)
class PlaceName:
    """A namespace that is looked at."""

    name: str  # node-1, demo/client, wire
    kind: PlaceKind
    node: str = ""  # that the place belongs to; empty for the wire

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Hop:
    """A packet at an interface."""

    time_ns: int
    place: str
    ifname: str
    sent: bool  # else received
    packet: Packet
    skb: int = 0  # its address in the kernel; 0: not known
    raw: bytes = b""  # from the Ethernet header on, cut off


@dataclass(frozen=True, slots=True)
class Drop:
    """A packet that the kernel gave up, and why."""

    time_ns: int
    place: str
    ifname: str  # empty: it had not got to any
    reason: str
    function: str
    packet: Packet
    skb: int = 0
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class RuleHit:
    """A rule that the packet matched in a place; ``packet`` is what it looked like when its chain began."""

    place: str
    event: RuleEvent
    packet: Packet | None


@dataclass(frozen=True, slots=True)
class Connection:
    """What a place's conntrack said."""

    place: str
    event: ConntrackEvent


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What came of sending one packet."""

    answered: bool
    words: str  # "connected", "time-out after 1 s", "connection refused"


@dataclass(frozen=True, slots=True)
class Observation:
    """All of one flow."""

    hops: tuple[Hop, ...] = ()
    drops: tuple[Drop, ...] = ()
    rules: tuple[RuleHit, ...] = ()
    connections: tuple[Connection, ...] = ()
    result: ProbeResult = ProbeResult(False, "nothing was sent")
    unseen: tuple[str, ...] = ()  # what could not be looked at, in words
    ifnames: Mapping[tuple[str, int], str] = field(default_factory=dict)
