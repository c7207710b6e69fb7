"""What every test may use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare ``text`` with the golden file ``name``; KUBENET_GOLDEN=write rewrites the file instead."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("KUBENET_GOLDEN") == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert text == path.read_text(), f"{name} differs; ./dev golden rewrites it, and the diff is reviewed"

    return check


@pytest.fixture
def fuzz_seconds() -> float:
    """How long a fuzz target runs: short in ./dev test, as long as asked in ./dev fuzz."""
    return float(os.environ.get("KUBENET_FUZZ_SECONDS", "2"))


@pytest.fixture
def soak_rounds() -> int:
    """How many rounds a soak test runs: ./dev soak [ROUNDS]."""
    return int(os.environ.get("KUBENET_SOAK_ROUNDS", "50"))


@pytest.fixture(autouse=True)
def _needs_root(request: pytest.FixtureRequest) -> None:
    """A test of the kernel without root is an error of how it was started, never a silent skip."""
    if os.geteuid() != 0 and any(request.node.get_closest_marker(mark) for mark in ("netns", "e2e", "soak")):
        pytest.fail("this test makes network namespaces: run it as root")
