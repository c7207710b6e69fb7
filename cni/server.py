"""The unix socket at which the shims call.

A shim sends one message: its CNI_ variables, each ended by a zero byte, and as descriptors its stdin,
stdout and stderr and, if it could open it, the pod's network namespace. It waits for one message: its exit
code in a byte, and what it has to print. A message of a SEQPACKET socket arrives whole or not at all, so
there is no framing, and whenever the agent dies, its answer has been given or it has not.

Threads wait in ``accept`` themselves: a request costs one wake-up, and no event loop that is busy with
something else delays it. Only root may call: the socket is in a directory that only its owner may enter, and
the kernel says who is calling.

Source: unix(7), cmsg(3).
"""

import errno
import fcntl
import logging
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from cni.spec import CniError, Code
from kubenet.errors import AlreadyExists, InvalidInput, KubenetError, NotPermitted
from kubenet.kernel.netns import NetNs

log = logging.getLogger(__name__)

PATH_BYTES = 107  # sun_path of linux/un.h without the closing NUL
BACKLOG = 512
MESSAGE_WITHIN_S = 1.0  # a shim sends at once
STREAM_WITHIN_S = 10.0
REQUEST_BYTES = 256 * 1024  # more than the kernel passes in one message
STDIN_BYTES = 1024 * 1024
ANSWER_BYTES = 128 * 1024  # what the shims read
_UCRED = struct.Struct("=iII")  # pid, uid, gid
_STREAMS = 3


class CallerGone(KubenetError):
    """The shim ended before it got its answer: nobody knows what was done."""


class Caller:
    """One shim that waits for its answer, with what it handed over."""

    def __init__(self, connection: socket.socket, environment: Mapping[str, str], fds: list[int]) -> None:
        self.environment = environment
        self._connection = connection
        self._fds = fds

    def stdin(self) -> bytes:
        """Return all that the runtime wrote there. Raises CniError when that cannot be read."""
        try:
            return _read_all(self._fds[0], time.monotonic() + STREAM_WITHIN_S)
        except OSError as error:
            raise CniError(Code.IO_FAILURE, f"stdin cannot be read: {error.strerror}", "stdin") from error

    def netns(self) -> NetNs | None:
        """Return the namespace that the shim could open, once. Raises NotFound when it is something else."""
        return NetNs.from_fd(self._fds.pop()) if len(self._fds) > _STREAMS else None

    def answer(self, stdout: bytes, exit_code: int) -> None:
        """Let the shim print this and end. Raises CallerGone, CniError for more than a message can hold."""
        if len(stdout) >= ANSWER_BYTES:
            raise CniError(Code.IO_FAILURE, f"a result of {len(stdout)} bytes cannot be told", "prevResult")
        try:
            self._connection.send(bytes([exit_code]) + stdout)
        except OSError as error:
            raise CallerGone(f"the caller is gone: {error.strerror}") from error

    def close(self) -> None:
        self._connection.close()
        for fd in self._fds:
            os.close(fd)


