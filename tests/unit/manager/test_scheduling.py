"""The scheduler between watch and writes: what it does with changes, late watches and refusals."""

from dataclasses import dataclass
from datetime import UTC, datetime

from kubenet.client.cache import Change
from kubenet.client.errors import Conflict
from kubenet.errors import Unreachable
from kubenet.manager.scheduling import Scheduler
from kubenet.model.objects import Condition, Json, JsonValue, Node, Pod
from kubenet.model.writes import Create, Patch, Write
from tests.unit.scheduler.world import node, pod

SMALL = {"cpu": "1", "memory": "1Gi", "pods": "10"}


@dataclass
class StoppedClock:
    """Time that stands still until a test moves it."""

    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def now(self) -> datetime:
        return datetime(2024, 5, 1, 12, tzinfo=UTC)

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s


class World:
    """A scheduler, and what it has been told last."""

    def __init__(self, *nodes: Node) -> None:
        self.clock = StoppedClock()
        self.scheduler = Scheduler(self.clock, lambda: 0.0)
        self._pods: dict[str, Pod] = {}
        self._nodes: dict[str, Node] = {}
        for each in nodes:
            self.see_node(each)

    def see(self, *pods: Pod) -> None:
        for each in pods:
            key = each.metadata.key
            self.scheduler.pod_changed(Change(key, self._pods.get(key), each))
            self._pods[key] = each

    def see_gone(self, each: Pod) -> None:
        self.scheduler.pod_changed(Change(each.metadata.key, self._pods.pop(each.metadata.key), None))

    def see_node(self, each: Node) -> None:
        key = each.metadata.key
        self.scheduler.node_changed(Change(key, self._nodes.get(key), each))
        self._nodes[key] = each

    def writes(self) -> list[tuple[Pod, Write]]:
        """Return all that the scheduler wants to write now."""
        found: list[tuple[Pod, Write]] = []
        while decided := self.scheduler.decide_next():
            pod, write = decided
            if write is not None:
                found.append((pod, write))
        return found

    def said(self) -> list[str]:
        return [_said(write) for _, write in self.writes()]


def _said(write: Write) -> str:
    match write:
        case Create(name=name, body={"target": {"name": str(on)}}, subresource="binding"):
            return f"{name} to {on}"
        case Patch(name=name, body={"status": {"conditions": [*_, {"message": str(why)}]}}):
            return f"{name}: {why}"
        case _:
            raise AssertionError(write)


def _condition(write: Write) -> JsonValue:
    match write:
        case Patch(body={"status": {"conditions": [condition]}}, subresource="status"):
            return condition
        case _:
            raise AssertionError(write)


def test_a_binding_names_the_pod_and_the_node() -> None:
    world = World(node("n1"))
    world.see(pod("web"))
    ((_, write),) = world.writes()
    assert isinstance(write, Create)
    assert (write.resource.plural, write.namespace, write.name, write.subresource) == (
        "pods",
        "default",
        "web",
        "binding",
    )
    assert write.body["target"] == {"apiVersion": "v1", "kind": "Node", "name": "n1"}
    assert write.body["metadata"] == {"name": "web", "namespace": "default", "uid": "uid-web"}


def test_two_bindings_in_a_row_do_not_overcommit_while_the_watch_lags() -> None:
    world = World(node("n1", room=SMALL), node("n2", room=SMALL))
    world.see(*(pod(name, cpu="600m") for name in ("a", "b", "c")))
    assert world.said() == ["a to n1", "b to n2", "c: 0/2 nodes are available: 2 Insufficient cpu."]


def test_each_search_goes_on_where_the_last_one_ended() -> None:
    world = World(*(node(f"n{number}") for number in range(100, 350)))
    world.see(*(pod(name) for name in ("a", "b", "c", "d")))
    # Each looks at 100 nodes and takes the first name; the third goes around the end: n100 is less free.
    assert world.said() == ["a to n100", "b to n200", "c to n101", "d to n150"]


def test_the_oldest_pod_is_first() -> None:
    world = World(node("n1", room=SMALL))
    world.see(pod("young", cpu="1", created="2024-05-01T10:00:01Z"), pod("old", cpu="1"))
    assert world.said()[0] == "old to n1"


def test_only_pods_that_wait_for_us_are_bound() -> None:
    world = World(node("n1"))
    world.see(
        pod("placed", on="n1"),
        pod("ended", phase="Failed"),
        pod("leaving", deleted="2024-05-01T10:00:00Z"),
        pod("other", scheduler_name="mine"),
    )
    assert world.said() == []


def test_a_pod_that_fits_nowhere_says_so_once() -> None:
    world = World(node("n1", unschedulable=True))
    world.see(pod("web"))
    ((_, write),) = world.writes()
    message = "0/1 nodes are available: 1 node(s) were unschedulable."
    assert _condition(write) == {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": "2024-05-01T12:00:00Z",
    }
    said = Condition(type="PodScheduled", status="False", reason="Unschedulable", message=message)
    world.see(pod("web", conditions=(said,)))
    assert world.scheduler.decide_next() is None  # our own words are no reason to try again
    world.see_node(node("n1", unschedulable=True, labels={"any": "label"}))  # tried again, nothing new to say
    assert world.writes() == []


