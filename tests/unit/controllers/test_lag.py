"""However late the caches are: no pod too many, no pod too few, and the right end."""

from random import Random

import msgspec
import pytest

from kubenet.model.objects import Json, Pod
from kubenet.model.resources import DEPLOYMENTS, PODS, REPLICASETS
from kubenet.model.writes import Patch
from tests.unit.controllers.lagging import Loops, Server, nod
from tests.unit.controllers.things import deployment

REPLICAS = 4


def web(surge: int = 1, unavailable: int = 1) -> Json:
    written = deployment(replicas=REPLICAS, surge=surge, unavailable=unavailable)
    body: Json = msgspec.json.decode(msgspec.json.encode(written))
    return body | {"metadata": {"name": "web"}}


def active(server: Server) -> list[Pod]:
    return [each for each in server.typed(PODS, Pod) if not each.metadata.deletion_timestamp]


def test_a_cache_that_sees_nothing_makes_no_pod_twice() -> None:
    server = Server()
    server.put(DEPLOYMENTS, web())
    loops = Loops(server)
    loops.deliver("d", 10)
    for _ in range(5):
        loops.sync_deployments()
        loops.sync_replicasets()
    assert len(active(server)) == REPLICAS
    assert len(server.objects[REPLICASETS]) == 1


def test_without_memory_of_own_writes_it_would() -> None:
    """The test above proves something: the same loops on bare caches make pods again and again."""
    server = Server()
    server.put(DEPLOYMENTS, web())
    loops = Loops(server, remembers=False)
    loops.deliver("d", 10)
    loops.sync_deployments()
    for _ in range(3):
        loops.deliver("r", 10)  # its own status has come back, its pods have not
        loops.sync_replicasets()
    assert len(active(server)) > REPLICAS


def test_a_scale_down_seen_late_deletes_no_pod_twice() -> None:
    server = Server()
    server.put(DEPLOYMENTS, web())
    loops = Loops(server)
    loops.settle()
    server.carry_out(Patch(DEPLOYMENTS, "ns", "web", {"spec": {"replicas": 2}}))
    loops.deliver("d", 100)
    for _ in range(4):
        loops.sync_deployments()
        loops.sync_replicasets()
    assert len(active(server)) == 2


# What a walk does next, with how often: caches run late, loops run often, nodes take their time.
MOVES = {
    "deliver d": 4,
    "deliver r": 4,
    "deliver p": 4,
    "sync d": 6,
    "sync r": 6,
    "nod": 6,
    "new template": 1,
}


class Walk:
    """A random history of one Deployment."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.surge, self.unavailable = self.chance.choice([(1, 1), (2, 0), (0, 2), (3, 2)])
        self.server = Server()
        self.server.put(DEPLOYMENTS, web(self.surge, self.unavailable))
        self.loops = Loops(self.server)
        self.loops.settle()
        self.loops.after_write = self.after_write
        self.images = 1

    def after_write(self) -> None:
        check_promises(self.server, self.surge, self.unavailable)
        if self.chance.random() < 0.2:
            self.loops.sync_deployments()  # between two writes of the other loop, as in one process

    def move(self, move: str) -> None:
        match move.split():
            case ["deliver", which]:
                self.loops.deliver(which, self.chance.randint(1, 12))
            case ["sync", "d"]:
                self.loops.sync_deployments()
            case ["sync", "r"]:
                self.loops.sync_replicasets(0.5, self.chance)
            case ["new", "template"]:
                self.images += 1
                spec: Json = {"containers": [{"name": "c", "image": f"v{self.images}"}]}
                change: Json = {"spec": {"template": {"spec": spec}}}
                self.server.carry_out(Patch(DEPLOYMENTS, "ns", "web", change))
            case ["nod"]:
                nod(self.server, self.chance.choice(self.server.typed(PODS, Pod)))


@pytest.mark.parametrize("seed", range(40))
def test_E15_a_rollout_never_has_too_many_or_too_few_pods(seed: int) -> None:
    """Random walks instead of a searching property: a violation takes dozens of well ordered moves."""
    walk = Walk(seed)
    for move in walk.chance.choices(list(MOVES), list(MOVES.values()), k=250):
        walk.move(move)
    walk.loops.settle()
    pods = active(walk.server)
    assert [(each.ready, _image(each)) for each in pods] == [(True, f"v{walk.images}")] * REPLICAS


def check_promises(server: Server, surge: int, unavailable: int) -> None:
    live = active(server)
    assert len(live) <= REPLICAS + surge, "too many pods"
    assert sum(each.ready for each in live) >= REPLICAS - unavailable, "too few that serve"


def _image(pod: Pod) -> str:
    return next(container.image for container in pod.spec.containers)


@pytest.mark.parametrize("strategy", ["RollingUpdate", "Recreate"])
def test_the_status_ends_as_kubectl_waits_for(strategy: str) -> None:
    server = Server()
    body = web()
    server.put(DEPLOYMENTS, body)
    server.carry_out(Patch(DEPLOYMENTS, "ns", "web", {"spec": {"strategy": {"type": strategy}}}))
    loops = Loops(server)
    loops.settle()
    server.carry_out(
        Patch(
            DEPLOYMENTS,
            "ns",
            "web",
            {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v9"}]}}}},
        )
    )
    loops.settle()
    (found,) = server.objects[DEPLOYMENTS].values()
    status, meta = found["status"], found["metadata"]
    assert isinstance(status, dict)
    assert isinstance(meta, dict)
    assert [status[key] for key in ("replicas", "updatedReplicas", "availableReplicas")] == [REPLICAS] * 3
    assert status["observedGeneration"] == meta["generation"]
    annotations = meta["annotations"]
    assert isinstance(annotations, dict)
    assert annotations["deployment.kubernetes.io/revision"] == "2"
