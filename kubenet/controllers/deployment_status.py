"""What a Deployment says about itself: counts, and whether it is available and getting on. *Pure.*

Source: Kubernetes documentation, "Deployment status"; kubectl ``rollout status`` reads exactly these fields.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from kubenet.clock import rfc3339
from kubenet.controllers.decision import seconds_since
from kubenet.controllers.rollout import room
from kubenet.model.objects import Condition, Deployment, DeploymentStatus, Json, ReplicaSet


def status_of(
    deployment: Deployment, new: ReplicaSet | None, sets: Sequence[ReplicaSet], now: datetime
) -> tuple[Json | None, float | None]:
    """Return the status to write, None if it stands already; and when the progress deadline runs out."""
    have = deployment.status
    counts = _counts(deployment, new, sets)
    progressing, again_s = _progressing(deployment, counts, new, now)
    conditions = tuple(
        _kept_times(have, condition, now) for condition in (_available(deployment, counts), progressing)
    )
    want = msgspec.structs.replace(counts, conditions=conditions)
    if want == _without_foreign_conditions(have):
        return None, again_s
    return _json(want), again_s


def _counts(deployment: Deployment, new: ReplicaSet | None, sets: Sequence[ReplicaSet]) -> DeploymentStatus:
    available = sum(each.status.available_replicas for each in sets)
    return DeploymentStatus(
        observed_generation=deployment.metadata.generation,
        replicas=sum(each.status.replicas for each in sets),
        updated_replicas=new.status.replicas if new else 0,
        ready_replicas=sum(each.status.ready_replicas for each in sets),
        available_replicas=available,
        unavailable_replicas=max(0, sum(each.spec.replicas for each in sets) - available),
    )


def _available(deployment: Deployment, counts: DeploymentStatus) -> Condition:
    least = deployment.spec.replicas - room(deployment).unavailable
    if counts.available_replicas >= least:
        text = "Deployment has minimum availability."
        return Condition(type="Available", status="True", reason="MinimumReplicasAvailable", message=text)
    text = "Deployment does not have minimum availability."
    return Condition(type="Available", status="False", reason="MinimumReplicasUnavailable", message=text)


def _progressing(
    deployment: Deployment, counts: DeploymentStatus, new: ReplicaSet | None, now: datetime
) -> tuple[Condition, float | None]:
    name = f'ReplicaSet "{new.metadata.name}"' if new else "The new ReplicaSet"
    before = next((c for c in deployment.status.conditions if c.type == "Progressing"), None)
    if deployment.spec.paused:
        return _progress("Unknown", "DeploymentPaused", "Deployment is paused"), None
    if new is not None and _complete(deployment, counts):
        text = f"{name} has successfully progressed."
        return _progress("True", "NewReplicaSetAvailable", text), None
    if before is None or before.status == "Unknown" or _got_on(deployment.status, counts):
        condition = _progress("True", "ReplicaSetUpdated", f"{name} is progressing.")
        moved = msgspec.structs.replace(condition, last_update_time=rfc3339(now))
        return moved, float(deployment.spec.progress_deadline_seconds)
    waited_s = seconds_since(before.last_update_time, now)
    left_s = deployment.spec.progress_deadline_seconds - waited_s
    was_complete = before.reason == "NewReplicaSetAvailable"
    if left_s <= 0 and not was_complete:
        return _progress("False", "ProgressDeadlineExceeded", f"{name} has timed out progressing."), None
    if was_complete or before.status == "False":
        return before, None  # a finished rollout that loses a pod is not a rollout that hangs
    return _progress("True", "ReplicaSetUpdated", f"{name} is progressing."), left_s


def _progress(status: str, reason: str, message: str) -> Condition:
    return Condition(type="Progressing", status=status, reason=reason, message=message)


def _complete(deployment: Deployment, counts: DeploymentStatus) -> bool:
    wanted = deployment.spec.replicas
    return counts.updated_replicas == counts.replicas == counts.available_replicas == wanted


def _got_on(have: DeploymentStatus, want: DeploymentStatus) -> bool:
    fewer_old = want.replicas - want.updated_replicas < have.replicas - have.updated_replicas
    return (
        want.updated_replicas > have.updated_replicas
        or fewer_old
        or want.ready_replicas > have.ready_replicas
        or want.available_replicas > have.available_replicas
        or want.observed_generation != have.observed_generation
    )


def _kept_times(have: DeploymentStatus, condition: Condition, now: datetime) -> Condition:
    """Keep the time of the last transition, and, unless the condition brings one, that of the last update."""
    before = next((c for c in have.conditions if c.type == condition.type), None)
    same_status = before is not None and before.status == condition.status
    same = same_status and before is not None and before.reason == condition.reason
    stamp = rfc3339(now)
    return msgspec.structs.replace(
        condition,
        last_transition_time=before.last_transition_time if before and same_status else stamp,
        last_update_time=condition.last_update_time
        or (before.last_update_time if before and same else stamp),
    )


def _without_foreign_conditions(have: DeploymentStatus) -> DeploymentStatus:
    order = {"Available": 0, "Progressing": 1}
    known = sorted((c for c in have.conditions if c.type in order), key=lambda c: order[c.type])
    return msgspec.structs.replace(have, conditions=tuple(known))


def _json(status: DeploymentStatus) -> Json:
    """All fields, zeros too: a merge patch leaves alone what it does not name."""
    written: Json = {
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas,
        "updatedReplicas": status.updated_replicas,
        "readyReplicas": status.ready_replicas,
        "availableReplicas": status.available_replicas,
        "unavailableReplicas": status.unavailable_replicas,
    }
    conditions: list[Json] = [msgspec.to_builtins(condition) for condition in status.conditions]
    return written | {"conditions": [*conditions]}
