"""The cluster's names as one list, for those who want the whole zone. *Pure.*

Names of pods are not among them: they follow from addresses alone.

Source: RFC 5936 (AXFR); Kubernetes DNS-Based Service Discovery 1.1.0.
"""

from collections.abc import Iterator

from dns.records import RRset
from dns.service import ServiceRecords
from dns.wire import RType
from dns.zone import SCHEMA_VERSION_LABEL, Zone


def zone_records(zone: Zone) -> Iterator[RRset]:
    """Give all records of the cluster's domain, its SOA record at both ends."""
    domain = zone.config.naming.domain
    soa = zone.soa(domain)
    yield soa
    apex = zone.apex(domain)
    yield from (rrset for rrset in apex.rrsets if rrset.rtype != RType.SOA and rrset.contents)
    yield from apex.glue
    yield zone.schema_version(SCHEMA_VERSION_LABEL + domain)
    for key in sorted(zone.services):
        service = zone.services.get(key)
        if service is not None:
            yield from _service_records(service)
    yield soa


def _service_records(service: ServiceRecords) -> Iterator[RRset]:
    if service.alias:
        yield RRset(service.name, RType.CNAME, service.ttl_s, (service.alias,))
        return
    prefixes: list[tuple[bytes, ...]] = [(), *((label,) for label in service.hosts)]
    ports = service.host_ports if service.headless else service.ports
    prefixes += dict.fromkeys((b"_" + port.name, b"_" + port.protocol) for port in ports if port.name)
    for prefix in prefixes:
        place = service.at(prefix)
        owner = b"".join(bytes((len(label),)) + label for label in prefix) + service.name
        types = (RType.SRV,) if len(prefix) == 2 else (RType.A, RType.AAAA)
        for rtype in types:
            rrset = place.rrset(owner, rtype) if place else None
            if rrset:
                yield rrset
