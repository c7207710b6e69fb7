"""Buckets of limits, as values."""

import pytest

from cni.shaping import buckets, shaper_ifname, unshaped
from ipam.record import Bandwidth
from kubenet.model.bucket import Bucket


@pytest.mark.parametrize(
    ("rate", "burst", "want"),
    [
        pytest.param(0, 10**9, None, id="a burst alone is no limit"),
        pytest.param(8_000_000, 8_000_000, Bucket(1_000_000, 1_000_000, 1_025_000), id="as asked"),
        pytest.param(80_000_000, 2**32 - 1, Bucket(10_000_000, 500_000, 750_000), id="a runtime knows none"),
        pytest.param(80_000_000, 0, Bucket(10_000_000, 500_000, 750_000), id="none is asked for"),
        pytest.param(8_000, 800, Bucket(1_000, 65_536, 65_561), id="one large packet passes always"),
    ],
)
def test_P1_a_bucket_for_each_limit(rate: int, burst: int, want: Bucket | None) -> None:
    assert buckets(Bandwidth(ingress_rate=rate, ingress_burst=burst)) == (want, None)
    assert buckets(Bandwidth(egress_rate=rate, egress_burst=burst)) == (None, want)


def test_C2_what_does_not_hold_is_said() -> None:
    both = Bandwidth(8_000, 0, 16_000, 0)
    host = "k0123456789abcd"
    held = {host: 1_000, shaper_ifname(host): 2_000}
    assert list(unshaped(host, both, held, True)) == []
    assert len(list(unshaped(host, both, held, False))) == 1
    assert len(list(unshaped(host, both, {}, True))) == 2
