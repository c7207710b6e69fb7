"""Daemons by name: stopped and started while the others run."""

import asyncio

import pytest

from kubenet.errors import KubenetError, NotFound
from labs.daemons import Daemons
from labs.switchboard import answer


class Counting:
    """A daemon that counts how often it was begun and ended."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    async def run(self, ready: asyncio.Event) -> None:
        self.begun += 1
        ready.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1


async def _end(daemons: Daemons) -> None:
    for name in daemons.states():
        await daemons.stop(name)


def test_a_daemon_is_stopped_and_started_alone() -> None:
    async def scene() -> None:
        one, two = Counting(), Counting()
        async with asyncio.TaskGroup() as group:
            daemons = Daemons(group)
            daemons.add("one", one.run)
            daemons.add("two", two.run)
            await daemons.ready()
            await daemons.stop("one")
            await daemons.stop("one")
            assert daemons.states() == {"one": "stopped", "two": "running"}
            await daemons.start("one")
            await daemons.start("one")
            assert (one.begun, one.ended, two.begun) == (2, 1, 1)
            await _end(daemons)

    asyncio.run(scene())


def test_a_daemon_nobody_knows_is_named_with_those_that_are_known() -> None:
    async def scene() -> None:
        async with asyncio.TaskGroup() as group:
            daemons = Daemons(group)
            daemons.add("node-1/proxy", Counting().run)
            with pytest.raises(NotFound) as refused:
                await daemons.stop("node-1/dns")
            assert "node-1/proxy" in refused.value.next_step
            await _end(daemons)

    asyncio.run(scene())


def test_a_daemon_that_fails_ends_the_lab() -> None:
    async def failing(_: asyncio.Event) -> None:
        raise KubenetError("no such thing")

    async def scene() -> None:
        async with asyncio.TaskGroup() as group:
            Daemons(group).add("one", failing)

    with pytest.raises(ExceptionGroup):
        asyncio.run(scene())


@pytest.mark.parametrize(
    ("line", "said", "code"),
    [
        pytest.param(b'{"verb":"list"}', "", 0, id="list"),
        pytest.param(b'{"verb":"stop","daemon":"two"}', "no daemon 'two'", 3, id="unknown daemon"),
        pytest.param(b'{"verb":"explode"}', "not an order", 2, id="unknown verb"),
        pytest.param(b"nonsense", "not an order", 2, id="no JSON"),
    ],
)
def test_every_order_has_an_answer(line: bytes, said: str, code: int) -> None:
    async def scene() -> None:
        async with asyncio.TaskGroup() as group:
            daemons = Daemons(group)
            daemons.add("one", Counting().run)
            given = await answer(line, daemons)
            assert said in given.error
            assert given.exit_code == code
            await _end(daemons)

    asyncio.run(scene())
