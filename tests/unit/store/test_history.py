"""The law of watches: from any revision that is kept, replaying the changes leads to the present state."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.store.base import Event, Gone, KeyTaken, RevisionMismatch, Store
from tests.unit.store.stores import STORES, opened, read_until

KEYS = st.sampled_from(("/p/a", "/p/b", "/p/c", "/q/a"))
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), KEYS, st.binary(max_size=3)),
        st.tuples(st.just("update"), KEYS, st.binary(max_size=3)),
        st.tuples(st.just("stale update"), KEYS, st.binary(max_size=3)),
        st.tuples(st.just("delete"), KEYS, st.just(b"")),
        st.tuples(st.just("compact"), KEYS, st.binary(min_size=1, max_size=1)),
        st.tuples(st.just("watch"), KEYS, st.binary(min_size=1, max_size=1)),
    ),
    max_size=30,
)
State = dict[str, tuple[bytes, int]]


@dataclass
class Model:
    """What a store should hold, by revision."""

    states: list[State] = field(default_factory=lambda: [{}])
    compacted: int = 0

    @property
    def present(self) -> State:
        return self.states[-1]

    def replayed(self, events: list[Event], after: int) -> State:
        """Return the state that the events lead to, checking each against what was before it."""
        state = dict(self.states[after])
        for event in events:
            before = state.get(event.key)
            assert (event.before.value, event.before.revision) == before if event.before else before is None
            if event.value is None:
                del state[event.key]
            else:
                state[event.key] = (event.value, event.revision)
        return state


async def act(store: Store, model: Model, operation: tuple[str, str, bytes]) -> None:
    """Do one operation on both; they must agree."""
    verb, key, value = operation
    have = model.present.get(key)
    revision = len(model.states)
    if verb == "compact":
        model.compacted = max(model.compacted, value[0] % revision)
        await store.compact(value[0] % revision)
    elif verb == "watch":
        await check_watch(store, model, value[0] % revision)
    elif verb == "create" and have:
        with pytest.raises(KeyTaken):
            await store.create(key, value)
    elif verb == "stale update" or (verb != "create" and not have):
        with pytest.raises(RevisionMismatch):
            await store.update(key, value, revision + 1)
    elif verb == "delete" and have:
        assert await store.delete(key, have[1]) == revision
        model.states.append({k: v for k, v in model.present.items() if k != key})
    else:
        write = store.update(key, value, have[1]) if have else store.create(key, value)
        assert await write == revision
        model.states.append(model.present | {key: (value, revision)})


async def check_watch(store: Store, model: Model, after: int) -> None:
    newest = len(model.states) - 1
    watch = store.watch("/", after)
    try:
        if after < model.compacted:
            with pytest.raises(Gone):
                await watch.__anext__()
            return
        events = await read_until(watch, newest) if after < newest else []
        assert [event.revision for event in events] == list(range(after + 1, newest + 1))
        assert model.replayed(events, after) == model.present
    finally:
        watch.close()


async def check_history(name: str, operations: list[tuple[str, str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path, model = Path(directory) / "store.db", Model()
        async with opened(name, path) as store:
            live = store.watch("/", 0)
            for operation in operations:
                await act(store, model, operation)
            newest = len(model.states) - 1
            for after in range(newest + 1):
                await check_watch(store, model, after)
            live_events = await read_until(live, newest) if newest else []
            assert model.replayed(live_events, 0) == model.present
            page = await store.range("/")
            assert {record.key: (record.value, record.revision) for record in page.records} == model.present
        if name == "sqlite":
            await check_reopened(path, model)


async def check_reopened(path: Path, model: Model) -> None:
    """A restart changes nothing: neither the state, nor the revision, nor what a watch can see."""
    async with opened("sqlite", path) as store:
        newest = len(model.states) - 1
        assert await store.revision() == newest
        for after in (newest, model.compacted, newest // 2):
            await check_watch(store, model, after)
        assert await store.create("/new", b"") == newest + 1


@pytest.mark.parametrize("name", STORES)
def test_A3_any_history_replays_to_the_same_state(name: str) -> None:
    @settings(max_examples=100 if name == "memory" else 15, deadline=None, database=None)
    @given(OPERATIONS)
    def check(operations: list[tuple[str, str, bytes]]) -> None:
        asyncio.run(check_history(name, operations))

    check()
