"""A world for each test that asks for one."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.dns.world import World, running_world


@pytest.fixture
def world() -> Iterator[World]:
    directory = Path(f"/run/kubenet-test-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        with running_world(directory) as made:
            yield made
    finally:
        if directory.exists():
            directory.rmdir()
