"""Which pods stand behind a Service, and on which ports. *Pure.*

Source: Kubernetes documentation, "EndpointSlices", "Pod Lifecycle"; API reference, EndpointConditions;
KEP-1672 (terminating endpoints).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address

from kubenet.clock import rfc3339
from kubenet.controllers.decision import moment
from kubenet.controllers.pods import ready_condition
from kubenet.controllers.selectors import has_all
from kubenet.model.objects import (
    ContainerPort,
    EndpointConditions,
    EndpointPort,
    ObjectReference,
    Pod,
    Service,
    ServicePortSpec,
    SliceEndpoint,
)

IPV4, IPV6 = "IPv4", "IPv6"


@dataclass(frozen=True, slots=True)
class Backend:
    """One address of one pod behind a Service."""

    address_type: str
    ports: tuple[EndpointPort, ...]
    endpoint: SliceEndpoint
    since: str  # when what it offers last changed; empty if nobody knows


def backends(service: Service, pods: Iterable[Pod], zones: Mapping[str, str]) -> list[Backend]:
    """Return what stands behind ``service``; ``zones`` are those of the nodes.

    A pod that has finished, or has no address, is no backend. One that is ending stays one until it is gone:
    what already talks to it may finish.
    """
    found = []
    for pod in pods:
        if not has_all(service.spec.selector, pod.metadata.labels) or _is_over(pod):
            continue
        ports = resolved_ports(service, pod)
        since = _since(pod)
        for family in families(service):
            if address := _address(pod, family):
                endpoint = _endpoint(service, pod, zones, address)
                found.append(Backend(family, ports, endpoint, since))
    return found


def _since(pod: Pod) -> str:
    """Return when what a pod offers last changed: it became ready or unready, or was told to end."""
    ready, meta = ready_condition(pod), pod.metadata
    changed = (ready.last_transition_time if ready else None) or ""
    if (ends := moment(meta.deletion_timestamp)) is None:
        return changed
    # The timestamp of a deletion is the end of the grace, not its beginning.
    told = rfc3339(ends - timedelta(seconds=meta.deletion_grace_period_seconds or 0))
    return max(changed, told)


def _is_over(pod: Pod) -> bool:
    return pod.status.phase in ("Succeeded", "Failed")


def families(service: Service) -> tuple[str, ...]:
    """Return the address families of a Service; an old server may leave the field out."""
    if service.spec.ip_families:
        return service.spec.ip_families
    own = service.spec.cluster_ips or (service.spec.cluster_ip,)
    named = tuple(family for text in own if (family := _family(text)))
    return named or (IPV4,)


def _family(address: str) -> str:
    try:
        return IPV4 if ip_address(address).version == 4 else IPV6
    except ValueError:
        return ""  # None, or nothing


def _address(pod: Pod, family: str) -> str:
    texts = [each.ip for each in pod.status.pod_ips] or [pod.status.pod_ip]
    return next((text for text in texts if _family(text) == family), "")


def resolved_ports(service: Service, pod: Pod) -> tuple[EndpointPort, ...]:
    """Return where ``pod`` listens for each port of ``service``; a named port that it lacks is left out."""
    ports = []
    for port in service.spec.ports:
        number = target_port(port, pod)
        if number is not None:
            ports.append(EndpointPort(name=port.name, protocol=port.protocol, port=number))
    return tuple(ports)


def target_port(port: ServicePortSpec, pod: Pod) -> int | None:
    """Return the number of a Service port's target in ``pod``, None for a name that no container has."""
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    for container in pod.spec.containers:
        for candidate in container.ports:
            if _is_named(candidate, port.target_port, port.protocol):
                return candidate.container_port
    return None


def _is_named(port: ContainerPort, name: str, protocol: str) -> bool:
    return port.name == name and port.protocol == protocol


def _endpoint(service: Service, pod: Pod, zones: Mapping[str, str], address: str) -> SliceEndpoint:
    meta, spec = pod.metadata, pod.spec
    terminating = meta.deletion_timestamp is not None
    ready = service.spec.publish_not_ready_addresses or (pod.ready and not terminating)
    in_subdomain = spec.hostname and spec.subdomain == service.metadata.name
    return SliceEndpoint(
        addresses=(address,),
        conditions=EndpointConditions(ready=ready, serving=pod.ready, terminating=terminating),
        hostname=spec.hostname if in_subdomain else "",
        node_name=spec.node_name,
        zone=zones.get(spec.node_name, ""),
        target_ref=ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
    )
