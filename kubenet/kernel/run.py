"""Start other programs: the only door to ``subprocess``.

Programs are looked up in a fixed list of directories and get a small fixed environment, so that what runs
does not depend on who started us. There is never a shell. A program that shall live in a namespace is forked
while the calling thread is inside it.
"""

import asyncio
import errno
import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from kubenet.errors import NotFound, NotPermitted, ProgramFailed, ProgramMissing, TimedOut
from kubenet.kernel.netns import NetNs

DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
PATH = ":".join(DIRECTORIES)
ENVIRONMENT: Mapping[str, str] = MappingProxyType({"PATH": PATH, "LANG": "C.UTF-8"})

# The Debian package that holds a program of another name.
_PACKAGES = {
    "bridge": "iproute2",
    "dig": "bind9-dnsutils",
    "ip": "iproute2",
    "ip6tables": "iptables",
    "ip6tables-legacy-restore": "iptables",
    "ip6tables-legacy-save": "iptables",
    "ip6tables-nft-restore": "iptables",
    "ip6tables-nft-save": "iptables",
    "iptables-legacy-restore": "iptables",
    "iptables-legacy-save": "iptables",
    "iptables-nft-restore": "iptables",
    "iptables-nft-save": "iptables",
    "ip6tables-restore": "iptables",
    "ip6tables-save": "iptables",
    "iptables-restore": "iptables",
    "iptables-save": "iptables",
    "kubectl": "kubernetes-client",
    "modprobe": "kmod",
    "nft": "nftables",
    "nsenter": "util-linux",
    "ping": "iputils-ping",
    "python3": "python3",
    "sysctl": "procps",
    "tc": "iproute2",
}
_PACKAGES_OF_THE_SAME_NAME = frozenset(
    {"conntrack", "curl", "ethtool", "gcc", "ipset", "iptables", "strace", "tcpdump"}
)


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program left behind."""

    returncode: int
    stdout: bytes
    stderr: bytes


class Child:
    """A running program. ``pidfd`` becomes readable when it has ended, so an event loop can watch it."""

    __slots__ = ("_popen", "_session", "pid", "pidfd", "program")

    def __init__(self, popen: "subprocess.Popen[bytes]", program: str, session: bool) -> None:
        self._popen = popen
        self._session = session
        self.program = program
        self.pid = popen.pid
        # Nobody has waited for the child yet, so the number cannot belong to another process.
        self.pidfd = os.pidfd_open(popen.pid)

    def poll(self) -> int | None:
        """Return the exit status (minus the signal's number if one ended it), or None while it runs."""
        status = self._popen.poll()
        if status is not None:
            self._close()
        return status

    def wait(self, timeout_s: float) -> int:
        """Return the exit status. Raises TimedOut; the program then still runs."""
        if self._popen.returncode is None and not self._ended_within(timeout_s):
            raise TimedOut(f"{self.program} (pid {self.pid}): still running after {timeout_s:g} s")
        status = self._popen.wait()  # at once: it has ended
        self._close()
        return status

    async def exited(self) -> int:
        """Return the exit status once the program has ended; other tasks run meanwhile."""
        if (status := self.poll()) is not None:
            return status
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        # A descriptor of its own: whoever reaps the child in another thread closes ``pidfd``.
        watched = os.dup(self.pidfd)
        loop.add_reader(watched, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(watched)
            os.close(watched)
        return self.wait(timeout_s=1.0)

    def signal(self, number: int) -> None:
        """Send a signal to the program itself; one that has ended is left alone."""
        if self._popen.returncode is None:
            signal.pidfd_send_signal(self.pidfd, number)

    def terminate(self, grace_s: float) -> int:
        """Ask the program to end, kill it after ``grace_s``, and return its exit status.

        With a session of its own, all that it started and that stayed in its process group ends with it.
        """
        if self._popen.returncode is None:
            self._signal_group(signal.SIGTERM)
            self._ended_within(grace_s)
            # Also after a willing end: the unreaped leader still keeps the group's number from being reused.
            self._signal_group(signal.SIGKILL)
        return self.wait(timeout_s=10.0)

    def _signal_group(self, number: int) -> None:
        if not self._session:
            signal.pidfd_send_signal(self.pidfd, number)
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass  # all of them have ended
        except PermissionError:
            signal.pidfd_send_signal(self.pidfd, number)  # it changed its user; root never gets here

    def _ended_within(self, timeout_s: float) -> bool:
        """Wait without reaping: poll(2) says when the process is a zombie."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return bool(poller.poll(max(0.0, timeout_s) * 1000))

    def _close(self) -> None:
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)


def find(program: str) -> Path:
    """Return where ``program`` is. Raises ProgramMissing."""
    candidates = [Path(program)] if "/" in program else [Path(d, program) for d in DIRECTORIES]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    package = _PACKAGES.get(program, program if program in _PACKAGES_OF_THE_SAME_NAME else "")
    raise ProgramMissing(
        f"{program}: no such program" + ("" if "/" in program else f" in {PATH}"),
        f"apt-get install {package}" if package else "",
    )


def run(
    argv: Sequence[str | Path],
    *,
    netns: NetNs | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
    check: bool = True,
) -> Completed:
    """Run a program to its end. ``env`` None means a PATH and LANG of our own.

    Raises ProgramMissing, TimedOut (the program has been killed), ProgramFailed unless ``check`` is False.
    """
    program = Path(argv[0]).name
    popen = _popen(argv, netns, env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with popen:
        try:
            stdout, stderr = popen.communicate(stdin, timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"{program}: still running after {timeout_s:g} s, killed") from error
        finally:
            popen.kill()
    if check and popen.returncode != 0:
        raise ProgramFailed(f"{program}: {describe_status(popen.returncode)}{_last_line(stderr)}")
    return Completed(popen.returncode, stdout, stderr)


def spawn(  # noqa: PLR0913 - mirrors what a process is made of
    argv: Sequence[str | Path],
    *,
    netns: NetNs | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    new_session: bool = True,
    cwd: Path | None = None,
) -> Child:
    """Start a program and return at once. Streams are descriptors; None means /dev/null.

    Raises ProgramMissing, NotFound (``cwd``), NotPermitted, ProgramFailed (not an executable format).
    """
    popen = _popen(
        argv,
        netns,
        env,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.DEVNULL if stdout is None else stdout,
        stderr=subprocess.DEVNULL if stderr is None else stderr,
        pass_fds=pass_fds,
        start_new_session=new_session,
        cwd=cwd,
    )
    return Child(popen, Path(argv[0]).name, new_session)


def _popen(  # noqa: PLR0913
    argv: Sequence[str | Path],
    netns: NetNs | None,
    env: Mapping[str, str] | None,
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    pass_fds: Sequence[int] = (),
    start_new_session: bool = False,
    cwd: Path | None = None,
) -> "subprocess.Popen[bytes]":
    path = find(str(argv[0]))
    try:
        with netns.entered() if netns else nullcontext():
            return subprocess.Popen(
                [str(word) for word in argv],
                executable=path,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=dict(ENVIRONMENT if env is None else env),
                pass_fds=tuple(pass_fds),
                start_new_session=start_new_session,
                cwd=cwd,
            )
    except (
        FileNotFoundError
    ) as error:  # the program was there a moment ago: a directory or interpreter is not
        raise NotFound(f"{argv[0]}: cannot start: {error.filename}: no such file or directory") from error
    except PermissionError as error:
        raise NotPermitted(f"{argv[0]}: cannot start: {error.strerror}") from error
    except OSError as error:
        if error.errno not in (errno.ENOEXEC, errno.E2BIG, errno.EAGAIN, errno.ENOMEM):
            raise
        raise ProgramFailed(f"{argv[0]}: cannot start: {error.strerror}") from error


def describe_status(returncode: int) -> str:
    """Return an exit status in words."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"ended by signal {-returncode}"


def _last_line(stderr: bytes) -> str:
    """Return the last line that says something; nft follows its error by a drawing of where it was."""
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip(" ^~\t")]
    errors = [line for line in lines if line.lower().startswith("error")]
    return f": {(errors or lines)[-1]}" if lines else ""
