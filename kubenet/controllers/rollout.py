"""How many pods each ReplicaSet of a Deployment may have: the arithmetic of a rolling update. *Pure.*

Two promises hold at every step, whatever the ReplicaSets have got to: never more than ``replicas + surge``
pods are asked for, and never does a step take away a pod that keeps fewer than ``replicas - unavailable``
available.

Source: Kubernetes documentation, "Deployments", "Rolling Update Deployment"; kube-controller-manager
pkg/controller/deployment/rolling.go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor

from kubenet.model.objects import Deployment, ReplicaSet


@dataclass(frozen=True, slots=True)
class Room:
    """How far a rolling update may stray from the wanted number."""

    surge: int
    unavailable: int


def room(deployment: Deployment) -> Room:
    """Return the limits as numbers: a surge is rounded up, unavailability down, and both are never nought."""
    rolling, replicas = deployment.spec.strategy.rolling_update, deployment.spec.replicas
    if deployment.spec.strategy.type == "Recreate":
        return Room(0, replicas)
    surge = ceil(_share(rolling.max_surge, replicas))
    unavailable = min(floor(_share(rolling.max_unavailable, replicas)), replicas)
    return Room(surge, unavailable if surge or unavailable else 1)


def share(limit: int | str, count: int) -> int:
    """Return a limit that may be a percentage as a number of ``count``, rounded up."""
    return ceil(_share(limit, count))


def _share(limit: int | str, replicas: int) -> float:
    if isinstance(limit, int):
        return float(limit)
    percent = limit.removesuffix("%")
    return int(percent) * replicas / 100 if percent.isdecimal() else 0.0


def new_set_size(deployment: Deployment, have: int, all_sets: Sequence[ReplicaSet]) -> int:
    """Return how many pods the newest ReplicaSet may have, which has ``have`` and is not in ``all_sets`` yet
    when that is nought.
    """
    wanted = deployment.spec.replicas
    if have >= wanted:
        return wanted
    if any(each.status.observed_generation < each.metadata.generation for each in all_sets):
        return have  # a set that has just been resized: nobody knows yet how many pods it really has
    # A set that was told to shrink holds its pods until it has done so.
    total = sum(max(each.spec.replicas, each.status.replicas) for each in all_sets)
    free = wanted + room(deployment).surge - total
    return have + max(0, min(free, wanted - have))


def old_set_sizes(deployment: Deployment, new: ReplicaSet, old: Sequence[ReplicaSet]) -> Mapping[str, int]:
    """Return the sizes of the old ReplicaSets that have to shrink, by key.

    Pods that are not available go first: they serve nobody, and a broken revision must not block its
    successor. Yet none goes that could become available sooner than the new ones that are to replace it.
    """
    least = deployment.spec.replicas - room(deployment).unavailable
    total = new.spec.replicas + sum(each.spec.replicas for each in old)
    new_unavailable = new.spec.replicas - new.status.available_replicas
    spare = total - least - new_unavailable  # so many may go, if those that stay are available
    by_age = sorted(old, key=lambda each: (each.metadata.creation_timestamp or "", each.metadata.name))
    sizes = {each.metadata.key: each.spec.replicas for each in by_age}
    for each in by_age:
        useless = max(0, each.spec.replicas - each.status.available_replicas)
        spare -= _shrink(sizes, each, min(useless, spare))
    for each in by_age:
        spare -= _shrink(sizes, each, spare)
    return {
        each.metadata.key: size for each in old if (size := sizes[each.metadata.key]) < each.spec.replicas
    }


def _shrink(sizes: dict[str, int], each: ReplicaSet, most: int) -> int:
    """Take up to ``most`` pods from a set; return how many."""
    step = max(0, min(most, sizes[each.metadata.key]))
    sizes[each.metadata.key] -= step
    return step
