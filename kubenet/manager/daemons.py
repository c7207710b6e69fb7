"""DaemonSets: which keys a change concerns, and what a decision gets to read."""

from kubenet.client.cache import Change
from kubenet.client.writer import Writer
from kubenet.controllers import daemonsets
from kubenet.controllers.decision import Decision
from kubenet.controllers.selectors import selects
from kubenet.manager.loop import ControlLoop
from kubenet.manager.watched import CONTROLLER, Objects, controller_key, orphans_of
from kubenet.model.objects import Node, Pod
from kubenet.model.workloads import ControllerRevision


def daemon_loops(objects: Objects, writer: Writer) -> list[ControlLoop]:
    """Return the loop, wired to the changes that concern it."""
    daemons = _Daemons(objects, writer)
    objects.daemonsets.on_change(lambda each: daemons.loop.add(each.metadata.key))
    objects.pods.on_change(daemons.pod_changed)
    objects.revisions.on_change(daemons.revision_changed)
    objects.nodes.informer.on_change(daemons.node_changed)
    return [daemons.loop]


class _Daemons:
    def __init__(self, objects: Objects, writer: Writer) -> None:
        self._objects = objects
        self.loop = ControlLoop("daemonsets", self._decide, writer, objects.clock)

    def pod_changed(self, pod: Pod) -> None:
        if key := controller_key(pod, "DaemonSet"):
            self.loop.add(key)
        elif not pod.metadata.controller_uid:
            for each in self._objects.daemonsets.objects().values():
                same = each.metadata.namespace == pod.metadata.namespace
                if same and selects(each.spec.selector, pod.metadata.labels):
                    self.loop.add(each.metadata.key)

    def revision_changed(self, revision: ControllerRevision) -> None:
        if key := controller_key(revision, "DaemonSet"):
            self.loop.add(key)

    def node_changed(self, change: Change[Node]) -> None:
        """Heartbeats are many and change nothing about where a daemon belongs."""
        if change.old is None or change.new is None or _what_counts(change.old) != _what_counts(change.new):
            self.loop.add(*self._objects.daemonsets.objects())

    def _decide(self, key: str) -> Decision:
        daemonset = self._objects.daemonsets.get(key)
        if daemonset is None:
            return Decision()
        uid, nobody = daemonset.metadata.uid, orphans_of(daemonset.metadata.namespace)
        pods, revisions = self._objects.pods, self._objects.revisions
        return daemonsets.decide(
            daemonset,
            self._objects.nodes.objects().values(),
            (*pods.indexed(CONTROLLER, uid), *pods.indexed(CONTROLLER, nobody)),
            (*revisions.indexed(CONTROLLER, uid), *revisions.indexed(CONTROLLER, nobody)),
            self._objects.clock.now(),
        )


def _what_counts(node: Node) -> tuple[object, ...]:
    return (node.metadata.labels, node.spec.taints, node.spec.unschedulable)
