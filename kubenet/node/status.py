"""What a pod's status says, and when a container is started again. *Pure.*

Source: Kubernetes documentation, "Pod Lifecycle".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kubenet.model.objects import Json, JsonValue, Pod

FIRST_BACKOFF_S = 10.0
MOST_BACKOFF_S = 300.0
# A container that ran this long has earned a fresh start.
FORGIVEN_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not started yet, or waiting to be started again."""

    reason: str = "ContainerCreating"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """The process runs."""

    started_at: str


@dataclass(frozen=True, slots=True)
class Terminated:
    """The process has ended."""

    exit_code: int  # 128 + signal, if a signal ended it
    started_at: str
    finished_at: str
    message: str = ""  # the last it said, if it did not end well

    @property
    def reason(self) -> str:
        return "Completed" if self.exit_code == 0 else "Error"


State: TypeAlias = Waiting | Running | Terminated


@dataclass(frozen=True, slots=True)
class ContainerView:
    """One container as its status shows it."""

    name: str
    image: str
    state: State = Waiting()
    last: Terminated | None = None
    ready: bool = False
    restarts: int = 0
    container_id: str = ""


def exit_code(status: int) -> int:
    """Return the exit code for a process's status; a signal is 128 more, as a shell says it."""
    return 128 - status if status < 0 else status


def starts_again(restart_policy: str, code: int) -> bool:
    """Whether a container that ended with ``code`` is started again."""
    return restart_policy == "Always" or (restart_policy == "OnFailure" and code != 0)


def restart_delay_s(restarts: int) -> float:
    """Return how long to wait before the start that follows ``restarts`` earlier restarts; the first is at
    once.
    """
    if restarts == 0:
        return 0.0
    return float(min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(restarts - 1, 10)))


def phase(views: Sequence[ContainerView], restart_policy: str) -> str:
    """Return the pod's phase."""
    ended = [view.state for view in views if isinstance(view.state, Terminated)]
    if len(ended) == len(views) and not any(starts_again(restart_policy, s.exit_code) for s in ended):
        return "Failed" if any(state.exit_code for state in ended) else "Succeeded"
    started = all(isinstance(view.state, Running | Terminated) or view.last for view in views)
    return "Running" if started else "Pending"


def pod_status(
    pod: Pod, views: Sequence[ContainerView], addresses: Sequence[str], host_ip: str, now: str
) -> Json:
    """Return the pod's status as the node agent reports it.

    A condition keeps the time of its last change from the status that ``pod`` carries.
    """
    ready = bool(views) and all(view.ready for view in views) and pod.metadata.deletion_timestamp is None
    current = phase(views, pod.spec.restart_policy)
    finished = current in ("Succeeded", "Failed")
    reason = "PodCompleted" if finished else "ContainersNotReady"
    conditions: list[JsonValue] = [
        _condition(pod, kind, holds, "" if holds else reason, now)
        for kind, holds in (
            ("PodReadyToStartContainers", bool(addresses)),
            ("Initialized", True),
            ("Ready", ready and not finished),
            ("ContainersReady", ready and not finished),
            ("PodScheduled", True),
        )
    ]
    status: Json = {
        "phase": current,
        "conditions": conditions,
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": pod.metadata.creation_timestamp,
        "containerStatuses": [_container_status(view) for view in views],
        "qosClass": "BestEffort",
    }
    if addresses:
        status |= {"podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses]}
    return status


def _condition(pod: Pod, kind: str, holds: bool, reason: str, now: str) -> Json:
    status = "True" if holds else "False"
    before = next((c for c in pod.status.conditions if c.type == kind), None)
    since = before.last_transition_time if before and before.status == status else now
    condition: Json = {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": since or now,
    }
    return condition | ({"reason": reason} if reason else {})


def _container_status(view: ContainerView) -> Json:
    return {
        "name": view.name,
        "image": view.image,
        "imageID": view.image,
        "containerID": view.container_id,
        "ready": view.ready,
        "started": isinstance(view.state, Running),
        "restartCount": view.restarts,
        "state": _state(view.state),
        "lastState": _state(view.last) if view.last else {},
    }


def _state(state: State) -> Json:
    match state:
        case Waiting(reason, message):
            waiting: Json = {"reason": reason}
            return {"waiting": waiting | ({"message": message} if message else {})}
        case Running(started_at):
            return {"running": {"startedAt": started_at}}
        case Terminated(code, started_at, finished_at):
            terminated: Json = {
                "exitCode": code,
                "reason": state.reason,
                "startedAt": started_at,
                "finishedAt": finished_at,
            }
            return {"terminated": terminated | ({"message": state.message} if state.message else {})}
