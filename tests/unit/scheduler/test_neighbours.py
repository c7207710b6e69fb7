"""Where other pods want one, allow one, or do not: affinity, anti-affinity, spread, and preferences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from kubenet.model.objects import Json, JsonValue, LabelSelector, Pod
from kubenet.model.placement import TopologySpreadConstraint
from kubenet.scheduler.cluster import Cluster
from kubenet.scheduler.select import DEFAULT, Chosen, Decision, Nowhere, choose
from kubenet.scheduler.tailor import tailored
from kubenet.scheduler.views import NodeView, PodView, node_view, pod_view
from tests.unit.scheduler.world import node, pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
ZONES = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}


class World:
    """Four nodes in two zones."""

    def __init__(self, *there: Pod, zones: Mapping[str, str] = ZONES) -> None:
        self.cluster = Cluster()
        for name, zone in zones.items():
            self.cluster.put_node(node_view(node(name, labels={"zone": zone, "host": name})))
        for each in there:
            self.cluster.place(pod_view(each))

    def decide(self, each: Pod) -> Decision:
        view, nodes = pod_view(each), self.cluster.snapshot()
        return choose(view, nodes, profile=tailored(view, nodes, repelled=self.cluster.repels))

    def fitting(self, each: Pod) -> list[str]:
        """Return every node that would do."""
        view, nodes = pod_view(each), self.cluster.snapshot()
        profile = tailored(view, nodes, repelled=self.cluster.repels)
        return [one.name for one in nodes if not any(refuses(view, one) for refuses in profile.filters)]

    def settle(self, *pods: Pod) -> Counter[str]:
        """Put pods where they go, one after the other; return how many each node got, '' for none."""
        got: Counter[str] = Counter()
        for each in pods:
            match self.decide(each):
                case Chosen(node_name=name):
                    self.cluster.assume(replace(pod_view(each), node_name=name))
                    got[name] += 1
                case Nowhere():
                    got[""] += 1
        return got


def term(key: str, app: str, **more: JsonValue) -> Json:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}, **more}


def near(*terms: JsonValue) -> Json:
    return {"podAffinity": {REQUIRED: [*terms]}}


def apart(*terms: JsonValue) -> Json:
    return {"podAntiAffinity": {REQUIRED: [*terms]}}


DB = pod("db", on="b1", labels={"app": "db"})


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        pytest.param(near(term("zone", "db")), ["b1", "b2"], id="in its zone"),
        pytest.param(near(term("host", "db")), ["b1"], id="on its node"),
        pytest.param(apart(term("zone", "db")), ["a1", "a2"], id="in another zone"),
        pytest.param(apart(term("host", "db")), ["a1", "a2", "b2"], id="on another node"),
        pytest.param(near(term("zone", "none")), [], id="near a pod that is nowhere"),
        pytest.param(near(term("rack", "db")), [], id="a label that no node has"),
        pytest.param(apart(term("rack", "db")), [*ZONES], id="apart in a place that nobody has"),
        pytest.param({**near(term("zone", "db")), **apart(term("host", "db"))}, ["b2"], id="both"),
        pytest.param(apart(term("zone", "db", namespaces=["x"])), [*ZONES], id="another namespace"),
        pytest.param(apart(term("zone", "db", namespaceSelector={})), ["a1", "a2"], id="all namespaces"),
    ],
)
def test_where_a_pod_may_be_because_of_others(affinity: Json, expected: list[str]) -> None:
    assert World(DB).fitting(pod(affinity=affinity)) == expected


def test_the_first_of_a_group_that_wants_to_be_together_goes_anywhere_and_the_others_follow() -> None:
    web = [pod(f"w{n}", labels={"app": "web"}, affinity=near(term("zone", "web"))) for n in range(4)]
    got = World().settle(*web)
    assert sum(got.values()) == 4
    assert len({ZONES[name] for name in got}) == 1


def test_replicas_that_repel_each_other_get_a_node_each_and_the_fifth_waits() -> None:
    web = [pod(f"w{n}", labels={"app": "web"}, affinity=apart(term("host", "web"))) for n in range(5)]
    world = World()
    assert world.settle(*web) == Counter([*ZONES, ""])
    decision = world.decide(web[4])
    assert isinstance(decision, Nowhere)
    assert decision.message == "0/4 nodes are available: 4 node(s) didn't match pod anti-affinity rules."


def test_a_pod_that_is_there_may_want_others_to_stay_away() -> None:
    hermit = pod("hermit", on="a1", affinity=apart(term("zone", "web")))
    world = World(hermit)
    assert world.fitting(pod(labels={"app": "web"})) == ["b1", "b2"]
    assert world.fitting(pod(labels={"app": "other"})) == [*ZONES]
    world.cluster.remove(hermit.metadata.uid)
    assert not world.cluster.repels
    assert world.fitting(pod(labels={"app": "web"})) == [*ZONES]


def spread(key: str = "zone", skew: int = 1, **more: str | int) -> tuple[TopologySpreadConstraint, ...]:
    selector = LabelSelector(match_labels={"app": "web"})
    when = str(more.get("when", "DoNotSchedule"))
    least = more.get("least")
    return (
        TopologySpreadConstraint(
            topology_key=key,
            max_skew=skew,
            when_unsatisfiable=when,
            label_selector=selector,
            min_domains=int(least) if least else None,
        ),
    )


def web_on(*names: str) -> list[Pod]:
    return [pod(f"on-{n}", on=name, labels={"app": "web"}) for n, name in enumerate(names)]


@pytest.mark.parametrize(
    ("there", "constraints", "expected"),
    [
        pytest.param(["a1"], spread(), ["b1", "b2"], id="the emptier zone"),
        pytest.param(["a1"], spread(skew=2), [*ZONES], id="one more is allowed"),
        pytest.param(["a1", "b1"], spread(), [*ZONES], id="even"),
        pytest.param(["a1", "a2", "b1"], spread() + spread("host"), ["b2"], id="two constraints"),
        pytest.param(["a1", "b1"], spread(least=3), [], id="too few places"),
        pytest.param(["a1"], spread("rack"), [], id="a label that no node has"),
        pytest.param(["a1"], spread(when="ScheduleAnyway"), [*ZONES], id="only a wish"),
    ],
)
def test_pods_spread_over_places(
    there: Sequence[str], constraints: tuple[TopologySpreadConstraint, ...], expected: list[str]
) -> None:
    world = World(*web_on(*there))
    assert world.fitting(pod(labels={"app": "web"}, spread=constraints)) == expected


def test_nodes_that_a_pod_cannot_be_on_anyway_do_not_count_as_empty_places() -> None:
    picky = pod(labels={"app": "web"}, selector={"zone": "a"}, spread=spread())
    assert World(*web_on("a1", "a1")).fitting(picky) == ["a1", "a2"]


@pytest.mark.parametrize(
    ("affinity", "expected"),
    [
        pytest.param(
            {"podAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": term("host", "db")}]}},
            "b1",
            id="rather near",
        ),
        pytest.param(
            {"podAntiAffinity": {PREFERRED: [{"weight": 1, "podAffinityTerm": term("zone", "db")}]}},
            "a1",
            id="rather apart",
        ),
        pytest.param(
            {
                "nodeAffinity": {
                    PREFERRED: [
                        {"weight": weight, "preference": {"matchExpressions": [expression]}}
                        for weight, expression in (
                            (10, {"key": "zone", "operator": "In", "values": ["a"]}),
                            (20, {"key": "host", "operator": "In", "values": ["b2"]}),
                        )
                    ]
                }
            },
            "b2",
            id="the weightier preference",
        ),
    ],
)
def test_a_wish_decides_among_nodes_that_fit(affinity: Json, expected: str) -> None:
    decision = World(DB).decide(pod(affinity=affinity))
    assert isinstance(decision, Chosen)
    assert decision.node_name == expected


def test_a_wish_that_cannot_be_had_is_given_up() -> None:
    wish: Json = {"podAffinity": {PREFERRED: [{"weight": 9, "podAffinityTerm": term("host", "db")}]}}
    assert isinstance(World(DB).decide(pod(affinity=wish, selector={"host": "a2"})), Chosen)


def test_an_even_spread_that_is_only_a_wish_is_kept_while_it_can_be() -> None:
    web = [pod(f"w{n}", labels={"app": "web"}, spread=spread(when="ScheduleAnyway")) for n in range(6)]
    got = World(zones={"a1": "a", "a2": "a", "a3": "a", "b1": "b"}).settle(*web)
    assert got["b1"] == 3


def test_a_pod_without_wishes_is_decided_as_ever() -> None:
    plain = PodView("default/x", "u")
    assert tailored(plain, [NodeView("n")], repelled=False) is DEFAULT
