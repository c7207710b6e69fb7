"""A ReplicaSet's pods: how many, which ones, whose."""

from collections.abc import Sequence

import pytest

from kubenet.controllers.pods import first_to_go
from kubenet.controllers.replicasets import decide
from kubenet.model.objects import Json, Pod, ReplicaSet
from kubenet.model.resources import PODS, REPLICASETS
from kubenet.model.writes import Create, Delete, Patch, Write
from tests.unit.controllers.things import NOW, ago, pod, replicaset

MINE = "uid-web-1"


def mine(name: str, **fields: object) -> Pod:
    return pod(name, controlled_by=MINE, **fields)  # type: ignore[arg-type]  # passed through


def writes(replicaset: ReplicaSet, pods: Sequence[Pod]) -> list[Write]:
    return list(decide(replicaset, pods, pods, NOW).writes)


def summary(found: Sequence[Write]) -> list[str]:
    words = []
    for write in found:
        match write:
            case Create():
                words.append("create")
            case Delete(name=name):
                words.append(f"delete {name}")
            case Patch(resource, name=name):
                words.append(f"patch {resource.plural}/{name}")
    return words


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        pytest.param([], ["create"] * 3, id="none: make all"),
        pytest.param([mine("a"), mine("b")], ["create"], id="one too few"),
        pytest.param([mine("a"), mine("b"), mine("c")], [], id="enough"),
        pytest.param(
            [mine("a"), mine("b"), mine("c", dying=True)], ["create"], id="an ending one does not count"
        ),
        pytest.param([mine("a"), mine("b"), mine("c", phase="Failed")], ["create"], id="nor a failed one"),
        pytest.param(
            [mine("a"), mine("b"), pod("c", controlled_by="another")], ["create"], id="nor somebody else's"
        ),
        pytest.param(
            [mine("a"), mine("b"), mine("c"), mine("d", ready=False)],
            ["delete d"],
            id="one too many: not ready",
        ),
        pytest.param([mine("a"), mine("b"), pod("c")], ["patch pods/c"], id="an orphan that fits is adopted"),
        pytest.param(
            [mine("a"), mine("b"), pod("c", labels={"app": "db"})],
            ["create"],
            id="one that does not fit is not",
        ),
        pytest.param(
            [mine("a"), mine("b"), mine("c", labels={"app": "debug"})],
            ["patch pods/c", "create"],
            id="a pod relabelled by somebody is released and replaced",
        ),
    ],
)
def test_the_number_of_pods_is_kept(pods: list[Pod], expected: list[str]) -> None:
    found = [word for word in summary(writes(replicaset(), pods)) if not word.startswith("patch replicasets")]
    assert found == expected


def test_a_new_pod_is_the_template_with_an_owner() -> None:
    create = writes(replicaset(replicas=1), [])[-1]
    assert create == Create(
        PODS,
        "ns",
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "labels": {"app": "web"},
                "generateName": "web-1-",
                "namespace": "ns",
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "ReplicaSet",
                        "name": "web-1",
                        "uid": MINE,
                        "controller": True,
                        "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": {"containers": [{"name": "c", "image": "v1"}]},
        },
    )


def test_a_set_that_is_deleted_makes_and_takes_nothing() -> None:
    found = writes(replicaset(dying=True), [pod("orphan"), mine("a", labels={"app": "debug"})])
    assert [word for word in summary(found) if "pods" in word or word == "create"] == []


def status_of(found: Sequence[Write]) -> Json:
    (patch,) = (write for write in found if isinstance(write, Patch) and write.resource is REPLICASETS)
    assert patch.subresource == "status"
    status = patch.body["status"]
    assert isinstance(status, dict)
    return status


def test_the_status_counts_ready_and_available_pods() -> None:
    pods = [mine("a"), mine("b", ready=False), mine("c", ready_ago_s=3)]
    decision = decide(replicaset(min_ready_s=10), pods, pods, NOW)
    assert status_of(decision.writes) == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "observedGeneration": 1,
    }
    assert decision.again_s == 7.0, "c becomes available then, without any event"


def test_a_status_that_stands_is_not_written_again() -> None:
    pods = [mine(name) for name in "abc"]
    settled = replicaset(have=3, available=3)
    status = status_of(writes(settled, pods))
    assert status["fullyLabeledReplicas"] == 3  # the only field that was wrong
    assert summary(writes(settled, pods[:0])) != []


def test_writes_carry_what_they_were_decided_on() -> None:
    found = writes(replicaset(), [mine(name) for name in "abcd"])
    deletes = [write for write in found if isinstance(write, Delete)]
    assert [(write.uid, write.resource_version) for write in deletes] == [("uid-a", "1")]
    patches = [write for write in found if isinstance(write, Patch)]
    assert [write.body["metadata"] for write in patches] == [{"uid": MINE, "resourceVersion": "7"}]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(
            pod("x", node="", phase="Pending"), pod("y", phase="Pending"), id="not placed before placed"
        ),
        pytest.param(pod("x", phase="Pending"), pod("y"), id="pending before running"),
        pytest.param(pod("x", ready=False), pod("y"), id="not ready before ready"),
        pytest.param(
            pod("x", annotations={"controller.kubernetes.io/pod-deletion-cost": "-5"}),
            pod("y"),
            id="the cheap one",
        ),
        pytest.param(pod("x", ready_ago_s=1), pod("y", ready_ago_s=99), id="ready for a shorter time"),
        pytest.param(pod("x", restarts=4), pod("y"), id="the one that restarts"),
        pytest.param(pod("x", age_s=5), pod("y", age_s=50), id="the younger one"),
        pytest.param(pod("x"), pod("y"), id="else by name: the order never depends on chance"),
    ],
)
def test_whom_to_delete_first(first: Pod, second: Pod) -> None:
    assert list(first_to_go([second, first], [], NOW)) == [first, second]


def test_of_equal_pods_one_on_the_fullest_node_goes_first() -> None:
    pods = [pod("a", node="n1"), pod("b", node="n2"), pod("c", node="n2")]
    assert [each.metadata.name for each in first_to_go(pods, pods, NOW)] == ["b", "c", "a"]


def test_a_pod_ready_since_an_unknown_time_counts_as_available() -> None:
    assert ago(0) == "2026-01-01T12:00:00Z"
    pods = [mine("a")]
    assert status_of(decide(replicaset(replicas=1), pods, pods, NOW).writes)["availableReplicas"] == 1
