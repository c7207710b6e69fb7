"""A pod a node, and never more: which nodes, what it tolerates, and updates seen late."""

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest

from kubenet.controllers.daemon_pods import node_of
from kubenet.controllers.daemonsets import DAEMONSETS, decide
from kubenet.controllers.decision import Decision
from kubenet.model.objects import Json, JsonValue, Node, NodeSpec, ObjectMeta, Pod, Taint
from kubenet.model.resources import PODS
from kubenet.model.workloads import ControllerRevision, DaemonSet
from kubenet.model.writes import Create
from kubenet.scheduler.filters import has_labels
from kubenet.scheduler.views import NodeView, pod_view
from tests.unit.controllers.lagging import Server, read
from tests.unit.controllers.scene import Scene, image, image_of, start_or_end
from tests.unit.controllers.things import NOW, ago

NODES = ("n1", "n2", "n3", "n4", "n5")


def node(name: str, *taints: Taint, **labels: str) -> Node:
    return Node(metadata=ObjectMeta(name=name, labels=labels), spec=NodeSpec(taints=taints))


def body(surge: JsonValue = 0, unavailable: JsonValue = 1, **pod_spec: JsonValue) -> Json:
    template: Json = {"metadata": {"labels": {"app": "d"}}, "spec": {**_table(image(1)["spec"]), **pod_spec}}
    return {
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "template": template,
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
            },
        },
    }


def _table(value: JsonValue) -> Json:
    assert isinstance(value, dict)
    return value


class Daemons(Scene[DaemonSet]):
    """A DaemonSet on nodes that the test may change."""

    def __init__(self, nodes: Sequence[Node], written: Json) -> None:
        self.nodes = list(nodes)
        super().__init__(DAEMONSETS, DaemonSet, self._decide)
        self.server.put(DAEMONSETS, written)

    def _decide(
        self, each: DaemonSet, pods: Sequence[Pod], revisions: Sequence[ControllerRevision]
    ) -> Decision:
        return decide(each, self.nodes, pods, revisions, NOW)

    def rest(self) -> list[str]:
        """Let everything come to rest; return the nodes of the pods."""
        self.settle(nod)
        return sorted(node_of(each) for each in self.server.typed(PODS, Pod))

    def status(self) -> Json:
        (found,) = self.server.objects[DAEMONSETS].values()
        return _table(found["status"])


def nod(server: Server, pod: Pod) -> None:
    start_or_end(server, pod, node_of(pod))


def test_every_node_gets_one_pod_that_only_fits_there() -> None:
    daemons = Daemons([node(name) for name in NODES], body())
    assert daemons.rest() == [*NODES]
    for pod in daemons.server.typed(PODS, Pod):
        fitting = [name for name in NODES if not has_labels(pod_view(pod), NodeView(name))]
        assert fitting == [node_of(pod)]
    numbers = [daemons.status()[key] for key in ("desiredNumberScheduled", "numberAvailable", "numberReady")]
    assert numbers == [5, 5, 5]
    assert daemons.status()["numberUnavailable"] == 0


SECRET = Taint(key="secret", effect="NoSchedule")
SECRET_TOLERATION: Json = {"key": "secret", "operator": "Exists"}


