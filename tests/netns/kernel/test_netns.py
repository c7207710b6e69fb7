"""Namespaces are made, entered, pinned and let go, and no thread ends up where it did not begin."""

import ctypes
import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kubenet.errors import AlreadyExists, KernelLacks, KubenetError, NotFound, NotPermitted, TimedOut
from kubenet.kernel import netns as module
from kubenet.kernel.netns import NetNs, pids_in, unpin
from kubenet.kernel.run import run, spawn
from kubenet.kernel.vanish import Vanishing

pytestmark = pytest.mark.netns

Pin = Callable[[str], Path]
ROOT = Path(__file__).parents[3]


def own_inode() -> int:
    with NetNs.current() as here:
        return here.inode


def open_fds() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


def test_a_new_namespace_is_pinned_and_empty(pin: Pin) -> None:
    before = own_inode()
    with NetNs.create(pin("a")) as made:
        assert own_inode() == before != made.inode
        with made.entered():
            assert own_inode() == made.inode
            assert interfaces() == ["lo"]
        assert own_inode() == before
        with NetNs.open(pin("a")) as again:
            assert again.inode == made.inode


def test_missing_parent_directories_are_made(pin: Pin) -> None:
    with NetNs.create(pin("deep/down/a")) as made, NetNs.open(pin("deep/down/a")) as again:
        assert again.inode == made.inode


def test_a_taken_path_is_refused_and_left_alone(pin: Pin) -> None:
    with NetNs.create(pin("a")) as made:
        with pytest.raises(AlreadyExists, match="a: exists already"):
            NetNs.create(pin("a"))
        with NetNs.open(pin("a")) as again:
            assert again.inode == made.inode


def test_a_file_that_is_taken_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(AlreadyExists):
        NetNs.create(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "mine"


class FailingLibc:
    """The C library, with one function that fails."""

    def __init__(self, real: ctypes.CDLL, function: str, code: int) -> None:
        self._real = real
        self._function = function
        self._code = code

    def __getattr__(self, name: str) -> Callable[..., int]:
        if name != self._function:
            found: Callable[..., int] = getattr(self._real, name)
            return found

        def fail(*_: object) -> int:
            ctypes.set_errno(self._code)
            return -1

        return fail


@pytest.mark.parametrize(
    ("function", "code", "error"),
    [
        pytest.param("unshare", errno.EPERM, NotPermitted, id="not root"),
        pytest.param("unshare", errno.EINVAL, KernelLacks, id="a kernel without namespaces"),
        pytest.param("unshare", errno.ENOSPC, KubenetError, id="too many namespaces"),
        pytest.param("mount", errno.EPERM, NotPermitted, id="mounting refused"),
        pytest.param("mount", errno.ENOMEM, KubenetError, id="mounting failed"),
    ],
)
def test_a_making_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int, error: type[KubenetError]
) -> None:
    before, fds = own_inode(), open_fds()
    monkeypatch.setattr(module, "_libc", FailingLibc(module._libc, function, code))
    with pytest.raises(error, match="cannot "):
        NetNs.create(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    assert own_inode() == before
    assert open_fds() == fds


def test_without_privileges_the_next_step_is_named() -> None:
    code = (  # the imports come first: who has no privileges may not be able to read them
        "import os, sys\n"
        "from pathlib import Path\n"
        "from kubenet.kernel.netns import NetNs\n"
        "from kubenet.errors import NotPermitted\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "path = Path(sys.argv[1], 'a')\n"
        "try: NetNs.create(path)\n"
        "except NotPermitted as error: print(error, '|', error.next_step, '|', path.exists())\n"
    )
    with TemporaryDirectory() as directory:  # pytest's own is closed to others
        Path(directory).chmod(0o777)
        result = run([sys.executable, "-c", code, directory], check=False, env={"PYTHONPATH": str(ROOT)})
    said = (result.stdout + result.stderr).decode().strip()
    assert said.endswith("needs root | run the command as root, for example with sudo | False")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/nonexistent/ns", id="nothing"),
        pytest.param("/etc/passwd", id="a file"),
        pytest.param("/etc/passwd/ns", id="below a file"),
        pytest.param("/tmp", id="a directory"),
        pytest.param("/proc/self/ns/mnt", id="a namespace of another kind"),
    ],
)
def test_only_a_network_namespace_is_opened(path: str) -> None:
    fds = open_fds()
    with pytest.raises(NotFound, match=path):
        NetNs.open(Path(path))
    assert open_fds() == fds


