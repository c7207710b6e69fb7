"""Jobs, CronJobs, DaemonSets, StatefulSets and ReplicationControllers. *Pure.*

Source: Kubernetes API reference, batch/v1 and apps/v1; core/v1 ReplicationController.
"""

import re
from collections.abc import Iterator, Mapping

from kubenet.apiserver.registry.declared import declared, fill
from kubenet.apiserver.registry.workloads import (
    NOT_NEGATIVE,
    TemplateStrategy,
    fill_template,
    template_causes,
)
from kubenet.apiserver.status import Cause, invalid, required, unsupported
from kubenet.apiserver.strategy import METADATA_FIELDS, FieldLabel, Kind, Strategy
from kubenet.apiserver.tree import ensure_table, int_at, strings_at, table_at, text_at
from kubenet.model.objects import Json, JsonValue
from kubenet.model.resources import BY_PLURAL_KEPT

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"
RUN_ONCE = ("OnFailure", "Never")
CONCURRENCY = ("Allow", "Forbid", "Replace")
_SCHEDULE = re.compile(r"@(yearly|annually|monthly|weekly|daily|midnight|hourly|every .+)|(\S+\s+){4}\S+")


class DaemonSetStrategy(TemplateStrategy):
    """A pod on every node."""

    spec_defaults: Mapping[str, JsonValue] = {
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate"},
    }
    first_status: Mapping[str, JsonValue] = dict.fromkeys(
        ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"), 0
    )

    def fill_defaults(self, new: Json) -> None:
        super().fill_defaults(new)
        update = ensure_table(new, "spec", "updateStrategy")
        if text_at(update, "type") == "RollingUpdate":
            fill(ensure_table(update, "rollingUpdate"), {"maxUnavailable": 1, "maxSurge": 0})


class StatefulSetStrategy(TemplateStrategy):
    """Pods with names and an order."""

    spec_defaults: Mapping[str, JsonValue] = {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "podManagementPolicy": "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate"},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    }
    first_status: Mapping[str, JsonValue] = {"replicas": 0, "availableReplicas": 0}

    def fill_defaults(self, new: Json) -> None:
        super().fill_defaults(new)
        update = ensure_table(new, "spec", "updateStrategy")
        if text_at(update, "type") == "RollingUpdate":
            fill(ensure_table(update, "rollingUpdate"), {"partition": 0})


class ReplicationControllerStrategy(TemplateStrategy):
    """A number of pods, found by equal labels: the first of the controllers."""

    spec_defaults: Mapping[str, JsonValue] = {"replicas": 1}
    first_status: Mapping[str, JsonValue] = {"replicas": 0}

    def fill_defaults(self, new: Json) -> None:
        super().fill_defaults(new)
        labels: Json = dict(strings_at(new, "spec", "template", "metadata", "labels"))
        if labels:
            fill(ensure_table(new, "spec"), {"selector": labels})
            fill(ensure_table(new, "metadata"), {"labels": labels})

    def selector_causes(self, spec: Json) -> Iterator[Cause]:
        selector = strings_at(spec, "selector")
        if not selector:
            yield required("spec.selector")
        labels = strings_at(spec, "template", "metadata", "labels")
        if selector.items() - labels.items():
            shown: Json = dict(labels)
            yield invalid(
                "spec.template.metadata.labels", shown, "`selector` does not match template `labels`"
            )

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        del new, old
        yield from ()


