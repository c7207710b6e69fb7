"""All nodes with the pods on them, our own latest decisions included. *Pure.*

A watch shows a binding a little after we made it. Until then the pod is *assumed* to be where we put it, so
that the next decision does not give the same room away twice. An assumption ends when the watch shows the pod
on a node, when the pod is gone, or when the binding failed.

Whoever reports a change is told whether something may have become possible that was not before: only then is
it worth trying again what fitted nowhere. A heartbeat, or one pod more, never helps.

Source: kube-scheduler's cache (assumed pods).
"""

from kubenet.scheduler.views import NO_USAGE, NodeView, PodView, usage_of


class Cluster:
    """Takes in changes; gives out snapshots."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeView] = {}
        self._pods: dict[str, dict[str, PodView]] = {}  # by node, by uid; the node may be unknown as yet
        self._node_of: dict[str, str] = {}  # by the pod's uid
        self._assumed: set[str] = set()
        self._repelling: set[str] = set()  # pods that bear anti-affinity, by uid
        self._snapshot: tuple[NodeView, ...] | None = None
        self._in_order = True  # sorted when a snapshot is asked for, not for each of the nodes of a list

    @property
    def repels(self) -> bool:
        """Whether some pod on a node wants others to stay away."""
        return bool(self._repelling)

    def snapshot(self) -> tuple[NodeView, ...]:
        """Return all nodes as they are now, ordered by name."""
        if not self._in_order:
            self._nodes = dict(sorted(self._nodes.items()))
            self._in_order = True
        if self._snapshot is None:
            self._snapshot = tuple(self._nodes.values())
        return self._snapshot

    def put_node(self, node: NodeView) -> bool:
        """Take in a node that is new or has changed; return whether this may help a waiting pod."""
        known = self._nodes.get(node.name)
        new = node.holding(known.usage if known else usage_of(self._pods.get(node.name, {}).values()))
        if new == known:
            return False
        self._nodes[node.name] = new
        self._in_order = self._in_order and known is not None
        self._snapshot = None
        return True

    def remove_node(self, name: str) -> None:
        """Take in that a node is gone; its pods stay known until they are gone too."""
        self._nodes.pop(name, None)
        self._snapshot = None

    def place(self, pod: PodView) -> bool:
        """Take in that a pod is on its node; return whether this may help a waiting pod."""
        self._assumed.discard(pod.uid)
        before = self._node_of.get(pod.uid)
        if before == pod.node_name and self._pods[before][pod.uid] == pod:
            return False
        moved = self.remove(pod.uid) if before is not None else False
        self._put(pod)
        return moved

    def remove(self, uid: str) -> bool:
        """Take in that a pod is on no node any more; return whether this may help a waiting pod."""
        self._assumed.discard(uid)
        node_name = self._node_of.pop(uid, None)
        if node_name is None:
            return False
        self._repelling.discard(uid)
        pods = self._pods[node_name]
        del pods[uid]
        if not pods:
            del self._pods[node_name]
        self._count_again(node_name)
        return True

    def assume(self, pod: PodView) -> None:
        """Count a pod, whose binding has only just been asked for, as on its node."""
        self.remove(pod.uid)
        self._put(pod)
        self._assumed.add(pod.uid)

    def forget(self, uid: str) -> bool:
        """Drop an assumption, if it still is one; return whether this may help a waiting pod."""
        return self.remove(uid) if uid in self._assumed else False

    def knows(self, uid: str) -> bool:
        """Whether a pod is on some node, as far as we know."""
        return uid in self._node_of

    def is_assumed(self, uid: str) -> bool:
        """Whether we have put this pod somewhere and the watch has not shown it yet."""
        return uid in self._assumed

    def _put(self, pod: PodView) -> None:
        self._node_of[pod.uid] = pod.node_name
        if pod.must_be_apart:
            self._repelling.add(pod.uid)
        self._pods.setdefault(pod.node_name, {})[pod.uid] = pod
        if node := self._nodes.get(pod.node_name):
            self._nodes[pod.node_name] = node.holding(node.usage.plus(pod))
            self._snapshot = None

    def _count_again(self, node_name: str) -> None:
        """Sum up what is left instead of subtracting: 110 pods at most, and nothing can drift."""
        if node := self._nodes.get(node_name):
            pods = self._pods.get(node_name, {})
            self._nodes[node_name] = node.holding(usage_of(pods.values()) if pods else NO_USAGE)
            self._snapshot = None
