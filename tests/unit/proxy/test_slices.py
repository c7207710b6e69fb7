"""Slices are read once each, for as long as they are the same."""

from proxy.slices import SliceReader, SliceRules, endpoints_by_port
from tests.unit.proxy.objects import endpoint_slice


def test_P6_a_changed_slice_is_read_and_the_others_are_not() -> None:
    reader = SliceReader(SliceRules())
    slices = [endpoint_slice(f"10.244.1.{number}", name=f"web-{number}") for number in range(2, 6)]
    before = reader.read(slices)
    slices[1] = endpoint_slice("10.244.1.99", name="web-3")
    after = reader.read(slices)
    assert [new is old for new, old in zip(after, before, strict=True)] == [True, False, True, True]
    (endpoints,) = endpoints_by_port(after).values()
    assert [str(each) for each in endpoints] == [f"10.244.1.{last}:8080" for last in (2, 4, 5, 99)]


def test_a_slice_that_went_and_came_back_is_read_again() -> None:
    reader = SliceReader(SliceRules())
    piece = endpoint_slice("10.244.1.2")
    (first,) = reader.read([piece])
    assert reader.read([]) == ()
    (again,) = reader.read([piece])
    assert again is not first
    assert again == first
