"""The CNI protocol as values: what a runtime asks, and the numbers of the mistakes. *Pure.*

``parse`` makes a ``Request`` of environment and configuration; what goes back is in ``result``.

Source: CNI specification 1.1.0, sections 2 and 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import NamedTuple

from ipam.record import UNLIMITED, Bandwidth, HostPort
from kubenet.errors import KubenetError
from kubenet.model.links import IPAddress, IPNetwork, MacAddress

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = VERSIONS[-1]
ABOUT = f"kubenet CNI plugin, CNI protocol versions supported: {', '.join(VERSIONS)}\n"


class Code(IntEnum):
    """Error numbers; those from 100 on are ours."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    INVALID_NETNS = 8  # not in the specification; libcni's ErrInvalidNetNS
    TRY_AGAIN = 11
    NOT_AVAILABLE = 50
    LIMITED_CONNECTIVITY = 51
    CHECK_FAILED = 100
    ALREADY_ATTACHED = 101
    KERNEL_REFUSED = 102
    GC_INCOMPLETE = 103
    TIMED_OUT = 104
    HOST_PORT_TAKEN = 105


class CniError(KubenetError):
    """A request that cannot be fulfilled, with its number in the protocol."""

    def __init__(self, code: Code, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class Command(Enum):
    """The verbs, each with the version of the protocol that brought it."""

    ADD = "ADD"
    DEL = "DEL"
    CHECK = "CHECK"
    STATUS = "STATUS"
    GC = "GC"
    VERSION = "VERSION"


class Role(Enum):
    """What an executable of ours is asked to be: the configuration says so, whatever the file is called."""

    PLUGIN = "kubenet"
    IPAM = "kubenet-ipam"  # of another plugin, which makes the interface
    LOOPBACK = "loopback"


class Attachment(NamedTuple):
    """One interface of one container."""

    container_id: str
    ifname: str


@dataclass(frozen=True, slots=True)
class AssignedRoute:
    """A route inside the pod."""

    destination: IPNetwork
    gateway: IPAddress | None = None
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class Dns:
    """How the pod finds names; what uses it is the runtime."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


NO_DNS = Dns()


@dataclass(frozen=True, slots=True)
class Request:
    """What a runtime asks for; fields that the verb does not use are empty."""

    command: Command
    cni_version: str
    network: str = ""
    container_id: str = ""
    ifname: str = ""
    netns: str = ""  # the path as the runtime gave it
    own_netns_allowed: bool = False
    pod: str = ""  # namespace/name, where Kubernetes told it
    mtu: int = 0  # bytes; 0 leaves it to the node
    addresses: tuple[IPAddress, ...] = ()  # asked for; empty leaves them to the pool
    mac: MacAddress | None = None
    host_ports: tuple[HostPort, ...] = ()
    bandwidth: Bandwidth = UNLIMITED
    routes: tuple[AssignedRoute, ...] = ()  # an address manager hands them on
    prev_result: Mapping[str, object] | None = None
    valid: frozenset[Attachment] = frozenset()  # GC: all but these go
    dns: Dns = NO_DNS
    sticky: bool = False  # the pod's name is to have these addresses again
    role: Role = Role.PLUGIN  # of ADD and CHECK; the others need not know

    @property
    def attachment(self) -> Attachment:
        return Attachment(self.container_id, self.ifname)
