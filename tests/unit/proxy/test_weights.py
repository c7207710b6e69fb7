"""Weights: who gets how many of a pool's places."""

from collections import Counter
from fractions import Fraction
from ipaddress import ip_address, ip_network

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.compile_iptables import compile_iptables
from proxy.compile_nft import compile_nft
from proxy.nft_seats import seated
from proxy.policy import Locality, serve
from proxy.ports import Balance, Endpoint, NodeNetwork, ServicePort, ServicePortName
from proxy.simulate import Arrives, Host, Packet, chances
from proxy.simulate_nft import nft_chances
from proxy.slices import WEIGHT_ANNOTATION
from proxy.track import track
from proxy.weights import MOST_PLACES, places
from tests.unit.proxy.objects import endpoint_slice, service


def pool(*weights: int) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(ip_address(f"10.244.1.{number}"), 8080, weight=weight)
        for number, weight in enumerate(weights, 2)
    )


@pytest.mark.parametrize(
    ("weights", "numbers"),
    [
        pytest.param((1, 1), [2, 3], id="the same"),
        pytest.param((7, 7), [2, 3], id="the same, not one"),
        pytest.param((3, 1), [2, 2, 3, 2], id="spread"),
        pytest.param((20, 40), [3, 2, 3], id="the smallest numbers that say it"),
        pytest.param((0, 1), [3], id="none"),
        pytest.param((0, 0), [2, 3], id="nobody has any"),
        pytest.param((), [], id="nobody"),
    ],
)
def test_C_places_by_weight(weights: tuple[int, ...], numbers: list[int]) -> None:
    assert [int(each.ip) & 255 for each in places(pool(*weights))] == numbers


@given(st.lists(st.integers(0, 100), min_size=1, max_size=40))
def test_C_shares_follow_the_weights_within_bounds(weights: list[int]) -> None:
    counts = Counter(int(each.ip) & 255 for each in places(pool(*weights)))
    found = [counts[number] for number in range(2, len(weights) + 2)]
    assert sum(found) <= max(MOST_PLACES, 0) + len(weights)
    if any(weights):
        assert [bool(count) for count in found] == [bool(weight) for weight in weights]
        for count, weight in zip(found, weights, strict=True):
            assert abs(count / sum(found) - weight / sum(weights)) <= 0.1


@given(
    st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=12),
    st.lists(st.sampled_from([b"a", b"b", b"c", b"d"]), max_size=12),
)
def test_C_seats_hold_everybody_as_often_as_wanted_and_move_few(
    before: list[bytes], want: list[bytes]
) -> None:
    seats = seated(want, tuple(before))
    assert Counter(seats) == Counter(want)
    kept = sum((Counter(before) & Counter(want)).values())
    moved = sum(old != new for old, new in zip(before, seats, strict=False))
    assert moved <= max(len(before), len(want)) - kept + max(0, len(before) - len(want))


@pytest.mark.parametrize("balance", [Balance.RANDOM, Balance.ROUND_ROBIN])
@pytest.mark.parametrize("affinity_s", [0, 60])
def test_C_the_rules_of_both_backends_give_the_shares(balance: Balance, affinity_s: int) -> None:
    port = ServicePort(
        ServicePortName("demo", "web"),
        ip_address("10.96.0.1"),
        80,
        balance=balance,
        affinity_s=affinity_s,
        endpoints=pool(1, 2, 3),
    )
    network = NodeNetwork(4, ip_network("10.244.0.0/16"))
    serving = serve([port], Locality("here"))
    packet = Packet(ip_address("10.244.2.1"), port.cluster_ip, port.protocol, 80, "pod1")
    for found in (
        chances(compile_iptables(serving, network), packet, Host()),
        nft_chances(compile_nft(serving, network), packet, Host()),
    ):
        shares: dict[int, Fraction] = {}
        for outcome, chance in found.items():
            assert isinstance(outcome, Arrives)
            last = int(outcome.ip) & 255
            shares[last] = shares.get(last, Fraction(0)) + chance
        assert shares == {2: Fraction(1, 6), 3: Fraction(1, 3), 4: Fraction(1, 2)}


@pytest.mark.parametrize(
    ("text", "weight", "refused"),
    [("3", 3, False), ("0", 0, False), ("101", 1, True), ("-1", 1, True), ("many", 1, True), ("", 1, True)],
)
def test_C_the_weight_stands_on_the_slice(text: str, weight: int, refused: bool) -> None:
    piece = endpoint_slice("10.244.1.2")
    meta = msgspec.structs.replace(piece.metadata, annotations={WEIGHT_ANNOTATION: text})
    weighed = msgspec.structs.replace(piece, metadata=meta)
    found = track([service()], [weighed])
    assert [each.weight for each in found.service_ports[0].endpoints] == [weight]
    assert bool(found.refused) is refused
