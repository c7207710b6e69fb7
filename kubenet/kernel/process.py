"""Processes by identity: a number alone may belong to somebody else a moment later.

A process is named by its number *and* the moment it started, and a signal goes through a pidfd, so that
nothing is ever sent to a stranger that got the number of something of ours.

Source: proc_pid_stat(5) field 22, pidfd_open(2), pidfd_send_signal(2).
"""

import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process of this boot, for ever."""

    pid: int
    started_ticks: int  # since boot, as the kernel counts them

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return identify(self.pid) == self


def identify(pid: int) -> ProcessId | None:
    """Return the identity of the process that has this number now, or None if there is none that runs."""
    fields = _stat(pid)
    return ProcessId(pid, int(fields[19])) if fields else None


def session_of(leader: ProcessId) -> list[ProcessId]:
    """Return the processes of the session that ``leader`` began, itself included if it runs.

    A session keeps its number as long as it has members, so if somebody else has the
    number by now, it is empty.
    """
    if identify(leader.pid) not in (None, leader):
        return []
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - no path object for each of a thousand names
        if entry.isdecimal() and (fields := _stat(int(entry))) and int(fields[3]) == leader.pid:
            found.append(ProcessId(int(entry), int(fields[19])))
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of a process from its state on; none for a process that has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The second field is the program's name in parentheses, and may hold anything, parentheses too.
    fields = stat.rpartition(")")[2].split()
    return [] if fields[0] in "ZX" else fields


def own_identity() -> ProcessId:
    """Return the identity of this process."""
    identity = identify(os.getpid())
    assert identity is not None
    return identity


def end(processes: Iterable[ProcessId], *, grace_s: float = 0.0) -> list[ProcessId]:
    """Make processes end and return those that are still there after all (stuck in the kernel).

    With a grace they are asked first (SIGTERM) and killed when it is over.
    """
    left = list(processes)
    if grace_s:
        left = _signalled(left, signal.SIGTERM, grace_s)
    return _signalled(left, signal.SIGKILL, 5.0)


def _signalled(processes: list[ProcessId], number: int, wait_s: float) -> list[ProcessId]:
    deadline = time.monotonic() + wait_s
    opened = [(process, fd) for process in processes if (fd := _open(process)) is not None]
    left = []
    try:
        for _, fd in opened:
            try:
                signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                continue
        for process, fd in opened:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                left.append(process)
    finally:
        for _, fd in opened:
            os.close(fd)
    return left


def _open(process: ProcessId) -> int | None:
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if identify(process.pid) != process:  # the number was given to another process before we had hold of it
        os.close(fd)
        return None
    return fd
