"""Names, order, partition: whatever the caches show, web-1 never is twice, and never before web-0."""

from collections.abc import Sequence
from random import Random

import pytest

from kubenet.controllers.decision import Decision
from kubenet.controllers.stateful_pods import ordinal_of
from kubenet.controllers.statefulsets import STATEFULSETS, decide
from kubenet.model.objects import Json, JsonValue, Pod
from kubenet.model.resources import PODS
from kubenet.model.workloads import ControllerRevision, StatefulSet
from tests.unit.controllers.lagging import Server
from tests.unit.controllers.scene import Scene, image, image_of, start_or_end
from tests.unit.controllers.things import NOW


def body(replicas: int = 3, policy: str = "OrderedReady", partition: int = 0) -> Json:
    update: Json = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    return {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "serviceName": "peers",
            "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, **image(1)},
            "updateStrategy": update,
        },
    }


class Stateful(Scene[StatefulSet]):
    """A StatefulSet, and which of its pods became ready or were told to end, in that order."""

    def __init__(self, written: Json) -> None:
        super().__init__(STATEFULSETS, StatefulSet, _decide)
        self.server.put(STATEFULSETS, written)

    def rest(self) -> list[tuple[str, str]]:
        """Let everything come to rest; return names and images."""
        self.settle(start_or_end)
        return [(each.metadata.name, image_of(each)) for each in self.pods_now()]

    def pods_now(self) -> list[Pod]:
        return sorted(self.server.typed(PODS, Pod), key=lambda pod: pod.metadata.name)

    def status(self) -> Json:
        (found,) = self.server.objects[STATEFULSETS].values()
        status = found["status"]
        assert isinstance(status, dict)
        return status

    def story(self, since: int = 0) -> list[str]:
        """Return what happened to pods since a version: ``+`` made, ``!`` ready, ``-`` gone."""
        told: list[str] = []
        known: set[str] = set()
        ready: set[str] = set()
        for version, kind, key, state in self.server.log:
            name = key.removeprefix("ns/")
            if kind is not PODS:
                continue
            if state is None:
                sign = "-"
                known.discard(name)
                ready.discard(name)
            elif name not in known:
                sign = "+"
                known.add(name)
            elif "status" in state and name not in ready:
                sign = "!"
                ready.add(name)
            else:
                continue
            if version > since:
                told.append(f"{sign}{name}")
        return told


def _decide(each: StatefulSet, pods: Sequence[Pod], revisions: Sequence[ControllerRevision]) -> Decision:
    return decide(each, pods, revisions, NOW)


def test_pods_come_one_after_the_other_each_when_the_one_before_is_ready() -> None:
    stateful = Stateful(body())
    assert [name for name, _ in stateful.rest()] == ["web-0", "web-1", "web-2"]
    assert stateful.story() == ["+web-0", "!web-0", "+web-1", "!web-1", "+web-2", "!web-2"]
    status = stateful.status()
    assert [status[key] for key in ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas")] == [
        3,
        3,
        3,
        3,
    ]
    assert status["currentRevision"] == status["updateRevision"]


def test_a_pod_has_a_name_in_the_domain_of_its_service() -> None:
    stateful = Stateful(body(1))
    stateful.rest()
    (pod,) = stateful.pods_now()
    assert (pod.spec.hostname, pod.spec.subdomain) == ("web-0", "peers")
    assert pod.metadata.labels["statefulset.kubernetes.io/pod-name"] == "web-0"
    assert pod.metadata.labels["apps.kubernetes.io/pod-index"] == "0"
    assert pod.metadata.labels["controller-revision-hash"] == stateful.status()["updateRevision"]


def test_pods_go_one_after_the_other_the_highest_first() -> None:
    stateful = Stateful(body())
    stateful.rest()
    since = stateful.server.version
    stateful.change(replicas=0)
    assert stateful.rest() == []
    assert stateful.story(since) == ["-web-2", "-web-1", "-web-0"]


def test_parallel_pods_wait_for_nobody() -> None:
    stateful = Stateful(body(policy="Parallel"))
    stateful.rest()
    assert stateful.story()[:3] == ["+web-0", "+web-1", "+web-2"]


