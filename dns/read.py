"""Reads Kubernetes objects into DNS records. *Pure.*

What cannot be a name or an address is left out and told in ``ignored``; it never spoils the rest of the
cluster.

Source: Kubernetes DNS-Based Service Discovery 1.1.0; EndpointSlice API reference; host names as CoreDNS makes
them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from dns import names
from dns.names import WireName
from dns.service import Port, ServiceKey, ServiceRecords
from kubenet.errors import InvalidInput
from kubenet.model.objects import EndpointSlice, Service, ServicePortSpec, SliceEndpoint

Host: TypeAlias = tuple[bytes, bytes]  # the label of one endpoint, one packed address of it

HEADLESS = "None"
MOST_ALIKE = 4096  # values that are kept to be shared


@dataclass(frozen=True, slots=True)
class Naming:
    """What all names of a cluster have in common."""

    domain: WireName
    ttl_s: int = 5
    pod_names: bool = False  # endpoints without a hostname are called as their pod
    hide_empty: bool = False  # a Service without ready endpoints does not exist


@dataclass(frozen=True, slots=True)
class SliceRecords:
    """The ready endpoints of one slice, read once and kept until the slice changes."""

    hosts: tuple[Host, ...] = ()
    ports: tuple[Port, ...] = ()
    ignored: tuple[str, ...] = ()


def service_key(key: str) -> ServiceKey | None:
    """Return the labels for ``namespace/name``, None when they cannot be labels."""
    namespace, _, name = key.partition("/")
    labels = names.label_of(name), _namespace_label(namespace)
    return (labels[0], labels[1]) if labels[0] and labels[1] else None


_namespace_label = lru_cache(maxsize=MOST_ALIKE)(names.label_of)  # one for all that is in a namespace


def read_slice(slice_: EndpointSlice, *, pod_names: bool = False) -> SliceRecords:
    """Return the ready endpoints of a slice; ``pod_names``: one without hostname is called as its pod."""
    hosts: list[Host] = []
    ignored: list[str] = []
    for endpoint in slice_.endpoints or ():
        # Unset means ready; publishNotReadyAddresses is in it already (EndpointSlice API reference).
        if endpoint.conditions.ready is False:
            continue
        for text in endpoint.addresses:
            packed = _packed(text, slice_.address_type)
            if packed is None:
                ignored.append(f"{slice_.metadata.key}: address {text!r} is no {slice_.address_type}")
            else:
                hosts.append((_host_label(endpoint, packed, pod_names), packed))
    return SliceRecords(tuple(hosts), tuple(_slice_ports(slice_)), tuple(ignored))


def _slice_ports(slice_: EndpointSlice) -> Iterator[Port]:
    for port in slice_.ports or ():
        if port.port and 0 < port.port < 65536:
            yield Port(
                (port.name or "").lower().encode(), (port.protocol or "TCP").lower().encode(), port.port
            )


def _packed(text: str, address_type: str) -> bytes | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.packed if address_type == f"IPv{address.version}" else None


def _host_label(endpoint: SliceEndpoint, packed: bytes, pod_names: bool) -> bytes:
    pod = endpoint.target_ref.name if pod_names and endpoint.target_ref else ""
    for text in (endpoint.hostname, pod):
        if text and (label := names.label_of(text)):
            return label
    return dashed(packed)


def dashed(packed: bytes) -> bytes:
    """Return the label that stands for an address: ``10-1-2-3``, ``fd00--1``, ``fd00--0`` for ``fd00::``."""
    address = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
    label = str(address).replace(".", "-").replace(":", "-").encode()
    return label + b"0" if label.endswith(b"-") else label


def read_service(service: Service, slices: Iterable[SliceRecords], naming: Naming) -> ServiceRecords | None:
    """Return the records of a Service, merged over all its slices; None if its name cannot be a label."""
    own = read_own(service, naming)
    return with_slices(own, slices, naming) if own else None


def read_own(service: Service, naming: Naming) -> ServiceRecords | None:
    """Return the records of a Service without its endpoints; None if its name cannot be a label."""
    key = service_key(service.metadata.key)
    if key is None or _room(key, naming) < -1:
        return None
    if service.spec.type == "ExternalName":
        return _external(key, service, naming)
    cluster_ips, ignored = _cluster_ips(service)
    return ServiceRecords(
        key,
        naming.domain,
        naming.ttl_s,
        cluster_ips=cluster_ips,
        ports=_service_ports(service.spec.ports),
        headless=service.spec.cluster_ip == HEADLESS,
        ignored=ignored,
    )


def with_slices(own: ServiceRecords, slices: Iterable[SliceRecords], naming: Naming) -> ServiceRecords | None:
    """Return the records with the endpoints of all slices; None if there is nothing to tell."""
    slices = tuple(slices)
    if own.external:
        return own
    room = _room(own.key, naming)
    hosts = _merged_hosts(slices, room)
    if naming.hide_empty and not hosts:
        return None
    if not slices:
        return own
    told = tuple(text for each in slices for text in each.ignored)
    host_ports = _merged_ports(slices, room)
    return replace(own, hosts=hosts, host_ports=host_ports, ignored=own.ignored + told)


def _room(key: ServiceKey, naming: Naming) -> int:
    """Return what is left of 255 octets for an endpoint's label and its length."""
    return names.MAX_NAME - 1 - (len(key[0]) + 1 + len(key[1]) + 1 + 4 + len(naming.domain))


