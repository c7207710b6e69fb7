"""Who has which address: pods, Services and nodes as people call them. *Pure.*"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address

from kubenet.model.objects import EndpointSlice, Node, Pod, Service
from kubenet.model.packet import PROTOCOL_NAMES

_NUMBERS = {name: number for number, name in PROTOCOL_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Cluster:
    """The objects that say what should be."""

    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    services: tuple[Service, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceAt:
    """A port of a Service, and who serves it."""

    key: str  # namespace/name
    port: str  # its name, or its number
    endpoints: tuple[tuple[IPv4Address, int], ...]  # ready ones

    def __str__(self) -> str:
        return f"{self.key}:{self.port}"


Socket = tuple[IPv4Address, int, int]
"""Address, protocol number, port."""


@dataclass(frozen=True, slots=True)
class Names:
    """What addresses are called."""

    hosts: Mapping[IPv4Address, str] = field(default_factory=dict)
    services: Mapping[Socket, ServiceAt] = field(default_factory=dict)
    node_ports: Mapping[tuple[int, int], ServiceAt] = field(default_factory=dict)
    cluster_ips: Mapping[IPv4Address, str] = field(default_factory=dict)
    homes: Mapping[IPv4Address, str] = field(default_factory=dict)  # of a pod: its node

    def whose(self, ip: IPv4Address) -> str:
        """Return the name of whoever has the address, or the address."""
        return self.hosts.get(ip) or (f"svc {self.cluster_ips[ip]}" if ip in self.cluster_ips else str(ip))

    def service_at(self, ip: IPv4Address, protocol: int, port: int) -> ServiceAt | None:
        """Return the Service that a packet to there is for."""
        found = self.services.get((ip, protocol, port))
        if found is None and (ip in self.hosts and self.hosts[ip].startswith("node ")):
            return self.node_ports.get((protocol, port))
        return found


def names_of(cluster: Cluster) -> Names:
    """Return the names of all addresses of a cluster."""
    services: dict[Socket, ServiceAt] = {}
    node_ports: dict[tuple[int, int], ServiceAt] = {}
    cluster_ips: dict[IPv4Address, str] = {}
    for service in cluster.services:
        slices = [each for each in cluster.slices if each.service_key == service.metadata.key]
        addresses = [ip for text in _addresses(service) if (ip := _ipv4(text)) is not None]
        cluster_ips |= dict.fromkeys(addresses, service.metadata.key)
        for port in service.spec.ports:
            endpoints = tuple(_endpoints(slices, port.name))
            at = ServiceAt(service.metadata.key, port.name or str(port.port), endpoints)
            number = _NUMBERS.get(port.protocol.lower(), 0)
            services |= {(ip, number, port.port): at for ip in addresses}
            if port.node_port:
                node_ports[number, port.node_port] = at
    homes = {
        ip: pod.spec.node_name
        for pod in cluster.pods
        if (ip := _ipv4(pod.status.pod_ip)) is not None and not pod.spec.host_network
    }
    return Names(_hosts(cluster), services, node_ports, cluster_ips, homes)


def _hosts(cluster: Cluster) -> dict[IPv4Address, str]:
    hosts: dict[IPv4Address, str] = {}
    for node in cluster.nodes:
        for address in node.status.addresses:
            if (ip := _ipv4(address.address)) is not None:
                hosts[ip] = f"node {node.metadata.name}"
        for cidr in node.spec.pod_cidrs or (node.spec.pod_cidr,):
            if (ip := _ipv4(cidr.partition("/")[0])) is not None:
                hosts[ip] = f"node {node.metadata.name}"  # its tunnel end has the range's first address
    for pod in cluster.pods:
        ip = _ipv4(pod.status.pod_ip)
        if ip is not None and not pod.spec.host_network and pod.status.phase not in ("Succeeded", "Failed"):
            hosts[ip] = pod.metadata.key
    return hosts


def _addresses(service: Service) -> list[str]:
    balancers = [entry.ip for entry in service.status.load_balancer.ingress]
    return [service.spec.cluster_ip, *service.spec.external_ips, *balancers]


def _endpoints(slices: Iterable[EndpointSlice], name: str) -> Iterable[tuple[IPv4Address, int]]:
    for each in slices:
        for port in each.ports or ():
            if (port.name or "") != name or not port.port:
                continue
            for endpoint in each.endpoints or ():
                if endpoint.conditions.ready is False:
                    continue
                for text in endpoint.addresses:
                    if (ip := _ipv4(text)) is not None:
                        yield ip, port.port


def _ipv4(text: str) -> IPv4Address | None:
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    return ip if isinstance(ip, IPv4Address) else None
