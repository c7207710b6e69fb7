"""Jobs and ReplicationControllers, which own pods alone: which keys a change concerns."""

from collections.abc import Iterable

from kubenet.client.writer import Writer
from kubenet.controllers import jobs, replicasets
from kubenet.controllers.decision import Decision
from kubenet.controllers.selectors import selects
from kubenet.manager.loop import ControlLoop
from kubenet.manager.watched import CONTROLLER, REPLICATION_CONTROLLERS, Objects, controller_key, orphans_of
from kubenet.model.objects import KubeObject, Pod
from kubenet.model.placement import LabelSelector


def plain_loops(objects: Objects, writer: Writer) -> list[ControlLoop]:
    """Return the loops, wired to the changes that concern them."""
    plain = _Plain(objects, writer)
    objects.jobs.on_change(lambda each: plain.jobs.add(each.metadata.key))
    objects.replication.on_change(lambda each: plain.replication.add(each.metadata.key))
    objects.pods.on_change(plain.pod_changed)
    return [plain.jobs, plain.replication]


class _Plain:
    def __init__(self, objects: Objects, writer: Writer) -> None:
        self._objects = objects
        self.jobs = ControlLoop("jobs", self._decide_job, writer, objects.clock)
        self.replication = ControlLoop("replication", self._decide_replication, writer, objects.clock)

    def pod_changed(self, pod: Pod) -> None:
        if key := controller_key(pod, "Job"):
            self.jobs.add(key)
        elif key := controller_key(pod, "ReplicationController"):
            self.replication.add(key)
        elif not pod.metadata.controller_uid:
            found = self._objects.jobs.objects().values()
            self.jobs.add(*_selecting(pod, ((job, job.spec.selector) for job in found)))
            sets = (each.as_replicaset for each in self._objects.replication.objects().values())
            self.replication.add(*_selecting(pod, ((each, each.spec.selector) for each in sets)))

    def _decide_job(self, key: str) -> Decision:
        job = self._objects.jobs.get(key)
        return jobs.decide(job, self._pods(job), self._objects.clock.now()) if job else Decision()

    def _decide_replication(self, key: str) -> Decision:
        found = self._objects.replication.get(key)
        if found is None:
            return Decision()
        own = self._objects.pods.indexed(CONTROLLER, found.metadata.uid)
        now = self._objects.clock.now()
        return replicasets.decide(found.as_replicaset, self._pods(found), own, now, REPLICATION_CONTROLLERS)

    def _pods(self, owner: KubeObject) -> tuple[Pod, ...]:
        uid, nobody = owner.metadata.uid, orphans_of(owner.metadata.namespace)
        pods = self._objects.pods
        return (*pods.indexed(CONTROLLER, uid), *pods.indexed(CONTROLLER, nobody))


def _selecting(pod: Pod, owners: Iterable[tuple[KubeObject, LabelSelector]]) -> Iterable[str]:
    """Return the keys of the owners of the pod's namespace that may take it up."""
    for owner, selector in owners:
        same_namespace = owner.metadata.namespace == pod.metadata.namespace
        if same_namespace and selects(selector, pod.metadata.labels):
            yield owner.metadata.key
