"""One Service as DNS sees it: one immutable value, replaced as a whole, and the names it holds. *Pure.*

Names are looked up, record sets are made when asked for: a change of a Service with a thousand endpoints
costs nothing for the thousand names that nobody asks.

Source: Kubernetes DNS-Based Service Discovery 1.1.0, sections 2.3 to 2.5; what CoreDNS answers beyond it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from dns.names import WireName, prefixed
from dns.records import RRset, addresses, both_families, srv_content
from dns.wire import RType

ServiceKey: TypeAlias = tuple[bytes, bytes]  # the labels of service and namespace, lower case


@dataclass(frozen=True, slots=True)
class Port:
    """A port that SRV can tell; an unnamed one is told at the service's own name only."""

    name: bytes
    protocol: bytes
    number: int


# One empty mapping for all who have none; nobody changes it.
_NO_HOSTS: Mapping[bytes, tuple[bytes, ...]] = {}
_NO_PORTS: Mapping[Port, tuple[bytes, ...]] = {}


def _no_hosts() -> Mapping[bytes, tuple[bytes, ...]]:
    return _NO_HOSTS


def _no_ports() -> Mapping[Port, tuple[bytes, ...]]:
    return _NO_PORTS


@dataclass(frozen=True, slots=True)
class ServiceRecords:
    """All that DNS can say of one Service."""

    key: ServiceKey
    domain: WireName  # the cluster's
    ttl_s: int
    cluster_ips: tuple[bytes, ...] = ()  # packed; empty for a headless Service
    ports: tuple[Port, ...] = ()  # of the cluster IPs
    headless: bool = False
    alias: WireName | None = None  # where an ExternalName points
    external: bool = False  # an ExternalName, also one that points nowhere
    hosts: Mapping[bytes, tuple[bytes, ...]] = field(default_factory=_no_hosts)  # label -> packed addresses
    host_ports: Mapping[Port, tuple[bytes, ...]] = field(default_factory=_no_ports)  # -> labels that serve it
    ignored: tuple[str, ...] = field(default=(), compare=False)

    @property
    def exists(self) -> bool:
        """Whether there is anything at or below the Service's own name."""
        return bool(self.alias or self.cluster_ips or self.hosts)

    @property
    def name(self) -> WireName:
        """The Service's own name."""
        return prefixed(self.key[0]) + prefixed(self.key[1]) + b"\x03svc" + self.domain

    def host_name(self, label: bytes) -> WireName:
        """Return the name of one endpoint; of the Service itself for an empty ``label``."""
        return prefixed(label) + self.name if label else self.name

    def owned_addresses(self) -> set[tuple[bytes, bytes]]:
        """Return (address, host label) of all that a reverse look-up finds here; "" is the Service itself."""
        owned = {(packed, label) for label, held in self.hosts.items() for packed in held}
        return owned | {(packed, b"") for packed in self.cluster_ips}

    def at(self, prefix: tuple[bytes, ...]) -> "ServicePlace | None":
        """Return what stands at the labels ``prefix`` below the Service's name, None if nothing does."""
        match prefix:
            case ():
                return ServicePlace(self) if self.exists else None
            case (host,) if host in self.hosts:
                return ServicePlace(self, host=host)
            case (protocol,) if any(_means(protocol, port.protocol) and port.name for port in self._told):
                return ServicePlace(self, empty=True)
            case (name, protocol):
                return self._at_port(name, protocol)
            case _:
                return None

    @property
    def _told(self) -> Iterable[Port]:
        return self.host_ports if self.headless else self.ports

    def _at_port(self, name: bytes, protocol: bytes) -> "ServicePlace | None":
        ports = tuple(
            port
            for port in self._told
            if port.name and _means(name, port.name) and _means(protocol, port.protocol)
        )
        return ServicePlace(self, ports=ports) if ports else None


@dataclass(frozen=True, slots=True)
class ServicePlace:
    """One name of a Service: itself, an endpoint (``host``), or a port (``ports``)."""

    service: ServiceRecords
    host: bytes = b""
    ports: tuple[Port, ...] | None = None
    empty: bool = False  # nothing here, but names below

    @property
    def alias(self) -> WireName | None:
        """The name that this one only points to, if so."""
        return self.service.alias

    def rrset(self, owner: WireName, rtype: int) -> RRset | None:
        """Return the set of a type here, under the name that was asked, or None."""
        ttl_s = self.service.ttl_s
        contents: tuple[bytes, ...] = ()
        if rtype in (RType.A, RType.AAAA):
            contents = addresses(owner, rtype, ttl_s, self._addresses()).contents
        elif rtype == RType.SRV:
            contents = self._srv_contents()
        return RRset(owner, rtype, ttl_s, contents) if contents else None

    def additional(self, rtype: int) -> tuple[RRset, ...]:
        """Return the addresses of what the answer of a type names."""
        if rtype != RType.SRV:
            return ()
        service = self.service
        named: dict[bytes, tuple[bytes, ...]] = {}
        for label, _ in self._targets():
            named[label] = service.hosts[label] if label else service.cluster_ips
        sets = (both_families(service.host_name(label), service.ttl_s, held) for label, held in named.items())
        return tuple(rrset for pair in sets for rrset in pair)

    def _addresses(self) -> Iterable[bytes]:
        service = self.service
        if self.empty:
            return ()
        if self.host:
            return service.hosts[self.host]
        if not service.headless:
            return service.cluster_ips
        labels = service.hosts if self.ports is None else {label for label, _ in self._targets()}
        # Sorted, so that equal states give equal answers; the reply rotates them.
        return sorted({packed for label in labels for packed in service.hosts[label]})

    def _targets(self) -> list[tuple[bytes, Port]]:
        """Return endpoint and port of each SRV record here; the endpoint is "" for the Service itself."""
        service = self.service
        if self.empty:
            return []
        if not service.headless and not self.host:
            return [(b"", port) for port in (service.ports if self.ports is None else self.ports)]
        ports = service.host_ports if self.ports is None else self.ports
        return [
            (label, port) for port in ports for label in service.host_ports[port] if self.host in (b"", label)
        ]

    def _srv_contents(self) -> tuple[bytes, ...]:
        targets = self._targets()
        weight = max(1, 100 // len(targets)) if targets else 0
        service = self.service
        return tuple(
            dict.fromkeys(
                srv_content(weight, port.number, service.host_name(label)) for label, port in targets
            )
        )


def _means(label: bytes, meant: bytes) -> bool:
    """CoreDNS takes ``http.tcp`` for ``_http._tcp`` too."""
    return label.removeprefix(b"_") == meant