def test_a_late_condition_cannot_deny_a_binding() -> None:
    world = World()
    world.see(pod("web"))
    ((_, write),) = world.writes()
    assert isinstance(write, Patch)
    assert write.body["metadata"] == {"uid": "uid-web", "resourceVersion": "7"}


def test_a_waiting_pod_is_tried_again_when_a_node_becomes_ready() -> None:
    world = World(node("n1", ready=False))
    world.see(pod("web"))
    assert world.said() == ["web: 0/1 nodes are available: 1 node(s) were not ready."]
    world.see_node(node("n1"))
    assert world.said() == ["web to n1"]


def test_a_waiting_pod_is_tried_again_when_another_is_gone_or_has_ended() -> None:
    for end in ("gone", "ended"):
        world = World(node("n1", room=SMALL))
        world.see(pod("first", on="n1", cpu="1"), pod("next", cpu="1"))
        assert world.said() == ["next: 0/1 nodes are available: 1 Insufficient cpu."]
        if end == "gone":
            world.see_gone(pod("first"))
        else:
            world.see(pod("first", on="n1", cpu="1", phase="Succeeded"))
        assert world.said() == ["next to n1"]


def test_a_pod_of_the_same_name_is_another_pod() -> None:
    world = World(node("n1", room=SMALL))
    world.see(pod("web", on="n1", cpu="1", uid="first"))
    world.see(pod("web", cpu="1", uid="second"))
    assert world.said() == ["web to n1"]


def test_a_bound_pod_is_not_bound_again_while_the_watch_lags() -> None:
    world = World(node("n1"))
    world.see(pod("web"))
    assert world.said() == ["web to n1"]
    world.see(pod("web", tolerations=pod("x").spec.tolerations, selector={"late": "change"}))
    world.see_node(node("n1", labels={"late": "change"}))
    assert world.said() == []


def test_a_refused_binding_gives_the_room_back_and_is_decided_again_later() -> None:
    world = World(node("n1", room=SMALL))
    world.see(pod("a", cpu="1"), pod("b", cpu="1"))
    (bound, _), (parked, _) = world.writes()
    assert (bound.metadata.name, parked.metadata.name) == ("a", "b")
    world.scheduler.failed(bound, Unreachable("no answer"))
    assert world.said() == ["b to n1"]
    world.clock.now_s = 1.0
    assert world.said() == ["a: 0/1 nodes are available: 1 Insufficient cpu."]


def test_a_conflict_because_the_pod_is_bound_already_ends_with_the_watch() -> None:
    world = World(node("n1", room=SMALL), node("n2", room=SMALL))
    world.see(pod("a", cpu="1"))
    ((bound, _),) = world.writes()
    world.see(pod("a", cpu="1", on="n2"))  # another scheduler was faster
    world.scheduler.failed(bound, Conflict(409, "Conflict", "already assigned"))
    world.clock.now_s = 100.0
    world.see(pod("b", cpu="1"))
    assert world.said() == ["b to n1"]


def test_a_pod_deleted_while_it_is_bound_is_forgotten() -> None:
    world = World(node("n1", room=SMALL))
    world.see(pod("a", cpu="1"))
    ((bound, _),) = world.writes()
    world.see_gone(pod("a"))
    world.scheduler.failed(bound, Conflict(409, "Conflict", "is being deleted"))
    world.clock.now_s = 100.0
    world.see(pod("b", cpu="1"))
    assert world.said() == ["b to n1"]


def test_what_cannot_be_understood_stops_nobody_else() -> None:
    world = World(node("n1"), node("n2", room={"cpu": "many"}))
    world.see(pod("odd", cpu="many"), pod("web"))
    assert world.said() == ["web to n1"]


def _near(app: str) -> Json:
    term: Json = {"topologyKey": "host", "labelSelector": {"matchLabels": {"app": app}}}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_a_pod_that_waits_for_company_is_tried_again_when_it_comes() -> None:
    world = World(node("n1", labels={"host": "n1"}), node("n2", labels={"host": "n2"}))
    world.see(pod("web", affinity=_near("db")))
    said = ["web: 0/2 nodes are available: 2 node(s) didn't match pod affinity rules."]
    assert world.said() == said
    world.see(pod("other", on="n1"))
    assert world.said() == said  # nobody that it wants, but nobody knew
    world.see(pod("db", on="n2", labels={"app": "db"}))
    assert world.said() == ["web to n2"]


def test_company_that_we_have_placed_ourselves_counts_at_once() -> None:
    world = World(node("n1", labels={"host": "n1"}))
    world.see(pod("web", affinity=_near("db"), created="2024-05-01T09:00:00Z"))
    world.see(pod("db", labels={"app": "db"}))
    assert world.said()[1:] == ["db to n1", "web to n1"]


def test_a_gated_pod_waits_until_its_last_gate_is_taken_away() -> None:
    world = World(node("n1"))
    for gates in (("quota", "image"), ("image",)):
        world.see(pod("web", gates=gates))
        assert world.said() == []
    world.see(pod("web"))
    assert world.said() == ["web to n1"]