def test_a_descriptor_given_away_is_owned(netns: NetNs) -> None:
    fd = os.dup(netns.fd)
    with NetNs.from_fd(fd) as taken:
        assert taken.inode == netns.inode
        assert taken.fileno() == taken.fd == fd
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    taken.close()


def test_a_descriptor_of_something_else_is_refused_and_closed() -> None:
    fd = os.open("/etc/passwd", os.O_RDONLY)
    with pytest.raises(NotFound, match=f"descriptor {fd}: not a network namespace"):
        NetNs.from_fd(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_entering_nests_and_an_error_leads_out(netns: NetNs, other_netns: NetNs) -> None:
    before = own_inode()
    with pytest.raises(ZeroDivisionError), netns.entered():  # noqa: PT012 - where we are is the test
        with other_netns.entered():
            assert own_inode() == other_netns.inode
        assert own_inode() == netns.inode
        with netns.entered():
            assert own_inode() == netns.inode
        raise ZeroDivisionError
    assert own_inode() == before


def test_entering_moves_the_calling_thread_only(netns: NetNs) -> None:
    before = own_inode()
    seen: list[int] = []
    inside, looked = threading.Event(), threading.Event()

    def enter() -> None:
        with netns.entered():
            seen.append(own_inode())
            inside.set()
            looked.wait()
        seen.append(own_inode())

    thread = threading.Thread(target=enter)
    thread.start()
    inside.wait()
    seen.append(own_inode())
    looked.set()
    thread.join()
    assert seen == [netns.inode, before, before]


def test_a_closed_namespace_is_not_entered() -> None:
    made = NetNs.unnamed()
    made.close()
    with pytest.raises(KubenetError, match="Bad file descriptor"), made.entered():
        pass


def test_a_socket_opened_inside_stays_inside(netns: NetNs) -> None:
    with netns.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen()
        port = listening.getsockname()[1]
        with socket.socket() as here, pytest.raises(ConnectionRefusedError):
            here.connect(("127.0.0.1", port))
        with NetNs.current() as here_ns, here_ns.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
            taken.bind(("0.0.0.0", port))  # the same port is free out here


def test_pids_in_finds_the_processes_of_a_namespace(netns: NetNs, other_netns: NetNs) -> None:
    children = [spawn(["sleep", "60"], netns=netns), spawn(["sleep", "60"], netns=other_netns)]
    try:
        assert pids_in({netns.inode}) == [children[0].pid]
        assert pids_in({netns.inode, other_netns.inode}) == sorted(child.pid for child in children)
        assert os.getpid() in pids_in([own_inode()])
    finally:
        for child in children:
            child.terminate(grace_s=1)
    assert pids_in({netns.inode}) == []


def test_unpinning_removes_the_file_and_may_be_repeated(pin: Pin) -> None:
    NetNs.create(pin("a")).close()
    unpin(pin("a"))
    assert not pin("a").exists()
    unpin(pin("a"))


def test_unpinning_removes_a_file_on_which_nothing_is_pinned(tmp_path: Path) -> None:
    (tmp_path / "a").touch()  # what a crash between making the file and the mount leaves
    unpin(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_namespace_vanishes_when_nothing_holds_it_any_more(pin: Pin) -> None:
    pinned, unnamed = NetNs.create(pin("a")), NetNs.unnamed()
    with Vanishing([pinned, unnamed]) as vanishing:
        unnamed.close()
        held = pinned.socket(socket.AF_INET, socket.SOCK_DGRAM)
        pinned.close()
        unpin(pin("a"))
        with pytest.raises(TimedOut, match=r"^1 namespaces are still there after 0"):
            vanishing.wait(timeout_s=0.1)
        held.close()
        vanishing.wait(timeout_s=10)
        vanishing.wait(timeout_s=0)
