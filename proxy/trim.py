"""Objects without what the proxy never asks them, and with what many have in common held once. *Pure.*

A cluster's Services and slices are kept for as long as they are there; as they come they are several times as
large as what is read of them, and most of that is the same again and again: node names, ports, conditions.
"""

from sys import intern
from typing import TypeVar

from kubenet.model.objects import (
    SERVICE_NAME_LABEL,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    ObjectMeta,
    Service,
    ServicePortSpec,
    SliceEndpoint,
)
from proxy.track import NOT_OURS

_OWN_ANNOTATIONS = "kubenet.dev/"
# Packing leaves out what *is* the default, and does not look at what only equals it: hence these, and intern.
_NO_STATUS = Service().status
_MOST_SMALL = 16  # endpoints
_USUAL = SliceEndpoint().conditions  # the same as the next in fewer words
_SPELLED_OUT = EndpointConditions(ready=True, serving=True, terminating=False)
_MOST_SHARED = 20_000  # then sharing begins anew: what is held must not grow with the past

T = TypeVar("T")


class Trimmer:
    """Trims objects of one cluster. Of small ones nothing is shared: they are going to be packed."""

    def __init__(self) -> None:
        self._shared: dict[object, object] = {}
        self._nothing: dict[str, str] = {}

    def service(self, service: Service) -> Service:
        """Return what the proxy reads of a Service."""
        spec = service.spec
        kept = type(spec)(
            type=intern(spec.type),
            cluster_ip=spec.cluster_ip,
            cluster_ips=() if spec.cluster_ips == (spec.cluster_ip,) else spec.cluster_ips,
            external_ips=spec.external_ips,
            ports=tuple(map(_service_port, spec.ports)),
            session_affinity=intern(spec.session_affinity),
            session_affinity_config=spec.session_affinity_config,
            internal_traffic_policy=intern(spec.internal_traffic_policy),
            external_traffic_policy=intern(spec.external_traffic_policy),
            load_balancer_source_ranges=spec.load_balancer_source_ranges,
            health_check_node_port=spec.health_check_node_port,
            selector=self._nothing,
        )
        return Service(
            metadata=self._meta(service.metadata),
            spec=kept,
            status=_NO_STATUS if service.status == _NO_STATUS else service.status,
        )

    def slice(self, piece: EndpointSlice) -> EndpointSlice:
        """Return what the proxy reads of an EndpointSlice."""
        trimmed = _small_endpoint if is_small(piece) else self._endpoint
        return EndpointSlice(
            metadata=self._meta(piece.metadata),
            address_type=intern(piece.address_type),
            endpoints=tuple(map(trimmed, piece.endpoints or ())),
            ports=tuple(map(_port, piece.ports or ())),
        )

    def _endpoint(self, endpoint: SliceEndpoint) -> SliceEndpoint:
        return SliceEndpoint(
            addresses=endpoint.addresses[:1],  # row 7: no other is ever used
            conditions=self._one(endpoint.conditions),
            hints=self._one(endpoint.hints),
            node_name=self._one(endpoint.node_name),
        )

    def _meta(self, meta: ObjectMeta) -> ObjectMeta:
        labels = {
            key: value for key, value in meta.labels.items() if key == SERVICE_NAME_LABEL or key in NOT_OURS
        }
        said = {key: text for key, text in meta.annotations.items() if key.startswith(_OWN_ANNOTATIONS)}
        return ObjectMeta(
            name=meta.name,
            namespace=meta.namespace,
            uid=meta.uid,
            resource_version=meta.resource_version,
            labels=labels or self._nothing,
            annotations=said or self._nothing,
        )

    def _one(self, value: T) -> T:
        """Return the first of all equal values."""
        if len(self._shared) > _MOST_SHARED:
            self._shared.clear()
        return self._shared.setdefault(value, value)  # type: ignore[return-value]  # equal, and so of its type


def is_small(piece: EndpointSlice) -> bool:
    """Return whether reading ``piece`` is so cheap that it may be unpacked for it each time."""
    return len(piece.endpoints or ()) <= _MOST_SMALL


def _small_endpoint(endpoint: SliceEndpoint) -> SliceEndpoint:
    conditions = _USUAL if endpoint.conditions == _SPELLED_OUT else endpoint.conditions
    return SliceEndpoint(
        addresses=endpoint.addresses[:1],
        conditions=conditions,
        hints=endpoint.hints,
        node_name=endpoint.node_name,
    )


def _port(port: EndpointPort) -> EndpointPort:
    return EndpointPort(name=port.name, protocol=port.protocol and intern(port.protocol), port=port.port)


def _service_port(port: ServicePortSpec) -> ServicePortSpec:
    return ServicePortSpec(
        port=port.port, name=port.name, protocol=intern(port.protocol), node_port=port.node_port
    )
