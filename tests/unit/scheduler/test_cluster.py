"""What the scheduler believes of the cluster, whatever the order in which it was told."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kubenet.scheduler.cluster import Cluster
from kubenet.scheduler.views import NodeView, PodView, node_view, usage_of
from tests.unit.scheduler.world import node, pod, wanted

N1, N2 = node_view(node("n1")), node_view(node("n2"))


def _pod(name: str, on: str, cpu: str = "1") -> PodView:
    return wanted(pod(name, on=on, cpu=cpu, owner="rs1", host_port=80))


def _cpu(cluster: Cluster) -> dict[str, int]:
    return {each.name: each.usage.requested.get("cpu", 0) for each in cluster.snapshot()}


def test_a_pod_may_be_known_before_its_node() -> None:
    cluster = Cluster()
    cluster.place(_pod("a", "n1"))
    cluster.put_node(N1)
    assert _cpu(cluster) == {"n1": 1000}


def test_an_assumed_pod_takes_room_at_once_and_only_once() -> None:
    cluster = Cluster()
    cluster.put_node(N1)
    cluster.assume(_pod("a", "n1"))
    assert _cpu(cluster) == {"n1": 1000}
    assert cluster.is_assumed("uid-a")
    assert cluster.place(_pod("a", "n1")) is False
    assert _cpu(cluster) == {"n1": 1000}
    assert not cluster.is_assumed("uid-a")


def test_the_watch_corrects_an_assumption() -> None:
    cluster = Cluster()
    for each in (N1, N2):
        cluster.put_node(each)
    cluster.assume(_pod("a", "n1"))
    assert cluster.place(_pod("a", "n2")) is True
    assert _cpu(cluster) == {"n1": 0, "n2": 1000}


def test_a_failed_binding_gives_the_room_back_but_never_a_confirmed_pods() -> None:
    cluster = Cluster()
    cluster.put_node(N1)
    cluster.assume(_pod("a", "n1"))
    assert cluster.forget("uid-a") is True
    assert _cpu(cluster) == {"n1": 0}
    cluster.assume(_pod("b", "n1"))
    cluster.place(_pod("b", "n1"))
    assert cluster.forget("uid-b") is False
    assert _cpu(cluster) == {"n1": 1000}


def test_a_heartbeat_helps_nobody_and_a_new_label_may() -> None:
    cluster = Cluster()
    assert cluster.put_node(N1) is True
    cluster.place(_pod("a", "n1"))
    assert cluster.put_node(N1) is False
    assert cluster.put_node(replace(N1, labels={"disk": "ssd"})) is True
    assert _cpu(cluster) == {"n1": 1000}


def test_a_snapshot_does_not_change_afterwards() -> None:
    cluster = Cluster()
    cluster.put_node(N1)
    before = cluster.snapshot()
    cluster.place(_pod("a", "n1"))
    cluster.remove_node("n1")
    assert [each.usage.requested for each in before] == [{}]
    assert cluster.snapshot() == ()


def test_a_node_that_comes_back_still_has_its_pods() -> None:
    cluster = Cluster()
    cluster.put_node(N1)
    cluster.place(_pod("a", "n1"))
    cluster.remove_node("n1")
    cluster.put_node(N1)
    assert _cpu(cluster) == {"n1": 1000}


def _comparable(view: NodeView) -> tuple[object, ...]:
    usage = view.usage
    positive = {key: each for key, each in usage.by_controller.items() if each}
    ports = tuple(sorted((port.protocol, port.port) for port in usage.host_ports))
    return view.name, dict(usage.requested), dict(usage.usual), positive, ports


events = st.lists(
    st.tuples(
        st.sampled_from(["node", "gone", "place", "assume", "forget", "remove"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["n1", "n2"]),
        st.sampled_from(["1", "250m"]),
    ),
    max_size=30,
)


@given(events)
def test_usage_is_always_the_sum_of_the_pods(told: list[tuple[str, str, str, str]]) -> None:
    cluster = Cluster()
    nodes: set[str] = set()
    pods: dict[str, PodView] = {}
    assumed: set[str] = set()
    for what, name, on, cpu in told:
        each, uid = _pod(name, on, cpu), f"uid-{name}"
        match what:
            case "node":
                cluster.put_node(N1 if on == "n1" else N2)
                nodes.add(on)
            case "gone":
                cluster.remove_node(on)
                nodes.discard(on)
            case "place":
                cluster.place(each)
                pods[uid] = each
                assumed.discard(uid)
            case "assume":
                cluster.assume(each)
                pods[uid] = each
                assumed.add(uid)
            case "forget":
                cluster.forget(uid)
                if uid in assumed:
                    del pods[uid]
                    assumed.discard(uid)
            case _:
                cluster.remove(uid)
                pods.pop(uid, None)
                assumed.discard(uid)
    expected = [
        node_view(node(name)).holding(usage_of(each for each in pods.values() if each.node_name == name))
        for name in sorted(nodes)
    ]
    assert [_comparable(each) for each in cluster.snapshot()] == [_comparable(each) for each in expected]
