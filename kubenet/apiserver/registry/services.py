"""Services: ports, and the fields that address allocation fills. *Pure.*

The addresses themselves come from ``kubenet.apiserver.addresses``, which runs after ``fill_defaults`` and
before ``causes``.

Source: Kubernetes API reference, ServiceSpec.
"""

from collections.abc import Iterator
from ipaddress import ip_address

from kubenet.apiserver.names import dns_1035_label, dns_label, dns_subdomain, port_name
from kubenet.apiserver.registry.podspec import PROTOCOLS, port_number_causes
from kubenet.apiserver.status import Cause, duplicate, invalid, required, unsupported
from kubenet.apiserver.strategy import METADATA_FIELDS, FieldLabel, Kind, Strategy
from kubenet.apiserver.tree import ensure_table, list_at, set_default, tables_at, text_at
from kubenet.model.objects import Json, Service
from kubenet.model.resources import SERVICES

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
AFFINITIES = ("ClientIP", "None")
TRAFFIC_POLICIES = ("Cluster", "Local")
AFFINITY_MOST_S = 86400
EXTERNAL_TYPES = ("NodePort", "LoadBalancer")


def checks_health(spec: Json) -> bool:
    """Whether load balancers outside ask every node, at a port of its own, for endpoints there."""
    return text_at(spec, "type") == "LoadBalancer" and text_at(spec, "externalTrafficPolicy") == "Local"


class ServiceStrategy(Strategy):
    """A virtual address and its ports."""

    shape = Service
    has_status = True

    def fill_defaults(self, new: Json) -> None:
        spec = ensure_table(new, "spec")
        set_default(spec, "type", "ClusterIP")
        set_default(spec, "sessionAffinity", "None")
        if text_at(spec, "sessionAffinity") == "ClientIP":
            client_ip = ensure_table(spec, "sessionAffinityConfig", "clientIP")
            set_default(client_ip, "timeoutSeconds", 10800)
        else:
            spec.pop("sessionAffinityConfig", None)
        _fill_traffic_policies(spec)
        for port in tables_at(spec, "ports"):
            set_default(port, "protocol", "TCP")
            if port.get("targetPort") in (None, "", 0):
                port["targetPort"] = port.get("port")
            if text_at(spec, "type") not in EXTERNAL_TYPES:
                port.pop("nodePort", None)
        if not checks_health(spec):
            spec.pop("healthCheckNodePort", None)

    def fill_create(self, new: Json) -> None:
        new["status"] = {"loadBalancer": {}}

    def fill_update(self, new: Json, old: Json) -> None:
        """Keep allocated values that the client left out (a replace without clusterIP is the common case)."""
        spec, before = ensure_table(new, "spec"), ensure_table(old, "spec")
        if text_at(spec, "type") == "ExternalName":
            if spec.get("clusterIP") == before.get("clusterIP"):
                spec.pop("clusterIP", None)
                spec.pop("clusterIPs", None)
            return
        if not spec.get("clusterIP") and not list_at(spec, "clusterIPs"):
            spec["clusterIP"] = before.get("clusterIP")
            spec["clusterIPs"] = before.get("clusterIPs")
        if text_at(spec, "type") in EXTERNAL_TYPES:
            _keep_node_ports(spec, before)
        if checks_health(spec) and not spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = before.get("healthCheckNodePort", 0)

    def causes(self, new: Json) -> Iterator[Cause]:
        spec = ensure_table(new, "spec")
        ports = tables_at(spec, "ports")
        kind = text_at(spec, "type")
        if kind not in TYPES:
            yield unsupported("spec.type", kind, TYPES)
        if kind == "ExternalName":
            yield from _external_name_causes(spec)
        elif not ports and text_at(spec, "clusterIP") != "None":
            yield required("spec.ports")
        for key, supported in (
            ("sessionAffinity", AFFINITIES),
            ("internalTrafficPolicy", TRAFFIC_POLICIES),
            ("externalTrafficPolicy", TRAFFIC_POLICIES),
        ):
            if key in spec and text_at(spec, key) not in supported:
                yield unsupported(f"spec.{key}", text_at(spec, key), supported)
        yield from _affinity_causes(spec)
        yield from _ports_causes(ports)
        yield from _external_ip_causes(spec)

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        before, after = text_at(old, "spec", "clusterIP"), text_at(new, "spec", "clusterIP")
        type_kept = "ExternalName" not in (text_at(old, "spec", "type"), text_at(new, "spec", "type"))
        if type_kept and before and before != after:
            yield invalid("spec.clusterIP", after, "field is immutable")


