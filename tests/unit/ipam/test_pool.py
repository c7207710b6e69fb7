"""The pool: who may have which address, and when it comes back."""

from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ipam.pool import AddressTaken, Pool, PoolExhausted, PoolRules
from kubenet.errors import InvalidInput
from kubenet.model.links import IPAddress

RANGE = IPv4Network("10.244.1.0/29")  # pods: .2 to .6


def last_octets(addresses: list[IPAddress]) -> list[int]:
    return [address.packed[-1] for address in addresses]


def test_network_gateway_and_broadcast_are_never_handed_out() -> None:
    pool = Pool(RANGE)
    assert last_octets([pool.allocate() for _ in range(pool.usable)]) == [2, 3, 4, 5, 6]
    assert str(pool.gateway) == "10.244.1.1/29"


def test_N7_an_exhausted_pool_names_its_range_and_count_and_the_next_free_address_works_at_once() -> None:
    pool = Pool(RANGE, taken=[RANGE[n] for n in range(8)])
    assert pool.exhausted
    with pytest.raises(PoolExhausted, match=r"10\.244\.1\.0/29: all 5 addresses are in use"):
        pool.allocate()
    pool.release(RANGE[4])
    assert pool.allocate() == RANGE[4]


def test_an_address_that_was_given_back_is_used_last() -> None:
    pool = Pool(RANGE)
    first = pool.allocate()
    pool.release(first)
    assert last_octets([pool.allocate() for _ in range(5)]) == [3, 4, 5, 6, 2]


def test_of_addresses_given_back_the_one_that_rested_longest_goes_first() -> None:
    pool = Pool(RANGE)
    for _ in range(5):
        pool.allocate()
    for octet in (5, 3, 4):
        pool.release(RANGE[octet])
    assert last_octets([pool.allocate() for _ in range(3)]) == [5, 3, 4]


def test_a_pool_rebuilt_after_a_restart_goes_on_behind_the_last_address() -> None:
    pool = Pool(RANGE, taken=[RANGE[3]], after=RANGE[4])
    assert last_octets([pool.allocate() for _ in range(4)]) == [5, 6, 2, 4]


def test_an_address_rests_as_long_as_the_administrator_says_also_when_it_is_the_last() -> None:
    pool = Pool(RANGE, rules=PoolRules(cooldown_s=10))
    for _ in range(5):
        pool.allocate(0)
    pool.release(RANGE[4], 100)
    assert not pool.exhausted
    with pytest.raises(PoolExhausted, match=r"in use or rest \(1\)"):
        pool.allocate(109.9)
    assert pool.allocate(110) == RANGE[4]


def test_what_is_excluded_is_handed_out_to_nobody_also_not_on_request() -> None:
    holes = (IPv4Network("10.244.1.3/32"), IPv4Network("10.244.1.6/31"), IPv4Network("10.99.0.0/16"))
    pool = Pool(RANGE, after=RANGE[4], rules=PoolRules(holes))
    assert pool.usable == 3
    with pytest.raises(AddressTaken, match="not an address that pods"):
        pool.take(RANGE[3])
    assert last_octets([pool.allocate() for _ in range(3)]) == [5, 2, 4]
    assert pool.exhausted
    with pytest.raises(InvalidInput, match="excluded"):
        Pool(RANGE, rules=PoolRules((IPv4Network("10.244.0.0/16"),)))


def test_a_large_excluded_part_of_a_large_range_costs_nothing() -> None:
    pool = Pool(ip_network("fd00::/64"), rules=PoolRules((ip_network("fd00::/65"),)))
    assert str(pool.allocate()) == "fd00::8000:0:0:0"


def test_an_address_that_is_kept_goes_to_who_asks_for_it_only() -> None:
    pool = Pool(RANGE)
    pool.keep(RANGE[2])
    assert last_octets([pool.allocate() for _ in range(4)]) == [3, 4, 5, 6]
    assert pool.exhausted
    pool.take(RANGE[2])
    pool.release(RANGE[2])
    with pytest.raises(PoolExhausted):
        pool.allocate()
    pool.let_go(RANGE[2])
    assert pool.allocate() == RANGE[2]


def test_a_wanted_address_is_taken_out_of_its_turn() -> None:
    pool = Pool(RANGE)
    pool.take(RANGE[3])
    assert last_octets([pool.allocate() for _ in range(4)]) == [2, 4, 5, 6]


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("10.244.1.0", id="the network"),
        pytest.param("10.244.1.1", id="the gateway"),
        pytest.param("10.244.1.7", id="broadcast"),
        pytest.param("10.244.2.3", id="of another range"),
        pytest.param("fd00::3", id="of another family"),
        pytest.param("10.244.1.2", id="in use"),
    ],
)
def test_a_wanted_address_that_nobody_can_have_is_refused(address: str) -> None:
    pool = Pool(RANGE, taken=[RANGE[2]])
    with pytest.raises(AddressTaken, match=address):
        pool.take(ip_address(address))


def test_giving_back_what_is_not_in_use_changes_nothing() -> None:
    pool = Pool(RANGE)
    pool.release(RANGE[5])
    pool.release(ip_address("192.0.2.1"))
    assert last_octets([pool.allocate() for _ in range(5)]) == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("cidr", ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "fd00::/128"])
def test_E10_a_range_without_room_for_a_pod_is_refused(cidr: str) -> None:
    with pytest.raises(InvalidInput, match="too small"):
        Pool(ip_network(cidr))


def test_a_range_of_2_to_the_64_addresses_costs_nothing() -> None:
    pool = Pool(ip_network("fd00:10:244:1::/64"))
    assert [str(pool.allocate()) for _ in range(2)] == ["fd00:10:244:1::2", "fd00:10:244:1::3"]
    assert str(pool.gateway) == "fd00:10:244:1::1/64"


@settings(max_examples=50, stateful_step_count=60, deadline=None)
class PoolAgainstModel(RuleBasedStateMachine):
    """The model: a list of the free, the one that was never used or rested longest in front."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(RANGE)
        self.free: list[IPAddress] = [RANGE[n] for n in range(2, 7)]
        self.used: set[IPAddress] = set()

    @rule()
    def allocate(self) -> None:
        if not self.free:
            with pytest.raises(PoolExhausted):
                self.pool.allocate()
            return
        address = self.pool.allocate()
        assert address == self.free.pop(0)
        self.used.add(address)

    @rule(number=st.integers(0, 7))
    def take(self, number: int) -> None:
        if RANGE[number] in self.free:
            self.pool.take(RANGE[number])
            self.free.remove(RANGE[number])
            self.used.add(RANGE[number])
        else:
            with pytest.raises(AddressTaken):
                self.pool.take(RANGE[number])

    @precondition(lambda self: self.used)
    @rule(choice=st.randoms(use_true_random=False))
    def release(self, choice: Random) -> None:
        address = choice.choice(sorted(self.used, key=int))
        self.pool.release(address)
        self.used.remove(address)
        self.free.append(address)

    @invariant()
    def who_has_what_agrees(self) -> None:
        assert set(self.pool) == self.used
        assert self.pool.used == len(self.used)
        assert self.pool.exhausted == (not self.free)
        assert all(isinstance(address, IPv4Address) for address in self.pool)


test_pool_against_model = PoolAgainstModel.TestCase
