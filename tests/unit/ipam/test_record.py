"""Records: written and read back, and the law that an address has one holder."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam.record import AllocationRecord, RecordCorrupt, decode, encode, held_twice
from tests.strategies import ifnames, ipv4_addresses, ipv6_addresses

records = st.builds(
    AllocationRecord,
    host_ifname=ifnames,
    addresses=st.tuples(ipv4_addresses) | st.tuples(ipv4_addresses, ipv6_addresses),
    network=st.text(max_size=10),
    container_id=st.text(max_size=70),
    ifname=ifnames,
    netns=st.text(max_size=30),
    netns_inode=st.integers(0, 2**32),
    created_ns=st.integers(0, 2**62),
    pod=st.text(max_size=30),
)


@given(records)
def test_what_is_written_is_read_back(record: AllocationRecord) -> None:
    assert decode(encode(record)) == record


@given(st.binary(max_size=200))
def test_N11_any_bytes_are_a_record_or_corrupt_and_nothing_else(text: bytes) -> None:
    try:
        decode(text)
    except RecordCorrupt:
        pass


@given(records, st.data())
def test_N11_a_record_cut_short_is_corrupt(record: AllocationRecord, data: st.DataObject) -> None:
    text = encode(record)
    with pytest.raises(RecordCorrupt):
        decode(text[: data.draw(st.integers(0, len(text) - 2))])


def test_two_addresses_of_one_family_are_no_record() -> None:
    with pytest.raises(ValueError, match="two addresses of one family"):
        AllocationRecord("k1", (ip_address("10.0.0.1"), ip_address("10.0.0.2")))


def test_two_holders_of_one_address_are_found() -> None:
    one = AllocationRecord("k1", (ip_address("10.0.0.1"),))
    two = AllocationRecord("k2", (ip_address("10.0.0.2"), ip_address("fd00::2")))
    three = AllocationRecord("k3", (ip_address("10.0.0.3"), ip_address("fd00::2")))
    assert list(held_twice([one, two, three])) == [(two, three)]


def test_a_record_without_a_pod_is_called_by_its_container() -> None:
    record = AllocationRecord("k1", (), container_id="0123456789abcdef", ifname="eth0")
    assert record.label == "container 0123456789ab eth0"
    assert AllocationRecord("k1", (), pod="demo/web", ifname="eth0").label == "demo/web eth0"
