"""What people read of a scheduling decision."""

from kubenet.model.events import EventType, event_object, occurrence
from kubenet.model.objects import ObjectMeta, Pod
from kubenet.model.resources import PODS
from kubenet.scheduler.answers import binding, outcome, unschedulable

POD = Pod(metadata=ObjectMeta(name="web", namespace="demo", uid="u1", resource_version="5"))


def test_a_binding_is_told_as_scheduled() -> None:
    told = outcome(POD, binding(POD, "node-2"))
    assert (told.reason, told.type) == ("Scheduled", EventType.NORMAL)
    assert told.message == "Successfully assigned demo/web to node-2"


def test_a_pod_without_a_node_is_told_as_a_warning() -> None:
    write = unschedulable(POD, "0/3 nodes are available: 3 Too many pods.", "t")
    assert write is not None
    told = outcome(POD, write)
    assert (told.reason, told.type) == ("FailedScheduling", EventType.WARNING)
    assert told.message.startswith("0/3 nodes")


def test_repeats_share_a_name_and_others_do_not() -> None:
    first = occurrence(PODS, POD, "Started", "Started container c")
    again = occurrence(PODS, POD, "Started", "Started container c")
    other = occurrence(PODS, POD, "Started", "Started container d")
    assert first.event_name == again.event_name
    assert first.event_name != other.event_name
    assert first.event_name.startswith("web.")


def test_an_event_points_at_its_object() -> None:
    made = event_object(occurrence(PODS, POD, "Started", "m"), "kubenet-node", "n1", "t")
    assert made["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "demo",
        "name": "web",
        "uid": "u1",
    }
    assert made["source"] == {"component": "kubenet-node", "host": "n1"}
