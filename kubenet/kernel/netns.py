"""Network namespaces: open, make, enter for an instant, pin, let go.

A socket belongs for ever to the namespace it was opened in, and a process to the one its parent thread was
in when it forked. So one process serves any number of namespaces without living in any of them: it enters for
the instant of opening a socket (``NetNs.socket``) or of starting a program (``run.spawn``) and is back before
the next line. ``setns`` moves the *calling thread* only; never await anything between entering and leaving.

A namespace lives as long as something holds it: a process, an open descriptor, a socket, or the bind mount
that ``create`` makes.

Source: namespaces(7), network_namespaces(7), setns(2), unshare(2), mount(2), ioctl_ns(2).
"""

import ctypes
import errno
import fcntl
import os
import socket
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from kubenet.errors import AlreadyExists, KernelLacks, KubenetError, NotFound, NotPermitted

CLONE_NEWNET = 0x40000000  # linux/sched.h
MS_BIND = 4096  # linux/mount.h
MNT_DETACH = 2
NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
OWN_NETNS = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
)


class NetNs:
    """An open descriptor of a network namespace; it keeps the namespace alive until it is closed."""

    __slots__ = ("_fd", "inode")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.inode = os.fstat(fd).st_ino

    @classmethod
    def current(cls) -> Self:
        """Return the namespace the calling thread is in."""
        return cls(_open_own())

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the namespace pinned at ``path``. Raises NotFound, also when something else is there."""
        return cls._owning(_open(path), str(path))

    @classmethod
    def create(cls, path: Path) -> Self:
        """Return a new namespace, pinned by a bind mount at ``path``; missing parent directories are made.

        The calling thread is back in its own namespace whatever happens, and a failure leaves no file.
        Raises AlreadyExists, NotPermitted, KernelLacks.
        """
        _make_mount_point(path)
        fd = -1
        try:
            fd = _new_namespace()
            _check(
                _libc.mount(_fd_path(fd), os.fsencode(path), None, MS_BIND, None),
                f"pin a namespace at {path}",
            )
        except BaseException:
            path.unlink(missing_ok=True)
            if fd >= 0:
                os.close(fd)
            raise
        return cls(fd)

    @classmethod
    def unnamed(cls) -> Self:
        """Return a new namespace that lives until this descriptor, and whatever is opened in it, is closed.

        Raises NotPermitted, KernelLacks.
        """
        return cls(_new_namespace())

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Return the namespace behind a descriptor, which from now on belongs to the result.

        Raises NotFound when it is a descriptor of something else; it is then closed.
        """
        return cls._owning(fd, f"descriptor {fd}")

    @classmethod
    def _owning(cls, fd: int, subject: str) -> Self:
        try:
            kind = fcntl.ioctl(fd, NS_GET_NSTYPE)
        except OSError:
            kind = 0  # not a namespace at all
        if kind != CLONE_NEWNET:
            os.close(fd)
            raise NotFound(f"{subject}: not a network namespace")
        return cls(fd)

    @property
    def fd(self) -> int:
        """The descriptor; -1 once closed."""
        return self._fd

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Let go of the namespace. Closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"NetNs(net:[{self.inode}])"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread, and no other, into this namespace until the block ends. May be nested."""
        with _entered(self._fd, repr(self)):
            yield

    def socket(self, family: int, kind: int, proto: int = 0) -> socket.socket:
        """Return a socket that belongs to this namespace for ever, wherever it is used."""
        with self.entered():
            return socket.socket(family, kind, proto)


def unpin(path: Path) -> None:
    """Remove the bind mount and the file that ``create`` made; a path that is not there is fine."""
    result = _libc.umount2(os.fsencode(path), MNT_DETACH)
    if result and ctypes.get_errno() not in (errno.ENOENT, errno.EINVAL):  # EINVAL: not a mount point
        _check(result, f"unpin {path}")
    path.unlink(missing_ok=True)


def pids_in(inodes: Container[int]) -> list[int]:
    """Return the processes whose main thread is in one of the namespaces, smallest pid first."""
    pids = [pid for pid in os.listdir("/proc") if pid.isdecimal()]  # noqa: PTH208 - names, not paths
    return sorted(int(pid) for pid in pids if _netns_inode(pid) in inodes)


def _netns_inode(pid: str) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino  # noqa: PTH116 - called for every process of the machine
    except OSError:
        return 0  # it is gone, or not ours to look at


def _new_namespace() -> int:
    """Return a descriptor of a fresh namespace, the calling thread being back where it was."""
    own = _open_own()
    try:
        _check(_libc.unshare(CLONE_NEWNET), "make a network namespace")
        try:
            return _open_own()
        finally:
            _return_to(own)
    finally:
        os.close(own)


@contextmanager
def _entered(fd: int, subject: str) -> Iterator[None]:
    own = _open_own()
    try:
        _check(_libc.setns(fd, CLONE_NEWNET), f"enter {subject}")
        try:
            yield
        finally:
            _return_to(own)
    finally:
        os.close(own)


def _return_to(own: int) -> None:
    """Bring the calling thread back. No KubenetError: who caught it would go on in a foreign namespace."""
    if _libc.setns(own, CLONE_NEWNET):
        raise RuntimeError(f"a thread cannot return to its namespace: {os.strerror(ctypes.get_errno())}")


def _open_own() -> int:
    try:
        return os.open(OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise KernelLacks(
            f"{OWN_NETNS} is missing: the kernel has no network namespaces, or /proc is not mounted",
            "use a kernel with CONFIG_NET_NS, and mount /proc",
        ) from error


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{path}: no such network namespace") from error
    except PermissionError as error:
        raise _not_permitted(f"open {path}") from error


def _make_mount_point(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o444, exist_ok=False)
    except (FileExistsError, NotADirectoryError) as error:
        raise AlreadyExists(f"{error.filename or path}: exists already") from error
    except PermissionError as error:
        raise _not_permitted(f"pin a namespace at {path}") from error


def _fd_path(fd: int) -> bytes:
    return b"/proc/self/fd/%d" % fd


def _check(result: int, act: str) -> None:
    """Turn the errno of a failed call into an error of ours."""
    if result == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.EPERM, errno.EACCES):
        raise _not_permitted(act)
    if code in (errno.ENOSYS, errno.EINVAL):
        raise KernelLacks(f"cannot {act}: {os.strerror(code)}", "use a kernel with CONFIG_NET_NS")
    raise KubenetError(f"cannot {act}: {os.strerror(code)}")


def _not_permitted(act: str) -> NotPermitted:
    return NotPermitted(f"cannot {act}: this needs root", "run the command as root, for example with sudo")
