"""DaemonSets, StatefulSets, ReplicationControllers, Jobs and CronJobs as rows. *Pure.*"""

from datetime import datetime

from kubenet.apiserver.printers.base import (
    NONE,
    Printer,
    age,
    columns,
    human_duration,
    labels_text,
    name_of,
    since,
)
from kubenet.apiserver.printers.workloads import WIDE, template_cells
from kubenet.apiserver.tree import int_at, list_at, strings_at, table_at, tables_at, text_at
from kubenet.model.objects import Json, JsonValue


def _daemonset(value: Json, now: datetime) -> list[JsonValue]:
    status = table_at(value, "status")
    counts = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady")
    return [
        name_of(value),
        *(int_at(status, name) for name in (*counts, "updatedNumberScheduled", "numberAvailable")),
        labels_text(value, "spec", "template", "spec", "nodeSelector"),
        age(value, now),
        *template_cells(value),
    ]


def _statefulset(value: Json, now: datetime) -> list[JsonValue]:
    ready, wanted = int_at(value, "status", "readyReplicas"), int_at(value, "spec", "replicas", default=1)
    return [name_of(value), f"{ready}/{wanted}", age(value, now), *template_cells(value)[:2]]


def _replication_controller(value: Json, now: datetime) -> list[JsonValue]:
    selector = ",".join(
        f"{key}={text}" for key, text in sorted(strings_at(value, "spec", "selector").items())
    )
    return [
        name_of(value),
        int_at(value, "spec", "replicas", default=1),
        int_at(value, "status", "replicas"),
        int_at(value, "status", "readyReplicas"),
        age(value, now),
        *template_cells(value)[:2],
        selector or NONE,
    ]


def _job(value: Json, now: datetime) -> list[JsonValue]:
    spec, status = table_at(value, "spec"), table_at(value, "status")
    done = int_at(status, "succeeded")
    if "completions" in spec:
        completions = f"{done}/{int_at(spec, 'completions')}"
    else:
        parallel = int_at(spec, "parallelism")
        completions = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
    return [
        name_of(value),
        _job_status(value),
        completions,
        _duration(status, now),
        age(value, now),
        *template_cells(value),
    ]


def _job_status(value: Json) -> str:
    conditions = tables_at(value, "status", "conditions")
    true = {text_at(one, "type") for one in conditions if text_at(one, "status") == "True"}
    for found, word in (("Complete", "Complete"), ("Failed", "Failed")):
        if found in true:
            return word
    if text_at(value, "metadata", "deletionTimestamp"):
        return "Terminating"
    pending = (("Suspended", "Suspended"), ("FailureTarget", "FailureTarget"))
    return next((word for found, word in pending if found in true), "Running")


def _duration(status: Json, now: datetime) -> str:
    start, end = text_at(status, "startTime"), text_at(status, "completionTime")
    if not start:
        return ""
    if not end:
        return since(start, now)
    span = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return human_duration(int(span.total_seconds()))


def _cronjob(value: Json, now: datetime) -> list[JsonValue]:
    spec, last = table_at(value, "spec"), text_at(value, "status", "lastScheduleTime")
    return [
        name_of(value),
        text_at(spec, "schedule"),
        text_at(spec, "timeZone") or NONE,
        "True" if spec.get("suspend") is True else "False",
        len(list_at(value, "status", "active")),
        since(last, now) if last else NONE,
        age(value, now),
        *template_cells(table_at(spec, "jobTemplate")),
    ]


def _revision(value: Json, now: datetime) -> list[JsonValue]:
    owners = tables_at(value, "metadata", "ownerReferences")
    owner = next((one for one in owners if one.get("controller") is True), {})
    kind, _, name = text_at(owner, "kind").lower(), "", text_at(owner, "name")
    group = text_at(owner, "apiVersion").rpartition("/")[0]
    shown = f"{kind}{'.' + group if group else ''}/{name}" if owner else NONE
    return [name_of(value), shown, int_at(value, "revision"), age(value, now)]


_COUNTS = ("Desired", "Current", "Ready", "Up-to-date", "Available")
PRINTERS = {
    "daemonsets": Printer(
        columns("Name", *_COUNTS, "Node Selector", "Age", *WIDE, wide=WIDE, numbers=_COUNTS), _daemonset
    ),
    "statefulsets": Printer(columns("Name", "Ready", "Age", *WIDE[:2], wide=WIDE), _statefulset),
    "replicationcontrollers": Printer(
        columns("Name", *_COUNTS[:3], "Age", *WIDE, wide=WIDE, numbers=_COUNTS), _replication_controller
    ),
    "jobs": Printer(columns("Name", "Status", "Completions", "Duration", "Age", *WIDE, wide=WIDE), _job),
    "cronjobs": Printer(
        columns(
            *("Name", "Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age"),
            *WIDE,
            wide=WIDE,
            numbers=("Active",),
        ),
        _cronjob,
    ),
    "controllerrevisions": Printer(
        columns("Name", "Controller", "Revision", "Age", numbers=("Revision",)), _revision
    ),
}
