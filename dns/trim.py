"""Objects without what DNS never asks them. *Pure.*

An object is kept, packed, as long as it is there; most of what it says is of no use for names. Packing leaves
out what *is* a default, so nothing here is spelled out that is one.
"""

from sys import intern

from dns.feed import TRIGGER_TIME
from kubenet.model.objects import (
    SERVICE_NAME_LABEL,
    EndpointPort,
    EndpointSlice,
    KubeObject,
    Namespace,
    ObjectMeta,
    ObjectReference,
    Pod,
    PodSpec,
    PodStatus,
    Service,
    ServicePortSpec,
    ServiceSpec,
    SliceEndpoint,
)

_DEFAULT = SliceEndpoint()


def service(whole: Service) -> Service:
    """Return what DNS reads of a Service."""
    spec = whole.spec
    kept = ServiceSpec(
        type=intern(spec.type),
        cluster_ip=spec.cluster_ip,
        cluster_ips=() if spec.cluster_ips == (spec.cluster_ip,) else spec.cluster_ips,
        external_name=spec.external_name,
        ports=tuple(
            ServicePortSpec(name=each.name, protocol=intern(each.protocol), port=each.port)
            for each in spec.ports
        ),
    )
    return Service(metadata=_metadata(whole), spec=kept)


def endpoint_slice(whole: EndpointSlice) -> EndpointSlice:
    """Return what DNS reads of an EndpointSlice."""
    told, annotations = whole.metadata.labels, whole.metadata.annotations
    labels = {SERVICE_NAME_LABEL: told[SERVICE_NAME_LABEL]} if SERVICE_NAME_LABEL in told else {}
    trigger = {TRIGGER_TIME: annotations[TRIGGER_TIME]} if TRIGGER_TIME in annotations else {}
    return EndpointSlice(
        metadata=_metadata(whole, labels, trigger),
        address_type=intern(whole.address_type),
        endpoints=tuple(map(_endpoint, whole.endpoints or ())),
        ports=tuple(EndpointPort(each.name, each.protocol, each.port) for each in whole.ports or ()),
    )


def _endpoint(whole: SliceEndpoint) -> SliceEndpoint:
    target = whole.target_ref
    return SliceEndpoint(
        addresses=whole.addresses,
        conditions=whole.conditions if whole.conditions.ready is False else _DEFAULT.conditions,
        hostname=whole.hostname,
        target_ref=ObjectReference(name=target.name) if target else None,
    )


def namespace(whole: Namespace) -> Namespace:
    """Return what DNS reads of a Namespace: its name."""
    return Namespace(metadata=_metadata(whole))


def pod(whole: Pod) -> Pod:
    """Return what DNS reads of a Pod."""
    status = whole.status
    return Pod(
        metadata=_metadata(whole),
        spec=PodSpec(host_network=whole.spec.host_network),
        status=PodStatus(phase=status.phase, pod_ip=status.pod_ip, pod_ips=status.pod_ips),
    )


def _metadata(
    whole: KubeObject, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None
) -> ObjectMeta:
    metadata = whole.metadata
    return ObjectMeta(
        name=metadata.name,
        namespace=metadata.namespace,
        uid=metadata.uid,
        resource_version=metadata.resource_version,
        labels=labels or {},
        annotations=annotations or {},
    )
