"""Who holds which address. *Pure.*

A record is written before the first change to the kernel and removed after the last, so whatever a crash
leaves behind is named by a record. Its phase says what to do about it then: an attachment that was never
finished and one that was being taken down are both undone; a finished one stays.

The key of a record is the name of the host's end of the pod's link, which is a function of container and
interface (``cni.plan.host_ifname``): what is found in the kernel leads to the record, and the other way
round.

Law: an address has at most one record; a record has at most one address of a family.
"""

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from enum import Enum
from ipaddress import ip_address
from pathlib import Path

import msgspec

from kubenet.errors import KubenetError
from kubenet.model.links import IPAddress, MacAddress
from kubenet.model.protocol import Protocol


class RecordCorrupt(KubenetError):
    """The bytes are not a record."""


class Phase(Enum):
    """How far an attachment has come; the value is the ending of its file's name."""

    ADDING = "adding"
    ATTACHED = "attached"
    DYING = "dying"


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port of the node that leads to a port of the pod."""

    protocol: Protocol
    port: int
    container_port: int
    ip: IPAddress | None = None  # the address of the node; None is every one

    def __str__(self) -> str:
        return f"{self.ip or '*'}:{self.port}/{self.protocol.lower}"


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """What a pod may receive (ingress) and send (egress): bits a second, bits at once; 0 is no limit."""

    ingress_rate: int = 0
    ingress_burst: int = 0
    egress_rate: int = 0
    egress_burst: int = 0

    def __bool__(self) -> bool:
        return bool(self.ingress_rate or self.egress_rate)


UNLIMITED = Bandwidth()


@dataclass(frozen=True, slots=True)
class AllocationRecord:
    """One interface of one container, and the addresses that it holds.

    A record without a container was found in the kernel, its own file having been lost.
    """

    host_ifname: str
    addresses: tuple[IPAddress, ...]
    network: str = ""  # the name in the CNI configuration
    container_id: str = ""
    ifname: str = ""
    netns: str = ""  # the path as the runtime gave it
    netns_inode: int = 0
    created_ns: int = 0  # wall clock: compared with file times of the same boot only
    pod: str = ""  # namespace/name, for messages
    host_ports: tuple[HostPort, ...] = ()
    bandwidth: Bandwidth = UNLIMITED
    address_only: bool = False  # another plugin makes the interface
    mac: MacAddress = ""  # asked for; empty where it follows from the address
    mtu: int = 0  # bytes, asked for; 0 where it is the node's

    def __post_init__(self) -> None:
        if len({address.version for address in self.addresses}) != len(self.addresses):
            raise ValueError(f"{self.host_ifname}: two addresses of one family: {self.addresses}")

    @property
    def label(self) -> str:
        """What messages call this attachment."""
        who = self.pod or (
            f"container {self.container_id[:12]}" if self.container_id else "container unknown"
        )
        return f"{who} {self.ifname}".rstrip()


@dataclass(frozen=True, slots=True)
class Stored:
    """A record, and how far its attachment has come."""

    record: AllocationRecord
    phase: Phase


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that should be a record and is not."""

    path: Path
    host_ifname: str
    reason: str


class _Line(msgspec.Struct, omit_defaults=True):
    """The record as it is written."""

    host_ifname: str
    addresses: tuple[str, ...]
    network: str = ""
    container_id: str = ""
    ifname: str = ""
    netns: str = ""
    netns_inode: int = 0
    created_ns: int = 0
    pod: str = ""
    host_ports: tuple[tuple[str, int, int, str], ...] = ()  # protocol, port, container port, address
    bandwidth: tuple[int, int, int, int] = (0, 0, 0, 0)  # ingress rate and burst, egress rate and burst
    address_only: bool = False
    mac: str = ""
    mtu: int = 0


_decoder = msgspec.json.Decoder(_Line)


def encode(record: AllocationRecord) -> bytes:
    """Return the record as one line of JSON."""
    stored = _Line(
        record.host_ifname,
        tuple(str(address) for address in record.addresses),
        record.network,
        record.container_id,
        record.ifname,
        record.netns,
        record.netns_inode,
        record.created_ns,
        record.pod,
        tuple((p.protocol.value, p.port, p.container_port, str(p.ip or "")) for p in record.host_ports),
        astuple(record.bandwidth),
        record.address_only,
        record.mac,
        record.mtu,
    )
    return msgspec.json.encode(stored) + b"\n"


def decode(text: bytes) -> AllocationRecord:
    """Return the record written as ``text``. Raises RecordCorrupt."""
    try:
        stored = _decoder.decode(text)
        return AllocationRecord(
            stored.host_ifname,
            tuple(ip_address(address) for address in stored.addresses),
            stored.network,
            stored.container_id,
            stored.ifname,
            stored.netns,
            stored.netns_inode,
            stored.created_ns,
            stored.pod,
            tuple(
                HostPort(Protocol(protocol), port, container_port, ip_address(ip) if ip else None)
                for protocol, port, container_port, ip in stored.host_ports
            ),
            Bandwidth(*stored.bandwidth),
            stored.address_only,
            stored.mac,
            stored.mtu,
        )
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordCorrupt(f"not an allocation record: {error}") from error


def held_twice(records: Iterable[AllocationRecord]) -> Iterator[tuple[AllocationRecord, AllocationRecord]]:
    """Yield the pairs of records that break the law: two of them hold one address."""
    holders: dict[IPAddress, AllocationRecord] = {}
    for record in records:
        for address in record.addresses:
            other = holders.setdefault(address, record)
            if other is not record:
                yield other, record
