"""How writes are carried out: in order, side by side where they may, and remembered."""

import asyncio
from collections.abc import Mapping

import msgspec
import pytest

from kubenet.client.cache import Cache
from kubenet.client.errors import ApiError, Conflict, ObjectNotFound
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.recent import Recent
from kubenet.client.transport import ApiClient
from kubenet.client.writer import MOST_AT_ONCE, Writer
from kubenet.model.objects import KubeObject
from kubenet.model.resources import PODS, REPLICASETS
from kubenet.model.writes import Create, Delete, Patch, Write


class World(ApiClient):
    """A server that keeps names, counts what is under way, and refuses all beyond its quota."""

    def __init__(self, quota: int = 10_000) -> None:
        super().__init__(ClusterConfig(server="http://nowhere"))
        self.quota = quota
        self.done: list[str] = []
        self.asked = 0
        self.under_way = 0
        self.most_under_way = 0

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        self.asked += 1
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if method == "POST" and self.done.count("POST pods") >= self.quota:
            raise ApiError(403, "Forbidden", "exceeded quota")
        if method == "DELETE" and path.endswith("/missing"):
            raise ObjectNotFound(404, "NotFound", "gone")
        if path.endswith("/overtaken"):
            raise Conflict(409, "Conflict", "changed")
        self.done.append(f"{method} {path.rsplit('/', maxsplit=1)[-1]}")
        version = str(len(self.done))
        meta = {"name": f"n{version}", "namespace": "ns", "uid": f"u{version}", "resourceVersion": version}
        return msgspec.json.encode({"metadata": meta})


def create() -> Create:
    return Create(PODS, "ns", {"metadata": {"generateName": "p-"}})


def patch(name: str) -> Patch:
    return Patch(REPLICASETS, "ns", name, {})


def delete(name: str) -> Delete:
    return Delete(PODS, "ns", name, uid=f"uid-{name}", resource_version="3")


def test_writes_of_different_sorts_keep_their_order() -> None:
    world = World()
    writes: list[Write] = [patch("a"), create(), create(), delete("x"), patch("b"), patch("c")]
    asyncio.run(Writer(world).carry_out(writes))
    assert world.done == ["PATCH a", "POST pods", "POST pods", "DELETE x", "PATCH b", "PATCH c"]
    assert world.most_under_way == 1


def test_many_creations_go_out_side_by_side_within_a_limit() -> None:
    world = World()
    asyncio.run(Writer(world).carry_out([create()] * 200))
    assert world.done == ["POST pods"] * 200
    assert world.most_under_way == MOST_AT_ONCE


def test_a_refusal_ends_the_rest_before_it_has_been_asked_for() -> None:
    world = World(quota=2)
    with pytest.raises(ApiError, match="exceeded quota"):
        asyncio.run(Writer(world).carry_out([*[create()] * 500, patch("a")]))
    assert world.asked == 1 + 2, "one alone, then two, of which one was refused"


def test_a_delete_of_what_is_gone_is_a_success_and_other_refusals_are_not() -> None:
    asyncio.run(Writer(World()).carry_out([delete("missing")]))
    with pytest.raises(Conflict):
        asyncio.run(Writer(World()).carry_out([patch("overtaken")]))


def test_answers_are_remembered_for_those_who_read() -> None:
    cache: Cache[KubeObject] = Cache()
    cache.resource_version = 0
    recent = Recent(cache)
    writer = Writer(World())
    writer.remember(PODS, recent, KubeObject)
    asyncio.run(writer.carry_out([create(), Create(PODS, "ns", {}, "n1", "binding"), patch("a")]))
    assert list(recent.objects()) == ["ns/n1"], "neither a binding's answer nor another kind is a pod"
    asyncio.run(writer.carry_out([Delete(PODS, "ns", "n1", uid="u1", resource_version="1")]))
    (shown,) = recent.objects().values()
    assert shown.metadata.deletion_timestamp
