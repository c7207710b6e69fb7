"""One workload with a late controller: a random history of it, and every state that it went through."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Generic

from kubenet.controllers.decision import Decision
from kubenet.controllers.revisions import REVISIONS
from kubenet.model.objects import Json, ObjectT, Pod
from kubenet.model.resources import PODS, Resource
from kubenet.model.workloads import ControllerRevision
from kubenet.model.writes import Delete, Patch
from tests.unit.controllers.lagging import Overtaken, Server, View
from tests.unit.controllers.things import ago


@dataclass
class Scene(Generic[ObjectT]):
    """A server, and a controller whose three caches are as late as the test wants them."""

    kind: Resource
    type: type[ObjectT]
    decide: Callable[[ObjectT, Sequence[Pod], Sequence[ControllerRevision]], Decision]
    check: Callable[[Server], None] = lambda _: None
    server: Server = field(default_factory=Server)

    def __post_init__(self) -> None:
        self.own = View(self.server, self.kind, self.type, remembers=True)
        self.pods = View(self.server, PODS, Pod, remembers=True)
        self.revisions = View(self.server, REVISIONS, ControllerRevision, remembers=True)

    def sync(self) -> None:
        for each in self.own.objects():
            decision = self.decide(each, self.pods.objects(), self.revisions.objects())
            going = {pod.metadata.uid for pod in self.pods.objects() if pod.metadata.deletion_timestamp}
            for write in decision.writes:
                assert not isinstance(write, Delete) or write.uid not in going, "told to go twice"
                try:
                    answer = self.server.carry_out(write)
                except Overtaken:
                    return
                assert isinstance(write, Delete) or answer is not None
                keepers = {self.kind: self.own.keep, PODS: self.pods.keep, REVISIONS: self.revisions.keep}
                keepers[write.resource](write, answer)
                self.check(self.server)

    def deliver(self, chance: Random | None = None) -> None:
        """Deliver a little to one cache, or everything to all."""
        views = (self.own, self.pods, self.revisions)
        if chance is not None:
            chance.choice(views).deliver(chance.randint(1, 12))
            return
        for view in views:
            view.deliver(len(self.server.log))

    def change(self, **spec: object) -> None:
        body: Json = {"spec": spec}  # type: ignore[dict-item]  # what the test writes
        for each in self.server.typed(self.kind, self.type):
            self.server.carry_out(Patch(self.kind, "ns", each.metadata.name, body))

    def settle(self, nod: Callable[[Server, Pod], None]) -> None:
        """Deliver, sync and let node agents act until nothing changes any more."""
        for _ in range(500):
            before = self.server.version
            self.deliver()
            self.sync()
            for each in self.server.typed(PODS, Pod):
                nod(self.server, each)
            self.check(self.server)
            if self.server.version == before:
                return
        raise AssertionError("it never comes to rest")


def image(version: int) -> Json:
    """Return the part of a template that an update changes."""
    return {"spec": {"containers": [{"name": "c", "image": f"v{version}"}]}}


def start_or_end(server: Server, pod: Pod, node: str = "n1", ready: bool = True) -> None:
    """Do what scheduler and node agent do next with a pod: end it, or start it."""
    if pod.metadata.deletion_timestamp:
        server.gone(PODS, pod.metadata.key)
    elif not pod.ready and ready:
        condition: Json = {"type": "Ready", "status": "True", "lastTransitionTime": ago(5)}
        body: Json = {"spec": {"nodeName": node}, "status": {"phase": "Running", "conditions": [condition]}}
        server.carry_out(Patch(PODS, "ns", pod.metadata.name, body))


def image_of(pod: Pod) -> str:
    return pod.spec.containers[0].image