def _fill_traffic_policies(spec: Json) -> None:
    kind = text_at(spec, "type")
    if kind != "ExternalName":
        set_default(spec, "internalTrafficPolicy", "Cluster")
    if kind in EXTERNAL_TYPES:
        set_default(spec, "externalTrafficPolicy", "Cluster")
    else:
        spec.pop("externalTrafficPolicy", None)
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)


def _keep_node_ports(spec: Json, before: Json) -> None:
    held = {_port_key(port): port.get("nodePort") for port in tables_at(before, "ports")}
    for port in tables_at(spec, "ports"):
        node_port = held.get(_port_key(port))
        if not port.get("nodePort") and node_port:
            port["nodePort"] = node_port


def _port_key(port: Json) -> tuple[str, str]:
    """Return what tells a Service's ports apart; a client may have sent anything as a number."""
    return str(port.get("port")), text_at(port, "protocol")


def _external_name_causes(spec: Json) -> Iterator[Cause]:
    name = text_at(spec, "externalName")
    if not name:
        yield required("spec.externalName")
    elif trouble := dns_subdomain(name.removesuffix(".")):
        yield invalid("spec.externalName", name, trouble)
    if spec.get("clusterIP"):
        yield invalid("spec.clusterIPs[0]", spec["clusterIP"], "may not be set when `type` is 'ExternalName'")


def _affinity_causes(spec: Json) -> Iterator[Cause]:
    if text_at(spec, "sessionAffinity") != "ClientIP":
        return
    timeout_s = ensure_table(spec, "sessionAffinityConfig", "clientIP").get("timeoutSeconds")
    if not isinstance(timeout_s, int) or not 0 < timeout_s <= AFFINITY_MOST_S:
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        yield invalid(field, timeout_s, f"must be greater than 0 and less than {AFFINITY_MOST_S}")


def _ports_causes(ports: list[Json]) -> Iterator[Cause]:
    names: set[str] = set()
    addresses: set[tuple[str, str]] = set()
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        name, address = text_at(port, "name"), _port_key(port)
        if not name and len(ports) > 1:
            yield required(f"{field}.name")
        if name and (trouble := dns_label(name)):
            yield invalid(f"{field}.name", name, trouble)
        if name in names and name:
            yield duplicate(f"{field}.name", name)
        yield from _port_causes(port, field)
        if address in addresses:
            shown: Json = {"port": port.get("port"), "protocol": address[1]}
            yield duplicate(field, shown)
        names.add(name)
        addresses.add(address)


def _port_causes(port: Json, field: str) -> Iterator[Cause]:
    yield from port_number_causes(port.get("port"), f"{field}.port")
    if text_at(port, "protocol") not in PROTOCOLS:
        yield unsupported(f"{field}.protocol", text_at(port, "protocol"), PROTOCOLS)
    target = port.get("targetPort")
    if isinstance(target, str):
        if trouble := port_name(target):
            yield invalid(f"{field}.targetPort", target, trouble)
    elif target is not None and target != port.get("port"):
        yield from port_number_causes(target, f"{field}.targetPort")


def _external_ip_causes(spec: Json) -> Iterator[Cause]:
    for index, text in enumerate(list_at(spec, "externalIPs")):
        field = f"spec.externalIPs[{index}]"
        try:
            address = ip_address(str(text))
        except ValueError:
            yield invalid(field, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
            continue
        if address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast:
            yield invalid(field, text, "may not be unspecified, loopback, link-local or multicast")


KIND = Kind(
    SERVICES,
    ServiceStrategy(),
    short_names=("svc",),
    categories=("all",),
    subresources=("status",),
    name_rule=dns_1035_label,
    field_labels=METADATA_FIELDS
    | {
        "spec.clusterIP": FieldLabel(("spec", "clusterIP")),
        "spec.type": FieldLabel(("spec", "type")),
    },
)
