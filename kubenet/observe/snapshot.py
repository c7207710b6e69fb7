"""Everything that a check judges, as one value: the cluster, every place, and what probes found. *Pure.*"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from kubenet.observe.names import Cluster
from kubenet.observe.state import PlaceState


@dataclass(frozen=True, slots=True)
class Ping:
    """What became of packets from one place to another."""

    source: str
    destination: str
    answered: bool
    large: bool = False  # as large as the sender's link takes, and not to be fragmented


@dataclass(frozen=True, slots=True)
class Reach:
    """A connection to a Service from a node's point of view."""

    source: str
    node: str
    service: str
    words: str  # connected, refused, no answer
    ok: bool


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a DNS server said of a Service's name."""

    node: str
    server: IPv4Address
    name: str
    addresses: tuple[IPv4Address, ...]
    rcode: str  # NOERROR...; empty: no answer


@dataclass(frozen=True, slots=True)
class Flow:
    """A UDP flow that a node's conntrack remembers: where it was sent, and who answers."""

    node: str
    destination: IPv4Address
    port: int
    answering: IPv4Address
    answering_port: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One moment of a site."""

    cluster: Cluster
    states: Mapping[str, PlaceState]
    resolvers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by pod: its nameservers
    records: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by node: what its IPAM audit found
    flows: tuple[Flow, ...] = ()
    pings: tuple[Ping, ...] = ()
    reaches: tuple[Reach, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    in_lab: bool = True
    taken_at: str = ""
