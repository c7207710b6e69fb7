"""Watches what of the cluster DNS needs to know."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from dns import trim
from dns.feed import ClusterFeed
from kubenet.client.cache import Change
from kubenet.client.informer import Informer
from kubenet.client.packing import Packing
from kubenet.client.transport import ApiClient
from kubenet.model.objects import EndpointSlice, KubeObject, Namespace, Pod, Service
from kubenet.model.resources import ENDPOINTSLICES, NAMESPACES, PODS, SERVICES, Resource

ObjectT = TypeVar("ObjectT", bound=KubeObject)
Informers: TypeAlias = list[Informer[Service] | Informer[EndpointSlice] | Informer[Namespace] | Informer[Pod]]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which objects to follow."""

    pods: bool = False
    endpoints: bool = True
    labels: str = ""  # a selector of Services
    namespaces: frozenset[str] = frozenset()  # none: all
    namespace_labels: str = ""  # a selector of Namespaces


def follow(client: ApiClient, feed: ClusterFeed, poke: Callable[[], None], scope: Scope) -> Informers:
    """Return the informers, not yet running, that tell ``feed`` all there is; ``poke`` after each word."""

    def shown(key: str) -> bool:
        return not scope.namespaces or key.partition("/")[0] in scope.namespaces

    def informer(
        resource: Resource,
        type_: type[ObjectT],
        trimmed: Callable[[ObjectT], ObjectT],
        take: Callable[[str, ObjectT | None], None],
        labels: str = "",
    ) -> Informer[ObjectT]:
        made = Informer(client, resource, type_, label_selector=labels, keep=Packing(type_, trimmed))

        def changed(change: Change[ObjectT]) -> None:
            if shown(change.key):
                take(change.key, change.new)
                poke()

        made.on_change(changed)
        return made

    informers: Informers = [
        informer(SERVICES, Service, trim.service, feed.service, scope.labels),
        informer(NAMESPACES, Namespace, trim.namespace, feed.namespace, scope.namespace_labels),
    ]
    if scope.endpoints:
        informers.append(informer(ENDPOINTSLICES, EndpointSlice, trim.endpoint_slice, feed.endpoint_slice))
    if scope.pods:
        informers.append(informer(PODS, Pod, trim.pod, feed.pod))
    return informers
