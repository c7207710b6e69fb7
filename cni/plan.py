"""What one pod's interface needs, in the pod's namespace and in the node's. *Pure.*

Routed wiring (the default)::

    pod namespace                                   node namespace
    eth0 10.244.1.5/32, 0a:58:0a:f4:01:05  <-veth-> k<hash>, ee:ee:ee:ee:ee:ee
    169.254.1.1 dev eth0                            10.244.1.5 dev k<hash>
    default via 169.254.1.1 onlink                  neighbour 10.244.1.5 -> 0a:58:0a:f4:01:05
    neighbour 169.254.1.1 -> ee:ee:ee:ee:ee:ee

Each pod is a link of its own: no bridge learns, floods or filters, a pod reaches itself through a Service
without a hairpin, and the node's routing table says who is here. Both neighbours are permanent, so that
nobody asks and nobody can lie; no address is ever on 169.254.1.1. The MAC addresses follow from the pod's
address, so both ends can be written before either exists.

Bridge wiring is what the reference plugins do: all pods of a node are ports of one bridge, which has the
second address of the node's range and is the pods' gateway.

Everything here is a value: the agent makes it so for a runtime, a lab for its own pods.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2s
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_network

from cni.result import AssignedAddress, Interface, Result
from cni.spec import AssignedRoute
from kubenet.model.links import (
    Address,
    IPAddress,
    IPInterface,
    IPNetwork,
    Link,
    LinkKind,
    LinkState,
    MacAddress,
    Neighbor,
    Route,
    VethPeer,
    state_of,
)

POD = "pod"  # the name of the pod's namespace in the values below

# Nobody's address: link-local, so that no router forwards it, and the same for every pod.
GATEWAYS: dict[int, IPAddress] = {4: IPv4Address("169.254.1.1"), 6: IPv6Address("fe80::1")}
GATEWAY_MAC: MacAddress = "ee:ee:ee:ee:ee:ee"  # locally administered, unicast
_HOST_IFNAME = re.compile(r"k[0-9a-f]{14}")
_EVERYWHERE: dict[int, IPNetwork] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


class Wiring(Enum):
    """How the pods of a node are joined to it."""

    ROUTED = "routed"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Bridge:
    """The bridge of a node, and the addresses that it has: one of a family, with the prefix of the pods."""

    ifname: str
    gateways: tuple[IPInterface, ...]

    @property
    def mac(self) -> MacAddress:
        return mac_for(self.gateways[0].ip)

    def gateway(self, version: int) -> IPInterface | None:
        """Return the bridge's address of that family."""
        return next((gateway for gateway in self.gateways if gateway.version == version), None)


@dataclass(frozen=True, slots=True)
class PodWiring:
    """How pods are wired at the moment."""

    mtu: int  # bytes
    bridge: Bridge | None = None


@dataclass(frozen=True, slots=True)
class PodNet:
    """One interface of one pod. ``addresses`` has one entry or one of each family; ``mtu`` is in bytes."""

    host_ifname: str
    ifname: str
    addresses: tuple[IPAddress, ...]
    mtu: int
    bridge: Bridge | None = None  # None is routed wiring
    asked_mac: MacAddress | None = None

    @property
    def mac(self) -> MacAddress:
        """The pod's own MAC address."""
        return self.asked_mac or mac_for(self.addresses[0])

    @property
    def host_mac(self) -> MacAddress:
        """The MAC address of the host's end; on a bridge every port needs one of its own."""
        return GATEWAY_MAC if self.bridge is None else _hashed_mac(self.host_ifname.encode())


def host_ifname(container_id: str, ifname: str) -> str:
    """Return the name of the host's end: 15 characters that only this attachment has.

    A function of the attachment, so that DEL needs nothing else to find the link. 56 bits of hash: among
    a thousand pods two share a name with a chance of one in 10^11.
    """
    return "k" + blake2s(f"{container_id}\0{ifname}".encode(), digest_size=7).hexdigest()


def is_host_ifname(ifname: str) -> bool:
    """Whether ``host_ifname`` makes such names."""
    return _HOST_IFNAME.fullmatch(ifname) is not None


def mac_for(address: IPAddress) -> MacAddress:
    """Return the MAC address of whoever has ``address``: 0a:58 and the four octets of an IPv4 address."""
    if address.version == 4:
        return _mac(b"\x0a\x58" + address.packed)
    return _hashed_mac(address.packed)


def node_state(pod: PodNet) -> LinkState:
    """Return what the node's namespace must hold for ``pod``: the veth and the way to it."""
    link = Link(
        pod.host_ifname,
        LinkKind.VETH,
        mac=pod.host_mac,
        mtu=pod.mtu,
        master=pod.bridge.ifname if pod.bridge else "",
        peer=VethPeer(pod.ifname, POD, pod.mac),
    )
    if pod.bridge is not None:
        return state_of(link)
    routes = [Route(ip_network(address), pod.host_ifname) for address in pod.addresses]
    neighbors = [Neighbor(pod.host_ifname, address, pod.mac) for address in pod.addresses]
    return state_of(link, *routes, *neighbors)


