"""One container of one pod: starts it, hears of its end, starts it again."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

from kubenet.clock import Clock, rfc3339
from kubenet.errors import KubenetError, NotFound
from kubenet.kernel.process import ProcessId, end, identify
from kubenet.kernel.run import Child
from kubenet.model.objects import Container
from kubenet.node.record import ContainerRecord
from kubenet.node.status import (
    FORGIVEN_AFTER_S,
    ContainerView,
    Running,
    State,
    Terminated,
    Waiting,
    exit_code,
    restart_delay_s,
    starts_again,
)

log = logging.getLogger(__name__)

# Nobody can ask for the exit status of a process that another agent started.
UNKNOWN_EXIT_CODE = 255

LAST_WORDS_BYTES = (
    2048  # as much of a log as a kubelet shows (terminationMessagePolicy FallbackToLogsOnError)
)


class Adopted:
    """A process that an earlier agent started. It has the methods of ``Child`` that containers use."""

    def __init__(self, process: ProcessId) -> None:
        self.pid = process.pid
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)

    async def exited(self) -> int:
        """Return once the process has ended; its status is not ours to know."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._pidfd)
        return UNKNOWN_EXIT_CODE

    def signal(self, number: int) -> None:
        """Send a signal; a process that has ended is left alone."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass

    def terminate(self, grace_s: float) -> int:
        """End the process."""
        end([self._process], grace_s=grace_s)
        return UNKNOWN_EXIT_CODE


class ContainerRunner:
    """Keeps one container as its pod's restart policy wants it; ``changed`` is called when its view has
    changed.
    """

    def __init__(
        self,
        container: Container,
        restart_policy: str,
        clock: Clock,
        changed: Callable[[], None],
        log_path: Path,
    ) -> None:
        self.container = container
        self.log_path = log_path
        self.ready = False
        self.restarts = 0
        self._policy = restart_policy
        self._clock = clock
        self._changed = changed
        self._state: State = Waiting()
        self._last: Terminated | None = None
        self._process: Child | Adopted | None = None
        self._started_s = 0.0
        self._watch: asyncio.Task[None] | None = None
        self.due_s: float | None = clock.monotonic()  # when to start it; None: not at all

    @property
    def running(self) -> bool:
        """Whether its process runs, as far as we have heard."""
        return self._process is not None

    def view(self) -> ContainerView:
        """Return how the container is."""
        started = isinstance(self._state, Running)
        return ContainerView(
            self.container.name,
            self.container.image,
            self._state,
            self._last,
            self.ready and started,
            self.restarts,
            f"kubenet://{self._process.pid}" if self._process else "",
        )

    def record(self) -> ContainerRecord | None:
        """Return what the next agent has to know; None when there is no process to find."""
        process = identify(self._process.pid) if self._process else None
        if process is None or not isinstance(self._state, Running):
            return None
        return ContainerRecord(process, self._state.started_at, self.restarts)

    def adopt(self, found: ContainerRecord) -> None:
        """Take over a process that still runs; one that has ended meanwhile counts as an end."""
        self.restarts = found.restarts
        try:
            if not found.process.alive():
                raise NotFound(f"process {found.process.pid} has ended")
            self._begin(Adopted(found.process), found.started_at)
        except (NotFound, ProcessLookupError):
            self._ended(UNKNOWN_EXIT_CODE, found.started_at)

    async def start(self, launch: Callable[[], Child]) -> None:
        """Start the container; ``launch`` blocks. A failure is its state, and tried again later."""
        if self._last is not None or self.restarts:
            self.restarts += 1
        try:
            process = await asyncio.to_thread(launch)
        except KubenetError as error:
            self.fail("CreateContainerError", error)
        else:
            self._begin(process, rfc3339(self._clock.now()))

    def fail(self, reason: str, error: KubenetError) -> None:
        """Wait, and say why."""
        said = f"{error.message}; {error.next_step}" if error.next_step else error.message
        log.warning("container %s: %s", self.container.name, said)
        self._state = Waiting(reason, said)
        self.due_s = self._clock.monotonic() + restart_delay_s(max(1, self.restarts))
        self.restarts += 1

    async def stop(self, grace_s: float) -> None:
        """Ask the container to end, and make it end when the grace is over."""
        self.due_s = None
        if self._watch is None or self._process is None:
            return
        self._process.signal(signal.SIGTERM)
        _, pending = await asyncio.wait([self._watch], timeout=grace_s)
        if pending and self._process is not None:
            await asyncio.to_thread(self._process.terminate, 0.0)
            await asyncio.wait([self._watch], timeout=5.0)

    def close(self) -> None:
        """Stop watching; the process goes on."""
        if self._watch is not None:
            self._watch.cancel()

    def _begin(self, process: Child | Adopted, started_at: str) -> None:
        self._process, self._state, self.due_s = process, Running(started_at), None
        self._started_s = self._clock.monotonic()
        self.ready = self.container.readiness_probe is None
        self._watch = asyncio.ensure_future(self._wait(process, started_at))

    async def _wait(self, process: Child | Adopted, started_at: str) -> None:
        status = await process.exited()
        self._ended(exit_code(status), started_at)
        self._changed()

    def _ended(self, code: int, started_at: str) -> None:
        now_s = self._clock.monotonic()
        self._process, self.ready = None, False
        said = last_words(self.log_path) if code else ""
        self._last = Terminated(code, started_at, rfc3339(self._clock.now()), said)
        if not starts_again(self._policy, code):
            self._state, self.due_s = self._last, None
            return
        forgiven = now_s - self._started_s > FORGIVEN_AFTER_S
        delay_s = 0.0 if forgiven else restart_delay_s(self.restarts)
        self.due_s = now_s + delay_s
        back_off = f"back-off {delay_s:g} s before restart {self.restarts + 1}"
        self._state = Waiting("CrashLoopBackOff", back_off) if delay_s else self._last


def last_words(log_path: Path) -> str:
    """Return the last line of a log: what a container said before it failed."""
    try:
        with log_path.open("rb") as stream:
            stream.seek(max(0, log_path.stat().st_size - LAST_WORDS_BYTES))
            lines = stream.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
