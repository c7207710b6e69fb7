"""From Services and EndpointSlices to service ports of one address family. *Pure.*

The order in which objects come never shows in the result. An object, an endpoint or a port that cannot be
proxied is left out and named in ``Tracked.refused``; the others are not affected.

Source: Kubernetes API reference v1.36; KEP-1672 (terminating endpoints), KEP-4444 (traffic distribution).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from sys import intern

from kubenet.model.objects import (
    SERVICE_NAME_LABEL,
    EndpointSlice,
    KubeObject,
    Service,
    ServicePortSpec,
)
from kubenet.model.protocol import Protocol
from proxy.clashes import without_clashes
from proxy.externals import ExternalRules, Externals, externals
from proxy.ports import (
    Balance,
    Endpoint,
    Family,
    IPAddress,
    IPNetwork,
    ObjectKind,
    Refused,
    ServicePort,
    ServicePortName,
    TrafficPolicy,
    parse_ip,
    why_not_unicast,
)
from proxy.slices import SliceRead, SliceReader, SliceRules, endpoints_by_port, read_slice

# Whoever carries the first is proxied by somebody else; the second says that there is no virtual address.
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
BALANCE_ANNOTATION = "kubenet.dev/balance"

NOT_OURS = frozenset({PROXY_NAME_LABEL, HEADLESS_LABEL})
_NO_VIRTUAL_ADDRESS = frozenset({"", "None"})
_AFFINITY_MOST_S = 86400  # the API's own limit


@dataclass(frozen=True, slots=True)
class TrackRules:
    """What holds for the whole cluster."""

    family: Family = 4
    default_balance: Balance = Balance.RANDOM
    service_cidrs: tuple[IPNetwork, ...] = ()  # empty: unknown, and then anything may be a cluster address
    externals: ExternalRules = field(default=ExternalRules())
    hashes: bool = True  # whether the backend can choose by the client's address

    @property
    def slices(self) -> SliceRules:
        """What holds for slices."""
        return SliceRules(self.family, self.service_cidrs)


@dataclass(frozen=True, slots=True)
class Tracked:
    """Everything to proxy, sorted, and what was left out."""

    service_ports: tuple[ServicePort, ...] = ()
    refused: tuple[Refused, ...] = ()


@dataclass(slots=True)
class _Findings:
    """What is collected on the way through one Service."""

    key: str
    ports: list[ServicePort] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    def refuse(self, subject: str, reason: str) -> None:
        self.refused.append(Refused(subject, reason, ObjectKind.SERVICE, self.key))


@dataclass(frozen=True, slots=True)
class _Inside:
    """What was found out for one port of a Service."""

    cluster_ip: IPAddress
    endpoints: tuple[Endpoint, ...]
    outside: Externals


@dataclass(frozen=True, slots=True)
class ServiceObjects:
    """One Service (None: there is none of that name) with its slices. ``key`` is namespace/name.

    The key of slices that name no Service is empty.
    """

    key: str
    service: Service | None
    slices: Sequence[EndpointSlice] = ()


def track(
    services: Iterable[Service], slices: Iterable[EndpointSlice], rules: TrackRules = TrackRules()
) -> Tracked:
    """Return the service ports that ``services`` and ``slices`` make, in the family of ``rules``."""
    ports: list[ServicePort] = []
    refused: set[Refused] = set()
    for each in together(services, slices):
        found = track_objects(each, rules)
        ports += found.service_ports
        refused |= set(found.refused)
    unique, lost = without_clashes(sorted(ports, key=_by_name))
    return Tracked(unique, tuple(sorted(refused | {why for _, why in lost})))


def together(services: Iterable[Service], slices: Iterable[EndpointSlice]) -> Iterator[ServiceObjects]:
    """Yield each Service with its slices, and the slices without a Service."""
    by_service: dict[str, list[EndpointSlice]] = defaultdict(list)
    for piece in slices:
        by_service[piece.service_key].append(piece)
    for service in services:
        key = service.metadata.key
        yield ServiceObjects(key, service, by_service.pop(key, ()))
    yield from (ServiceObjects(key, None, pieces) for key, pieces in by_service.items())


def _by_name(port: ServicePort) -> tuple[str, str, str, str]:
    return port.name.sort_key


def track_objects(objects: ServiceObjects, rules: TrackRules, reader: SliceReader | None = None) -> Tracked:
    """Return the sorted service ports of one Service, as far as they are of this family.

    ``reader`` is the one that has read the Service's slices before, if somebody keeps it. Whether another
    Service has the same address already is not asked here: see ``proxy.clashes``.
    """
    slices = [piece for piece in objects.slices if is_ours(piece)]
    if objects.service is not None:
        each = rules.slices
        reads = reader.read(slices) if reader else [read_slice(piece, each) for piece in slices]
        found = track_service(objects.service, reads, rules)
        if len(found.service_ports) < 2:
            return found
        return Tracked(tuple(sorted(found.service_ports, key=_by_name)), found.refused)
    if objects.key:
        return Tracked()  # its Service may yet come
    reason = f"carries no label {SERVICE_NAME_LABEL}"
    keys = [each.metadata.key for each in slices]
    about = ObjectKind.ENDPOINTSLICE
    return Tracked(refused=tuple(Refused(f"EndpointSlice {key}", reason, about, key) for key in keys))


def track_service(service: Service, reads: Sequence[SliceRead], rules: TrackRules) -> Tracked:
    """Return the service ports of one Service with what its own slices hold, of one family."""
    findings = _Findings(service.metadata.key)
    subject = f"Service {service.metadata.key}"
    cluster_ip = _cluster_ip(service, rules, findings, subject)
    if cluster_ip is None:
        return Tracked(refused=tuple(findings.refused))
    endpoints = endpoints_by_port(reads)
    findings.refused += [each for read in reads for each in read.refused]
    outside = externals(service, rules.family, rules.externals, lambda why: findings.refuse(subject, why))
    for spec in service.spec.ports:
        reason = _why_not_port(spec)
        if reason:
            findings.refuse(f"{subject} port {spec.name or spec.port}", reason)
            continue
        serving = endpoints.get((spec.name, Protocol[spec.protocol]), ())
        findings.ports.append(_service_port(service, spec, _Inside(cluster_ip, serving, outside), rules))
    _refuse_balance(service, rules, findings, subject)
    return Tracked(tuple(findings.ports), tuple(findings.refused))


def is_ours(thing: KubeObject) -> bool:
    """Return whether the labels leave ``thing`` to this proxy."""
    return NOT_OURS.isdisjoint(thing.metadata.labels)


def _cluster_ip(service: Service, rules: TrackRules, findings: _Findings, subject: str) -> IPAddress | None:
    spec = service.spec
    texts = spec.cluster_ips or (spec.cluster_ip,)
    if not is_ours(service) or spec.type == "ExternalName" or not _NO_VIRTUAL_ADDRESS.isdisjoint(texts):
        return None
    for text in texts:
        address = parse_ip(text)
        if address is None:
            findings.refuse(subject, f"{text!r} is not an address")
        elif address.version == rules.family:
            reason = why_not_unicast(address) or _why_outside(address, rules)
            if not reason:
                return address
            findings.refuse(subject, f"cluster address {address}: {reason}")
    return None


def _why_outside(address: IPAddress, rules: TrackRules) -> str:
    networks = [cidr for cidr in rules.service_cidrs if cidr.version == address.version]
    if not networks or any(address in cidr for cidr in networks):
        return ""
    return f"outside the service network {', '.join(map(str, networks))}"


def _why_not_port(spec: ServicePortSpec) -> str:
    if spec.protocol not in Protocol.__members__:
        return f"protocol {spec.protocol!r} is not TCP, UDP or SCTP"
    if not 1 <= spec.port <= 65535:
        return f"{spec.port} is not a port"
    if not 0 <= spec.node_port <= 65535:
        return f"{spec.node_port} is not a port"
    return ""


def _service_port(service: Service, spec: ServicePortSpec, found: _Inside, rules: TrackRules) -> ServicePort:
    meta, outside = service.metadata, found.outside
    return ServicePort(
        ServicePortName(intern(meta.namespace), meta.name, intern(spec.name), Protocol(spec.protocol)),
        found.cluster_ip,
        spec.port,
        node_port=spec.node_port if service.spec.type in ("NodePort", "LoadBalancer") else 0,
        internal_policy=_policy(service.spec.internal_traffic_policy),
        external_policy=_policy(service.spec.external_traffic_policy),
        affinity_s=_affinity_s(service),
        balance=_balance(service, rules) or rules.default_balance,
        endpoints=found.endpoints,
        external_ips=outside.external_ips,
        load_balancer_ips=outside.load_balancer_ips,
        source_ranges=outside.source_ranges,
        health_check_node_port=outside.health_check_node_port,
    )


def _policy(text: str) -> TrafficPolicy:
    # Local is the word with an effect; anything else, as an absent field, is the default.
    return TrafficPolicy.LOCAL if text == TrafficPolicy.LOCAL.value else TrafficPolicy.CLUSTER


def _affinity_s(service: Service) -> int:
    if service.spec.session_affinity != "ClientIP":
        return 0
    asked = service.spec.session_affinity_config
    return min(max(asked.client_ip.timeout_seconds if asked else 10800, 1), _AFFINITY_MOST_S)


def _balance(service: Service, rules: TrackRules) -> Balance | None:
    text = service.metadata.annotations.get(BALANCE_ANNOTATION)
    if text is None:
        return None
    found = next((balance for balance in Balance if balance.value == text), None)
    return None if found is Balance.CONSISTENT_HASH and not rules.hashes else found


def _refuse_balance(service: Service, rules: TrackRules, findings: _Findings, subject: str) -> None:
    text = service.metadata.annotations.get(BALANCE_ANNOTATION)
    if text == Balance.CONSISTENT_HASH.value and not rules.hashes:
        findings.refuse(
            subject, f"annotation {BALANCE_ANNOTATION}={text} needs the mode nftables; the default holds"
        )
    elif text is not None and _balance(service, rules) is None:
        words = " or ".join(balance.value for balance in Balance)
        findings.refuse(
            subject, f"annotation {BALANCE_ANNOTATION}={text!r} is not {words}; the default holds"
        )
