"""Objects without what the proxy never asks them, and with what many have in common held once. *Pure.*

A cluster's Services and slices are kept for as long as they are there; as they come they are several times as
large as what is read of them, and most of that is the same again and again: node names, ports, conditions.
"""

from typing import TypeVar

from kubenet.model.objects import (
    SERVICE_NAME_LABEL,
    EndpointSlice,
    ObjectMeta,
    Service,
    SliceEndpoint,
)
from proxy.track import NOT_OURS

_OWN_ANNOTATIONS = "kubenet.dev/"
_MOST_SHARED = 20_000  # then sharing begins anew: what is held must not grow with the past

T = TypeVar("T")


class Trimmer:
    """Trims objects of one cluster."""

    def __init__(self) -> None:
        self._shared: dict[object, object] = {}
        self._nothing: dict[str, str] = {}

    def service(self, service: Service) -> Service:
        """Return what the proxy reads of a Service."""
        spec = service.spec
        kept = type(spec)(
            type=self._one(spec.type),
            cluster_ip=spec.cluster_ip,
            cluster_ips=(spec.cluster_ip,) if spec.cluster_ips == (spec.cluster_ip,) else spec.cluster_ips,
            external_ips=spec.external_ips,
            ports=self._one(spec.ports),
            session_affinity=self._one(spec.session_affinity),
            session_affinity_config=self._one(spec.session_affinity_config),
            internal_traffic_policy=self._one(spec.internal_traffic_policy),
            external_traffic_policy=self._one(spec.external_traffic_policy),
            load_balancer_source_ranges=spec.load_balancer_source_ranges,
            health_check_node_port=spec.health_check_node_port,
            selector=self._nothing,
        )
        return Service(metadata=self._meta(service.metadata), spec=kept, status=self._one(service.status))

    def slice(self, piece: EndpointSlice) -> EndpointSlice:
        """Return what the proxy reads of an EndpointSlice."""
        return EndpointSlice(
            metadata=self._meta(piece.metadata),
            address_type=self._one(piece.address_type),
            endpoints=tuple(self._endpoint(each) for each in piece.endpoints or ()),
            ports=self._one(piece.ports),
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
            namespace=self._one(meta.namespace),
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