def pod_state(pod: PodNet) -> LinkState:
    """Return what the pod's namespace must hold: loopback, the interface, addresses and routes."""
    links = (Link("lo", LinkKind.LOOPBACK), Link(pod.ifname, LinkKind.VETH, mac=pod.mac, mtu=pod.mtu))
    entries = _bridged(pod, pod.bridge) if pod.bridge else _routed(pod)
    return state_of(*links, *entries)


def new_pod_state(pod: PodNet) -> LinkState:
    """Return what the pod's namespace holds right after the veth was made: both its links, down."""
    return state_of(
        Link("lo", LinkKind.LOOPBACK, up=False),
        Link(pod.ifname, LinkKind.VETH, mac=pod.mac, mtu=pod.mtu, up=False),
    )


def bridge_state(bridge: Bridge, mtu: int) -> LinkState:
    """Return the bridge itself, as the node's namespace must hold it."""
    link = Link(bridge.ifname, LinkKind.BRIDGE, mac=bridge.mac, mtu=mtu)
    return state_of(link, *(Address(bridge.ifname, gateway) for gateway in bridge.gateways))


def result_of(pod: PodNet, sandbox: str) -> Result:
    """Return what the runtime is told about ``pod``; ``sandbox`` is the path of its namespace."""
    interfaces = [
        Interface(pod.host_ifname, pod.host_mac, pod.mtu),
        Interface(pod.ifname, pod.mac, pod.mtu, sandbox),
    ]
    if pod.bridge:
        interfaces.insert(0, Interface(pod.bridge.ifname, pod.bridge.mac, pod.mtu))
    state = pod_state(pod)
    index = len(interfaces) - 1
    return Result(
        tuple(interfaces),
        tuple(
            AssignedAddress(entry.interface, _gateway(pod, entry.interface), index)
            for entry in state.addresses
        ),
        tuple(
            AssignedRoute(route.destination, route.gateway)
            for route in state.routes.values()
            if route.gateway is not None
        ),
    )


def differences(have_pod: LinkState, have_node: LinkState, pod: PodNet) -> Iterator[str]:
    """Yield, in words, what of ``pod`` is missing or other than it was made.

    What is there beside it is none of our business: a later plugin may have added it.
    """
    yield from _lacking(have_pod, pod_state(pod), "in the pod")
    yield from _lacking(have_node, node_state(pod), "on the node")


def _routed(pod: PodNet) -> Iterator[Address | Route | Neighbor]:
    for address in pod.addresses:
        gateway = GATEWAYS[address.version]
        yield Address(pod.ifname, _alone(address))
        if address.version == 4:  # the link-local prefix of IPv6 is on every link anyway
            yield Route(ip_network(gateway), pod.ifname)
        # On the link by decree: beside a second interface the route above belongs to the first.
        yield Route(_EVERYWHERE[address.version], pod.ifname, gateway, onlink=True)
        yield Neighbor(pod.ifname, gateway, GATEWAY_MAC)


def _bridged(pod: PodNet, bridge: Bridge) -> Iterator[Address | Route]:
    for address in pod.addresses:
        gateway = bridge.gateway(address.version)
        if gateway is None:
            continue
        yield Address(pod.ifname, type(gateway)(f"{address}/{gateway.network.prefixlen}"))
        yield Route(_EVERYWHERE[address.version], pod.ifname, gateway.ip)


def _gateway(pod: PodNet, interface: IPInterface) -> IPAddress | None:
    if pod.bridge is None:
        return GATEWAYS[interface.version]
    gateway = pod.bridge.gateway(interface.version)
    return gateway.ip if gateway else None


def _lacking(have: LinkState, want: LinkState, where: str) -> Iterator[str]:
    for ifname, link in want.links.items():
        yield from _link_differences(have.links.get(ifname), link, where)
    for address in want.addresses:
        if address not in have.addresses:
            yield f"{address.interface} is not on {address.ifname} {where}"
    for destination, route in want.routes.items():
        if destination not in have.routes:  # one that leads elsewhere is the choice of a later plugin
            yield f"no route to {destination} on {route.ifname} {where}"
    for key, neighbor in want.neighbors.items():
        if have.neighbors.get(key) != neighbor:
            yield f"{neighbor.ip} is not known to be {neighbor.mac} on {neighbor.ifname} {where}"


def _link_differences(have: Link | None, want: Link, where: str) -> Iterator[str]:
    if have is None:
        yield f"{want.ifname} is missing {where}"
        return
    if want.up and not have.up:
        yield f"{want.ifname} is down {where}"
    if want.mac is not None and have.mac != want.mac:
        yield f"{want.ifname} has MAC address {have.mac} instead of {want.mac} {where}"
    if want.mtu and have.mtu != want.mtu:
        yield f"{want.ifname} has MTU {have.mtu} instead of {want.mtu} {where}"
    if want.master and have.master != want.master:
        yield f"{want.ifname} is no port of {want.master} {where}"


def _alone(address: IPAddress) -> IPInterface:
    """Return the address with a prefix that holds nobody else."""
    return IPv4Interface(address) if address.version == 4 else IPv6Interface(address)


def _hashed_mac(subject: bytes) -> MacAddress:
    return _mac(b"\x0e\x58" + blake2s(subject, digest_size=4).digest())


def _mac(octets: bytes) -> MacAddress:
    return octets.hex(":")
