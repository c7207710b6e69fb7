"""Who stays keeps the seat."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.nft_seats import seated

_pools = st.lists(st.binary(min_size=1, max_size=1), unique=True, max_size=12)


@given(_pools, _pools)
def test_everybody_sits_once_and_as_few_move_as_can_be(wanted: list[bytes], before: list[bytes]) -> None:
    seats = seated(wanted, tuple(before))
    assert sorted(seats) == sorted(wanted)
    stayers = [each for each in before[: len(wanted)] if each in wanted]
    assert all(seats[before.index(each)] == each for each in stayers)
