"""The Endpoints object of a Service: all its backends in the older form. *Pure.*

Source: Kubernetes API reference, Endpoints; kube-controller-manager pkg/controller/endpoint.
"""

from collections.abc import Iterable, Sequence

import msgspec

from kubenet.controllers.backends import Backend, families
from kubenet.controllers.endpointslices import HEADLESS_LABEL, Ports
from kubenet.model.objects import EndpointAddress, Endpoints, EndpointSubset, Json, Service
from kubenet.model.resources import ENDPOINTS
from kubenet.model.writes import Create, Replace, Write

OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
ADDRESSES_MOST = 1000


def decide(service: Service, found: Iterable[Backend], have: Endpoints | None) -> list[Write]:
    """Return the write that makes the Endpoints object hold ``found``; none if it does.

    It knows one address family, and neither serving nor ending: a pod that ends is not in it.
    """
    family = families(service)[0]
    always = service.spec.publish_not_ready_addresses
    counted = [
        each
        for each in found
        if each.address_type == family and (always or not each.endpoint.conditions.terminating)
    ]
    want = _subsets(counted[:ADDRESSES_MOST])
    labels = _labels(service)
    cut = len(counted) > ADDRESSES_MOST
    if have is not None and have.metadata.labels == labels and tuple(have.subsets or ()) == want:
        return []
    meta = service.metadata
    metadata: Json = {"name": meta.name, "namespace": meta.namespace, "labels": {**labels}}
    if cut:
        metadata["annotations"] = {OVER_CAPACITY: "truncated"}
    written: list[Json] = [_subset_json(subset) for subset in want]
    body: Json = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [*written]}
    if have is None:
        return [Create(ENDPOINTS, meta.namespace, body)]
    metadata |= {"uid": have.metadata.uid, "resourceVersion": have.metadata.resource_version}
    return [Replace(ENDPOINTS, meta.namespace, meta.name, body)]


def _labels(service: Service) -> dict[str, str]:
    headless = {HEADLESS_LABEL: ""} if service.spec.cluster_ip == "None" else {}
    return {**service.metadata.labels, **headless}


def _subsets(found: Sequence[Backend]) -> tuple[EndpointSubset, ...]:
    """Return one subset for each set of ports, addresses in order, so that equal backends give equal text."""
    groups: dict[Ports, list[Backend]] = {}
    for each in sorted(found, key=lambda each: each.endpoint.addresses):
        groups.setdefault(each.ports, []).append(each)
    return tuple(
        EndpointSubset(
            addresses=tuple(_address(each) for each in groups[ports] if each.endpoint.conditions.ready),
            not_ready_addresses=tuple(
                _address(each) for each in groups[ports] if not each.endpoint.conditions.ready
            ),
            ports=ports,
        )
        for ports in sorted(groups, key=repr)
    )


def _address(backend: Backend) -> EndpointAddress:
    endpoint = backend.endpoint
    return EndpointAddress(
        ip=endpoint.addresses[0],
        hostname=endpoint.hostname,
        node_name=endpoint.node_name,
        target_ref=endpoint.target_ref,
    )


def _subset_json(subset: EndpointSubset) -> Json:
    written: Json = msgspec.to_builtins(subset)
    ports: list[Json] = [
        {"name": port.name or "", "port": port.port, "protocol": port.protocol} for port in subset.ports
    ]
    return written | {"ports": [*ports]}
