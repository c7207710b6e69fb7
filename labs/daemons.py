"""The daemons of a lab by name, each of which can be stopped and started while the others run.

A stopped daemon is what a crashed one is on a real node: what it wrote into the kernel stays, and nobody
looks after it. Started again, it finds the kernel as it is.

A name is ``node-1/proxy``; what serves the whole lab has no node: ``scheduler``. Every line a daemon logs
carries its name, so that the logs of a lab, which runs in one process, can be read one daemon at a time.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

from kubenet.errors import KubenetError, NotFound

# A coroutine that runs until it is cancelled, and sets the event when it serves.
Starter = Callable[[asyncio.Event], Coroutine[None, None, None]]

_speaker: ContextVar[str] = ContextVar("daemon", default="lab")


class NamesDaemon(logging.Filter):
    """Gives each log record the name of the daemon whose task speaks, as ``%(daemon)s``."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.daemon = _speaker.get()
        return True


@dataclass(frozen=True, slots=True)
class _Run:
    task: asyncio.Task[None]
    ready: asyncio.Event


class Daemons:
    """All daemons of a lab; each is a task of ``group``, so one that fails still ends the lab."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._starters: dict[str, Starter] = {}
        self._running: dict[str, _Run] = {}

    def add(self, name: str, starter: Starter) -> None:
        """Make a daemon known and start it."""
        self._starters[name] = starter
        self._run(name)

    def states(self) -> Mapping[str, str]:
        """Return for each daemon: ``running``, ``starting`` or ``stopped``."""
        return {name: self._state(name) for name in self._starters}

    async def ready(self) -> None:
        """Return when every running daemon serves."""
        for run in list(self._running.values()):
            await run.ready.wait()

    async def start(self, name: str) -> None:
        """Start a daemon, and return when it serves; one that runs is left alone. Raises NotFound."""
        self._known(name)
        if name not in self._running:
            self._run(name)
        run = self._running[name]
        serves = asyncio.ensure_future(run.ready.wait())
        await asyncio.wait({run.task, serves}, return_when=asyncio.FIRST_COMPLETED)
        serves.cancel()
        if run.task.done():
            raise KubenetError(f"{name}: ended while it started", f"kubenet lab logs {name}")

    async def stop(self, name: str) -> None:
        """Stop a daemon; one that is stopped already is fine. Raises NotFound."""
        self._known(name)
        run = self._running.pop(name, None)
        if run is not None:
            run.task.cancel()
            await asyncio.wait({run.task})

    def _run(self, name: str) -> None:
        ready = asyncio.Event()
        token = _speaker.set(name)  # the task copies the context it is made in
        try:
            task = self._group.create_task(self._starters[name](ready), name=name)
        finally:
            _speaker.reset(token)
        self._running[name] = _Run(task, ready)

    def _state(self, name: str) -> str:
        run = self._running.get(name)
        if run is None:
            return "stopped"
        return "running" if run.ready.is_set() else "starting"

    def _known(self, name: str) -> None:
        if name not in self._starters:
            raise NotFound(f"no daemon {name!r}", f"use one of: {', '.join(sorted(self._starters))}")
