"""Where a lab keeps what it made, and how all of it goes away.

Everything of a lab is below one directory on tmpfs, ``/run/kubenet/labs/NAME``: the pinned namespaces of its
wire, nodes and pods, the API server's store, logs, sockets. The ledger file in it names the *keeper*, the
process that runs the lab's daemons, and is written before anything is made. So ``take_down`` needs no
co-operation: it ends the keeper, ends every process inside the lab's namespaces (they are known by inode),
lets go of the namespaces, with which their links, addresses and rules vanish, and removes the directory. It
works the same after ``kill -9`` of the keeper at any moment, and a reboot has wiped everything anyway.

Nothing is ever found by a name pattern: a namespace belongs to the lab because it is pinned inside the lab's
directory.
"""

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kubenet.errors import AlreadyExists, KubenetError, NotFound, NotPermitted
from kubenet.kernel.mounts import pinned_namespaces
from kubenet.kernel.netns import pids_in, unpin
from kubenet.kernel.process import ProcessId, end, identify, session_of

LABS = Path("/run/kubenet/labs")

# Killing may race with a process that is just starting another one; each round finds what the last one left.
KILL_ROUNDS = 20

_LAB_NAME = re.compile(r"[a-z0-9-]{1,32}")


class Ledger(msgspec.Struct, frozen=True):
    """What ``ledger.json`` says."""

    name: str
    nodes: tuple[str, ...]
    keeper: ProcessId | None = None
    server: str = ""  # URL of the API server, once it answers
    phase: str = "starting"  # starting, ready, failed

    @property
    def running(self) -> bool:
        """Whether the keeper lives."""
        return self.keeper is not None and self.keeper.alive()


@dataclass(frozen=True, slots=True)
class LabDirectory:
    """The paths of one lab."""

    name: str
    root: Path = LABS

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.json"

    @property
    def store(self) -> Path:
        return self.path / "state.db"

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    @property
    def switchboard(self) -> Path:
        """Where the keeper takes orders."""
        return self.path / "keeper.sock"

    @property
    def log(self) -> Path:
        return self.path / "keeper.log"

    def netns(self, name: str) -> Path:
        """Return where the namespace of the wire or of a node is pinned."""
        return self.path / "netns" / name

    def node(self, name: str) -> Path:
        """Return where a node keeps its state."""
        return self.path / "nodes" / name


def claim(lab: LabDirectory, ledger: Ledger) -> None:
    """Make the lab's directory with its ledger: from now on the name is taken.

    Raises AlreadyExists, NotPermitted.
    """
    try:
        lab.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        lab.path.mkdir(mode=0o700)
    except FileExistsError:
        raise AlreadyExists(
            f"lab {lab.name!r}: the name is taken",
            f"kubenet lab down --name {lab.name}, or choose another --name",
        ) from None
    except PermissionError as error:
        raise NotPermitted(f"{lab.path}: {error.strerror}", "run the command as root") from error
    write(lab, ledger)


def write(lab: LabDirectory, ledger: Ledger) -> None:
    """Replace the ledger in one step."""
    fresh = lab.ledger.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(ledger))
    fresh.rename(lab.ledger)


def read(lab: LabDirectory) -> Ledger:
    """Return what the lab's ledger says. Raises NotFound."""
    try:
        return msgspec.json.decode(lab.ledger.read_bytes(), type=Ledger)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"lab {lab.name!r}: no such lab", "kubenet lab list") from None
    except PermissionError as error:
        raise NotPermitted(f"{lab.ledger}: {error.strerror}", "run the command as root") from error
    except msgspec.DecodeError as error:
        raise KubenetError(
            f"{lab.ledger}: damaged: {error}",
            f"kubenet lab down --name {lab.name} removes the lab all the same",
        ) from error


def names(root: Path = LABS) -> list[str]:
    """Return the labs of this machine."""
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir())


def take_down(lab: LabDirectory) -> None:
    """Remove a lab, whatever state it is in.

    Raises NotFound, and KubenetError if a process cannot be ended.
    """
    if not _LAB_NAME.fullmatch(lab.name) or not lab.path.is_dir():
        raise NotFound(f"lab {lab.name!r}: no such lab", "kubenet lab list")
    _end_keeper(lab)
    namespaces = pinned_namespaces(lab.path)
    _end_processes(lab, {_inode(path) for path in namespaces})
    for path in namespaces:
        unpin(path)
    shutil.rmtree(lab.path)
    _remove_empty(lab.root, lab.root.parent)


def _end_keeper(lab: LabDirectory) -> None:
    try:
        keeper = read(lab).keeper
    except KubenetError:  # a damaged ledger is no reason to leave the rest behind
        return
    if keeper is None:
        return
    _must_end([keeper], lab)
    # What it had running in the machine's own namespace (a compiler, a restore) is of its session.
    for _ in range(KILL_ROUNDS):
        if not (orphans := session_of(keeper)):
            return
        _must_end(orphans, lab)


def _end_processes(lab: LabDirectory, inodes: set[int]) -> None:
    for _ in range(KILL_ROUNDS):
        found = [process for pid in pids_in(inodes) if (process := identify(pid)) is not None]
        if not found:
            return
        _must_end(found, lab)
    raise KubenetError(
        f"lab {lab.name!r}: processes keep appearing in its namespaces",
        "end what starts them, then run the command again",
    )


def _must_end(processes: list[ProcessId], lab: LabDirectory) -> None:
    if stuck := end(processes):
        pids = ", ".join(str(process.pid) for process in stuck)
        raise KubenetError(f"lab {lab.name!r}: cannot end process {pids}", "run the command again")


def _inode(path: Path) -> int:
    return path.stat().st_ino


def _remove_empty(*directories: Path) -> None:
    for directory in directories:
        with suppress(OSError):  # another lab, or an agent of the machine's own, lives there
            os.rmdir(directory)  # noqa: PTH106 - only ever an empty one