def test_an_update_goes_from_the_highest_down_and_waits_for_each() -> None:
    stateful = Stateful(body())
    stateful.rest()
    since = stateful.server.version
    stateful.change(template=image(2))
    assert {each for _, each in stateful.rest()} == {"v2"}
    assert stateful.story(since) == [
        step for n in (2, 1, 0) for step in (f"-web-{n}", f"+web-{n}", f"!web-{n}")
    ]
    status = stateful.status()
    assert status["currentRevision"] == status["updateRevision"]


def test_below_the_partition_the_old_template_stays_even_for_a_pod_made_anew() -> None:
    stateful = Stateful(body(partition=2))
    stateful.rest()
    stateful.change(template=image(2))
    assert stateful.rest() == [("web-0", "v1"), ("web-1", "v1"), ("web-2", "v2")]
    status = stateful.status()
    assert status["currentRevision"] != status["updateRevision"]
    assert (status["currentReplicas"], status["updatedReplicas"]) == (2, 1)
    stateful.server.gone(PODS, "ns/web-0")
    assert stateful.rest()[0] == ("web-0", "v1")
    stateful.change(updateStrategy={"rollingUpdate": {"partition": 0}})
    assert {each for _, each in stateful.rest()} == {"v2"}


def test_on_delete_updates_what_is_deleted() -> None:
    stateful = Stateful(body())
    stateful.rest()
    stateful.change(template=image(2), updateStrategy={"type": "OnDelete"})
    stateful.rest()
    stateful.server.gone(PODS, "ns/web-1")
    assert stateful.rest() == [("web-0", "v1"), ("web-1", "v2"), ("web-2", "v1")]


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_is_made_anew(phase: str) -> None:
    stateful = Stateful(body())
    stateful.rest()
    written = stateful.server.objects[PODS]["ns/web-1"]
    stateful.server.put(PODS, {**written, "status": {"phase": phase}})
    assert [name for name, _ in stateful.rest()] == ["web-0", "web-1", "web-2"]
    assert all(pod.ready for pod in stateful.pods_now())


def test_ordinals_may_start_higher() -> None:
    stateful = Stateful(body(2))
    stateful.change(ordinals={"start": 5})
    assert [name for name, _ in stateful.rest()] == ["web-5", "web-6"]


def test_an_orphan_is_taken_up_only_if_it_bears_a_name_of_the_set() -> None:
    stateful = Stateful(body(2))
    for name in ("web-0", "web-01", "other-1"):
        labels: JsonValue = {"app": "web"}
        stateful.server.put(PODS, {"metadata": {"name": name, "labels": labels}, **image(1)})
    stateful.rest()
    owned = [pod.metadata.name for pod in stateful.pods_now() if pod.metadata.controller_uid]
    assert owned == ["web-0", "web-1"]


@pytest.mark.parametrize("seed", range(30))
def test_order_and_identity_hold_however_late_the_caches(seed: int) -> None:
    """After every single write: no name twice (the server asserts it), never two away, no gap below."""
    chance = Random(seed)
    stateful = Stateful(body(4, chance.choice(["OrderedReady", "Parallel"])))
    stateful.rest()
    version = 1

    def promises(server: Server) -> None:
        (owner,) = server.typed(STATEFULSETS, StatefulSet)
        pods = {ordinal_of(owner, pod): pod for pod in server.typed(PODS, Pod)}
        told_to_go = [pod for pod in pods.values() if pod.metadata.deletion_timestamp]
        assert len(told_to_go) <= 1, "one at a time"
        assert sum(not pod.ready or pod in told_to_go for pod in pods.values()) <= 1

    stateful.check = promises
    for move in chance.choices(["deliver", "sync", "nod", "new"], [8, 6, 6, 1], k=250):
        match move:
            case "deliver":
                stateful.deliver(chance)
            case "sync":
                stateful.sync()
            case "nod" if pods := stateful.pods_now():
                start_or_end(stateful.server, chance.choice(pods))
            case "new":
                version += 1
                stateful.change(template=image(version))
    assert stateful.rest() == [(f"web-{n}", f"v{version}") for n in range(4)]
