"""The objects every lab starts with: the addresses under which its own servers are Services. *Pure.*"""

from collections.abc import Iterable

from kubenet.model.objects import SERVICE_NAME_LABEL, Json, JsonValue
from kubenet.model.resources import ENDPOINTSLICES, SERVICES, Resource
from labs.topology import API_SERVER, API_SERVER_PORT, LabNode, LabSpec

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"


def base_objects(spec: LabSpec, nodes: Iterable[LabNode]) -> list[tuple[Resource, Json]]:
    """Return what a lab creates before it is ready, in this order.

    Every node runs a DNS server of its own; the Service ``kube-dns`` is the one address that pods know. It
    has no selector, since the servers are no pods, so the lab says itself where they are.
    """
    return [
        (SERVICES, _dns_service(spec)),
        (ENDPOINTSLICES, _dns_slice(nodes)),
        (ENDPOINTSLICES, _api_slice()),
    ]


def _dns_service(spec: LabSpec) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {
            "clusterIP": str(spec.cluster_dns),
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
            ],
        },
    }


def _dns_slice(nodes: Iterable[LabNode]) -> Json:
    ports: list[JsonValue] = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    endpoints: list[JsonValue] = [
        {"addresses": [str(node.ip)], "nodeName": node.name, "conditions": {"ready": True}} for node in nodes
    ]
    return _slice("kube-dns", "kube-system", endpoints, ports)


def _api_slice() -> Json:
    port: Json = {"name": "https", "port": API_SERVER_PORT, "protocol": "TCP"}
    endpoint: Json = {"addresses": [str(API_SERVER)], "conditions": {"ready": True}}
    return _slice("kubernetes", "default", [endpoint], [port])


def _slice(service: str, namespace: str, endpoints: list[JsonValue], ports: list[JsonValue]) -> Json:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service,
            "namespace": namespace,
            "labels": {SERVICE_NAME_LABEL: service, MANAGED_BY_LABEL: "lab.kubenet.dev"},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }
