"""A Deployment's ReplicaSets, one step at a time."""

from collections.abc import Sequence

import msgspec
import pytest

from kubenet.controllers.deployments import REVISION, decide
from kubenet.controllers.rollout import Room, new_set_size, old_set_sizes, room
from kubenet.controllers.templates import template_hash, template_key
from kubenet.model.objects import Deployment, Json, Pod, ReplicaSet
from kubenet.model.resources import DEPLOYMENTS, REPLICASETS
from kubenet.model.writes import Create, Delete, Patch, Write
from tests.unit.controllers.things import NOW, deployment, pod, replicaset, template


def steps(of: Deployment, sets: Sequence[ReplicaSet], pods: Sequence[Pod] = ()) -> list[str]:
    """Return what happens to ReplicaSets, in short."""
    words = []
    for write in decide(of, sets, pods, NOW).writes:
        match write:
            case Create(body=body):
                words.append(f"new with {_at(body, 'spec', 'replicas')}")
            case Delete(name=name):
                words.append(f"delete {name}")
            case Patch(resource, name=name, body=body) if resource is REPLICASETS and "spec" in body:
                words.append(f"{name} to {_at(body, 'spec', 'replicas')}")
            case Patch(resource, name=name, body=body) if resource is REPLICASETS:
                words.append(f"{name}: {_at(body, 'metadata', 'annotations', REVISION)}")
    return words


def _at(body: Json, *path: str) -> object:
    found: object = body
    for key in path:
        assert isinstance(found, dict)
        found = found[key]
    return found


OLD = "v0"


@pytest.mark.parametrize(
    ("of", "sets", "expected"),
    [
        pytest.param(deployment(), [], ["new with 4"], id="the first set gets all"),
        pytest.param(
            deployment(),
            [replicaset("old", image=OLD, replicas=4, have=4, available=4)],
            ["new with 1"],
            id="a new template begins with the surge",
        ),
        pytest.param(
            deployment(),
            [
                replicaset("old", image=OLD, replicas=4, have=4, available=4),
                replicaset("new", replicas=1, have=1, available=0, revision=2),
            ],
            ["old to 3"],
            id="the old one shrinks to the least that must be available",
        ),
        pytest.param(
            deployment(),
            [
                replicaset("old", image=OLD, replicas=3, have=3, available=3),
                replicaset("new", replicas=1, have=1, available=0, revision=2),
            ],
            ["new to 2"],
            id="then the new one grows",
        ),
        pytest.param(
            deployment(),
            [
                replicaset("old", image=OLD, replicas=3, have=3, available=3),
                replicaset("new", replicas=2, have=2, available=0, revision=2),
            ],
            [],
            id="then it waits for the new ones",
        ),
        pytest.param(
            deployment(),
            [
                replicaset("old", image=OLD, replicas=3, have=3, available=3),
                replicaset("new", replicas=2, have=2, available=2, revision=2),
            ],
            ["old to 1"],
            id="available ones let old ones go",
        ),
        pytest.param(
            deployment(),
            [
                replicaset("broken", image="x", replicas=2, have=2, available=0, age_s=50),
                replicaset("old", image=OLD, replicas=3, have=3, available=3),
                replicaset("new", replicas=0, revision=3),
            ],
            ["broken to 0"],
            id="pods that never worked go first and make room",
        ),
        pytest.param(
            deployment(),
            [
                replicaset("old", image=OLD, replicas=4, have=4, available=1),
                replicaset("new", replicas=1, have=1, available=0, revision=2),
            ],
            ["old to 3"],
            id="old pods that crash go no faster than new ones come",
        ),
        pytest.param(
            deployment(),
            [
                replicaset("old", image=OLD, replicas=3, have=4, available=4),
                replicaset("new", replicas=1, have=1, available=0, revision=2),
            ],
            [],
            id="a set that still has to shrink holds its room",
        ),
        pytest.param(
            deployment(replicas=6),
            [replicaset("new", replicas=4, have=4, available=4)],
            ["new to 6"],
            id="scaling up is one step",
        ),
        pytest.param(
            deployment(replicas=1),
            [replicaset("new", replicas=4, have=4, available=4)],
            ["new to 1"],
            id="scaling down is one step",
        ),
        pytest.param(
            deployment(surge=0, unavailable=0),
            [
                replicaset("old", image=OLD, replicas=4, have=4, available=4),
                replicaset("new", replicas=0, revision=2),
            ],
            ["old to 3"],
            id="two limits of nought would never end: one pod may be missing",
        ),
        pytest.param(
            deployment(),
            [
                replicaset("was", image=OLD, replicas=4, have=4, available=4, revision=2),
                replicaset("back", replicas=0, revision=1),
            ],
            ["back: 3"],
            id="rolling back gives the old template a new number first",
        ),
        pytest.param(
            deployment(paused=True), [replicaset("old", image=OLD, replicas=4)], [], id="paused: no new set"
        ),
        pytest.param(
            deployment(paused=True, replicas=6),
            [replicaset("old", image=OLD, replicas=4)],
            ["old to 6"],
            id="paused: the number is followed still",
        ),
    ],
)
def test_the_next_step(of: Deployment, sets: list[ReplicaSet], expected: list[str]) -> None:
    assert steps(of, sets) == expected


def test_recreate_ends_everything_old_before_anything_new() -> None:
    of = deployment(strategy="Recreate")
    old = replicaset("old", image=OLD, replicas=4, have=4, available=4)
    assert steps(of, [old]) == ["old to 0"]
    shrunk = replicaset("old", image=OLD, replicas=0, have=0)
    ending = pod("last", controlled_by="uid-old", dying=True)
    assert steps(of, [shrunk], [ending]) == [], "its last pod still ends"
    assert steps(of, [shrunk], []) == ["new with 4"]


def test_empty_sets_beyond_the_history_go_when_all_is_done() -> None:
    sets = [replicaset(f"old{n}", image=f"o{n}", replicas=0, revision=n) for n in (3, 1, 2)]
    new = replicaset("new", replicas=4, have=4, available=4, revision=4)
    assert steps(deployment(history=1), [*sets, new]) == ["delete old1", "delete old2"]
    busy = replicaset("new", replicas=4, have=4, available=3, revision=4)
    assert steps(deployment(history=1), [*sets, busy]) == []


def test_a_new_set_has_the_hash_in_name_labels_selector_and_template() -> None:
    (create,) = (w for w in decide(deployment(), [], [], NOW).writes if isinstance(w, Create))
    digest = template_hash(template())
    assert create.body["metadata"] == {
        "name": f"web-{digest}",
        "namespace": "ns",
        "labels": {"app": "web", "pod-template-hash": digest},
        "annotations": {
            "deployment.kubernetes.io/revision": "1",
            "deployment.kubernetes.io/desired-replicas": "4",
            "deployment.kubernetes.io/max-replicas": "5",
        },
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": "web",
                "uid": "uid-web",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    spec = create.body["spec"]
    assert isinstance(spec, dict)
    assert spec["selector"] == {"matchLabels": {"app": "web", "pod-template-hash": digest}}
    assert spec["template"] == {
        "metadata": {"labels": {"app": "web", "pod-template-hash": digest}},
        "spec": {"containers": [{"name": "c", "image": "v1"}]},
    }


def test_the_hash_label_does_not_make_a_template_another_one() -> None:
    assert template_key(template(**{"pod-template-hash": "x"})) == template_key(template())
    assert template_hash(template("v2")) != template_hash(template("v1"))


def test_a_set_that_nobody_controls_is_adopted_before_anything_else() -> None:
    (adoption,) = decide(deployment(), [replicaset("left", controlled_by="")], [], NOW).writes
    assert isinstance(adoption, Patch)
    assert (adoption.name, _at(adoption.body, "metadata", "resourceVersion")) == ("left", "7")


def test_a_deployment_that_is_deleted_does_nothing_more() -> None:
    dying = deployment()
    meta = msgspec.structs.replace(dying.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    assert decide(msgspec.structs.replace(dying, metadata=meta), [], [], NOW).writes == ()


def test_no_object_is_written_twice_in_one_step() -> None:
    sets = [
        replicaset("old", image=OLD, replicas=4, have=4, available=4, revision=9),
        replicaset("new", replicas=1, have=1, available=1, revision=2),
    ]
    written: list[Write] = list(decide(deployment(), sets, [], NOW).writes)
    names = [(w.resource.plural, w.name) for w in written if isinstance(w, Patch)]
    assert len(names) == len(set(names))


def status(of: Deployment, sets: Sequence[ReplicaSet]) -> Json:
    (patch,) = (
        w for w in decide(of, sets, [], NOW).writes if isinstance(w, Patch) and w.resource is DEPLOYMENTS
    )
    found = patch.body["status"]
    assert isinstance(found, dict)
    return found


def test_the_status_is_what_kubectl_rollout_status_reads() -> None:
    sets = [
        replicaset("old", image=OLD, replicas=2, have=2, available=2),
        replicaset("new", replicas=3, have=3, available=1, revision=2),
    ]
    found = status(deployment(), sets)
    conditions = found.pop("conditions")
    assert found == {
        "observedGeneration": 2,
        "replicas": 5,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "unavailableReplicas": 2,
    }
    assert isinstance(conditions, list)
    assert [
        (_at(_dict(c), "type"), _at(_dict(c), "status"), _at(_dict(c), "reason")) for c in conditions
    ] == [
        ("Available", "True", "MinimumReplicasAvailable"),
        ("Progressing", "True", "ReplicaSetUpdated"),
    ]


def _dict(value: object) -> Json:
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        pytest.param(deployment(replicas=10, surge="25%", unavailable="25%"), Room(3, 2), id="percentages"),
        pytest.param(deployment(replicas=1, surge="25%", unavailable="25%"), Room(1, 0), id="of one"),
        pytest.param(deployment(replicas=3, surge=0, unavailable=0), Room(0, 1), id="never both nought"),
        pytest.param(deployment(replicas=2, surge=1, unavailable=5), Room(1, 2), id="no more than there are"),
        pytest.param(deployment(strategy="Recreate"), Room(0, 4), id="Recreate"),
    ],
)
def test_room(of: Deployment, expected: Room) -> None:
    assert room(of) == expected


def test_sizes_of_a_scaled_down_rollout_never_grow() -> None:
    old = replicaset("old", image=OLD, replicas=8, have=8, available=8)
    new = replicaset("new", replicas=2, have=2, available=2)
    assert new_set_size(deployment(replicas=3), 2, [old, new]) == 2
    assert old_set_sizes(deployment(replicas=3), new, [old]) == {"ns/old": 0}
