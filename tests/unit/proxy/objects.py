"""Cluster objects in few words, as the API would send them."""

from collections.abc import Mapping, Sequence

from kubenet.model.objects import (
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    Hint,
    ObjectMeta,
    Service,
    ServicePortSpec,
    ServiceSpec,
    SliceEndpoint,
)

HTTP = ServicePortSpec(name="http", port=80, target_port=8080)


def service(
    name: str = "web",
    cluster_ip: str = "10.96.0.1",
    *,
    ports: Sequence[ServicePortSpec] = (HTTP,),
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    namespace: str = "demo",
    spec: ServiceSpec | None = None,
) -> Service:
    """Return a ClusterIP Service; ``spec`` overrides what it would be given."""
    made = spec or ServiceSpec(cluster_ip=cluster_ip, cluster_ips=(cluster_ip,), ports=tuple(ports))
    meta = ObjectMeta(
        name=name, namespace=namespace, labels=dict(labels or {}), annotations=dict(annotations or {})
    )
    return Service(metadata=meta, spec=made)


def backend(
    ip: str,
    *,
    ready: bool | None = None,
    serving: bool | None = None,
    terminating: bool | None = None,
    node: str = "",
    zones: Sequence[str] = (),
    nodes: Sequence[str] = (),
) -> SliceEndpoint:
    """Return one entry of an EndpointSlice."""
    hints = EndpointHints(for_zones=tuple(map(_hint, zones)), for_nodes=tuple(map(_hint, nodes)))
    return SliceEndpoint(
        addresses=(ip,),
        conditions=EndpointConditions(ready=ready, serving=serving, terminating=terminating),
        hints=hints if zones or nodes else None,
        node_name=node,
    )


def _hint(name: str) -> Hint:
    return Hint(name=name)


def endpoint_slice(
    *endpoints: SliceEndpoint | str,
    name: str = "web-1",
    of: str = "web",
    namespace: str = "demo",
    ports: Sequence[EndpointPort] = (EndpointPort(name="http", port=8080),),
    labels: Mapping[str, str] | None = None,
    address_type: str = "IPv4",
) -> EndpointSlice:
    """Return a slice of the Service ``of``; a bare address is a ready endpoint."""
    owner = {"kubernetes.io/service-name": of} if of else {}
    return EndpointSlice(
        metadata=ObjectMeta(name=name, namespace=namespace, labels={**owner, **(labels or {})}),
        address_type=address_type,
        endpoints=tuple(backend(each) if isinstance(each, str) else each for each in endpoints),
        ports=tuple(ports),
    )
