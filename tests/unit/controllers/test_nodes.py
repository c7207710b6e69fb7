"""Silent nodes, and pods that their node has left behind."""

from collections.abc import Sequence

import msgspec
import pytest

from kubenet.controllers import podgc
from kubenet.controllers.nodes import SILENCE_MOST_S, Heartbeat, decide, heard, stays_s
from kubenet.controllers.selectors import selects
from kubenet.model.objects import (
    Condition,
    Json,
    LabelExpression,
    LabelSelector,
    Lease,
    LeaseSpec,
    Node,
    NodeSpec,
    NodeStatus,
    ObjectMeta,
    Pod,
    Taint,
    Toleration,
)
from kubenet.model.resources import NODES, PODS
from kubenet.model.writes import Delete, Patch, Write
from tests.unit.controllers.things import NOW, ago, pod

FRESH, SILENT = Heartbeat(("t", "h"), 100.0), Heartbeat(("t", "h"), 100.0 - SILENCE_MOST_S)
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


def node(
    ready: str | None = "True", taints: tuple[Taint, ...] = (), unschedulable: bool = False, beat: str = "h"
) -> Node:
    condition = Condition(type="Ready", status=ready or "", last_heartbeat_time=beat)
    return Node(
        metadata=ObjectMeta(name="n1", uid="uid-n1", resource_version="3"),
        spec=NodeSpec(taints=taints, unschedulable=unschedulable),
        status=NodeStatus(conditions=(condition,) if ready else ()),
    )


def lease(renewed: str) -> Lease:
    return Lease(metadata=ObjectMeta(name="n1"), spec=LeaseSpec(renew_time=renewed))


def taint(key: str, effect: str, since_s: float = 0) -> Taint:
    return Taint(key=key, effect=effect, time_added=ago(since_s))


def taints_written(of: Node) -> list[str] | None:
    for write in decide(of, FRESH, [], 100.0, NOW).writes:
        if isinstance(write, Patch) and "spec" in write.body:
            found = msgspec.convert(write.body["spec"], dict[str, list[dict[str, str]]])
            return [f"{each['key']}:{each['effect']}" for each in found["taints"]]
    return None


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        pytest.param(node(), None, id="a healthy node has no taint of ours"),
        pytest.param(node("False"), [f"{NOT_READY}:NoSchedule", f"{NOT_READY}:NoExecute"], id="not ready"),
        pytest.param(
            node("Unknown"), [f"{UNREACHABLE}:NoSchedule", f"{UNREACHABLE}:NoExecute"], id="unknown"
        ),
        pytest.param(node(None), [f"{NOT_READY}:NoSchedule"], id="never reported: nothing new goes there"),
        pytest.param(node(taints=(taint(NOT_READY, "NoSchedule"),)), [], id="ready again: the taint goes"),
        pytest.param(
            node(taints=(taint("gpu", "NoSchedule"), taint(UNREACHABLE, "NoExecute"))),
            ["gpu:NoSchedule"],
            id="taints of others stay",
        ),
        pytest.param(
            node(unschedulable=True), ["node.kubernetes.io/unschedulable:NoSchedule"], id="cordoned"
        ),
        pytest.param(
            node("False", (taint(NOT_READY, "NoExecute"), taint(NOT_READY, "NoSchedule"))),
            None,
            id="as it shall be",
        ),
    ],
)
def test_taints_follow_the_condition(of: Node, expected: list[str] | None) -> None:
    assert taints_written(of) == expected


def test_a_node_is_lost_after_forty_seconds_of_silence() -> None:
    (patch,) = decide(node(), SILENT, [], 100.0, NOW).writes
    assert isinstance(patch, Patch)
    assert (patch.resource, patch.subresource) == (NODES, "status")
    status = msgspec.convert(patch.body["status"], dict[str, list[dict[str, str]]])
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert ready == {
        "type": "Ready",
        "status": "Unknown",
        "reason": "NodeStatusUnknown",
        "message": "Kubelet stopped posting node status.",
        "lastTransitionTime": ago(0),
        "lastHeartbeatTime": "h",
    }
    assert _metadata(patch) == {"uid": "uid-n1", "resourceVersion": "3"}


def _metadata(patch: Patch) -> Json:
    found = patch.body["metadata"]
    assert isinstance(found, dict)
    return found


def test_a_node_that_is_heard_is_looked_at_again_when_it_could_be_lost() -> None:
    decision = decide(node(), Heartbeat(("t", "h"), 90.0), [], 100.0, NOW)
    assert decision.writes == ()
    assert decision.again_s == SILENCE_MOST_S - 10.0


def test_only_a_new_sign_is_a_sign_of_life() -> None:
    first = heard(None, node(), lease("t1"), 10.0)
    same = heard(first, node(), lease("t1"), 30.0)
    later = heard(same, node(), lease("t2"), 50.0)
    assert [first.seen_s, same.seen_s, later.seen_s] == [10.0, 10.0, 50.0]
    assert heard(later, node(beat="h2"), lease("t2"), 60.0).seen_s == 60.0


def test_our_own_verdict_is_no_sign_of_life() -> None:
    first = heard(None, node("True"), lease("t1"), 10.0)
    assert heard(first, node("Unknown"), lease("t1"), 60.0) == first


def pods_written(of: Node, pods: Sequence[Pod]) -> list[str]:
    words = []
    for write in decide(of, FRESH, pods, 100.0, NOW).writes:
        match write:
            case Patch(resource, name=name) if resource is PODS:
                words.append(f"unready {name}")
            case Delete(name=name):
                words.append(f"delete {name}")
    return words


