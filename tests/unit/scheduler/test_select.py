"""The node chosen: best score, spread, local optimum, ties."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.model.objects import Node, Pod, Taint
from kubenet.scheduler.filters import FILTERS, Reasons, is_open
from kubenet.scheduler.scores import balanced_allocation, least_allocated, preferred, spread, weighted_sums
from kubenet.scheduler.select import Chosen, Nowhere, Profile, choose
from kubenet.scheduler.views import NodeView, PodView
from tests.unit.scheduler.world import holding, node, pod, views, wanted


def _names(count: int) -> list[str]:
    return [f"n{number:04}" for number in range(count)]


def _seven_of_ten_fit(count: int) -> tuple[NodeView, ...]:
    return views(*(node(name, unschedulable=place % 10 >= 7) for place, name in enumerate(_names(count))))


def _chosen(
    asks: Pod, nodes: tuple[NodeView, ...], start: int = 0, tie: float = 0.0, profile: Profile | None = None
) -> Chosen:
    decision = choose(wanted(asks), nodes, start, tie, profile or Profile())
    assert isinstance(decision, Chosen)
    return decision


def _put_all(pods: list[Pod], nodes: tuple[NodeView, ...], tie: float = 0.0) -> Counter[str]:
    count: Counter[str] = Counter()
    for each in pods:
        name = _chosen(each, nodes, tie=tie).node_name
        count[name] += 1
        nodes = tuple(holding(on, each) if on.name == name else on for on in nodes)
    return count


def test_of_1000_nodes_of_which_700_fit_the_search_ends_at_100() -> None:
    asked = 0

    def counted(asks: PodView, on: NodeView) -> Reasons:
        nonlocal asked
        asked += 1
        return is_open(asks, on)

    profile = Profile(filters=(counted, *FILTERS[1:]))
    decision = _chosen(pod(), _seven_of_ten_fit(1000), profile=profile)
    assert decision.feasible == 100
    assert decision.examined == asked == 142  # 14 times ten nodes of which seven fit, and two more


def test_the_next_search_begins_where_the_last_one_ended() -> None:
    nodes = _seven_of_ten_fit(1000)
    seen: set[str] = set()
    start = 0
    for _ in range(7):
        decision = _chosen(pod(), nodes, start)
        indexes = [(start + step) % 1000 for step in range(decision.examined)]
        assert decision.node_name in {nodes[index].name for index in indexes}
        seen |= {nodes[index].name for index in indexes}
        start = (start + decision.examined) % 1000
    assert len(seen) >= 7 * 140


def test_E11_the_local_optimum_costs_at_most_2_percent() -> None:
    busy = [
        holding(
            on,
            *(
                pod(f"{on.name}-{number}", cpu=f"{place * 7 % 11 * 100}m", memory=f"{place % 13 * 64}Mi")
                for number in range(place % 4)
            ),
        )
        for place, on in enumerate(_seven_of_ten_fit(1000))
    ]
    nodes = tuple(busy)
    asks = pod(cpu="250m", memory="300Mi")
    best = _chosen(asks, nodes, profile=Profile(wanted=1000)).score
    local = [_chosen(asks, nodes, start).score for start in range(0, 1000, 50)]
    assert sum(local) / len(local) >= 0.98 * best


@pytest.mark.parametrize("tie", [0.0, 0.4, 0.99])
@pytest.mark.parametrize(
    ("cpu", "memory"), [pytest.param("", "", id="no requests"), pytest.param("500m", "1Gi", id="requests")]
)
def test_four_replicas_on_three_nodes_land_2_1_1(tie: float, cpu: str, memory: str) -> None:
    replicas = [pod(f"web-{number}", owner="rs1", cpu=cpu, memory=memory) for number in range(4)]
    count = _put_all(replicas, views(node("n1"), node("n2"), node("n3")), tie)
    assert sorted(count.values()) == [1, 1, 2]


def test_replicas_go_to_a_fuller_node_rather_than_together() -> None:
    empty, full = views(node("n1"), node("n2"))
    full = holding(full, pod("big", cpu="3", memory="1Gi"))
    count = _put_all([pod(f"web-{number}", owner="rs1") for number in range(2)], (empty, full))
    assert count == {"n1": 1, "n2": 1}


def test_pods_without_requests_do_not_pile_up() -> None:
    count = _put_all([pod(f"p{number}") for number in range(6)], views(node("n1"), node("n2"), node("n3")))
    assert count == {"n1": 2, "n2": 2, "n3": 2}


def test_a_container_without_requests_counts_as_a_usual_one() -> None:
    (on,) = views(node(room={"cpu": "1", "memory": "800Mi"}))
    assert list(least_allocated(wanted(pod()), (on,))) == [pytest.approx(82.5)]  # 100m of 1, 200Mi of 800Mi
    assert list(balanced_allocation(wanted(pod()), (on,))) == [100.0]  # it has requested nothing


def test_a_replica_that_is_being_deleted_does_not_count() -> None:
    first, second = views(node("n1"), node("n2"))
    first = holding(first, pod("old", owner="rs1", deleted="2024-05-01T10:00:00Z"))
    assert list(spread(wanted(pod(owner="rs1")), (first, second))) == [100.0, 100.0]


def test_scores_of_two_nodes() -> None:
    free, used = views(node("n1"), node("n2", taints=(Taint(key="soft", effect="PreferNoSchedule"),)))
    used = holding(used, pod("a", cpu="2", memory="2Gi"))  # half of the cpu, a quarter of the memory
    asks = wanted(pod(cpu="1", memory="2Gi"))
    assert list(least_allocated(asks, (free, used))) == [75.0, 37.5]
    assert list(balanced_allocation(asks, (free, used))) == [100.0, 87.5]
    assert list(preferred(asks, (free, used))) == [100.0, 0.0]
    weights = ((least_allocated, 2.0), (preferred, 1.0))
    assert list(weighted_sums(asks, (free, used), weights)) == [250.0, 75.0]


@pytest.mark.parametrize(("tie", "expected"), [(0.0, "n1"), (0.34, "n2"), (0.99, "n3")])
def test_the_tie_break_is_given(tie: float, expected: str) -> None:
    nodes = views(node("n1"), node("n2"), node("n3"))
    assert _chosen(pod(), nodes, tie=tie).node_name == expected


@given(st.integers(0, 20), st.permutations(_names(7)))
def test_where_the_search_begins_does_not_show_in_a_small_cluster(start: int, order: list[str]) -> None:
    nodes = views(*(node(name) for name in order))
    assert _chosen(pod(), nodes, start, 0.5).node_name == "n0003"


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        pytest.param([], "no nodes available to schedule pods", id="no nodes"),
        pytest.param(
            [node("n1", unschedulable=True), node("n2"), node("n3")],
            "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.",
            id="two reasons",
        ),
        pytest.param(
            [node("n1", room={"cpu": "1"})],
            "0/1 nodes are available: 1 Insufficient cpu, 1 Too many pods.",
            id="one node with two reasons",
        ),
    ],
)
def test_nowhere_says_why(nodes: list[Node], message: str) -> None:
    decision = choose(wanted(pod(cpu="5")), views(*nodes))
    assert isinstance(decision, Nowhere)
    assert decision.message == message