class JobStrategy(TemplateStrategy):
    """Pods that run to their end; they are found by the job's uid unless it says otherwise."""

    restart_policies = RUN_ONCE
    spec_defaults: Mapping[str, JsonValue] = {
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "suspend": False,
        "podReplacementPolicy": "TerminatingOrFailed",
    }

    def fill_defaults(self, new: Json) -> None:
        spec = ensure_table(new, "spec")
        fill_job_spec(spec)
        fill(spec, self.spec_defaults)

    def fill_create(self, new: Json) -> None:
        super().fill_create(new)
        spec, metadata = ensure_table(new, "spec"), table_at(new, "metadata")
        if spec.get("manualSelector") is True:
            return
        uid = text_at(metadata, "uid")
        ensure_table(spec, "selector")["matchLabels"] = {CONTROLLER_UID: uid}
        name = text_at(metadata, "name")
        labels: Json = {CONTROLLER_UID: uid, "controller-uid": uid, JOB_NAME: name, "job-name": name}
        ensure_table(spec, "template", "metadata", "labels").update(labels)

    def causes(self, new: Json) -> Iterator[Cause]:
        yield from super().causes(new)
        yield from job_causes(table_at(new, "spec"), "spec")

    def update_causes(self, new: Json, old: Json) -> Iterator[Cause]:
        yield from super().update_causes(new, old)
        have, before = table_at(new, "spec"), table_at(old, "spec")
        for key in ("completionMode", "template"):
            if have.get(key) != before.get(key) and not _may_change(key, old):
                yield invalid(f"spec.{key}", have.get(key), "field is immutable")


def _may_change(key: str, old: Json) -> bool:
    """Return whether a queueing controller may still change where the pods of a suspended job go."""
    suspended = table_at(old, "spec").get("suspend") is True
    return key == "template" and suspended and "startTime" not in table_at(old, "status")


def fill_job_spec(spec: Json) -> None:
    """Give a job's specification the numbers and the template that it left out."""
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    fill(spec, {"parallelism": 1})
    fill_template(spec)


def job_causes(spec: Json, field: str) -> Iterator[Cause]:
    for key in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds"):
        if int_at(spec, key) < 0:
            yield invalid(f"{field}.{key}", spec[key], NOT_NEGATIVE)
    if spec.get("completionMode") == "Indexed" and "completions" not in spec:
        yield required(f"{field}.completions", "when completion mode is Indexed")


class CronJobStrategy(Strategy):
    """Jobs by the clock."""

    generation_of = ("spec",)
    has_status = True

    def fill_defaults(self, new: Json) -> None:
        spec = ensure_table(new, "spec")
        fill(
            spec,
            {
                "concurrencyPolicy": "Allow",
                "suspend": False,
                "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 1,
            },
        )
        fill_template(ensure_table(spec, "jobTemplate", "spec"))

    def fill_create(self, new: Json) -> None:
        new["status"] = {}

    def causes(self, new: Json) -> Iterator[Cause]:
        spec = table_at(new, "spec")
        schedule, policy = text_at(spec, "schedule"), text_at(spec, "concurrencyPolicy")
        if not schedule:
            yield required("spec.schedule")
        elif not _SCHEDULE.fullmatch(schedule.strip()):
            yield invalid("spec.schedule", schedule, "expected exactly 5 fields, or a descriptor like @daily")
        if policy not in CONCURRENCY:
            yield unsupported("spec.concurrencyPolicy", policy, CONCURRENCY)
        yield from template_causes(table_at(spec, "jobTemplate", "spec"), "spec.jobTemplate.spec", RUN_ONCE)


_SCALED = ("status", "scale")
KINDS = (
    Kind(
        BY_PLURAL_KEPT["daemonsets"],
        DaemonSetStrategy(),
        short_names=("ds",),
        categories=("all",),
        subresources=("status",),
    ),
    Kind(
        BY_PLURAL_KEPT["statefulsets"],
        StatefulSetStrategy(),
        short_names=("sts",),
        categories=("all",),
        subresources=_SCALED,
    ),
    Kind(
        BY_PLURAL_KEPT["replicationcontrollers"],
        ReplicationControllerStrategy(),
        short_names=("rc",),
        categories=("all",),
        subresources=_SCALED,
        field_labels=METADATA_FIELDS | {"status.replicas": FieldLabel(("status", "replicas"), absent="0")},
    ),
    Kind(
        BY_PLURAL_KEPT["jobs"],
        JobStrategy(),
        categories=("all",),
        subresources=("status",),
        field_labels=METADATA_FIELDS | {"status.successful": FieldLabel(("status", "succeeded"), absent="0")},
    ),
    Kind(
        BY_PLURAL_KEPT["cronjobs"],
        CronJobStrategy(),
        short_names=("cj",),
        categories=("all",),
        subresources=("status",),
    ),
    Kind(BY_PLURAL_KEPT["controllerrevisions"], declared(fixed=("data",), generation_of=())),
)
