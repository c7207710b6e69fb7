"""What becomes of records and links when an agent starts."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from cni.plan import PodNet, host_ifname, node_state
from cni.recovery import StateLost, recovery
from ipam.record import AllocationRecord, Phase, Stored, Unreadable
from kubenet.model.links import Link, LinkKind, LinkState, PeerEnd, state_of

NAMES = [host_ifname(f"c{number}", "eth0") for number in range(4)]


def record(number: int, octet: int | None = None) -> AllocationRecord:
    address = ip_address(f"10.244.1.{number + 2 if octet is None else octet}")
    return AllocationRecord(NAMES[number], (address,), container_id=f"c{number}", ifname="eth0")


def wired(*numbers: int) -> LinkState:
    """A node's namespace with the wiring of pods."""
    state = state_of(
        Link("lo", LinkKind.LOOPBACK), Link("kubenet.1", LinkKind.VXLAN), Link("eth0", LinkKind.VETH)
    )
    for number in numbers:
        state = state.union(node_state(PodNet(NAMES[number], "eth0", record(number).addresses, 1450)))
    return state


def test_A5_what_was_not_finished_is_undone_and_what_was_stays() -> None:
    stored = [
        Stored(record(0), Phase.ATTACHED),
        Stored(record(1), Phase.ADDING),
        Stored(record(2), Phase.DYING),
    ]
    got = recovery(stored, [], wired(0, 1, 2))
    assert got.kept == (record(0),)
    assert set(got.undone) == {NAMES[1], NAMES[2]}
    assert got.found == ()


def test_A5_a_crash_before_the_first_link_is_undone_too() -> None:
    assert recovery([Stored(record(1), Phase.ADDING)], [], wired()).undone == (NAMES[1],)


def test_an_attachment_whose_link_somebody_deleted_keeps_its_address() -> None:
    assert recovery([Stored(record(0), Phase.ATTACHED)], [], wired()).kept == (record(0),)


def test_D1_a_link_that_has_lost_its_record_keeps_its_address() -> None:
    got = recovery([Stored(record(0), Phase.ATTACHED)], [], wired(0, 1))
    assert got.found == (AllocationRecord(NAMES[1], record(1).addresses),)


def test_N11_a_broken_record_is_replaced_by_what_the_kernel_says() -> None:
    broken = Unreadable(Path("/x/k.attached"), NAMES[1], "cut short")
    got = recovery([], [broken], wired(1))
    assert got.found == (AllocationRecord(NAMES[1], record(1).addresses),)
    assert got.undone == ()


def test_N11_a_broken_record_without_a_link_is_forgotten() -> None:
    assert recovery([], [Unreadable(Path("/x/k.attached"), NAMES[1], "empty")], wired()).undone == (NAMES[1],)


def test_N11_a_link_on_a_bridge_without_a_record_keeps_what_the_pod_has() -> None:
    link = Link(NAMES[1], LinkKind.VETH, master="cni0")
    broken = Unreadable(Path("/x/k.attached"), NAMES[1], "cut short")
    mine = (ip_address("10.244.1.9"), ip_address("10.244.1.10"), ip_address("fd00::9"))
    end = PeerEnd("eth0", "0a:58:00:00:00:01", mine)
    got = recovery([], [broken], state_of(link), {NAMES[1]: end})
    assert got.found == (
        AllocationRecord(NAMES[1], (mine[0], mine[2]), ifname="eth0", mac="0a:58:00:00:00:01"),
    )
    assert got.undone == ()


@pytest.mark.parametrize("ends", [{}, {NAMES[1]: PeerEnd("eth0", "", ())}], ids=["no end", "no address"])
def test_N11_a_link_by_which_no_pod_can_be_reached_goes(ends: dict[str, PeerEnd]) -> None:
    got = recovery([], [], state_of(Link(NAMES[1], LinkKind.VETH, master="cni0")), ends)
    assert (got.found, got.undone) == ((), (NAMES[1],))


def test_two_records_with_one_address_stop_the_agent() -> None:
    stored = [Stored(record(0, 9), Phase.ATTACHED), Stored(record(1, 9), Phase.ATTACHED)]
    with pytest.raises(StateLost, match="the same address"):
        recovery(stored, [], wired(0, 1))


def test_links_of_others_are_not_taken_for_pods() -> None:
    others = state_of(Link("k0123456789abcd", LinkKind.BRIDGE), Link("kube-ipvs0", LinkKind.OTHER))
    assert recovery([], [], others).found == ()
