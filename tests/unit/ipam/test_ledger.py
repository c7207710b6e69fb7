"""The ledger: what is in use in a pool is exactly what an attachment holds."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ipam.ledger import Ledger
from ipam.pool import AddressTaken, PoolExhausted
from ipam.record import AllocationRecord, Phase

V4, V6 = ip_network("10.244.1.0/29"), ip_network("fd00::/125")


def blank(name: str) -> AllocationRecord:
    return AllocationRecord(name, (), container_id=name, ifname="eth0")


def test_an_attachment_gets_one_address_of_each_range() -> None:
    ledger = Ledger()
    ledger.open([V4, V6])
    assert ledger.reserve(blank("a")).addresses == (V4[2], V6[2])


def test_when_one_family_is_exhausted_the_other_gives_its_address_back() -> None:
    ledger = Ledger()
    ledger.open([V4, ip_network("fd00::/126")])
    ledger.reserve(blank("a"))
    ledger.reserve(blank("b"))
    with pytest.raises(PoolExhausted, match="fd00::/126"):
        ledger.reserve(blank("c"))
    assert ledger.pools[0].used == 2
    assert ledger.get("c") is None


def test_a_wanted_address_of_a_family_that_the_node_lacks_is_refused() -> None:
    ledger = Ledger()
    ledger.open([V4])
    with pytest.raises(AddressTaken, match="fd00::5"):
        ledger.reserve(blank("a"), [ip_address("fd00::5")])
    assert ledger.pools[0].used == 0


def test_a_restart_goes_on_behind_the_youngest_record() -> None:
    ledger = Ledger()
    ledger.adopt(AllocationRecord("young", (V4[3],), created_ns=2), Phase.ATTACHED)
    ledger.adopt(AllocationRecord("old", (V4[5],), created_ns=1), Phase.ATTACHED)
    ledger.open([V4])
    assert ledger.reserve(blank("a")).addresses == (V4[4],)


def test_an_address_of_an_earlier_range_goes_to_nobody_once_it_is_free() -> None:
    ledger = Ledger()
    ledger.open([V4])
    ledger.reserve(blank("a"))
    ledger.open([ip_network("10.244.9.0/29")])
    ledger.free("a")
    assert ledger.pools[0].used == 0
    assert str(ledger.reserve(blank("b")).addresses[0]) == "10.244.9.2"


@settings(max_examples=40, stateful_step_count=50, deadline=None)
class LedgerLaw(RuleBasedStateMachine):
    """Whatever happens in whatever order, the pools hold what the entries hold."""

    @initialize()
    def begin(self) -> None:
        self.ledger = Ledger()
        self.ledger.open([V4, V6])

    @rule(name=st.sampled_from("abcdefgh"))
    def reserve(self, name: str) -> None:
        if self.ledger.get(name) is not None:
            return
        try:
            self.ledger.reserve(blank(name))
        except PoolExhausted:
            assert len(self.ledger.in_phase(Phase.ADDING)) == 5

    @rule(name=st.sampled_from("abcdefgh"))
    def free(self, name: str) -> None:
        self.ledger.free(name)

    @rule()
    def restart(self) -> None:
        records = self.ledger.in_phase(Phase.ADDING)
        self.ledger = Ledger()
        for record in records:
            self.ledger.adopt(record, Phase.ADDING)
        self.ledger.open([V4, V6])

    @invariant()
    def pools_and_entries_agree(self) -> None:
        held = [a for record in self.ledger.in_phase(Phase.ADDING) for a in record.addresses]
        assert len(set(held)) == len(held)
        assert {a for pool in self.ledger.pools for a in pool} == set(held)


test_ledger_law = LedgerLaw.TestCase


def test_of_several_ranges_of_a_family_the_first_with_room_counts() -> None:
    ledger = Ledger()
    ledger.open([ip_network("10.1.0.0/30"), ip_network("10.2.0.0/30"), ip_network("fd00::/120")])
    got = [ledger.reserve(AllocationRecord(f"k{n}", ())).addresses for n in range(2)]
    assert [str(addresses[0]) for addresses in got] == ["10.1.0.2", "10.2.0.2"]
    assert ledger.exhausted is ledger.pools[0]
    with pytest.raises(PoolExhausted, match=r"10\.2\.0\.0/30"):
        ledger.reserve(AllocationRecord("k9", ()))
    ledger.free("k1")
    assert ledger.exhausted is None
    assert str(ledger.reserve(AllocationRecord("k9", ())).addresses[0]) == "10.2.0.2"


def test_what_is_kept_for_a_pod_is_no_others_and_survives_a_new_range() -> None:
    ledger = Ledger()
    cidr = ip_network("10.1.0.0/29")
    ledger.open([cidr])
    ledger.keep("a/db-0", (cidr[4],))
    with pytest.raises(AddressTaken, match="kept for a/db-0"):
        ledger.reserve(AllocationRecord("k1", (), pod="a/web"), (cidr[4],))
    ledger.open([cidr])
    assert ledger.kept_for("a/db-0") == (cidr[4],)
    others = [ledger.reserve(AllocationRecord(f"k{n}", ())).addresses[0] for n in range(2, 6)]
    assert cidr[4] not in others
    mine = ledger.reserve(AllocationRecord("k1", (), pod="a/db-0"), ledger.kept_for("a/db-0"))
    assert mine.addresses == (cidr[4],)
    assert ledger.let_go("a/db-0")
    assert not ledger.let_go("a/db-0")
    ledger.open([ip_network("10.9.0.0/29")])
    ledger.keep("a/db-0", (cidr[4],))
    assert ledger.kept_for("a/db-0") == ()  # of a range that the node has no more
