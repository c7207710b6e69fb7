"""Says why a pod gets the answer it gets: names tried, plugin, objects and their versions. *Pure.*

The question goes through the same plugins as in the server, with a Corefile's settings or the usual ones. A
pod's resolver tries a name with few dots below each name of its search path first, and takes the first answer
that has records.

Source: resolv.conf(5) (search, ndots); Kubernetes documentation, "DNS for Services and Pods".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from dns import names
from dns.answer import Answer, Forward
from dns.chain import Decision, Origin, Request, resumed, settled
from dns.cluster import zone_config
from dns.corefile import no_files, read_corefile
from dns.feed import ClusterFeed
from dns.names import WireName
from dns.part import Part
from dns.plugins.registry import read_blocks
from dns.read import service_key
from dns.records import RRset
from dns.service import ServiceKey
from dns.settings import Block, Kubernetes
from dns.site import Site
from dns.wire import RD, Query, Question, Rcode, RType
from dns.zone import Zone
from kubenet.model.objects import EndpointSlice, KubeObject, Namespace, Pod, Service

NDOTS = 5  # of a pod with dnsPolicy ClusterFirst


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects that the cluster's names come from."""

    services: tuple[Service, ...]
    slices: tuple[EndpointSlice, ...]
    namespaces: tuple[Namespace, ...]
    pods: tuple[Pod, ...] = ()


@dataclass(frozen=True, slots=True)
class Asker:
    """The pod whose answer is explained."""

    namespace: str
    address: str = "0.0.0.0"


def usual_blocks(domain: str) -> tuple[Block, ...]:
    """Return the server blocks that kubeadm sets up, for who gives no Corefile. Raises InvalidInput."""
    text = f""".:53 {{
        kubernetes {domain} in-addr.arpa ip6.arpa {{
            pods insecure
            fallthrough in-addr.arpa ip6.arpa
        }}
        forward . /etc/resolv.conf
    }}"""
    return read_blocks(read_corefile(text, "Corefile", env={}, read_files=no_files))


def site_of(blocks: Sequence[Block], objects: Objects) -> Site:
    """Return what answers as ``blocks`` say, from these objects. Files behind plugins are not read yet."""
    zones = {block.kubernetes: _zone(block.kubernetes, objects) for block in blocks if block.kubernetes}
    parts = [
        Part(block, zones.get(block.kubernetes) if block.kubernetes else None, _first) for block in blocks
    ]
    return Site(blocks[0].port, parts)


def _first(_choices: int) -> int:
    return 0


def domain_of(blocks: Sequence[Block]) -> str:
    """Return the cluster's domain, ``cluster.local`` if no block says."""
    told = next((block.kubernetes.domain for block in blocks if block.kubernetes), b"")
    return names.to_text(told).removesuffix(".") if told else "cluster.local"


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


def explain(name: str, rtype: RType, asker: Asker, site: Site, objects: Objects) -> list[Attempt]:
    """Return what a resolver in a pod asks, up to the answer. Raises InvalidInput."""
    attempts: list[Attempt] = []
    domain = domain_of([part.block for part in site.parts])
    for tried in candidates(name, asker.namespace, domain):
        attempts.append(_attempt(Question(names.from_text(tried), rtype), asker, site, objects))
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


def _zone(config: Kubernetes, objects: Objects) -> Zone:
    feed = ClusterFeed(zone_config(config, ()), serial=1, some_namespaces=bool(config.namespace_labels))
    for namespace in objects.namespaces:
        feed.namespace(namespace.metadata.name, namespace)
    for service in objects.services:
        if not config.namespaces or service.metadata.namespace in config.namespaces:
            feed.service(service.metadata.key, service)
    for each in objects.slices if config.endpoints else ():
        feed.endpoint_slice(each.metadata.key, each)
    for pod in objects.pods:
        feed.pod(pod.metadata.key, pod)
    feed.complete()
    while not feed.flush().zone.synced:
        pass
    return feed.zone


def _attempt(question: Question, asker: Asker, site: Site, objects: Objects) -> Attempt:
    text = names.to_text(question.name)
    query = Query(0, RD, question)
    origin = Origin(asker.address)
    part = site.part_for(query, origin)
    if part is None:
        return Attempt(text, "REFUSED", (), "none", ("no server block is for this name",))
    decision = settled(part.serve(Request(question, query, origin)))
    match decision:
        case Forward():
            return _asked_upstream(text, decision, part)
        case Answer():
            return _answered(question, decision, part, objects)
        case _:
            return Attempt(text, "no answer", (), part.plugin or "acl", ("a plugin drops it",))


def _asked_upstream(text: str, decision: Forward, part: Part) -> Attempt:
    name = decision.question.name.lower()
    target = names.to_text(name)
    found: Decision = resumed(Answer(Rcode.NOERROR, decision.aliases), decision.then)
    records = tuple(_lines(found.answers)) if isinstance(found, Answer) else ()
    to = next((each for each in part.block.forwards if each.takes(name)), None)
    if to is None:
        return Attempt(text, "REFUSED", records, "none", (f"{target} is no name of the cluster",))
    servers = ", ".join(each if isinstance(each, str) else str(each.address) for each in to.servers)
    because = f"{target} is no name of the cluster; {servers} is asked"
    return Attempt(text, "asked upstream", records, "forward", (because,))


def _answered(question: Question, decision: Answer, part: Part, objects: Objects) -> Attempt:
    zone = part.responder.zone
    owners = (question.name, *(rrset.owner for rrset in decision.answers))
    keys = dict.fromkeys(
        key for key in (decision.service, *(_service_at(each, zone) for each in owners)) if key
    )
    because = [reason for key in keys for reason in _objects_of(key, objects)]
    because = because or list(_absence(question.name, zone))
    plugin = decision.plugin or "kubernetes"
    return Attempt(
        names.to_text(question.name),
        decision.rcode.name,
        tuple(_lines(decision.answers)),
        plugin,
        tuple(because),
    )


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
