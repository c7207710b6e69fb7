"""What a node's proxy has to know, and what the Node object adds to it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Network, ip_network

from kubenet.errors import InvalidInput
from kubenet.kernel.netns import NetNs
from kubenet.model.objects import Node
from proxy.backend import ProxyMode
from proxy.externals import ExternalRules
from proxy.health import Address
from proxy.policy import Locality
from proxy.ports import Balance, Family, IPAddress, IPNetwork, NodeNetwork, parse_ip
from proxy.source import ZONE_LABEL
from proxy.track import TrackRules

# What no packet is sent to: where the node ports of a family are whose address the node does not have.
_NOWHERE: Mapping[Family, IPNetwork] = {4: ip_network("0.0.0.0/32"), 6: ip_network("::/128")}


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """What a node's proxy has to know."""

    node_name: str
    netns: NetNs | None = None  # None: where the process is
    cluster_cidr: IPNetwork | None = None
    cluster_cidr_v6: IPv6Network | None = None  # without it nothing is done for IPv6
    service_cidrs: tuple[IPNetwork, ...] = ()
    default_balance: Balance = Balance.RANDOM
    masquerade_all: bool = False
    zone: str = ""
    min_sync_s: float = 0.1  # from the end of one sync to the start of the next
    check_s: float = 30.0  # how often to see whether somebody else changed our rules
    external_ips: tuple[IPNetwork, ...] = ()  # where Services may have externalIPs; empty: nowhere
    load_balancer_ips: tuple[IPNetwork, ...] = ()  # the same for load balancers; empty: anywhere
    node_port_networks: tuple[IPNetwork, ...] = ()  # where node ports listen; empty: on all addresses
    node_ports_on_primary: bool = False  # they listen on the node's own address alone
    localhost_node_ports: bool = False
    pods_of_node: bool = False  # pods are told by the Node's own pod networks, not by the cluster's
    pod_ifname: str = ""  # what tells pods from others in place of the cluster's network
    masquerade_mark: int = 1 << 14
    tcp_liberal: bool = False
    count_connections: bool = False  # by endpoint, for metrics
    healthz: Address | None = None  # where /healthz and /livez are served; None: nowhere
    metrics: Address | None = None  # the same for /metrics and /proxyMode
    mode: ProxyMode = ProxyMode.IPTABLES
    bind_ip: IPAddress | None = None  # the node's own address, if its Node does not say one
    ipv6: bool = False  # do something for IPv6 also without its pod network
    ready: asyncio.Event | None = None  # set once the node's rules are in place

    @property
    def networks(self) -> tuple[NodeNetwork, ...]:
        """One for each family that is proxied."""
        cidrs: dict[Family, IPNetwork | None] = {4: self.cluster_cidr}
        if self.ipv6 or self.cluster_cidr_v6 is not None:
            cidrs[6] = self.cluster_cidr_v6
        return tuple(
            NodeNetwork(
                family,
                cidr,
                self.masquerade_all,
                self.masquerade_mark,
                self.node_port_networks,
                self.localhost_node_ports,
                self.pod_ifname,
                service_cidrs=self.service_cidrs,
                tcp_liberal=self.tcp_liberal,
                count_connections=self.count_connections,
            )
            for family, cidr in cidrs.items()
        )

    def networks_of(self, node: Node | None) -> tuple[NodeNetwork, ...]:
        """Return ``networks`` with what the Node says of itself. Raises InvalidInput."""
        return tuple(self._at(network, node) for network in self.networks)

    def _at(self, network: NodeNetwork, node: Node | None) -> NodeNetwork:
        node_ip = self._own_ip(node, network.family)
        if self.pods_of_node:
            network = replace(network, cluster_cidr=pod_cidr(node, network.family))
        if not self.node_ports_on_primary:
            return replace(network, node_ip=node_ip)
        if not any(self._own_ip(node, each.family) for each in self.networks):
            raise InvalidInput(
                f"node {self.node_name}: no InternalIP for its node ports",
                "give networks in place of 'primary'",
            )
        own = ip_network(node_ip) if node_ip else _NOWHERE[network.family]
        return replace(network, node_ip=node_ip, node_port_networks=(*network.node_port_networks, own))

    def _own_ip(self, node: Node | None, family: Family) -> IPAddress | None:
        if told := internal_ip(node, family):
            return told
        said = self.bind_ip
        return said if said and said.version == family and not said.is_unspecified else None

    @property
    def reserved(self) -> tuple[IPNetwork, ...]:
        """What the cluster uses for itself."""
        pods = (self.cluster_cidr, self.cluster_cidr_v6)
        return (*self.service_cidrs, *(cidr for cidr in pods if cidr is not None and cidr.prefixlen))


def internal_ip(node: Node | None, family: Family) -> IPAddress | None:
    """Return the address that a Node is known by in its cluster."""
    entries = node.status.addresses if node else ()
    found = (parse_ip(entry.address) for entry in entries if entry.type == "InternalIP")
    return next((ip for ip in found if ip and ip.version == family), None)


def pod_cidr(node: Node | None, family: Family) -> IPNetwork | None:
    """Return the network of the pods on a Node."""
    texts = (node.spec.pod_cidrs or (node.spec.pod_cidr,)) if node else ()
    return next((net for net in map(ip_network, filter(None, texts)) if net.version == family), None)


def locality_of(config: ProxyConfig, node: Node | None) -> Locality:
    """Return where we are: the zone follows the Node's label (row 36)."""
    zone = config.zone or (node.metadata.labels.get(ZONE_LABEL, "") if node else "")
    return Locality(config.node_name, zone)


def track_rules(config: ProxyConfig, network: NodeNetwork) -> TrackRules:
    """Return what holds for the whole cluster, in one family."""
    outside = ExternalRules(config.external_ips, config.load_balancer_ips, config.reserved)
    hashes = config.mode is ProxyMode.NFTABLES
    return TrackRules(network.family, config.default_balance, config.service_cidrs, outside, hashes)
