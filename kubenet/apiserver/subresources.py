"""What the subresources of an object do to it: scale, binding, eviction. *Pure.*

Source: Kubernetes API reference, autoscaling/v1 Scale, core/v1 Binding, policy/v1 Eviction.
"""

from kubenet.apiserver.selectors import selector_text
from kubenet.apiserver.status import (
    StatusError,
    bad_request,
    conflict,
    invalid,
    required,
    unprocessable,
)
from kubenet.apiserver.strategy import Kind
from kubenet.apiserver.tree import ensure_table, int_at, list_at, strings_at, table_at, text_at
from kubenet.model.objects import Json
from kubenet.model.resources import Resource

SCALE = Resource("autoscaling", "v1", "scales", "Scale", True)
BINDING = Resource("", "v1", "bindings", "Binding", True)
TOKEN = Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest", True)
EVICTION = Resource("policy", "v1", "evictions", "Eviction", True)


def scale_of(value: Json) -> Json:
    """Return the Scale of a workload."""
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    metadata = table_at(value, "metadata")
    return {
        "kind": SCALE.kind,
        "apiVersion": SCALE.api_version,
        "metadata": {key: metadata[key] for key in kept if key in metadata},
        "spec": {"replicas": int_at(value, "spec", "replicas", default=1)},
        "status": {
            "replicas": int_at(value, "status", "replicas"),
            "selector": _selector_text(value),
        },
    }


def _selector_text(value: Json) -> str:
    selector = table_at(value, "spec", "selector")
    if text_at(value, "kind") == "ReplicationController":  # the only one whose selector is a map of labels
        selector = {"matchLabels": selector}
    return selector_text(selector)


def scaled(kind: Kind, old: Json, scale: Json) -> Json:
    """Return ``old`` with the number of replicas of a Scale. Raises StatusError (409, 422)."""
    name, replicas = text_at(old, "metadata", "name"), table_at(scale, "spec").get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise bad_request("Scale: spec.replicas is not an integer")
    if replicas < 0:
        cause = invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise unprocessable(SCALE, name, [cause])
    revision = text_at(scale, "metadata", "resourceVersion")
    if revision and revision != text_at(old, "metadata", "resourceVersion"):
        raise conflict(kind.resource, name)
    ensure_table(old, "spec")["replicas"] = replicas
    return old


def bound(kind: Kind, old: Json, binding: Json, now: str) -> Json:
    """Return a pod put on the node that a Binding names. Raises StatusError (409, 422)."""
    name, node = text_at(old, "metadata", "name"), text_at(binding, "target", "name")
    if not node:
        raise unprocessable(BINDING, name, [required("target.name")])
    if text_at(binding, "target", "kind") not in ("", "Node"):
        cause = invalid("target.kind", text_at(binding, "target", "kind"), "must be Node")
        raise unprocessable(BINDING, name, [cause])
    if refusal := _binding_refusal(kind, old, binding, node):
        raise refusal
    ensure_table(old, "spec")["nodeName"] = node
    ensure_table(old, "metadata", "annotations").update(strings_at(binding, "metadata", "annotations"))
    status = ensure_table(old, "status")
    conditions = [
        condition
        for condition in list_at(status, "conditions")
        if not (isinstance(condition, dict) and condition.get("type") == "PodScheduled")
    ]
    scheduled: Json = {"type": "PodScheduled", "status": "True"}
    status["conditions"] = [*conditions, scheduled | {"lastTransitionTime": now}]
    return old


def _binding_refusal(kind: Kind, old: Json, binding: Json, node: str) -> StatusError | None:
    name, metadata = text_at(old, "metadata", "name"), table_at(old, "metadata")
    uid = text_at(binding, "metadata", "uid")
    if uid and uid != metadata.get("uid"):
        return conflict(
            kind.resource,
            name,
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata.get('uid')}",
        )
    if "deletionTimestamp" in metadata:
        return conflict(kind.resource, name, f"pod {name} is being deleted, cannot be assigned to a host")
    if have := text_at(old, "spec", "nodeName"):
        return conflict(kind.resource, name, f'pod {name} is already assigned to node "{have}"')
    del node
    return None
