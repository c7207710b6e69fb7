"""A store whose writes are timed; everything else is the store's own."""

from kubenet.apiserver.metrics import Metrics
from kubenet.clock import Clock
from kubenet.store.base import Page, Record, Store, Watch


class TimedStore:
    """See ``kubenet.store.base.Store``."""

    def __init__(self, store: Store, metrics: Metrics, clock: Clock) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock

    async def create(self, key: str, value: bytes) -> int:
        started_s = self._clock.monotonic()
        revision = await self._store.create(key, value)
        self._metrics.stored("create", self._clock.monotonic() - started_s)
        return revision

    async def update(self, key: str, value: bytes, expected: int) -> int:
        started_s = self._clock.monotonic()
        revision = await self._store.update(key, value, expected)
        self._metrics.stored("update", self._clock.monotonic() - started_s)
        return revision

    async def delete(self, key: str, expected: int) -> int:
        started_s = self._clock.monotonic()
        revision = await self._store.delete(key, expected)
        self._metrics.stored("delete", self._clock.monotonic() - started_s)
        return revision

    async def get(self, key: str) -> Record | None:
        return await self._store.get(key)

    async def range(self, prefix: str, limit: int = 0, start: str = "") -> Page:
        return await self._store.range(prefix, limit, start)

    def watch(self, prefix: str, after: int) -> Watch:
        return self._store.watch(prefix, after)

    async def revision(self) -> int:
        return await self._store.revision()

    async def compact(self, revision: int) -> None:
        await self._store.compact(revision)

    async def close(self) -> None:
        await self._store.close()
