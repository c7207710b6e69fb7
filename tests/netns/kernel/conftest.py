"""Namespaces of a test's own, gone when it ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.rtnl import Rtnl


@pytest.fixture
def netns() -> Iterator[NetNs]:
    """An empty namespace."""
    with NetNs.unnamed() as made:
        yield made


@pytest.fixture
def other_netns() -> Iterator[NetNs]:
    """Another empty namespace."""
    with NetNs.unnamed() as made:
        yield made


@pytest.fixture
def rtnl(netns: NetNs) -> Iterator[Rtnl]:
    """A connection to ``netns``."""
    with Rtnl(netns) as opened:
        yield opened


@pytest.fixture
def pin(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Return paths to pin namespaces at; whatever is pinned there is unpinned afterwards."""
    with ExitStack() as undo:

        def path_of(name: str) -> Path:
            undo.callback(unpin, tmp_path / name)
            return tmp_path / name

        yield path_of
