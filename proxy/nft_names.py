"""What our nftables table is made of: the names of its sets, maps and fixed chains, and their shapes. *Pure.*

    services           address . protocol . port      -> way        every address that leads to a service
    node-ports         protocol . port                -> way
    ways               way                            -> chain      one for each kind of service, not for each
    endpoints          service . number               -> address . port   (stay-endpoints: with affinity)
    external           address . protocol . port      -> service
    node-port-services protocol . port                -> service
    cluster-ips        address                                      of all services
    hairpin            address . address                            of an endpoint, twice

*service* is a cluster address, protocol and port, which nobody else has; *way* is the hash of a chain's name.
An endpoint comes and goes as an element or two, whatever else is in the table: a data map takes a new element
in microseconds, where a map to chains makes the kernel check every chain that is reachable from it.
"""

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address

from kubenet.model.nft import Family, Load
from kubenet.model.nft_fields import Field, Set
from kubenet.model.protocol import Protocol
from proxy.ports import IPAddress

TABLE = "kubenet-proxy"

SERVICES = "services"
NODE_PORTS = "node-ports"
WAYS = "ways"
ENDPOINTS = "endpoints"
EXTERNAL = "external"
NODE_PORT_SERVICES = "node-port-services"
CLUSTER_IPS = "cluster-ips"
HAIRPIN = "hairpin"
ADMITTED = "admitted"  # address . protocol . port . source, where not every source may come
AFFINITY = "affinity"  # learned: client . service -> endpoint
MEMBERS = "members"  # service . endpoint, of services with affinity
LOCAL_MEMBERS = "local-members"  # the same, of the pool of this node
STAY_ENDPOINTS = "stay-endpoints"  # endpoints of services with affinity
TURN_SHARD = "turn-endpoints-"  # endpoints of services in turn, spread over many maps
STAY_TURN_SHARD = "stay-turn-endpoints-"  # of those with affinity too

DISPATCH = "dispatch"
AT_NODE_PORTS = "at-node-ports"
PREROUTING = "nat-prerouting"
OUTPUT = "nat-output"
POSTROUTING = "nat-postrouting"
FORWARD = "filter-forward"

LOCAL_SEATS = 1 << 24  # the pool of this node is numbered from here on

AT_ADDRESS = (Load.DESTINATION, Load.PROTOCOL, Load.PORT)
AT_PORT = (Load.PROTOCOL, Load.PORT)

PROTOCOL_BYTES: Mapping[Protocol, bytes] = {
    Protocol.TCP: b"\x06\0\0\0",
    Protocol.UDP: b"\x11\0\0\0",
    Protocol.SCTP: b"\x84\0\0\0",
}  # IANA protocol numbers, filled up to four bytes


def address_field(family: Family) -> Field:
    """Return what an address of ``family`` is in a key."""
    return Field.ADDRESS_V4 if family == 4 else Field.ADDRESS_V6


def sets_of(family: Family, counted: bool = False) -> dict[str, Set]:
    """Return the sets and maps that are always there; ``counted`` if endpoints count their connections."""
    ip, protocol, port, number = address_field(family), Field.PROTOCOL, Field.PORT, Field.NUMBER
    service, way = (ip, protocol, port), (number, number)
    return {
        SERVICES: Set(service, (ip, *way)),
        NODE_PORTS: Set((protocol, port), (ip, *way)),
        WAYS: Set(way, verdicts=True),
        ENDPOINTS: seats_shape(family, ENDPOINTS, counted),
        STAY_ENDPOINTS: seats_shape(family, STAY_ENDPOINTS, counted),
        EXTERNAL: Set(service, (ip, *service)),
        NODE_PORT_SERVICES: Set((protocol, port), (ip, *service)),
        CLUSTER_IPS: Set((ip,)),
        HAIRPIN: Set((ip, ip)),
        ADMITTED: Set((*service, ip), intervals=True),
        AFFINITY: Set((ip, *service), (ip, *service, ip, port), learned=True),
        MEMBERS: Set((*service, ip, port)),
        LOCAL_MEMBERS: Set((*service, ip, port)),
    }


def seats_shape(family: Family, name: str, counted: bool = False) -> Set:
    """Return the shape of the map ``name`` of endpoints by number."""
    ip = address_field(family)
    service = (ip, Field.PROTOCOL, Field.PORT)
    again = (ip, *service) if is_told_again(name) else ()
    return Set((*service, Field.NUMBER), (*again, ip, Field.PORT), counted=counted)


def shape_of(family: Family, name: str, counted: bool = False) -> Set | None:
    """Return what a set of ours looks like; None if none of ours has that name."""
    return seats_shape(family, name, counted) if is_seats(name) else sets_of(family).get(name)


def is_seats(name: str) -> bool:
    """Return whether a map holds endpoints by number."""
    return name in (ENDPOINTS, STAY_ENDPOINTS) or name.startswith((TURN_SHARD, STAY_TURN_SHARD))


def is_told_again(name: str) -> bool:
    """Return whether a map of endpoints tells the service again, for clients to be remembered by."""
    return name == STAY_ENDPOINTS or name.startswith(STAY_TURN_SHARD)


def way(chain: str) -> bytes:
    """Return the number of the way that leads to ``chain``.

    64 bits of a hash: two of 100,000 chains meet once in four thousand million clusters.
    """
    return hashlib.blake2b(chain.encode(), digest_size=8).digest()


def answer(packed: bytes, ip: IPAddress) -> bytes:
    """Return a value that rules use as a key: it begins with as much as an address such as ``ip`` fills.

    See ``kubenet.kernel.nft_rules`` for the reason.
    """
    return bytes(len(ip.packed)) + packed


def port_bytes(port: int) -> bytes:
    """Return a port as a part of a key."""
    return port.to_bytes(2, "big") + b"\0\0"


def socket_text(family: Family, value: bytes) -> str:
    """Return the endpoint that the value of a seat ends with."""
    size = address_field(family).bytes_held
    packed, port = value[-size - 4 : -4], int.from_bytes(value[-4:-2], "big")
    return f"{IPv4Address(packed)}:{port}" if family == 4 else f"[{IPv6Address(packed)}]:{port}"


def socket_bytes(ip: IPAddress, port: int) -> bytes:
    """Return an address and port as the value of an element."""
    return ip.packed + port.to_bytes(2, "big") + b"\0\0"
