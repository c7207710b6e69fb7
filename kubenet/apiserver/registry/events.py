"""Events as events.k8s.io has them: another view of the same objects. *Pure.*

Source: Kubernetes API reference, events.k8s.io/v1 Event and core/v1 Event.
"""

from kubenet.apiserver.registry.plain import EVENT, EventStrategy
from kubenet.apiserver.strategy import Kind, Lens
from kubenet.model.objects import Json
from kubenet.model.resources import Resource

# What the core group calls it, and what events.k8s.io does.
_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK = {new: old for old, new in _NAMES.items()}


def _shown(core: Json) -> Json:
    return {_NAMES.get(key, key): value for key, value in core.items() if key not in ("kind", "apiVersion")}


def _kept(event: Json) -> Json:
    return {_BACK.get(key, key): value for key, value in event.items() if key not in ("kind", "apiVersion")}


VIEW = Kind(
    Resource("events.k8s.io", "v1", "events", "Event", True),
    EventStrategy(),
    short_names=("ev",),
    field_labels=EVENT.field_labels,
    lens=Lens(EVENT, "events.Event", _shown, _kept),
)
