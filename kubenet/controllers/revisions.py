"""The templates that a DaemonSet or StatefulSet has had, each kept in a ControllerRevision. *Pure.*

A revision's name holds the hash of its template, so two tries to make it meet in one name, and a template
rolled back to finds its old revision. kubectl ``rollout history`` and ``undo`` read these objects.

Source: Kubernetes API reference, ControllerRevision; kube-controller-manager pkg/controller/history.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from kubenet.controllers.claims import adoption
from kubenet.controllers.templates import owned_by, template_hash, template_json
from kubenet.model.objects import Json, KubeObject, PodTemplate
from kubenet.model.read import Read
from kubenet.model.resources import BY_PLURAL_KEPT, Resource
from kubenet.model.workloads import ControllerRevision
from kubenet.model.writes import Create, Write, delete_of, patch_of

REVISIONS = BY_PLURAL_KEPT["controllerrevisions"]
HASH_LABEL = "controller-revision-hash"


class _KeptSpec(Read, frozen=True):
    template: PodTemplate = PodTemplate()


class _Kept(Read, frozen=True):
    spec: _KeptSpec = _KeptSpec()


@dataclass(frozen=True, slots=True)
class History:
    """What is kept of one workload's templates, the oldest first."""

    resource: Resource
    owner: KubeObject
    kept: tuple[ControllerRevision, ...]

    @property
    def highest(self) -> int:
        return max((each.revision for each in self.kept), default=0)


def history_of(resource: Resource, owner: KubeObject, revisions: Iterable[ControllerRevision]) -> History:
    """Return the revisions that ``owner`` controls, and orphans that are named alike."""
    uid, prefix = owner.metadata.uid, f"{owner.metadata.name}-"
    kept = [
        each
        for each in revisions
        if each.metadata.controller_uid == uid
        or (not each.metadata.controller_uid and each.metadata.name.startswith(prefix))
    ]
    return History(resource, owner, tuple(sorted(kept, key=lambda each: (each.revision, each.metadata.name))))


def revision_name(owner: KubeObject, template: PodTemplate) -> str:
    """Return the name of the revision that keeps ``template``."""
    return f"{owner.metadata.name}-{template_hash(template)}"


def kept(history: History, template: PodTemplate) -> Sequence[Write]:
    """Return the write after which the newest revision is the one of ``template``; none if it is."""
    name = revision_name(history.owner, template)
    known = next((each for each in history.kept if each.metadata.name == name), None)
    if known is None:
        return [_new(history, template, name)]
    if not known.metadata.controller_uid:
        return [adoption(REVISIONS, known, history.resource, history.owner)]
    if known.revision < history.highest:
        return [patch_of(REVISIONS, known, {"revision": history.highest + 1})]
    return []


def _new(history: History, template: PodTemplate, name: str) -> Create:
    meta = history.owner.metadata
    metadata: Json = {
        "name": name,
        "namespace": meta.namespace,
        "labels": {**template.metadata.labels, HASH_LABEL: name.removeprefix(f"{meta.name}-")},
        "ownerReferences": [*owned_by(history.resource, history.owner)],
    }
    # The directive makes it a strategic merge patch that puts the whole template back.
    whole: Json = {"spec": {"template": {**template_json(template), "$patch": "replace"}}}
    body: Json = {
        "apiVersion": REVISIONS.api_version,
        "kind": REVISIONS.kind,
        "metadata": metadata,
        "data": whole,
        "revision": history.highest + 1,
    }
    return Create(REVISIONS, meta.namespace, body)


def template_in(revision: ControllerRevision) -> PodTemplate:
    """Return the template that a revision keeps."""
    return msgspec.json.decode(bytes(revision.data), type=_Kept).spec.template


def forgotten(history: History, in_use: Collection[str], most: int) -> Sequence[Write]:
    """Return the deletion of the oldest revisions beyond ``most`` whose hash is not ``in_use``."""
    unused = [each for each in history.kept if each.metadata.labels.get(HASH_LABEL, "") not in in_use]
    return [delete_of(REVISIONS, each) for each in unused[: max(0, len(unused) - most)]]
