"""Consistent hashing: even shares, and few clients that move."""

from collections import Counter
from fractions import Fraction
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.apply_nft import NftBackend
from proxy.compile_nft import compile_nft
from proxy.maglev import SIZES, size_for, table
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Balance, Endpoint, NodeNetwork, ServicePort, ServicePortName
from proxy.simulate import Arrives, Host, Packet
from proxy.simulate_nft import nft_chances
from proxy.track import BALANCE_ANNOTATION, TrackRules, track
from tests.unit.proxy.fake_nft import FakeNft
from tests.unit.proxy.objects import endpoint_slice, service

_ENDPOINTS = st.sets(st.binary(min_size=8, max_size=8), min_size=1, max_size=50).map(sorted).map(tuple)


@given(_ENDPOINTS)
def test_C_shares_are_even(endpoints: tuple[bytes, ...]) -> None:
    counts = Counter(table(endpoints))
    assert counts.keys() == set(endpoints)
    assert sum(counts.values()) == size_for(len(endpoints)) in SIZES
    assert max(counts.values()) - min(counts.values()) <= 1


@given(_ENDPOINTS.filter(lambda them: len(them) > 4), st.data())
def test_C_few_places_change_hands_when_one_goes(endpoints: tuple[bytes, ...], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(endpoints))
    before, after = table(endpoints), table(tuple(each for each in endpoints if each != gone))
    assert gone not in after
    moved = sum(old != new for old, new in zip(before, after, strict=True) if old != gone)
    assert moved <= len(before) * 0.35  # taking the hash modulo the number would move most of them


@given(_ENDPOINTS)
def test_C_the_order_of_events_never_shows(endpoints: tuple[bytes, ...]) -> None:
    assert table(endpoints) == table(tuple(reversed(endpoints)))


def test_C_weights_count() -> None:
    counts = Counter(table((b"one", b"two", b"two")))
    assert 1.9 < counts[b"two"] / counts[b"one"] < 2.1


def test_C_nobody_has_no_places() -> None:
    assert table(()) == ()


def test_C_the_rules_lead_to_every_endpoint_by_its_places() -> None:
    endpoints = tuple(Endpoint(ip_address(f"10.244.1.{last}"), 8080) for last in (2, 3, 4))
    port = ServicePort(
        ServicePortName("demo", "web"),
        ip_address("10.96.0.1"),
        80,
        balance=Balance.CONSISTENT_HASH,
        endpoints=endpoints,
    )
    network = NodeNetwork(4, ip_network("10.244.0.0/16"))
    packet = Packet(ip_address("10.244.2.1"), port.cluster_ip, port.protocol, 80, "pod1")
    found = nft_chances(compile_nft(serve([port], Locality("here")), network), packet, Host())
    assert sum(found.values()) == 1
    assert {str(each.ip) for each in found if isinstance(each, Arrives)} == {
        str(each.ip) for each in endpoints
    }
    assert all(abs(share - Fraction(1, 3)) < Fraction(1, 200) for share in found.values())


@pytest.mark.parametrize("affinity_s", [0, 60])
def test_C_a_restart_finds_everything_and_a_change_of_mind_is_carried_out(affinity_s: int) -> None:
    def serving(balance: Balance, *lasts: int) -> tuple[ServingPort, ...]:
        endpoints = tuple(Endpoint(ip_address(f"10.244.1.{last}"), 8080) for last in lasts)
        name = ServicePortName("demo", "web")
        port = ServicePort(
            name, ip_address("10.96.0.1"), 80, balance=balance, affinity_s=affinity_s, endpoints=endpoints
        )
        return serve([port], Locality("here"))

    kernel, network = FakeNft(), NodeNetwork(4, ip_network("10.244.0.0/16"))
    backend = NftBackend(kernel, network)
    for balance in (Balance.CONSISTENT_HASH, Balance.RANDOM, Balance.CONSISTENT_HASH, Balance.ROUND_ROBIN):
        for lasts in ((2, 3), (3,), (2, 3, 4)):
            backend.apply(serving(balance, *lasts))
            backend = NftBackend(kernel, network)
            assert backend.apply(serving(balance, *lasts)).written == 0


@pytest.mark.parametrize("hashes", [True, False])
def test_C_a_backend_that_cannot_says_so_and_the_default_holds(hashes: bool) -> None:
    asked = service(annotations={BALANCE_ANNOTATION: "consistent-hash"})
    found = track([asked], [endpoint_slice("10.244.1.2")], TrackRules(hashes=hashes))
    (port,) = found.service_ports
    assert port.balance is (Balance.CONSISTENT_HASH if hashes else Balance.RANDOM)
    assert [each.reason for each in found.refused] == (
        []
        if hashes
        else [f"annotation {BALANCE_ANNOTATION}=consistent-hash needs the mode nftables; the default holds"]
    )
