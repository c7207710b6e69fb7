"""The law of diff."""

from hypothesis import given
from hypothesis import strategies as st

from kubenet.diff import diff, patched

MAPPINGS = st.dictionaries(st.integers(0, 9), st.integers(0, 3))


@given(MAPPINGS, MAPPINGS)
def test_have_patched_with_the_difference_is_want(have: dict[int, int], want: dict[int, int]) -> None:
    change = diff(have, want)
    assert patched(have, change) == want
    assert bool(change) == (have != want)


@given(MAPPINGS, MAPPINGS)
def test_no_key_is_in_two_parts(have: dict[int, int], want: dict[int, int]) -> None:
    change = diff(have, want)
    parts = (change.added.keys(), change.changed.keys(), change.removed.keys())
    assert sum(map(len, parts)) == len(set().union(*parts))
