"""A server in memory, and control loops whose caches see it late."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Generic

import msgspec

from kubenet.client.cache import Cache
from kubenet.client.recent import Recent
from kubenet.controllers import deployments, replicasets
from kubenet.controllers.cronjobs import CRONJOBS
from kubenet.controllers.daemonsets import DAEMONSETS
from kubenet.controllers.jobs import JOBS
from kubenet.controllers.revisions import REVISIONS
from kubenet.controllers.statefulsets import STATEFULSETS
from kubenet.model.objects import Deployment, Json, JsonValue, KubeObject, ObjectT, Pod, ReplicaSet
from kubenet.model.resources import DEPLOYMENTS, PODS, REPLICASETS, Resource
from kubenet.model.workloads import ControllerRevision, CronJob, DaemonSet, Job, StatefulSet
from kubenet.model.writes import Create, Delete, Patch, Replace, Write
from tests.unit.controllers.things import NOW, ago

TYPES: dict[Resource, type[KubeObject]] = {
    DEPLOYMENTS: Deployment,
    REPLICASETS: ReplicaSet,
    PODS: Pod,
    REVISIONS: ControllerRevision,
    DAEMONSETS: DaemonSet,
    JOBS: Job,
    CRONJOBS: CronJob,
    STATEFULSETS: StatefulSet,
}


class Overtaken(Exception):
    """409: decided on an old version."""


def merged(old: JsonValue, patch: JsonValue) -> JsonValue:
    if not isinstance(patch, dict):
        return patch
    base = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        else:
            base[key] = merged(base.get(key), value)
    return base


@dataclass
class Server:
    """Objects by kind and key, and everything that ever happened to them, in order."""

    version: int = 0
    objects: dict[Resource, dict[str, Json]] = field(default_factory=lambda: {kind: {} for kind in TYPES})
    log: list[tuple[int, Resource, str, Json | None]] = field(default_factory=list)

    def put(self, kind: Resource, body: Json) -> Json:
        self.version += 1
        meta = _table(body, "metadata")
        meta |= {"resourceVersion": str(self.version), "namespace": "ns"}
        meta.setdefault("uid", f"uid-{meta['name']}")
        meta.setdefault("generation", 1)
        meta.setdefault("creationTimestamp", ago(1000 - self.version))
        stored: Json = msgspec.json.decode(msgspec.json.encode(body))
        key = f"ns/{meta['name']}"
        self.objects[kind][key] = stored
        self.log.append((self.version, kind, key, stored))
        return stored

    def gone(self, kind: Resource, key: str) -> None:
        self.version += 1
        last = self.objects[kind].pop(key)
        _table(last, "metadata")["resourceVersion"] = str(self.version)
        self.log.append((self.version, kind, key, None))

    def carry_out(self, write: Write) -> Json | None:
        match write:
            case Create(kind, _, body):
                meta = _table(body, "metadata")
                if "name" not in meta:
                    meta = meta | {"name": f"{meta['generateName']}{self.version}"}
                assert f"ns/{meta['name']}" not in self.objects[kind], "made twice"
                return self.put(kind, body | {"metadata": meta})
            case Patch(kind, _, name, body, subresource):
                return self._patch(kind, f"ns/{name}", body, subresource)
            case Delete(kind, _, name, uid):
                key = f"ns/{name}"
                old = self.objects[kind].get(key)
                if old is None or _table(old, "metadata")["uid"] != uid:
                    return None
                if kind is PODS:
                    return self.put(kind, _dict(merged(old, {"metadata": {"deletionTimestamp": ago(-30)}})))
                self.gone(kind, key)
        return None

    def _patch(self, kind: Resource, key: str, body: Json, subresource: str) -> Json:
        old = self.objects[kind].get(key)
        guard = _table(body, "metadata").get("resourceVersion")
        if old is None or guard not in (None, _table(old, "metadata")["resourceVersion"]):
            raise Overtaken
        new = _dict(merged(old, body))
        if subresource == "" and old.get("spec") != new.get("spec"):
            meta = _table(new, "metadata")
            meta["generation"] = int(str(meta["generation"])) + 1
        return old if new == old else self.put(kind, new)

    def typed(self, kind: Resource, type: type[ObjectT]) -> list[ObjectT]:
        return [read(each, type) for each in self.objects[kind].values()]


def read(body: Json, type: type[ObjectT]) -> ObjectT:
    """Return an object as a client decodes it."""
    return msgspec.json.decode(msgspec.json.encode(body), type=type)


def _dict(value: JsonValue) -> Json:
    assert isinstance(value, dict)
    return value


def _table(body: Json, key: str) -> Json:
    return _dict(body.setdefault(key, {}))


class View(Generic[ObjectT]):
    """The cache of one kind, as late as the test wants it."""

    def __init__(self, server: Server, kind: Resource, type: type[ObjectT], remembers: bool) -> None:
        self.cache: Cache[ObjectT] = Cache()
        self.recent = Recent(self.cache)
        self.type = type
        self._server = server
        self._kind = kind
        self._remembers = remembers
        self._seen = 0

    def deliver(self, count: int) -> None:
        """Let the watch bring what the next ``count`` revisions of the server say of this kind."""
        for version, kind, key, body in self._server.log[self._seen : self._seen + count]:
            self.cache.resource_version = version
            if kind is not self._kind:
                continue
            if body is not None:
                self.cache.put(read(body, self.type))
            elif (last := self.cache.get(key)) is not None:
                self.cache.remove(last)
        self._seen = min(len(self._server.log), self._seen + count)

    def objects(self) -> list[ObjectT]:
        return list((self.recent if self._remembers else self.cache).objects().values())

    def keep(self, write: Write, answer: Json | None) -> None:
        if isinstance(write, Delete):
            self.recent.deleted(f"ns/{write.name}", write.uid, write.resource_version)
        elif answer is not None:
            self.recent.wrote(read(answer, self.type))


class Loops:
    """The Deployment and ReplicaSet controllers over late views."""

    def __init__(self, server: Server, remembers: bool = True) -> None:
        self.server = server
        self.after_write: Callable[[], None] = lambda: None
        self._in_deployments = False
        self.deployments = View(server, DEPLOYMENTS, Deployment, remembers)
        self.replicasets = View(server, REPLICASETS, ReplicaSet, remembers)
        self.pods = View(server, PODS, Pod, remembers)

    def sync_deployments(self) -> None:
        if self._in_deployments:
            return  # a queue never gives out a key twice at a time
        self._in_deployments = True
        for each in self.deployments.objects():
            self._carry_out(
                deployments.decide(each, self.replicasets.objects(), self.pods.objects(), NOW).writes
            )

        self._in_deployments = False

    def sync_replicasets(self, share: float = 1.0, chance: Random | None = None) -> None:
        """Sync all ReplicaSets, or a random ``share`` of them in random order."""
        found = self.replicasets.objects()
        if chance is not None:
            found = [each for each in chance.sample(found, len(found)) if chance.random() < share]
        for each in found:
            pods = self.pods.objects()
            self._carry_out(replicasets.decide(each, pods, pods, NOW).writes)

    def _carry_out(self, writes: tuple[Write, ...]) -> None:
        for write in writes:
            try:
                answer = self.server.carry_out(write)
            except Overtaken:
                return  # tried again when the cache has caught up
            self._keep(write, answer)
            self.after_write()

    def _keep(self, write: Write, answer: Json | None) -> None:
        keepers: dict[Resource, Callable[[Write, Json | None], None]] = {
            DEPLOYMENTS: self.deployments.keep,
            REPLICASETS: self.replicasets.keep,
            PODS: self.pods.keep,
        }
        assert not isinstance(write, Replace)
        keepers[write.resource](write, answer)

    def deliver(self, which: str, count: int) -> None:
        match which:
            case "d":
                self.deployments.deliver(count)
            case "r":
                self.replicasets.deliver(count)
            case "p":
                self.pods.deliver(count)

    def settle(self) -> None:
        """Deliver everything and sync until nothing changes any more; all pods become ready, all ending ones
        end.
        """
        before = -1
        while before != self.server.version:
            before = self.server.version
            for which in "drp":
                self.deliver(which, len(self.server.log))
            self.sync_deployments()
            self.sync_replicasets()
            for each in self.server.typed(PODS, Pod):
                nod(self.server, each)


def nod(server: Server, pod: Pod) -> None:
    """Do what a node agent does next with a pod: start it, or end it."""
    if pod.metadata.deletion_timestamp:
        server.gone(PODS, pod.metadata.key)
    elif not pod.ready:
        condition: Json = {"type": "Ready", "status": "True", "lastTransitionTime": ago(5)}
        body: Json = {"spec": {"nodeName": "n1"}, "status": {"phase": "Running", "conditions": [condition]}}
        server.carry_out(Patch(PODS, "ns", pod.metadata.name, body))
