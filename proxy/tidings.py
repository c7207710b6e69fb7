"""What the proxy has to tell people about an object, for an Event. *Pure.*

Source: Kubernetes kube-proxy (reason FailedToStartServiceHealthcheck); API reference, Event v1.
"""

from collections.abc import Callable
from dataclasses import dataclass

from kubenet.model.events import EventType, Occurrence, occurrence
from kubenet.model.objects import KubeObject
from kubenet.model.resources import ENDPOINTSLICES, SERVICES
from proxy.ports import ObjectKind, Refused
from proxy.vitals import ServiceHealth

_RESOURCES = {ObjectKind.SERVICE: SERVICES, ObjectKind.ENDPOINTSLICE: ENDPOINTSLICES}


@dataclass(frozen=True, slots=True)
class Tiding:
    """Something about the object ``key`` (namespace/name) that whoever made it should hear of."""

    kind: ObjectKind
    key: str
    reason: str  # a word in CamelCase
    action: str  # the same: what was attempted
    message: str


Tell = Callable[[Tiding], None]


def of_refusal(refused: Refused) -> Tiding:
    """Return that a part of an object is not proxied."""
    words = f"{refused.subject}: {refused.reason}"
    return Tiding(refused.kind, refused.key, "NotProxied", "Proxy", words)


def of_health_check(health: ServiceHealth, port: int, node_name: str, why: str) -> Tiding:
    """Return that a load balancer cannot ask for a Service's health on this node (row 58)."""
    key = f"{health.namespace}/{health.name}"
    words = f"node {node_name} failed to start healthcheck {key!r} on port {port}: {why}"
    return Tiding(ObjectKind.SERVICE, key, "FailedToStartServiceHealthcheck", "Listen", words)


def occurrence_of(tiding: Tiding, about: KubeObject) -> Occurrence:
    """Return ``tiding`` as what an Event is made of; ``about`` is the object that it names."""
    resource = _RESOURCES[tiding.kind]
    return occurrence(resource, about, tiding.reason, tiding.message, EventType.WARNING, tiding.action)