class Server:
    """Listens from its making on; ``start`` lets threads work off the calls until ``stop``."""

    def __init__(self, path: Path, serve: Callable[[Caller], None], workers: int) -> None:
        self.path = path
        self._serve = serve
        self._workers = workers
        try:
            self._lock_fd = _own_directory(path.parent)
            try:
                self._socket = _listen(path)
            except BaseException:
                os.close(self._lock_fd)
                raise
        except OSError as error:
            raise KubenetError(
                f"{path}: cannot serve there: {error.strerror}", "use another --socket"
            ) from error
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="cni")

    def start(self) -> "list[Future[None]]":
        """Let the threads begin. A future that ends with an exception tells of a bug."""
        return [self._pool.submit(self._work) for _ in range(self._workers)]

    def stop(self) -> None:
        """Take no more calls, wait for those that are under way, remove the socket."""
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes all who wait in accept
        self._pool.shutdown()
        self._socket.close()
        self.path.unlink(missing_ok=True)
        os.close(self._lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _work(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return
                raise
            caller = _receive(connection)
            if caller is None:
                continue
            try:
                self._serve(caller)
            except CallerGone as error:
                log.warning("cni: %s: %s", caller.environment.get("CNI_COMMAND"), error)
            finally:
                caller.close()


def _receive(connection: socket.socket) -> Caller | None:
    """Return the caller, or None if it may not call or does not speak our protocol; it is then hung up."""
    fds: list[int] = []
    try:
        pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid != 0:
            raise NotPermitted(f"process {pid} of user {uid} may not call")
        connection.settimeout(MESSAGE_WITHIN_S)
        message, fds, flags, _ = socket.recv_fds(
            connection, REQUEST_BYTES, _STREAMS + 1, socket.MSG_CMSG_CLOEXEC
        )
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(fds) < _STREAMS:
            raise InvalidInput(
                f"process {pid} sent {len(message)} bytes and {len(fds)} descriptors: no request"
            )
    except (OSError, KubenetError) as error:
        log.warning("cni: call refused: %s", error)
        Caller(connection, {}, fds).close()
        return None
    return Caller(connection, parse_variables(message), fds)


def parse_variables(message: bytes) -> dict[str, str]:
    """Return the variables of a message; what is no UTF-8 is no valid value either, and is refused later."""
    entries = (entry.decode(errors="replace").partition("=") for entry in message.split(b"\0") if entry)
    return {key: value for key, _, value in entries}


def _claim(path: Path) -> tuple[int, socket.socket]:
    """Return the lock of the socket's directory, and the listening socket.

    Raises NotPermitted, AlreadyExists, InvalidInput, KubenetError for what the file system refuses.
    """
    with ExitStack() as undo:
        try:
            lock_fd = _own_directory(path.parent)
            undo.callback(os.close, lock_fd)
            listening = _listen(path)
        except OSError as error:
            why = f"{path}: cannot serve there: {error.strerror}"
            raise KubenetError(why, "give the agent another --socket") from error
        undo.pop_all()
    return lock_fd, listening


def _own_directory(directory: Path) -> int:
    """Make the socket's directory ours alone and return the lock that says that an agent serves there.

    Raises NotPermitted when it belongs to somebody else, AlreadyExists when another agent serves.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o022:
            raise NotPermitted(
                f"{directory}: belongs to user {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o}",
                "others could answer in our place: give the directory to root alone",
            )
        os.fchmod(fd, 0o700)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise AlreadyExists(f"{directory}: another agent serves here", "stop it first") from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _listen(path: Path) -> socket.socket:
    """Return a listening socket at ``path``, put in the place of one that a dead agent has left."""
    if len(os.fsencode(path)) > PATH_BYTES:
        raise InvalidInput(
            f"{path}: longer than the {PATH_BYTES} bytes of a socket's path", "use a shorter one"
        )
    draft = path.with_name(f"{path.name[:-1]}~")  # no longer than the path itself
    draft.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listening.bind(str(draft))
        draft.chmod(0o600)
        listening.listen(BACKLOG)
        draft.rename(path)
    except BaseException:
        listening.close()
        raise
    return listening


def _read_all(fd: int, until: float) -> bytes:
    """Read to the end. The descriptor is the runtime's own, so it must not be made non-blocking."""
    chunks: list[bytes] = []
    room = STDIN_BYTES
    while room > 0:
        _wait(fd, select.POLLIN, until)
        chunk = os.read(fd, min(room, 65536))
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        room -= len(chunk)
    raise OSError(0, f"more than {STDIN_BYTES} bytes")


def _wait(fd: int, event: int, until: float) -> None:
    poller = select.poll()
    poller.register(fd, event)
    if not poller.poll(max(0.0, until - time.monotonic()) * 1000):
        raise TimeoutError(0, "nothing moved in time")
