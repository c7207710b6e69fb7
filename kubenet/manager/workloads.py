"""Deployments and ReplicaSets: which keys a change concerns, and what a decision gets to read."""

from kubenet.client.writer import Writer
from kubenet.controllers import deployments, replicasets
from kubenet.controllers.decision import Decision
from kubenet.controllers.selectors import selects
from kubenet.manager.loop import ControlLoop
from kubenet.manager.watched import CONTROLLER, NAMESPACE, Objects, controller_key, orphans_of
from kubenet.model.objects import Pod, ReplicaSet


def workload_loops(objects: Objects, writer: Writer) -> list[ControlLoop]:
    """Return the loops, wired to the changes that concern them."""
    workloads = _Workloads(objects, writer)
    objects.deployments.on_change(lambda each: workloads.deployments.add(each.metadata.key))
    objects.replicasets.on_change(workloads.replicaset_changed)
    objects.pods.on_change(workloads.pod_changed)
    return [workloads.deployments, workloads.replicasets]


class _Workloads:
    def __init__(self, objects: Objects, writer: Writer) -> None:
        self._objects = objects
        self.deployments = ControlLoop("deployments", self._decide_deployment, writer, objects.clock)
        self.replicasets = ControlLoop("replicasets", self._decide_replicaset, writer, objects.clock)

    def replicaset_changed(self, replicaset: ReplicaSet) -> None:
        meta = replicaset.metadata
        self.replicasets.add(meta.key)
        if owner := controller_key(replicaset, "Deployment"):
            self.deployments.add(owner)
        else:  # a Deployment may want to adopt it
            found = self._objects.deployments.objects().values()
            selecting = (each for each in found if each.metadata.namespace == meta.namespace)
            self.deployments.add(
                *(each.metadata.key for each in selecting if selects(each.spec.selector, meta.labels))
            )

    def pod_changed(self, pod: Pod) -> None:
        if key := controller_key(pod, "ReplicaSet"):
            self.replicasets.add(key)
            replicaset = self._objects.replicasets.get(key)
            owner = controller_key(replicaset, "Deployment") if replicaset else ""
            if owner:
                self.deployments.add(owner)  # Recreate waits for the last old pod
        elif not pod.metadata.controller_uid:
            for each in self._objects.replicasets.indexed(NAMESPACE, pod.metadata.namespace):
                if selects(each.spec.selector, pod.metadata.labels):
                    self.replicasets.add(each.metadata.key)

    def _decide_deployment(self, key: str) -> Decision:
        deployment = self._objects.deployments.get(key)
        if deployment is None:
            return Decision()  # its ReplicaSets go with it: the garbage collector sees to that
        sets = self._objects.replicasets.indexed(CONTROLLER, deployment.metadata.uid)
        orphans = self._objects.replicasets.indexed(CONTROLLER, orphans_of(deployment.metadata.namespace))
        pods = [pod for each in sets for pod in self._pods_of(each)]
        return deployments.decide(deployment, (*sets, *orphans), pods, self._objects.clock.now())

    def _decide_replicaset(self, key: str) -> Decision:
        replicaset = self._objects.replicasets.get(key)
        if replicaset is None:
            return Decision()
        own = self._pods_of(replicaset)
        orphans = self._objects.pods.indexed(CONTROLLER, orphans_of(replicaset.metadata.namespace))
        owner_uid = replicaset.metadata.controller_uid
        sets = self._objects.replicasets.indexed(CONTROLLER, owner_uid) if owner_uid else (replicaset,)
        siblings = [pod for each in sets for pod in self._pods_of(each)]
        return replicasets.decide(replicaset, (*own, *orphans), siblings, self._objects.clock.now())

    def _pods_of(self, replicaset: ReplicaSet) -> tuple[Pod, ...]:
        return self._objects.pods.indexed(CONTROLLER, replicaset.metadata.uid)