def _external(key: ServiceKey, service: Service, naming: Naming) -> ServiceRecords:
    """A name that looks like an address gives nothing: a CNAME to it could not be resolved by anybody."""
    text, alias, ignored = service.spec.external_name, None, ""
    if not text or _is_address(text):
        ignored = f"{service.metadata.key}: externalName {text!r} is not a name"
    else:
        try:
            alias = names.from_text(text)
        except InvalidInput as error:
            ignored = f"{service.metadata.key}: externalName: {error}"
    return ServiceRecords(
        key,
        naming.domain,
        naming.ttl_s,
        alias=alias,
        external=True,
        ignored=(ignored,) if ignored else (),
    )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _cluster_ips(service: Service) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    packed: list[bytes] = []
    ignored: list[str] = []
    for text in service.spec.cluster_ips or (service.spec.cluster_ip,):
        if text in ("", HEADLESS):
            continue
        try:
            packed.append(ip_address(text).packed)
        except ValueError:
            ignored.append(f"{service.metadata.key}: clusterIP {text!r} is not an address")
    return tuple(dict.fromkeys(packed)), tuple(ignored)


@lru_cache(maxsize=MOST_ALIKE)
def _service_ports(ports: tuple[ServicePortSpec, ...]) -> tuple[Port, ...]:
    """Return the ports that can be told. Thousands of Services have the same ones, and share them."""
    return tuple(
        Port(port.name.lower().encode(), port.protocol.lower().encode(), port.port)
        for port in ports
        if 0 < port.port < 65536
    )


def _merged_hosts(slices: Iterable[SliceRecords], room: int) -> dict[bytes, tuple[bytes, ...]]:
    """Return the endpoints of all slices; an address that moves from one slice to another may be in both."""
    merged: dict[bytes, dict[bytes, None]] = {}
    for each in slices:
        for label, packed in each.hosts:
            if len(label) <= room:
                merged.setdefault(label, {})[packed] = None
    return {label: tuple(sorted(held)) for label, held in sorted(merged.items())}


def _merged_ports(slices: Iterable[SliceRecords], room: int) -> dict[Port, tuple[bytes, ...]]:
    merged: dict[Port, set[bytes]] = {}
    for each in slices:
        for port in each.ports:
            merged.setdefault(port, set()).update(label for label, _ in each.hosts if len(label) <= room)
    ordered = sorted(merged.items(), key=lambda item: (item[0].name, item[0].protocol, item[0].number))
    return {port: tuple(sorted(labels)) for port, labels in ordered if labels}
