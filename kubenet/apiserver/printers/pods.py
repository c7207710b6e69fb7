"""Pods as rows. *Pure.*

Source: Kubernetes documentation, "Pod Lifecycle"; the STATUS words that kubectl users know.
"""

from datetime import datetime

from kubenet.apiserver.printers.base import NONE, UNKNOWN, Printer, age, columns, name_of, since
from kubenet.apiserver.tree import int_at, table_at, tables_at, text_at
from kubenet.model.objects import Json, JsonValue


def _cells(pod: Json, now: datetime) -> list[JsonValue]:
    containers = tables_at(pod, "status", "containerStatuses")
    total = len(tables_at(pod, "spec", "containers"))
    ready = sum(1 for container in containers if container.get("ready") is True)
    gates = tables_at(pod, "spec", "readinessGates")
    return [
        name_of(pod),
        f"{ready}/{total}",
        pod_status(pod),
        _restarts(containers or tables_at(pod, "status", "initContainerStatuses"), now),
        age(pod, now),
        text_at(pod, "status", "podIP") or NONE,
        text_at(pod, "spec", "nodeName") or NONE,
        text_at(pod, "status", "nominatedNodeName") or NONE,
        f"0/{len(gates)}" if gates else NONE,
    ]


def pod_status(pod: Json) -> str:
    """Return the word of the STATUS column: the phase, unless a container or a deletion says more."""
    status = table_at(pod, "status")
    reason = text_at(status, "reason") or text_at(status, "phase") or "Unknown"
    reason = _init_reason(pod) or _container_reason(status, reason)
    if text_at(pod, "metadata", "deletionTimestamp"):
        return "Unknown" if text_at(status, "reason") == "NodeLost" else "Terminating"
    return reason


def _init_reason(pod: Json) -> str:
    """Return ``Init:1/2`` and the like while initialisation goes on, else an empty string."""
    total = len(tables_at(pod, "spec", "initContainers"))
    for index, container in enumerate(tables_at(pod, "status", "initContainerStatuses")):
        terminated, waiting = (
            table_at(container, "state", "terminated"),
            table_at(container, "state", "waiting"),
        )
        if terminated and int_at(terminated, "exitCode") == 0:
            continue
        if terminated:
            return f"Init:{_end_of(terminated)}"
        reason = text_at(waiting, "reason")
        return f"Init:{reason}" if reason not in ("", "PodInitializing") else f"Init:{index}/{total}"
    return ""


def _container_reason(status: Json, phase: str) -> str:
    """Return what the last container that has something to say says."""
    containers = tables_at(status, "containerStatuses")
    reason, running = phase, False
    for container in reversed(containers):
        waiting = text_at(container, "state", "waiting", "reason")
        terminated = table_at(container, "state", "terminated")
        if waiting:
            reason = waiting
        elif terminated:
            reason = _end_of(terminated)
        elif container.get("ready") is True and "running" in table_at(container, "state"):
            running = True
    if reason == "Completed" and running:
        return "Running" if _is_ready(status) else "NotReady"
    return reason


def _end_of(terminated: Json) -> str:
    if reason := text_at(terminated, "reason"):
        return reason
    if signal := int_at(terminated, "signal"):
        return f"Signal:{signal}"
    return f"ExitCode:{int_at(terminated, 'exitCode')}"


def _is_ready(status: Json) -> bool:
    conditions = tables_at(status, "conditions")
    return any(text_at(one, "type") == "Ready" and text_at(one, "status") == "True" for one in conditions)


def _restarts(containers: list[Json], now: datetime) -> str:
    count = sum(int_at(container, "restartCount") for container in containers)
    ends = [text_at(container, "lastState", "terminated", "finishedAt") for container in containers]
    last = max(ends, default="")
    return (
        f"{count} ({since(last, now)} ago)" if count and last and since(last, now) != UNKNOWN else f"{count}"
    )


WIDE = ("IP", "Node", "Nominated Node", "Readiness Gates")
PODS = Printer(columns("Name", "Ready", "Status", "Restarts", "Age", *WIDE, wide=WIDE), _cells)
