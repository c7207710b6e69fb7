"""All stores behind one door, so that every case of the contract runs on each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from kubenet.store.base import Batch, Event, Store, Watch
from kubenet.store.feed import DEFAULT_LIMITS, FeedLimits
from kubenet.store.memory import MemoryStore
from kubenet.store.sqlite import SqliteStore

STORES = ("memory", "sqlite")


class Case(Protocol):
    """What a test does with an open store."""

    def __call__(self, store: Store) -> Awaitable[None]: ...


@asynccontextmanager
async def opened(name: str, path: Path, limits: FeedLimits = DEFAULT_LIMITS) -> AsyncIterator[Store]:
    """Open the store called ``name``; a SQLite store lives in ``path``."""
    store: Store = MemoryStore(limits) if name == "memory" else await SqliteStore.open(path, limits)
    try:
        yield store
    finally:
        await store.close()


def run_case(name: str, path: Path, case: Case, limits: FeedLimits = DEFAULT_LIMITS) -> None:
    """Run ``case`` on a new store."""

    async def run() -> None:
        async with opened(name, path, limits) as store:
            await asyncio.wait_for(case(store), 30)

    asyncio.run(run())


async def read_until(watch: Watch, revision: int) -> list[Event]:
    """Return the events of a watch up to ``revision``."""
    events: list[Event] = []
    reached = 0
    while reached < revision:
        batch: Batch = await watch.__anext__()
        events.extend(batch.events)
        reached = batch.revision
    return events


Runner = Callable[[Case], None]
