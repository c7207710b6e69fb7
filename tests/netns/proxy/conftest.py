"""A world for each test that asks for one."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.proxy.world import World, running_world


@pytest.fixture(autouse=True)
def _own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of the legacy iptables is one file for all namespaces: leave the machine's alone."""
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "xtables.lock"))


@pytest.fixture
def world() -> Iterator[World]:
    directory = Path(f"/run/kubenet-test-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        with running_world(directory) as made:
            yield made
    finally:
        if directory.exists():
            directory.rmdir()
