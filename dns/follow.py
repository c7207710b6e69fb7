"""Watches what of the cluster DNS needs to know."""

from collections.abc import Callable
from dataclasses import dataclass
from sys import intern
from typing import TypeAlias, TypeVar

from dns.feed import ClusterFeed
from kubenet.client.cache import Change
from kubenet.client.informer import Informer
from kubenet.client.packing import Whole
from kubenet.client.transport import ApiClient
from kubenet.model.objects import EndpointSlice, KubeObject, Namespace, ObjectMeta, Pod, Service
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


_NOTHING: dict[str, str] = {}  # one for all; nobody changes it


def _fresh(text: str) -> str:
    """Return a copy: a text that lies among the objects of a list keeps their memory from coming back."""
    return text.encode().decode()


def _version_of(each: ObjectT) -> ObjectT:
    """Return what the cache needs of an object: the zone holds the rest in a form of its own."""
    metadata = each.metadata
    kept = ObjectMeta(
        name=_fresh(metadata.name),
        namespace=intern(metadata.namespace),
        uid=_fresh(metadata.uid),
        resource_version=_fresh(metadata.resource_version),
        labels=_NOTHING,
        annotations=_NOTHING,
    )
    return type(each)(metadata=kept)


def follow(client: ApiClient, feed: ClusterFeed, poke: Callable[[], None], scope: Scope) -> Informers:
    """Return the informers, not yet running, that tell ``feed`` all there is; ``poke`` after each word."""

    def shown(key: str) -> bool:
        return not scope.namespaces or key.partition("/")[0] in scope.namespaces

    def informer(
        resource: Resource,
        type_: type[ObjectT],
        take: Callable[[str, ObjectT | None], None],
        labels: str = "",
    ) -> Informer[ObjectT]:
        made = Informer(client, resource, type_, label_selector=labels, keep=Whole(_version_of))

        def changed(change: Change[ObjectT]) -> None:
            if shown(change.key):
                take(change.key, change.new)
                poke()

        made.on_change(changed)
        return made

    informers: Informers = [
        informer(SERVICES, Service, feed.service, scope.labels),
        informer(NAMESPACES, Namespace, feed.namespace, scope.namespace_labels),
    ]
    if scope.endpoints:
        informers.append(informer(ENDPOINTSLICES, EndpointSlice, feed.endpoint_slice))
    if scope.pods:
        informers.append(informer(PODS, Pod, feed.pod))
    return informers
