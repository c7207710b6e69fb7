"""An informer against a server that misbehaves: in the end the cache is what the server has."""

import asyncio
import random
from datetime import UTC, datetime

import pytest

from kubenet.apiserver.entries import CacheLimits
from kubenet.apiserver.http import ServerConfig
from kubenet.apiserver.misbehaviour import Misbehaviour, parse_misbehaviour
from kubenet.client.cache import Change
from kubenet.client.informer import Informer
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.errors import InvalidInput
from kubenet.model.objects import KubeObject
from kubenet.model.resources import CONFIGMAPS as RESOURCE
from kubenet.store.memory import MemoryStore
from tests.netns.apiserver.server import CONFIGMAPS, Api, configmap, serving

pytestmark = pytest.mark.netns

WRITES = 400
ALL = Misbehaviour(cut=0.03, half=0.03, duplicate=0.1, gone=0.02, silence=0.01, refuse=0.15, silence_s=0.05)


class Hurried:
    """A clock whose sleeps are a thousand times shorter."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / 1000)


async def _write(api: Api, store: MemoryStore, chance: random.Random) -> None:
    """Create, change and delete at random, and forget history now and then."""
    names = [f"c{index}" for index in range(20)]
    for _ in range(WRITES):
        name = chance.choice(names)
        if chance.random() < 0.3:
            await api.delete(f"{CONFIGMAPS}/{name}")
        elif (await api.post(CONFIGMAPS, configmap(name, n=str(chance.random())))).status == 409:
            await api.patch(f"{CONFIGMAPS}/{name}", {"data": {"n": str(chance.random())}})
        if chance.random() < 0.02:
            await store.compact(await store.revision())


@pytest.mark.parametrize("seed", range(3))
def test_B8_2_the_cache_becomes_what_the_server_has(seed: int) -> None:
    told: dict[str, str] = {}
    stale: list[Change[KubeObject]] = []

    def remember(change: Change[KubeObject]) -> None:
        if change.new is None:
            assert change.old is not None
            del told[change.old.metadata.name]
            return
        if (
            change.old is not None
            and change.old.metadata.resource_version == change.new.metadata.resource_version
        ):
            stale.append(change)
        told[change.new.metadata.name] = change.new.metadata.resource_version

    async def case() -> None:
        store = MemoryStore()
        few = ServerConfig(cache=CacheLimits(changes_most=8), misbehaviour=_seeded(seed))
        async with (
            asyncio.timeout(60),
            serving(store) as good,
            serving(store, few) as bad,
            ApiClient(ClusterConfig(server=bad.url)) as client,
        ):
            informer = Informer(client, RESOURCE, KubeObject, clock=Hurried())
            informer.on_change(remember)
            running = asyncio.ensure_future(informer.run())
            await _write(good, store, random.Random(seed))
            want = {
                item["metadata"]["name"]: item["metadata"]["resourceVersion"]
                for item in (await good.get(CONFIGMAPS)).ok["items"]
            }
            while told != want:
                assert not running.done()
                await asyncio.sleep(0.01)
            cached = {
                one.metadata.name: one.metadata.resource_version for one in informer.cache.objects().values()
            }
            assert cached == want
            running.cancel()

    asyncio.run(case())
    assert not stale  # nobody was told of a change that was none


def _seeded(seed: int) -> Misbehaviour:
    return Misbehaviour(**{name: getattr(ALL, name) for name in ALL.__slots__} | {"seed": seed})


def test_misbehaviour_is_read_from_words() -> None:
    assert parse_misbehaviour("cut=0.1,refuse=0.5,seed=7") == Misbehaviour(cut=0.1, refuse=0.5, seed=7)
    for wrong in ("cutt=1", "cut=x", "cut=2", "cut=-1"):
        with pytest.raises(InvalidInput):
            parse_misbehaviour(wrong)
