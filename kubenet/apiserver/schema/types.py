"""The types of the served kinds, read from a compact notation. *Pure.*

One message a paragraph: ``Name: field field ...``. A field is ``name:type=number``; without a type it is a
string, without a name its message's members stand among those around it (a Go struct embedded in another).
``[T]`` is a list, ``{T}`` a map from strings. A list with ``|keys`` is merged by these members of its
elements (``[T|port,protocol]``), one with ``|*`` is a set; any other list, and a map with ``|-``, is applied
as a whole. ``!`` after the type says that an explicit zero means something (``replicas: 0``); elsewhere a
typed client writes zeros for what it did not set, and they are dropped.

Scalars: string, bytes (base64 in JSON), int, bool. Types with a JSON form of their own: Time, MicroTime,
Quantity, IntOrString, FieldsV1, RawExtension (any JSON), Texts (a list inside a map).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

from kubenet.apiserver.schema import access, batch, core, groups, pods, policies, volumes

LEAVES = frozenset(
    "string bytes int bool Time MicroTime Quantity IntOrString FieldsV1 RawExtension Texts".split()  # noqa: SIM905
)
# Messages which server-side apply takes as one value.
ATOMIC = frozenset(
    (
        "ConfigMapKeySelector",
        "CrossVersionObjectReference",
        "LabelSelector",
        "LocalObjectReference",
        "NodeSelector",
        "NodeSelectorTerm",
        "ObjectFieldSelector",
        "ObjectReference",
        "ResourceFieldSelector",
        "RoleRef",
        "ScopeSelector",
        "SecretKeySelector",
        "SecretReference",
        "ServiceBackendPort",
        "Subject",
        "TopologySelectorTerm",
        "TypedLocalObjectReference",
    )
)

_SERVED = {
    "v1": "Binding ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim"
    " Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount",
    "apiextensions.k8s.io/v1": "CustomResourceDefinition",
    "apps/v1": "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet",
    "authentication.k8s.io/v1": "SelfSubjectReview TokenRequest TokenReview",
    "authorization.k8s.io/v1": "LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview"
    " SubjectAccessReview",
    "autoscaling/v1": "HorizontalPodAutoscaler Scale",
    "autoscaling/v2": "HorizontalPodAutoscaler",
    "batch/v1": "CronJob Job",
    "coordination.k8s.io/v1": "Lease",
    "discovery.k8s.io/v1": "EndpointSlice",
    "events.k8s.io/v1": "Event",
    "networking.k8s.io/v1": "IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR",
    "node.k8s.io/v1": "RuntimeClass",
    "policy/v1": "Eviction PodDisruptionBudget",
    "rbac.authorization.k8s.io/v1": "ClusterRole ClusterRoleBinding Role RoleBinding",
    "scheduling.k8s.io/v1": "PriorityClass",
    "storage.k8s.io/v1": "StorageClass",
}
SERVED = frozenset((version, kind) for version, kinds in _SERVED.items() for kind in kinds.split())
_NAMED_OTHERWISE = {  # than the kind
    ("autoscaling/v1", "HorizontalPodAutoscaler"): "autoscaling.v1.HorizontalPodAutoscaler",
    ("events.k8s.io/v1", "Event"): "events.Event",
}
DELETE_OPTIONS = "DeleteOptions"  # every group version has it


class Shape(Enum):
    """How many values a field has."""

    ONE = "one"
    LIST = "list"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str  # empty: the members belong to the message around it
    type: str  # one of LEAVES, or a message
    number: int
    shape: Shape = Shape.ONE
    zero_counts: bool = False
    keys: tuple[
        str, ...
    ] = ()  # what tells the elements of a merged list apart; "*": a set; "-": an atomic map

    @property
    def atomic(self) -> bool:
        """Whether server-side apply takes the field as one value."""
        if self.shape is Shape.LIST:
            return not self.keys
        if self.shape is Shape.MAP:
            return bool(self.keys)
        return self.type in LEAVES or self.type in ATOMIC


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of one message: by number, and (embedded ones included) by name."""

    by_number: Mapping[int, Field]
    by_name: Mapping[str, Field]


_FIELD = re.compile(r"(\w*)(?::([\[{]?)([\w.]+)(?:\|([\w,*-]+))?[\]}]?(!?))?=(\d+)")
_SHAPES = {"": Shape.ONE, None: Shape.ONE, "[": Shape.LIST, "{": Shape.MAP}


def is_served(api_version: str, kind: str) -> bool:
    """Return whether there is a message for the kind of a body."""
    return (api_version, kind) in SERVED or kind == DELETE_OPTIONS


def message_of(api_version: str, kind: str) -> str:
    """Return what the table calls the message of a kind."""
    return _NAMED_OTHERWISE.get((api_version, kind), kind)


def is_message(name: str) -> bool:
    """Return whether the table has a message of this name."""
    return name in _notation()


@cache
def message(name: str) -> Message:
    """Return a message by its name; there must be one."""
    fields = _notation()[name]
    return Message({field.number: field for field in fields}, dict(_named(fields)))


def _named(fields: tuple[Field, ...]) -> Iterator[tuple[str, Field]]:
    for field in fields:
        if field.name:
            yield field.name, field
        else:
            yield from message(field.type).by_name.items()


@cache
def _notation() -> dict[str, tuple[Field, ...]]:
    parts = (access, batch, core, groups, pods, policies, volumes)
    text = "".join(part.MESSAGES for part in parts)
    paragraphs = text.replace("\n  ", " ").split("\n")
    named = (paragraph.partition(": ") for paragraph in paragraphs if paragraph)
    return {name: tuple(_field(word) for word in words.split()) for name, _, words in named}


def _field(word: str) -> Field:
    found = _FIELD.fullmatch(word)
    if found is None:
        raise ValueError(f"{word}: is no field; next: correct the table of messages")
    name, bracket, kind, keys, zero, number = found.groups()
    by = tuple(keys.split(",")) if keys else ()
    return Field(name, kind or "string", int(number), _SHAPES[bracket], bool(zero), by)