def test_pods_of_a_lost_node_leave_their_services() -> None:
    assert pods_written(node("Unknown"), [pod("a"), pod("b", ready=False)]) == ["unready a"]


def test_a_node_that_speaks_for_itself_speaks_for_its_pods() -> None:
    assert pods_written(node("False"), [pod("a")]) == []


def tolerant(*tolerations: Toleration) -> Pod:
    one = pod("a")
    return msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, tolerations=tolerations))


@pytest.mark.parametrize(
    ("tolerations", "under", "expected"),
    [
        pytest.param((), taint(UNREACHABLE, "NoExecute", 100), 200.0, id="five minutes by default"),
        pytest.param((), taint("maintenance", "NoExecute", 0), 0.0, id="none for taints of one's own"),
        pytest.param((), taint("maintenance", "NoSchedule", 0), None, id="NoSchedule ends nothing"),
        pytest.param(
            (Toleration(key="maintenance", operator="Exists"),),
            taint("maintenance", "NoExecute", 1000),
            None,
            id="tolerated for ever",
        ),
        pytest.param(
            (Toleration(key=UNREACHABLE, operator="Exists", effect="NoExecute", toleration_seconds=30),),
            taint(UNREACHABLE, "NoExecute", 10),
            20.0,
            id="tolerated for a while",
        ),
        pytest.param(
            (Toleration(key="maintenance", value="soft"),),
            Taint(key="maintenance", value="hard", effect="NoExecute", time_added=ago(0)),
            0.0,
            id="another value is another taint",
        ),
        pytest.param(
            (Toleration(operator="Exists"),), taint("any", "NoExecute"), None, id="tolerates everything"
        ),
        pytest.param(
            (
                Toleration(key=UNREACHABLE, operator="Exists", toleration_seconds=90),
                Toleration(key=UNREACHABLE, operator="Exists", toleration_seconds=30),
            ),
            taint(UNREACHABLE, "NoExecute", 0),
            30.0,
            id="of two limits the smaller",
        ),
    ],
)
def test_how_long_a_pod_stays(
    tolerations: tuple[Toleration, ...], under: Taint, expected: float | None
) -> None:
    assert stays_s(tolerant(*tolerations), under, NOW) == expected


def test_pods_are_evicted_when_their_time_is_over_and_not_before() -> None:
    overdue = node("Unknown", (taint(UNREACHABLE, "NoSchedule", 301), taint(UNREACHABLE, "NoExecute", 301)))
    assert "delete a" in pods_written(overdue, [pod("a")])
    assert pods_written(overdue, [pod("b", dying=True, ready=False)]) == []
    soon = node("Unknown", (taint(UNREACHABLE, "NoSchedule", 290), taint(UNREACHABLE, "NoExecute", 290)))
    decision = decide(soon, FRESH, [pod("a", ready=False)], 100.0, NOW)
    assert (decision.writes, decision.again_s) == ((), 10.0)


def deleted(writes: Sequence[Write]) -> list[tuple[str, int | None]]:
    return [(write.name, write.grace_s) for write in writes if isinstance(write, Delete)]


def test_pods_of_a_node_that_is_gone_go_after_a_while() -> None:
    pods = [pod("a", node="n1"), pod("b", node="gone")]
    missing = podgc.missing_since({}, pods, {"n1"}, 100.0)
    early = podgc.decide(pods, missing, 130.0)
    assert (deleted(early.writes), early.again_s) == ([], 10.0)
    assert deleted(podgc.decide(pods, missing, 140.0).writes) == [("b", 0)]


def test_a_node_that_comes_back_starts_anew() -> None:
    pods = [pod("b", node="n2")]
    missing = podgc.missing_since({}, pods, set(), 100.0)
    assert podgc.missing_since(missing, pods, {"n2"}, 130.0) == {}
    assert podgc.missing_since(missing, pods, set(), 130.0) == {"n2": 100.0}


def test_a_pod_that_ends_without_ever_having_had_a_node_goes_at_once() -> None:
    pods = [pod("a", node="", dying=True), pod("b", node="")]
    assert deleted(podgc.decide(pods, {}, 0.0).writes) == [("a", 0)]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        pytest.param(LabelSelector(match_labels={"app": "web"}), True, id="equal"),
        pytest.param(LabelSelector(match_labels={"app": "web", "tier": "x"}), False, id="one of two"),
        pytest.param(LabelSelector(), False, id="empty selects nothing"),
        pytest.param(
            LabelSelector(
                match_expressions=(LabelExpression(key="app", operator="In", values=("web", "db")),)
            ),
            True,
            id="In",
        ),
        pytest.param(
            LabelSelector(match_expressions=(LabelExpression(key="app", operator="NotIn", values=("web",)),)),
            False,
            id="NotIn",
        ),
        pytest.param(
            LabelSelector(match_expressions=(LabelExpression(key="tier", operator="NotIn", values=("x",)),)),
            True,
            id="NotIn of an absent label",
        ),
        pytest.param(
            LabelSelector(match_expressions=(LabelExpression(key="app", operator="Exists"),)),
            True,
            id="Exists",
        ),
        pytest.param(
            LabelSelector(match_expressions=(LabelExpression(key="app", operator="DoesNotExist"),)),
            False,
            id="DoesNotExist",
        ),
    ],
)
def test_selectors(selector: LabelSelector, expected: bool) -> None:
    assert selects(selector, {"app": "web"}) is expected
