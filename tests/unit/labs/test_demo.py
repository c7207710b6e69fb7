"""What the demo accepts as proof."""

import pytest

from labs.demo import is_round_robin


@pytest.mark.parametrize(
    ("order", "holds"),
    [
        pytest.param("abcdabcdabcd", True, id="three turns"),
        pytest.param("cdabcdab", True, id="begins in the middle"),
        pytest.param("abcdabdc", False, id="two swapped"),
        pytest.param("aabbccdd", False, id="even, but no rotation"),
        pytest.param("abc", False, id="too short to tell"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_round_robin_shows_each_backend_once_in_every_window(order: str, holds: bool) -> None:
    assert is_round_robin(tuple(order), backends=4) is holds
