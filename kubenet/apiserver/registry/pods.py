"""Pods. *Pure.*"""

from collections.abc import Iterator

from kubenet.apiserver.registry.podspec import fill_pod_spec, pod_spec_causes
from kubenet.apiserver.status import Cause, forbidden_field
from kubenet.apiserver.strategy import METADATA_FIELDS, FieldLabel, Kind, Strategy
from kubenet.apiserver.tree import (
    copied_table,
    ensure_table,
    int_at,
    strings_at,
    table_at,
    tables_at,
    text_at,
)
from kubenet.model.objects import Json, Pod
from kubenet.model.resources import PODS

CHANGEABLE = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"  # noqa: E501 (one sentence of the API)


class PodStrategy(Strategy):
    """A pod's specification is fixed once it runs; it stays a while after a delete if a node holds it."""

    shape = Pod
    generation_of = ("spec",)
    has_status = True
    status_keeps = ("labels", "annotations")

    def fill_defaults(self, new: Json) -> None:
        spec = ensure_table(new, "spec")
        fill_pod_spec(spec)
        spec.setdefault("enableServiceLinks", True)

    def fill_create(self, new: Json) -> None:
        new["status"] = {"phase": "Pending", "qosClass": qos_class(table_at(new, "spec"))}

    def causes(self, new: Json) -> Iterator[Cause]:
        yield from pod_spec_causes(table_at(new, "spec"), "spec")

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        if _fixed(new) != _fixed(old):
            yield forbidden_field("spec", f"pod updates may not change fields other than {CHANGEABLE}")

    def grace_s(self, old: Json, asked_s: int | None) -> int:
        never_ran = not text_at(old, "spec", "nodeName")
        finished = text_at(old, "status", "phase") in ("Succeeded", "Failed")
        if never_ran or finished:
            return 0
        if asked_s is None:
            asked_s = int_at(old, "spec", "terminationGracePeriodSeconds", default=30)
        return max(0, asked_s)


def _fixed(pod: Json) -> Json:
    """Return the part of a pod's specification that may not change."""
    spec = copied_table(table_at(pod, "spec"))
    for container in tables_at(spec, "initContainers") + tables_at(spec, "containers"):
        container.pop("image", None)
    for changeable in ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"):
        spec.pop(changeable, None)
    return spec


def qos_class(spec: Json) -> str:
    """Return the quality-of-service class: what requests and limits for cpu and memory amount to.

    Source: Kubernetes documentation, "Pod Quality of Service Classes".
    """
    containers = tables_at(spec, "initContainers") + tables_at(spec, "containers")
    guaranteed, any_set = True, False
    for container in containers:
        limits = strings_at(container, "resources", "limits")
        requests = limits | strings_at(container, "resources", "requests")
        any_set = any_set or bool(requests)
        same = all(name in limits and requests[name] == limits[name] for name in ("cpu", "memory"))
        guaranteed = guaranteed and same
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


KIND = Kind(
    PODS,
    PodStrategy(),
    short_names=("po",),
    categories=("all",),
    subresources=("status", "binding", "eviction"),
    field_labels=METADATA_FIELDS
    | {
        "spec.nodeName": FieldLabel(("spec", "nodeName")),
        "spec.restartPolicy": FieldLabel(("spec", "restartPolicy")),
        "spec.schedulerName": FieldLabel(("spec", "schedulerName")),
        "spec.serviceAccountName": FieldLabel(("spec", "serviceAccountName")),
        "spec.hostNetwork": FieldLabel(("spec", "hostNetwork"), absent="false"),
        "status.phase": FieldLabel(("status", "phase")),
        "status.podIP": FieldLabel(("status", "podIP")),
        "status.nominatedNodeName": FieldLabel(("status", "nominatedNodeName")),
    },
)
