"""Event objects: what a component has done to an object, for people to read. *Pure.*

Source: Kubernetes API reference, Event v1 core and Event v1 events.k8s.io; client-go tools/record and
tools/events (how repeats are counted).
"""

from dataclasses import dataclass
from enum import Enum
from hashlib import blake2s

from kubenet.model.objects import Json, KubeObject
from kubenet.model.resources import Resource

_WORD_LENGTH, _NOTE_LENGTH = 128, 1024  # what events.k8s.io/v1 allows


class EventType(Enum):
    """Whether somebody should look."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that happened to an object."""

    resource: Resource
    namespace: str
    name: str
    uid: str
    reason: str  # a word in CamelCase
    message: str
    type: EventType = EventType.NORMAL
    action: str = ""  # a word in CamelCase: what was attempted; an Event of events.k8s.io needs it

    @property
    def event_name(self) -> str:
        """The name of its Event: the same for repeats, so that they are counted and not piled up."""
        told = "\0".join((self.uid, self.type.value, self.reason, self.message))
        return f"{self.name}.{blake2s(told.encode(), digest_size=8).hexdigest()}"


def occurrence(
    resource: Resource,
    subject: KubeObject,
    reason: str,
    message: str,
    type: EventType = EventType.NORMAL,
    action: str = "",
) -> Occurrence:
    """Return that something happened to ``subject``."""
    meta = subject.metadata
    return Occurrence(resource, meta.namespace, meta.name, meta.uid, reason, message, type, action)


def event_object(what: Occurrence, component: str, host: str, now: str) -> Json:
    """Return the Event of a first occurrence."""
    namespace = what.namespace or "default"  # events of kinds without a namespace live there
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": what.event_name, "namespace": namespace},
        "involvedObject": {
            "apiVersion": what.resource.api_version,
            "kind": what.resource.kind,
            "namespace": what.namespace,
            "name": what.name,
            "uid": what.uid,
        },
        "reason": what.reason,
        "message": what.message,
        "type": what.type.value,
        "source": {"component": component, "host": host} if host else {"component": component},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def new_event_object(what: Occurrence, component: str, host: str, now: str) -> Json:
    """Return the Event of a first occurrence in events.k8s.io/v1; ``now`` has microseconds."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": what.event_name, "namespace": what.namespace or "default"},
        "regarding": {
            "apiVersion": what.resource.api_version,
            "kind": what.resource.kind,
            "namespace": what.namespace,
            "name": what.name,
            "uid": what.uid,
        },
        "eventTime": now,
        "reportingController": component,
        "reportingInstance": f"{component}-{host}"[:_WORD_LENGTH],
        "action": what.action or what.reason,
        "reason": what.reason,
        "note": what.message[:_NOTE_LENGTH],
        "type": what.type.value,
    }


def new_repeated(count: int, now: str) -> Json:
    """Return the merge patch for one more of the same in events.k8s.io/v1."""
    return {"series": {"count": count, "lastObservedTime": now}}


def repeated(count: int, now: str) -> Json:
    """Return the merge patch for one more of the same."""
    return {"count": count, "lastTimestamp": now}
