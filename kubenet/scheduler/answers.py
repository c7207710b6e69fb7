"""What the scheduler writes: a binding, or why there is none. *Pure.*

Source: Kubernetes API reference, core/v1 Binding; "Pod Lifecycle" (condition PodScheduled).
"""

import msgspec

from kubenet.model.events import EventType, Occurrence, occurrence
from kubenet.model.objects import Json, Pod
from kubenet.model.resources import NODES, PODS
from kubenet.model.writes import Create, Patch, Write, patch_of

CONDITION = "PodScheduled"


def binding(pod: Pod, node_name: str) -> Create:
    """Return the write that puts exactly this pod on a node; the server refuses it for a namesake."""
    meta = pod.metadata
    body: Json = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "target": {"apiVersion": NODES.api_version, "kind": NODES.kind, "name": node_name},
    }
    return Create(PODS, meta.namespace, body, meta.name, "binding")


def unschedulable(pod: Pod, message: str, now: str) -> Patch | None:
    """Return the write that tells why the pod has no node; None when the pod says so already.

    It holds for the version of the pod that was decided on: written late, it must not deny a binding.
    """
    before = next((c for c in pod.status.conditions if c.type == CONDITION), None)
    if before and (before.status, before.reason, before.message) == ("False", "Unschedulable", message):
        return None
    since = before.last_transition_time if before and before.status == "False" else None
    condition: Json = {
        "type": CONDITION,
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": since or now,
    }
    others = [msgspec.to_builtins(c) for c in pod.status.conditions if c.type != CONDITION]
    return patch_of(PODS, pod, {"status": {"conditions": [*others, condition]}}, "status")


def outcome(pod: Pod, write: Write) -> Occurrence:
    """Return the event that tells what a write, which has succeeded, means for its pod."""
    match write:
        case Create(body={"target": {"name": str(node_name)}}):
            said = f"Successfully assigned {pod.metadata.key} to {node_name}"
            return occurrence(PODS, pod, "Scheduled", said)
        case Patch(body={"status": {"conditions": [*_, {"message": str(message)}]}}):
            return occurrence(PODS, pod, "FailedScheduling", message, EventType.WARNING)
        case _:
            raise ValueError(f"the scheduler does not write {write}")
