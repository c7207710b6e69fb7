"""Whose pods are whose: those that a controller takes up, and those that it lets go. *Pure.*

Source: Kubernetes documentation, "ReplicaSet" (non-template pod acquisitions), "Owners and Dependents".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from kubenet.controllers.pods import is_active
from kubenet.controllers.selectors import selects
from kubenet.controllers.templates import owned_by
from kubenet.model.objects import Json, KubeObject, Pod
from kubenet.model.placement import LabelSelector
from kubenet.model.resources import PODS, Resource
from kubenet.model.writes import Patch, Write, patch_of


@dataclass(frozen=True, slots=True)
class Claim:
    """The pods of one controller, and the writes that make the cluster agree."""

    mine: tuple[Pod, ...]
    writes: tuple[Write, ...]


def claim(resource: Resource, owner: KubeObject, selector: LabelSelector, pods: Sequence[Pod]) -> Claim:
    """Sort out ``pods``: those that ``owner`` controls and those of its namespace that nobody controls.

    Whose labels no longer match has been taken out of service by somebody, and is let go. An owner that is
    ending takes nothing up.
    """
    uid, ending = owner.metadata.uid, owner.metadata.deletion_timestamp is not None
    mine: list[Pod] = []
    writes: list[Write] = []
    for pod in pods:
        matches = selects(selector, pod.metadata.labels)
        if pod.metadata.controller_uid == uid:
            if matches:
                mine.append(pod)
            elif is_active(pod) and not ending:
                writes.append(release(pod, uid))
        elif not pod.metadata.controller_uid and matches and is_active(pod) and not ending:
            mine.append(pod)
            writes.append(adoption(PODS, pod, resource, owner))
    return Claim(tuple(mine), tuple(writes))


def adoption(kind: Resource, orphan: KubeObject, resource: Resource, owner: KubeObject) -> Patch:
    """Return the write that makes ``owner`` (of ``resource``) the controller of ``orphan``."""
    others: list[Json] = [msgspec.to_builtins(each) for each in orphan.metadata.owner_references]
    owners: Json = {"ownerReferences": [*others, *owned_by(resource, owner)]}
    return patch_of(kind, orphan, {"metadata": owners})


def release(pod: Pod, uid: str) -> Patch:
    """Return the write after which the owner ``uid`` has nothing to do with ``pod`` any more."""
    others = [owner for owner in pod.metadata.owner_references if owner.uid != uid]
    left: Json = {"ownerReferences": [msgspec.to_builtins(owner) for owner in others]}
    return patch_of(PODS, pod, {"metadata": left})
