"""Which attachments are dead."""

from ipaddress import ip_address

import pytest

from cni.gc import GRACE_NS, unlisted, vanished
from cni.spec import Attachment
from ipam.record import AllocationRecord

NOW = 1_000 * 10**9


def record(name: str, network: str = "kubenet", created_ns: int = 0) -> AllocationRecord:
    address = ip_address("10.244.1.2")
    return AllocationRecord(f"k-{name}", (address,), network, name, "eth0", f"/netns/{name}", 77, created_ns)


def test_G1_what_is_not_listed_goes() -> None:
    records = [record("a"), record("b")]
    assert unlisted(records, "kubenet", {Attachment("a", "eth0")}, NOW) == [record("b")]


def test_G2_an_empty_list_frees_everything_of_this_network_and_nothing_of_another() -> None:
    records = [record("a"), record("b", "other"), record("found", "")]
    assert unlisted(records, "kubenet", frozenset(), NOW) == [record("a")]


def test_G3_what_was_attached_after_the_request_came_stays() -> None:
    assert unlisted([record("a", created_ns=NOW)], "kubenet", frozenset(), NOW) == []


@pytest.mark.parametrize(
    ("ifnames", "inodes", "created_ns", "dead"),
    [
        pytest.param(set(), set(), 0, True, id="link and namespace are gone"),
        pytest.param({"k-a"}, set(), 0, False, id="the link is there"),
        pytest.param(set(), {77}, 0, False, id="the namespace is there"),
        pytest.param(set(), {78}, 0, True, id="another namespace has its path"),
        pytest.param(set(), set(), NOW - GRACE_NS + 1, False, id="it is too young to tell"),
    ],
)
def test_N10_only_what_is_provably_dead_is_let_go(
    ifnames: set[str], inodes: set[int], created_ns: int, dead: bool
) -> None:
    records = [record("a", created_ns=created_ns)]
    assert bool(vanished(records, ifnames, inodes, NOW)) is dead
