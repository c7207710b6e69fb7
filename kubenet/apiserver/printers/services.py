"""Services, Endpoints and EndpointSlices as rows. *Pure.*"""

from collections.abc import Iterator
from datetime import datetime

from kubenet.apiserver.printers.base import (
    NONE,
    UNSET,
    Printer,
    age,
    columns,
    few,
    joined,
    labels_text,
    name_of,
)
from kubenet.apiserver.tree import int_at, table_at, tables_at, text_at, texts_at
from kubenet.model.objects import Json, JsonValue


def _service(value: Json, now: datetime) -> list[JsonValue]:
    spec = table_at(value, "spec")
    return [
        name_of(value),
        text_at(spec, "type"),
        text_at(spec, "clusterIP") or NONE,
        _external(value),
        joined(_port_text(port) for port in tables_at(spec, "ports")),
        age(value, now),
        labels_text(spec, "selector"),
    ]


def _external(value: Json) -> str:
    spec = table_at(value, "spec")
    if text_at(spec, "type") == "ExternalName":
        return text_at(spec, "externalName")
    ingress = tables_at(value, "status", "loadBalancer", "ingress")
    addresses = [text_at(entry, "ip") or text_at(entry, "hostname") for entry in ingress]
    addresses += texts_at(spec, "externalIPs")
    if not addresses and text_at(spec, "type") == "LoadBalancer":
        return "<pending>"
    return joined(addresses)


def _port_text(port: Json) -> str:
    number, node_port = int_at(port, "port"), int_at(port, "nodePort")
    return f"{number}{f':{node_port}' if node_port else ''}/{text_at(port, 'protocol')}"


def _endpoints(value: Json, now: datetime) -> list[JsonValue]:
    return [name_of(value), few(list(_endpoint_texts(value))), age(value, now)]


def _endpoint_texts(value: Json) -> Iterator[str]:
    for subset in tables_at(value, "subsets"):
        addresses = [text_at(address, "ip") for address in tables_at(subset, "addresses")]
        ports = [int_at(port, "port") for port in tables_at(subset, "ports")]
        for address in addresses:
            host = f"[{address}]" if ":" in address else address
            yield from (f"{host}:{port}" for port in ports) if ports else (address,)


def _slice(value: Json, now: datetime) -> list[JsonValue]:
    ports = tables_at(value, "ports")
    addresses = [
        address for endpoint in tables_at(value, "endpoints") for address in texts_at(endpoint, "addresses")
    ]
    numbers = [str(port["port"]) if "port" in port else "*" for port in ports]
    return [
        name_of(value),
        text_at(value, "addressType"),
        few(numbers) if numbers else UNSET,
        few(addresses) if addresses else UNSET,
        age(value, now),
    ]


SERVICES = Printer(
    columns("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector", wide=("Selector",)),
    _service,
)
ENDPOINTS = Printer(columns("Name", "Endpoints", "Age"), _endpoints)
ENDPOINTSLICES = Printer(columns("Name", "AddressType", "Ports", "Endpoints", "Age"), _slice)
