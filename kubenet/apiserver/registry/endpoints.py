"""Endpoints and EndpointSlices: the addresses behind a Service. *Pure.*

An address that would send traffic of a Service to the node itself is refused here, so that no proxy has to
trust its own filter alone.

Source: Kubernetes API reference, EndpointSlice; CVE-2021-25737.
"""

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address

import msgspec

from kubenet.apiserver.names import dns_label, dns_subdomain
from kubenet.apiserver.registry.podspec import PROTOCOLS, port_number_causes
from kubenet.apiserver.status import Cause, duplicate, invalid, required, unsupported
from kubenet.apiserver.strategy import Kind, Strategy
from kubenet.apiserver.tree import list_at, set_default, tables_at, text_at, texts_at
from kubenet.model.objects import EndpointSlice, Json, KubeObject
from kubenet.model.resources import ENDPOINTS, ENDPOINTSLICES

ADDRESS_TYPES = ("IPv4", "IPv6", "FQDN")
ENDPOINTS_MOST = 1000
ADDRESSES_MOST = 100
PORTS_MOST = 20000


class EndpointSliceStrategy(Strategy):
    """Some of a Service's endpoints."""

    shape = EndpointSlice
    generation_of = ("addressType", "endpoints", "ports")

    def fill_defaults(self, new: Json) -> None:
        for port in tables_at(new, "ports"):
            set_default(port, "protocol", "TCP")
            port.setdefault("name", "")
        new.setdefault("endpoints", [])

    def causes(self, new: Json) -> Iterator[Cause]:
        address_type = text_at(new, "addressType")
        if not address_type:
            yield required("addressType")
        elif address_type not in ADDRESS_TYPES:
            yield unsupported("addressType", address_type, ADDRESS_TYPES)
        for field, most in (("endpoints", ENDPOINTS_MOST), ("ports", PORTS_MOST)):
            if len(list_at(new, field)) > most:
                yield Cause(field, "FieldValueTooMany", f"Too many: must have at most {most} items")
        for index, endpoint in enumerate(tables_at(new, "endpoints")):
            yield from _endpoint_causes(endpoint, address_type, f"endpoints[{index}]")
        yield from _slice_port_causes(tables_at(new, "ports"))

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        if new.get("addressType") != old.get("addressType"):
            yield invalid("addressType", new.get("addressType"), "field is immutable")


def _endpoint_causes(endpoint: Json, address_type: str, field: str) -> Iterator[Cause]:
    addresses = texts_at(endpoint, "addresses")
    if not addresses:
        yield required(f"{field}.addresses", "must contain at least 1 address")
    if len(addresses) > ADDRESSES_MOST:
        yield Cause(
            f"{field}.addresses", "FieldValueTooMany", f"Too many: must have at most {ADDRESSES_MOST} items"
        )
    for index, address in enumerate(addresses):
        at = f"{field}.addresses[{index}]"
        if address_type == "FQDN":
            if trouble := dns_subdomain(address):
                yield invalid(at, address, trouble)
        else:
            yield from address_causes(address, at, 4 if address_type == "IPv4" else 6)
    if (hostname := text_at(endpoint, "hostname")) and (trouble := dns_label(hostname)):
        yield invalid(f"{field}.hostname", hostname, trouble)


def address_causes(text: str, field: str, version: int = 0) -> Iterator[Cause]:
    """Yield what is wrong with one endpoint address; ``version`` 0 takes both families."""
    return (invalid(field, text, trouble) for trouble in _address_troubles(text, version))


@lru_cache(16384)  # the same addresses come again with every change of a slice
def _address_troubles(text: str, version: int) -> tuple[str, ...]:
    try:
        address = ip_address(text)
    except ValueError:
        return ("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",)
    judged = (
        (version and address.version != version, f"must be an IPv{version} address"),
        (address.version == 6 and address.ipv4_mapped, "must not be an IPv4-mapped IPv6 address"),
        (address.is_unspecified, f"may not be unspecified ({address})"),
        (address.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (address.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (address.is_multicast, "may not be in the multicast range (224.0.0.0/4, ff00::/8)"),
    )
    return tuple(sentence for wrong, sentence in judged if wrong)


def _slice_port_causes(ports: list[Json]) -> Iterator[Cause]:
    names: set[str] = set()
    for index, port in enumerate(ports):
        name = text_at(port, "name")
        if name in names:
            yield duplicate(f"ports[{index}].name", name)
        names.add(name)
        if name and (trouble := dns_label(name)):
            yield invalid(f"ports[{index}].name", name, trouble)
        if text_at(port, "protocol") not in PROTOCOLS:
            yield unsupported(f"ports[{index}].protocol", text_at(port, "protocol"), PROTOCOLS)
        if "port" in port:
            yield from port_number_causes(port["port"], f"ports[{index}].port")


class EndpointSubset(msgspec.Struct):
    """The types of a subset; its lists may be absent."""

    addresses: list[dict[str, object]] | None = None
    notReadyAddresses: list[dict[str, object]] | None = None  # noqa: N815 (the API's name)
    ports: list[dict[str, object]] | None = None


class EndpointsShape(KubeObject, frozen=True):
    subsets: list[EndpointSubset] | None = None


class EndpointsStrategy(Strategy):
    """All of a Service's endpoints in one object: the older form."""

    shape = EndpointsShape

    def fill_defaults(self, new: Json) -> None:
        for subset in tables_at(new, "subsets"):
            for port in tables_at(subset, "ports"):
                set_default(port, "protocol", "TCP")

    def causes(self, new: Json) -> Iterator[Cause]:
        for index, subset in enumerate(tables_at(new, "subsets")):
            for part in ("addresses", "notReadyAddresses"):
                for position, address in enumerate(tables_at(subset, part)):
                    field = f"subsets[{index}].{part}[{position}].ip"
                    yield from address_causes(text_at(address, "ip"), field)
            for position, port in enumerate(tables_at(subset, "ports")):
                yield from port_number_causes(port.get("port"), f"subsets[{index}].ports[{position}].port")


SLICE = Kind(ENDPOINTSLICES, EndpointSliceStrategy())
ENDPOINT = Kind(ENDPOINTS, EndpointsStrategy(), short_names=("ep",))
