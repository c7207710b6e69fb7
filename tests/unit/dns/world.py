"""A small cluster to ask, and replies as an independent reader (dnslib) sees them, in zone file lines."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import dnslib

from dns import names
from dns.feed import ClusterFeed
from dns.read import Naming
from dns.respond import Forwarding, Responder
from dns.wire import RD, RType
from dns.zone import PodsMode, ZoneConfig
from kubenet.model.objects import (
    SERVICE_NAME_LABEL,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    Namespace,
    ObjectMeta,
    ObjectReference,
    Pod,
    PodIP,
    PodStatus,
    Service,
    ServicePortSpec,
    ServiceSpec,
    SliceEndpoint,
)

ZONE = "cluster.local"
PLAIN_OPT = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)


def metadata(key: str, **labels: str) -> ObjectMeta:
    namespace, _, name = key.rpartition("/")
    return ObjectMeta(name=name, namespace=namespace, labels=labels)


def service(key: str, *ips: str, ports: Iterable[str] = ("http/TCP/80",)) -> Service:
    """A Service with cluster IPs, or headless when the only one is "None"; ports are name/protocol/number."""
    split = [text.split("/") for text in ports]
    return Service(
        metadata=metadata(key),
        spec=ServiceSpec(
            cluster_ip=ips[0] if ips else "",
            cluster_ips=ips,
            ports=tuple(ServicePortSpec(name=n, protocol=p, port=int(number)) for n, p, number in split),
        ),
    )


def external(key: str, name: str) -> Service:
    return Service(metadata=metadata(key), spec=ServiceSpec(type="ExternalName", external_name=name))


def endpoint(*addresses: str, hostname: str = "", ready: bool | None = None, pod: str = "") -> SliceEndpoint:
    return SliceEndpoint(
        addresses=addresses,
        hostname=hostname,
        conditions=EndpointConditions(ready=ready),
        target_ref=ObjectReference(kind="Pod", name=pod) if pod else None,
    )


def endpoint_slice(
    key: str, of: str, *endpoints: SliceEndpoint, ports: Iterable[str] = ("http/TCP/8080",)
) -> EndpointSlice:
    split = [text.split("/") for text in ports]
    namespace, name = key.split("/")
    family = f"IPv{ip_address(endpoints[0].addresses[0]).version}" if endpoints else "IPv4"
    return EndpointSlice(
        metadata=ObjectMeta(name=name, namespace=namespace, labels={SERVICE_NAME_LABEL: of}),
        address_type=family,
        endpoints=endpoints,
        ports=tuple(EndpointPort(name=n, protocol=p, port=int(number)) for n, p, number in split),
    )


def pod(key: str, *ips: str, phase: str = "Running") -> Pod:
    status = PodStatus(phase=phase, pod_ip=ips[0] if ips else "", pod_ips=tuple(PodIP(ip=ip) for ip in ips))
    return Pod(metadata=metadata(key), status=status)


@dataclass(frozen=True)
class Seen:
    """A reply as dnslib reads it."""

    status: str
    flags: frozenset[str]
    answers: list[str]
    authority: list[str]
    additional: list[str]  # without OPT
    opt: bool
    size: int
    id: int

    @property
    def rdata(self) -> list[str]:
        """The contents of the answers alone."""
        return [line.split(maxsplit=3)[3] for line in self.answers]


def seen(reply: bytes) -> Seen:
    message = dnslib.DNSRecord.parse(reply)
    header = message.header
    every = ("qr", "aa", "tc", "rd", "ra", "ad", "cd")
    extended = [record.ttl >> 24 for record in _opts(message)]
    rcode = header.rcode | (extended[0] << 4 if extended else 0)
    return Seen(
        status="BADVERS" if rcode == 16 else str(dnslib.RCODE.get(rcode)),
        flags=frozenset(flag for flag in every if getattr(header, flag)),
        answers=[_line(record) for record in message.rr],
        authority=[_line(record) for record in message.auth],
        additional=[_line(record) for record in message.ar if record.rtype != RType.OPT],
        opt=bool(_opts(message)),
        size=len(reply),
        id=header.id,
    )


def _opts(message: dnslib.DNSRecord) -> list[dnslib.RR]:
    return [record for record in message.ar if record.rtype == RType.OPT]


def _line(record: dnslib.RR) -> str:
    return f"{record.rname} {record.ttl} {dnslib.QTYPE.get(record.rtype)} {record.rdata}"


def query(
    name: str | bytes, qtype: int = RType.A, *, opt: bytes = b"", flags: int = RD, ident: int = 4711
) -> bytes:
    wire = names.from_text(name) if isinstance(name, str) else name
    header = struct.pack("!6H", ident, flags, 1, 0, 0, bool(opt))
    return header + wire + struct.pack("!HH", qtype, 1) + opt


class Cluster:
    """Objects in, replies out."""

    def __init__(
        self,
        *objects: Service | EndpointSlice | Namespace | Pod,
        namespaces: Iterable[str] = ("demo", "default"),
        pods: PodsMode = PodsMode.INSECURE,
        naming: Naming | None = None,
        own_addresses: Iterable[str] = ("10.96.0.10",),
        upstream: bool = False,
        complete: bool = True,
    ) -> None:
        naming = naming or Naming(names.from_text(ZONE))
        reverse = (names.IN_ADDR_ARPA, names.IP6_ARPA)
        config = ZoneConfig(
            naming,
            pods,
            own_addresses=tuple(ip_address(text) for text in own_addresses),
            fallthrough=frozenset(reverse) if upstream else frozenset(),
        )
        self.feed = ClusterFeed(config, serial=1)
        self.turn = 0
        self.responder = Responder(self.feed.zone, lambda n: self.turn % n, forwards=upstream)
        self.ignored: list[str] = []
        self.put(*(Namespace(metadata=ObjectMeta(name=each)) for each in namespaces), *objects)
        if complete:
            self.feed.complete()
            self.put()

    def put(self, *objects: Service | EndpointSlice | Namespace | Pod) -> None:
        """Add or replace objects, and take them over."""
        for each in objects:
            key = each.metadata.key
            match each:
                case Service():
                    self.feed.service(key, each)
                case EndpointSlice():
                    self.feed.endpoint_slice(key, each)
                case Namespace():
                    self.feed.namespace(key, each)
                case Pod():
                    self.feed.pod(key, each)
        self.flush()

    def flush(self) -> None:
        flushed = self.feed.flush()
        self.responder.move(flushed.zone, flushed.changed)
        self.ignored += flushed.ignored

    def send(self, message: bytes, *, stream: bool = False) -> bytes | None:
        reply = self.responder.respond(message, stream=stream)
        assert not isinstance(reply, Forwarding), "this was to be answered at once"
        return reply

    def ask(
        self,
        name: str | bytes,
        qtype: int = RType.A,
        *,
        opt: bytes = b"",
        flags: int = RD,
        stream: bool = False,
    ) -> Seen:
        """Ask twice: the second time it may come from the fast path, and must say the same."""
        message = query(name, qtype, opt=opt, flags=flags)
        reply = self.send(message, stream=stream)
        assert reply is not None
        assert self.send(message, stream=stream) == reply
        return seen(reply)

    def forwarding(self, name: str, qtype: int = RType.A, *, opt: bytes = b"") -> Forwarding:
        reply = self.responder.respond(query(name, qtype, opt=opt), stream=False)
        assert isinstance(reply, Forwarding)
        return reply
