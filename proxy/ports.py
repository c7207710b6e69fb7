"""What is proxied, as values that cannot be wrong. *Pure.*

A ``ServicePort`` is one virtual address with its backends, in one address family, whatever programs the
kernel. Text from the API becomes addresses and enums here and nowhere else.

Source: Kubernetes API reference v1.36 (ServiceSpec, EndpointSlice); KEP-1672, KEP-2086, KEP-4444.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, TypeAlias

from kubenet.model.protocol import Protocol

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network
Family: TypeAlias = Literal[4, 6]

_THIS_NETWORK = IPv4Network(
    "0.0.0.0/8"
)  # RFC 1122 section 3.2.1.3: "this host on this network", never a destination
_BROADCAST = IPv4Address("255.255.255.255")
_DOUBTFUL = frozenset({0, 127, 169, *range(224, 256)})  # first octets that need a second look


class Balance(Enum):
    """How new connections are spread over the endpoints; spelled as the annotation spells it."""

    RANDOM = "random"
    ROUND_ROBIN = "round-robin"
    CONSISTENT_HASH = "consistent-hash"  # by the client's address; nftables only


class TrafficPolicy(Enum):
    """Whether traffic may go to endpoints of other nodes."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


@dataclass(frozen=True, slots=True)
class ServicePortName:
    """Who a service port is: a port's name may serve two protocols, so the protocol belongs to it."""

    namespace: str
    service: str
    port: str = ""  # the port's name; empty for the only port of a Service
    protocol: Protocol = Protocol.TCP

    @property
    def sort_key(self) -> tuple[str, str, str, str]:
        """What puts service ports in an order that does not depend on how we heard of them."""
        return self.namespace, self.service, self.port, self.protocol.value

    def __str__(self) -> str:
        return f"{self.namespace}/{self.service}" + (f":{self.port}" if self.port else "")


NO_HINTS: frozenset[str] = frozenset()  # one of them: a cluster has many endpoints


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One backend of a service port."""

    ip: IPAddress
    port: int
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node_name: str = ""
    zone_hints: frozenset[str] = NO_HINTS
    node_hints: frozenset[str] = NO_HINTS
    weight: int = 1  # its share of new connections, beside the others'

    @property
    def socket(self) -> tuple[IPAddress, int]:
        """The address and port that connections go to."""
        return self.ip, self.port

    def __str__(self) -> str:
        if isinstance(self.ip, IPv6Address):
            return f"[{self.ip}]:{self.port}"
        # Quicker than the standard library's writer: at the start every endpoint is written once.
        number = int(self.ip)
        return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service with its virtual address and all its endpoints, usable or not, sorted."""

    name: ServicePortName
    cluster_ip: IPAddress
    port: int
    node_port: int = 0  # 0: none
    internal_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    external_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    affinity_s: int = 0  # how long a client stays with its endpoint; 0: no affinity
    balance: Balance = Balance.RANDOM
    endpoints: tuple[Endpoint, ...] = field(default=())
    external_ips: tuple[IPAddress, ...] = ()  # addresses of others that this node answers for, sorted
    load_balancer_ips: tuple[IPAddress, ...] = ()  # the same, given by a load balancer; sorted
    source_ranges: tuple[IPNetwork, ...] = ()  # who may use the load balancer's; empty: everybody
    health_check_node_port: int = 0  # where a load balancer asks for local endpoints; 0: nowhere

    @property
    def protocol(self) -> Protocol:
        return self.name.protocol

    @property
    def external(self) -> bool:
        """Whether anything but the cluster address leads here."""
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def open_addresses(self) -> tuple[IPAddress, ...]:
        """The external addresses that everybody may use."""
        return self.external_ips if self.source_ranges else self.external_addresses

    @property
    def external_addresses(self) -> tuple[IPAddress, ...]:
        """Every address beside the cluster's that leads here at the service's own port."""
        return (*self.external_ips, *self.load_balancer_ips)


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """What the rules of one family have to know about the node and the cluster around it."""

    family: Family = 4
    cluster_cidr: IPNetwork | None = None  # the network of all pods; None: unknown, every source may be a pod
    masquerade_all: bool = False  # give all traffic to cluster addresses the node's own source address
    masquerade_mark: int = (
        1 << 14
    )  # the packet mark of traffic to masquerade; kubelet and others know this one
    # Where node ports listen: on this node's addresses inside these. Empty: on all of them.
    node_port_networks: tuple[IPNetwork, ...] = ()
    localhost_node_ports: bool = False  # node ports on 127.0.0.1 too: needs route_localnet, IPv4 only
    pod_ifname: str = ""  # what pods come in by, a closing + for any ending; wins over the cluster's network
    node_ip: IPAddress | None = None  # the node's own; None: unknown
    service_cidrs: tuple[IPNetwork, ...] = ()  # where cluster addresses come from; empty: unknown
    count_connections: bool = False  # by endpoint: nftables only
    tcp_liberal: bool = False  # conntrack lets out-of-window segments pass: then INVALID need not be dropped

    @property
    def pod_cidr(self) -> IPNetwork | None:
        """What tells a pod's address from others; None when that is not known, or told by the interface."""
        known = self.cluster_cidr is not None and self.cluster_cidr.prefixlen and not self.pod_ifname
        return self.cluster_cidr if known else None


