"""Says why a pod gets the answer it gets: names tried, plugin, objects and their versions. *Pure.*

A pod's resolver tries a name with few dots below each name of its search path first, and takes the first
answer that has records.

Source: resolv.conf(5) (search, ndots); Kubernetes documentation, "DNS for Services and Pods".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from dns import names
from dns.answer import Forward, answer
from dns.feed import ClusterFeed
from dns.names import WireName
from dns.read import Naming, service_key
from dns.records import RRset
from dns.service import ServiceKey
from dns.wire import Question, RType
from dns.zone import Zone, ZoneConfig
from kubenet.model.objects import EndpointSlice, KubeObject, Namespace, Service

NDOTS = 5  # of a pod with dnsPolicy ClusterFirst


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects that the cluster's names come from."""

    services: tuple[Service, ...]
    slices: tuple[EndpointSlice, ...]
    namespaces: tuple[Namespace, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One name that the resolver asks for."""

    name: str
    status: str
    records: tuple[str, ...]
    plugin: str
    because: tuple[str, ...]  # objects with their versions, or why there are none

    def __str__(self) -> str:
        lines = [f"{self.name}  {self.status}  from plugin {self.plugin}"]
        lines += [f"    {record}" for record in self.records]
        lines += [f"    because of {reason}" for reason in self.because]
        return "\n".join(lines)


def explain(name: str, rtype: RType, namespace: str, objects: Objects, domain: str) -> list[Attempt]:
    """Return what a resolver in a pod of ``namespace`` asks, up to the answer. Raises InvalidInput."""
    feed = _feed(objects, domain)
    attempts: list[Attempt] = []
    for tried in candidates(name, namespace, domain):
        attempts.append(_attempt(names.from_text(tried), rtype, feed.zone, objects))
        if attempts[-1].records or attempts[-1].plugin == "forward":
            break
    return attempts


def candidates(name: str, namespace: str, domain: str) -> list[str]:
    """Return the absolute names that a resolver tries, in order."""
    if name.endswith("."):
        return [name]
    search = (f"{namespace}.svc.{domain}", f"svc.{domain}", domain)
    below = [f"{name}.{each}." for each in search]
    return [f"{name}.", *below] if name.count(".") >= NDOTS else [*below, f"{name}."]


def _feed(objects: Objects, domain: str) -> ClusterFeed:
    config = ZoneConfig(
        Naming(names.from_text(domain)), fallthrough=frozenset((names.IN_ADDR_ARPA, names.IP6_ARPA))
    )
    feed = ClusterFeed(config, serial=1)
    for namespace in objects.namespaces:
        feed.namespace(namespace.metadata.name, namespace)
    for service in objects.services:
        feed.service(service.metadata.key, service)
    for each in objects.slices:
        feed.endpoint_slice(each.metadata.key, each)
    feed.complete()
    while not feed.flush().zone.synced:
        pass
    return feed


def _attempt(name: WireName, rtype: RType, zone: Zone, objects: Objects) -> Attempt:
    text = names.to_text(name)
    decision = answer(Question(name, rtype), zone)
    if isinstance(decision, Forward):
        records = tuple(_lines(decision.aliases))
        target = names.to_text(decision.question.name)
        return Attempt(text, "asked upstream", records, "forward", (f"{target} is no name of the cluster",))
    records = tuple(_lines(decision.answers))
    key = decision.service or _service_at(name, zone)
    because = _objects_of(key, objects) if key else _absence(name, zone)
    return Attempt(text, decision.rcode.name, records, "kubernetes", tuple(because))


def _service_at(name: WireName, zone: Zone) -> ServiceKey | None:
    """Return the Service that an existing or missing name would belong to, if there is one."""
    labels = names.to_labels(name.lower())
    apex = zone.config.apex_of(labels)
    rest = labels[: -apex.depth] if apex else ()
    if len(rest) >= 3 and rest[-1] == b"svc" and (rest[-3], rest[-2]) in zone.services:
        return rest[-3], rest[-2]
    return None


def _objects_of(key: ServiceKey, objects: Objects) -> Iterable[str]:
    for service in objects.services:
        if service_key(service.metadata.key) == key:
            yield _told("Service", service)
            for each in objects.slices:
                if each.service_key == service.metadata.key:
                    yield _told("EndpointSlice", each)


def _told(kind: str, each: KubeObject) -> str:
    return f"{kind} {each.metadata.key} (resourceVersion {each.metadata.resource_version or 'unknown'})"


def _absence(name: WireName, zone: Zone) -> Iterable[str]:
    labels = names.to_labels(name.lower())
    apex = zone.config.apex_of(labels)
    rest = labels[: -apex.depth] if apex else ()
    if len(rest) < 2 or rest[-1] != b"svc":
        return
    namespace = rest[-2].decode(errors="replace")
    if rest[-2] not in zone.namespaces:
        yield f"no Namespace {namespace}"
    elif len(rest) >= 3:
        yield f"no Service {namespace}/{rest[-3].decode(errors='replace')}"


def _lines(rrsets: Sequence[RRset]) -> Iterable[str]:
    for rrset in rrsets:
        kind = RType(rrset.rtype).name
        for content in rrset.contents:
            yield f"{names.to_text(rrset.owner)} {rrset.ttl_s} {kind} {_content(rrset.rtype, content)}"


def _content(rtype: int, content: bytes) -> str:
    match rtype:
        case RType.A | RType.AAAA:
            return str(ip_address(content))
        case RType.CNAME | RType.PTR | RType.NS:
            return names.to_text(content)
        case RType.SRV:
            numbers = " ".join(str(int.from_bytes(content[at : at + 2], "big")) for at in (0, 2, 4))
            return f"{numbers} {names.to_text(content[6:])}"
        case _:
            return content.hex()
