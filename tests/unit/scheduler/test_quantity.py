"""Amounts as people write them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.errors import InvalidInput
from kubenet.scheduler.quantity import amount, parse_quantity


@pytest.mark.parametrize(
    ("resource", "written", "expected"),
    [
        pytest.param("cpu", "500m", 500, id="half a core"),
        pytest.param("cpu", "2", 2000, id="two cores"),
        pytest.param("cpu", 0.1, 100, id="a tenth of a core as a JSON number"),
        pytest.param("cpu", ".5", 500, id="no digit before the point"),
        pytest.param("cpu", "1n", 1, id="less than a thousandth is rounded up"),
        pytest.param("memory", "128Ki", 128 * 1024, id="Ki"),
        pytest.param("memory", "64Mi", 64 * 1024**2, id="Mi"),
        pytest.param("memory", "1.5Gi", 3 * 1024**3 // 2, id="a fraction of Gi"),
        pytest.param("memory", "1k", 1000, id="k is a thousand"),
        pytest.param("memory", "1M", 10**6, id="M"),
        pytest.param("memory", "2G", 2 * 10**9, id="G"),
        pytest.param("memory", "1E", 10**18, id="E alone is exa"),
        pytest.param("memory", "1E3", 1000, id="E with a number is an exponent"),
        pytest.param("memory", "12e-1", 2, id="a negative exponent, rounded up"),
        pytest.param("memory", 1048576, 1048576, id="a JSON number"),
        pytest.param("memory", "1000m", 1, id="thousandths of a byte"),
        pytest.param("pods", "110", 110, id="pods"),
    ],
)
def test_a_quantity_means(resource: str, written: str | float, expected: int) -> None:
    assert amount(resource, written) == expected


@pytest.mark.parametrize("written", ["", "x", "1x", "1 Gi", "-1", "1KI", "1K", "1e", ".", "1e999", "\u0661"])
def test_what_is_no_quantity_is_refused(written: str) -> None:
    with pytest.raises(InvalidInput, match="not a quantity"):
        amount("memory", written)


@given(st.integers(0, 10**12))
def test_whole_numbers_and_thousandths_agree(number: int) -> None:
    assert parse_quantity(f"{number * 1000}m") == parse_quantity(str(number)) == Fraction(number)