class ObjectKind(Enum):
    """Whose fault something may be."""

    SERVICE = "Service"
    ENDPOINTSLICE = "EndpointSlice"


@dataclass(frozen=True, slots=True, order=True)
class Refused:
    """Something in the cluster that is not proxied, and why. The rest goes on."""

    subject: str
    reason: str
    kind: ObjectKind = field(default=ObjectKind.SERVICE, compare=False)
    key: str = field(default="", compare=False)  # the object's namespace/name


def parse_ip(text: str) -> IPAddress | None:
    """Return the address that ``text`` means, or None.

    Leading zeros are decimal and IPv4-mapped addresses are IPv4, as the API has accepted them since its first
    days; what leaves here has one spelling.
    """
    parts = text.split(".")
    if len(parts) == 4 and ":" not in text:
        return _parse_v4(parts)
    try:
        address = IPv6Address(text)
    except (AddressValueError, ValueError):
        return None
    if address.scope_id:
        return None
    return address.ipv4_mapped or address


def _parse_v4(parts: Sequence[str]) -> IPv4Address | None:
    # Much quicker than the standard library's reader, which refuses leading zeros besides.
    together = "".join(parts)
    if not (together.isascii() and together.isdecimal() and all(parts) and max(map(len, parts)) <= 4):
        return None
    first, second, third, fourth = map(int, parts)
    if first | second | third | fourth > 255:
        return None
    return IPv4Address(first << 24 | second << 16 | third << 8 | fourth)


def why_not_endpoint(ip: IPAddress, service_cidrs: Sequence[IPNetwork] = ()) -> str:
    """Return why no traffic may be sent to ``ip`` as an endpoint; empty if it may.

    Whoever may write EndpointSlices must not reach what only the node itself may reach (CVE-2021-25737), nor
    send one virtual address round to another.
    """
    if reason := why_not_unicast(ip):
        return reason
    inside = next((cidr for cidr in service_cidrs if ip.version == cidr.version and ip in cidr), None)
    return f"inside the service network {inside}" if inside else ""


def why_not_unicast(ip: IPAddress) -> str:
    """Return why ``ip`` is no address that packets of others can be sent to; empty if it is one."""
    if ip.version == 4 and int(ip) >> 24 not in _DOUBTFUL:
        return ""
    if ip.is_loopback:
        return "a loopback address"
    if ip.is_link_local:
        return "a link-local address"
    if ip.is_multicast:
        return "a multicast address"
    if ip.is_unspecified or ip in _THIS_NETWORK:
        return "no address of a host"
    if ip == _BROADCAST:
        return "the broadcast address"
    return ""
