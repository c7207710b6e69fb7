"""DaemonSets and StatefulSets, which keep revisions: which keys a change concerns, what is read."""

from kubenet.client.cache import Change
from kubenet.client.writer import Writer
from kubenet.controllers import daemonsets, statefulsets
from kubenet.controllers.decision import Decision
from kubenet.controllers.selectors import selects
from kubenet.manager.loop import ControlLoop
from kubenet.manager.watched import CONTROLLER, Objects, controller_key, orphans_of
from kubenet.model.objects import KubeObject, Node, Pod
from kubenet.model.placement import LabelSelector
from kubenet.model.workloads import ControllerRevision


def revised_loops(objects: Objects, writer: Writer) -> list[ControlLoop]:
    """Return the loops, wired to the changes that concern them."""
    revised = _Revised(objects, writer)
    objects.daemonsets.on_change(lambda each: revised.daemons.add(each.metadata.key))
    objects.statefulsets.on_change(lambda each: revised.statefuls.add(each.metadata.key))
    objects.pods.on_change(revised.pod_changed)
    objects.revisions.on_change(revised.owned_changed)
    objects.nodes.informer.on_change(revised.node_changed)
    return [revised.daemons, revised.statefuls]


class _Revised:
    def __init__(self, objects: Objects, writer: Writer) -> None:
        self._objects = objects
        self.daemons = ControlLoop("daemonsets", self._decide_daemons, writer, objects.clock)
        self.statefuls = ControlLoop("statefulsets", self._decide_stateful, writer, objects.clock)

    def pod_changed(self, pod: Pod) -> None:
        if pod.metadata.controller_uid:
            self.owned_changed(pod)
            return
        for daemonset in self._objects.daemonsets.objects().values():
            if _may_adopt(daemonset, daemonset.spec.selector, pod):
                self.daemons.add(daemonset.metadata.key)
        for statefulset in self._objects.statefulsets.objects().values():
            if _may_adopt(statefulset, statefulset.spec.selector, pod):
                self.statefuls.add(statefulset.metadata.key)

    def owned_changed(self, each: KubeObject) -> None:
        """Take in a change of a pod or a revision."""
        if key := controller_key(each, "DaemonSet"):
            self.daemons.add(key)
        elif key := controller_key(each, "StatefulSet"):
            self.statefuls.add(key)

    def node_changed(self, change: Change[Node]) -> None:
        """Heartbeats are many and change nothing about where a daemon belongs."""
        if change.old is None or change.new is None or _what_counts(change.old) != _what_counts(change.new):
            self.daemons.add(*self._objects.daemonsets.objects())

    def _decide_daemons(self, key: str) -> Decision:
        daemonset = self._objects.daemonsets.get(key)
        if daemonset is None:
            return Decision()
        nodes, now = self._objects.nodes.objects().values(), self._objects.clock.now()
        return daemonsets.decide(daemonset, nodes, self._pods(daemonset), self._revisions(daemonset), now)

    def _decide_stateful(self, key: str) -> Decision:
        found = self._objects.statefulsets.get(key)
        if found is None:
            return Decision()
        now = self._objects.clock.now()
        return statefulsets.decide(found, self._pods(found), self._revisions(found), now)

    def _pods(self, owner: KubeObject) -> tuple[Pod, ...]:
        uid, nobody = owner.metadata.uid, orphans_of(owner.metadata.namespace)
        pods = self._objects.pods
        return (*pods.indexed(CONTROLLER, uid), *pods.indexed(CONTROLLER, nobody))

    def _revisions(self, owner: KubeObject) -> tuple[ControllerRevision, ...]:
        uid, nobody = owner.metadata.uid, orphans_of(owner.metadata.namespace)
        revisions = self._objects.revisions
        return (*revisions.indexed(CONTROLLER, uid), *revisions.indexed(CONTROLLER, nobody))


def _may_adopt(owner: KubeObject, selector: LabelSelector, pod: Pod) -> bool:
    same_namespace = owner.metadata.namespace == pod.metadata.namespace
    return same_namespace and selects(selector, pod.metadata.labels)


def _what_counts(node: Node) -> tuple[object, ...]:
    return (node.metadata.labels, node.spec.taints, node.spec.unschedulable)