@pytest.mark.parametrize(
    ("other", "spec", "expected"),
    [
        pytest.param(node("b"), {"nodeSelector": {"disk": "ssd"}}, ["a"], id="a label that one has"),
        pytest.param(node("b", SECRET), {}, ["a"], id="a taint nobody tolerates"),
        pytest.param(node("b", SECRET), {"tolerations": [SECRET_TOLERATION]}, ["a", "b"], id="tolerated"),
        pytest.param(
            node("b", Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")),
            {},
            ["a", "b"],
            id="a cordoned node",
        ),
        pytest.param(
            node("b", Taint(key="node.kubernetes.io/network-unavailable", effect="NoSchedule")),
            {},
            ["a"],
            id="a node without network",
        ),
        pytest.param(
            node("b", Taint(key="node.kubernetes.io/network-unavailable", effect="NoSchedule")),
            {"hostNetwork": True},
            ["a", "b"],
            id="a network daemon makes the network",
        ),
    ],
)
def test_which_nodes_are_meant(other: Node, spec: Json, expected: list[str]) -> None:
    assert Daemons([node("a", disk="ssd"), other], body(**spec)).rest() == expected


def test_required_affinity_of_the_template_counts() -> None:
    zones: Json = {"key": "zone", "operator": "In", "values": ["x"]}
    terms: Json = {"nodeSelectorTerms": [{"matchExpressions": [zones]}]}
    required: Json = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    daemons = Daemons([node("a", zone="x"), node("b", zone="y")], body(affinity={"nodeAffinity": required}))
    assert daemons.rest() == ["a"]


def test_a_pod_goes_when_its_node_is_meant_no_more_and_comes_back_with_it() -> None:
    daemons = Daemons([node("a", disk="ssd"), node("b", disk="ssd")], body(nodeSelector={"disk": "ssd"}))
    assert daemons.rest() == ["a", "b"]
    daemons.nodes[1] = node("b")
    assert daemons.rest() == ["a"]
    daemons.nodes[1] = node("b", disk="ssd")
    assert daemons.rest() == ["a", "b"]


@pytest.mark.parametrize(("effect", "left"), [("NoSchedule", ["a", "b"]), ("NoExecute", ["a"])])
def test_a_new_taint_sends_a_running_daemon_away_only_if_it_evicts(effect: str, left: list[str]) -> None:
    daemons = Daemons([node("a"), node("b")], body())
    daemons.rest()
    daemons.nodes[1] = node("b", Taint(key="t", effect=effect))
    assert daemons.rest() == left


def test_a_failed_pod_is_made_anew_but_not_at_once() -> None:
    daemons = Daemons([node("a")], body())
    daemons.rest()
    (pod,) = daemons.server.typed(PODS, Pod)
    written = daemons.server.objects[PODS][pod.metadata.key]
    daemons.server.put(PODS, {**written, "status": {"phase": "Failed"}})
    (old,) = daemons.server.typed(PODS, Pod)
    (daemonset,) = daemons.server.typed(DAEMONSETS, DaemonSet)
    revisions = daemons.revisions.objects()
    meta = {**_table(written["metadata"]), "creationTimestamp": ago(4)}
    young = read({**written, "metadata": meta, "status": {"phase": "Failed"}}, Pod)
    waiting = decide(daemonset, daemons.nodes, [young], revisions, NOW)
    assert not [each for each in waiting.writes if each.resource is PODS]
    assert waiting.again_s == 6.0
    assert [each.name for each in decide(daemonset, daemons.nodes, [old], revisions, NOW).writes][-1:] == [
        old.metadata.name
    ]
    assert daemons.rest() == ["a"]


def test_a_node_keeps_its_place_free_until_the_old_pod_is_gone() -> None:
    daemons = Daemons([node("a")], body())
    daemons.rest()
    daemons.change(template=image(2))
    for _ in range(5):
        daemons.deliver()
        daemons.sync()
    (pod,) = daemons.server.typed(PODS, Pod)
    assert pod.metadata.deletion_timestamp
    assert daemons.rest() == ["a"]


def test_nothing_is_updated_on_delete_until_somebody_deletes() -> None:
    daemons = Daemons([node("a"), node("b")], body())
    daemons.rest()
    daemons.change(template=image(2), updateStrategy={"type": "OnDelete"})
    daemons.rest()
    assert [image_of(pod) for pod in daemons.server.typed(PODS, Pod)] == ["v1", "v1"]
    assert daemons.status()["updatedNumberScheduled"] == 0


def test_history_is_kept_for_kubectl_and_cut() -> None:
    daemons = Daemons([node("a")], body())
    daemons.change(revisionHistoryLimit=2)
    for version in (1, 2, 3, 4, 1):
        daemons.change(template=image(version))
        daemons.rest()
    kept = sorted(each.revision for each in daemons.revisions.objects())
    assert kept == [3, 4, 5]
    (pod,) = daemons.server.typed(PODS, Pod)
    assert image_of(pod) == "v1"


@pytest.mark.parametrize("seed", range(30))
def test_an_update_never_doubles_a_daemon_nor_takes_too_many_away(seed: int) -> None:
    """Random walks over late caches: after every single write the promises hold."""
    chance = Random(seed)
    limits: list[tuple[int, int | str]] = [(0, 1), (0, 2), (1, 0), (2, 0), (0, "40%")]
    surge, unavailable = chance.choice(limits)
    daemons = Daemons([node(name) for name in NODES], body(surge, unavailable))
    daemons.rest()
    most_away = {1: 1, 2: 2, "40%": 2}.get(unavailable, 0)

    def promises(server: Server) -> None:
        pods = server.typed(PODS, Pod)
        on_node = Counter(node_of(each) for each in pods if not each.metadata.deletion_timestamp)
        assert max(on_node.values(), default=0) <= (2 if surge else 1), on_node
        if not surge:
            assert len({node_of(each) for each in pods}) == len(pods), "before the old one was gone"
        assert sum(count - 1 for count in on_node.values()) <= surge
        serving = {node_of(each) for each in pods if each.ready and not each.metadata.deletion_timestamp}
        assert len(serving) >= len(NODES) - most_away

    daemons.check = promises
    version = 1
    for move in chance.choices(["deliver", "sync", "nod", "new"], [8, 6, 6, 1], k=200):
        match move:
            case "deliver":
                daemons.deliver(chance)
            case "sync":
                daemons.sync()
            case "nod" if pods := daemons.server.typed(PODS, Pod):
                nod(daemons.server, chance.choice(pods))
            case "new":
                version += 1
                daemons.change(template=image(version))
    assert daemons.rest() == [*NODES]
    assert {image_of(each) for each in daemons.server.typed(PODS, Pod)} == {f"v{version}"}


def test_a_pod_is_made_once_however_late_the_cache() -> None:
    daemons = Daemons([node(name) for name in NODES], body())
    daemons.own.deliver(100)
    for _ in range(5):
        daemons.sync()
    assert len(daemons.server.typed(PODS, Pod)) == len(NODES)
    made = decide(daemons.own.objects()[0], daemons.nodes, (), daemons.revisions.objects(), NOW)
    assert sum(isinstance(write, Create) for write in made.writes) == len(NODES)
