"""Every behaviour of kube-proxy that the proxy promises has a test that is named after it.

The behaviours are numbered 1 to 78 in groups A1 to A7; a test carries the numbers in its name, as row48 or,
for several in a row, row28_to_row31.
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
_ROWS = re.compile(r"row(\d+)(?:_to_row(\d+))?")
# What a row says about packets is shown by packets; these speak of rules, objects or the API alone.
NO_PACKETS = {5, 13, 27, 33, 38, 53, 55, 62, 63, 65, 69, 71, 73, 76}


def named(folder: str) -> dict[int, set[str]]:
    """Return the tests of the proxy in ``folder``, by row."""
    found: dict[int, set[str]] = {}
    for path in (TESTS / folder / "proxy").glob("test_*.py"):
        for name in re.findall(r"\btest_\w+", path.read_text()):
            for first, last in _ROWS.findall(name):
                for row in range(int(first), int(last or first) + 1):
                    found.setdefault(row, set()).add(f"{path.name}::{name}")
    return found


UNIT, NETNS = named("unit"), named("netns")


@pytest.mark.parametrize("row", range(1, 79))
def test_a_row_has_a_test(row: int) -> None:
    assert UNIT.get(row) or NETNS.get(row)


@pytest.mark.parametrize("row", sorted(set(range(1, 79)) - NO_PACKETS))
def test_a_row_that_speaks_of_the_kernel_has_a_test_with_one(row: int) -> None:
    assert NETNS.get(row)
