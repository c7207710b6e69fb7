"""What a DaemonSet says about itself. *Pure.*

Source: Kubernetes API reference, DaemonSetStatus; kubectl ``rollout status`` reads these fields.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from kubenet.controllers.daemon_nodes import DaemonPlace
from kubenet.controllers.decision import sooner
from kubenet.controllers.pods import available_in_s
from kubenet.model.objects import Json, Pod
from kubenet.model.workloads import DaemonSet, DaemonSetStatus


class Place(Protocol):
    """What is on one node."""

    @property
    def place(self) -> DaemonPlace: ...
    @property
    def new(self) -> tuple[Pod, ...]: ...
    @property
    def pods(self) -> tuple[Pod, ...]: ...


def status_of(
    daemonset: DaemonSet, places: Sequence[Place], now: datetime
) -> tuple[Json | None, float | None]:
    """Return the status to write, None if it stands already; and when a ready pod becomes available."""
    meant = [each for each in places if each.place is DaemonPlace.WANTS]
    served = [each for each in meant if each.pods]
    firsts = [_best(each.pods) for each in served]
    waits = [available_in_s(pod, daemonset.spec.min_ready_seconds, now) for pod in firsts]
    available = sum(wait_s == 0.0 for wait_s in waits)
    strays = [each for each in places if each.place is DaemonPlace.REFUSES and each.pods]
    want = DaemonSetStatus(
        current_number_scheduled=len(served),
        number_misscheduled=len(strays),
        desired_number_scheduled=len(meant),
        number_ready=sum(pod.ready for pod in firsts),
        updated_number_scheduled=sum(bool(each.new) for each in served),
        number_available=available,
        number_unavailable=len(meant) - available,
        observed_generation=daemonset.metadata.generation,
    )
    again_s = None
    for wait_s in waits:
        again_s = sooner(again_s, wait_s or None)
    return (None if want == daemonset.status else _json(want)), again_s


def _best(pods: Iterable[Pod]) -> Pod:
    """During a surge a node is served by whichever of its two pods is ready."""
    return max(pods, key=lambda pod: pod.ready)


def _json(status: DaemonSetStatus) -> Json:
    """All fields, zeros too: a merge patch leaves alone what it does not name."""
    return {
        "currentNumberScheduled": status.current_number_scheduled,
        "numberMisscheduled": status.number_misscheduled,
        "desiredNumberScheduled": status.desired_number_scheduled,
        "numberReady": status.number_ready,
        "updatedNumberScheduled": status.updated_number_scheduled,
        "numberAvailable": status.number_available,
        "numberUnavailable": status.number_unavailable,
        "observedGeneration": status.observed_generation,
    }
