"""How the end-to-end tests use the command, and what they look at."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubenet.kernel.mounts import pinned_namespaces
from labs import ledger

TIMEOUT_S = 100


def own(label: str) -> str:
    """Return the name of a lab that only this run of the tests has."""
    return f"t-{label}-{os.getpid()}"


def kubenet(*words: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would and return what it said."""
    done = subprocess.run(  # type: ignore[call-overload]  # options are passed on
        [sys.executable, "-m", "kubenet", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        **options,
    )
    assert isinstance(done, subprocess.CompletedProcess)
    if check:
        assert done.returncode == 0, (
            f"kubenet {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


@contextmanager
def lab(name: str, *options: str) -> Iterator[str]:
    """A lab that is up while the block runs."""
    kubenet("lab", "up", "--name", name, *options)
    try:
        yield name
    finally:
        if (ledger.LABS / name).exists():
            kubenet("lab", "down", "--name", name)


def leftovers(name: str) -> list[str]:
    """Return what there still is of a lab: namespaces, processes that were told its name, files."""
    path = ledger.LABS / name
    found = [str(pin) for pin in pinned_namespaces(path)]
    found += [str(path)] if path.exists() else []
    own = os.getpid()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != own:
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{ledger.LABS}/{name}/".encode() in words or f'"name":"{name}"'.encode() in words:
                found.append(f"process {entry.name}")
    return found
