"""Deployments and ReplicaSets as rows. *Pure.*"""

from datetime import datetime

from kubenet.apiserver.printers.base import NONE, Printer, age, columns, joined, name_of
from kubenet.apiserver.selectors import selector_text
from kubenet.apiserver.tree import int_at, table_at, tables_at, text_at
from kubenet.model.objects import Json, JsonValue


def template_cells(value: Json) -> list[JsonValue]:
    """Return the wide cells: containers, images, selector."""
    containers = tables_at(value, "spec", "template", "spec", "containers")
    return [
        joined(text_at(container, "name") for container in containers),
        joined(text_at(container, "image") for container in containers),
        selector_text(table_at(value, "spec", "selector")) or NONE,
    ]


def _deployment(value: Json, now: datetime) -> list[JsonValue]:
    wanted = int_at(value, "spec", "replicas", default=1)
    return [
        name_of(value),
        f"{int_at(value, 'status', 'readyReplicas')}/{wanted}",
        int_at(value, "status", "updatedReplicas"),
        int_at(value, "status", "availableReplicas"),
        age(value, now),
        *template_cells(value),
    ]


def _replicaset(value: Json, now: datetime) -> list[JsonValue]:
    return [
        name_of(value),
        int_at(value, "spec", "replicas", default=1),
        int_at(value, "status", "replicas"),
        int_at(value, "status", "readyReplicas"),
        age(value, now),
        *template_cells(value),
    ]


WIDE = ("Containers", "Images", "Selector")
DEPLOYMENTS = Printer(
    columns(
        "Name",
        "Ready",
        "Up-to-date",
        "Available",
        "Age",
        *WIDE,
        wide=WIDE,
        numbers=("Up-to-date", "Available"),
    ),
    _deployment,
)
REPLICASETS = Printer(
    columns(
        "Name",
        "Desired",
        "Current",
        "Ready",
        "Age",
        *WIDE,
        wide=WIDE,
        numbers=("Desired", "Current", "Ready"),
    ),
    _replicaset,
)
