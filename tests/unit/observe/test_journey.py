"""Which packets belong together, and which were only a bridge's copies."""

from dataclasses import replace
from ipaddress import IPv4Address

from kubenet.model.packet import TCP, FiveTuple, Packet, Vxlan
from kubenet.observe.events import Drop, Hop
from kubenet.observe.journey import answer_to, first_of, journeys

A, B, VIP = (IPv4Address(text) for text in ("10.244.0.2", "10.244.1.3", "10.96.0.80"))
SYN = Packet(FiveTuple(A, VIP, TCP, 4000, 80), 7, 64, 60, "SYN", 99)
THERE = replace(SYN, flow=FiveTuple(A, B, TCP, 4000, 8080))
BACK = Packet(FiveTuple(B, A, TCP, 8080, 4000), 0, 64, 60, "SYN,ACK", 5)
NODES = IPv4Address("172.30.0.1"), IPv4Address("172.30.0.2")
OUTER = replace(THERE, vxlan=Vxlan(1, *NODES, 8472))


def hop(at: int, place: str, ifname: str, sent: bool, packet: Packet, skb: int = 1) -> Hop:
    return Hop(at, place, ifname, sent, packet, skb)


def test_a_packet_stays_itself_through_nat_and_tunnel() -> None:
    hops = [
        hop(1, "a", "eth0", True, SYN),
        hop(2, "n1", "va", False, SYN),
        hop(3, "n1", "kubenet.1", True, THERE),
        hop(4, "n1", "eth0", True, OUTER),
        hop(9, "b", "eth0", True, BACK, 2),
    ]
    first, back = journeys(hops, [])
    assert [each.ifname for each in first.hops] == ["eth0", "va", "kubenet.1", "eth0"]
    assert first_of([first, back], SYN.flow) is first
    assert answer_to([first, back], first) is back


def test_the_second_try_is_another_packet() -> None:
    again = replace(SYN, ident=8)
    ways = journeys([hop(1, "a", "eth0", True, SYN), hop(5, "a", "eth0", True, again)], [])
    assert len(ways) == 2


def flood() -> tuple[list[Hop], list[Drop]]:
    """The wire's bridge sends to two ports, and the node that it is not for throws it away."""
    hops = [
        hop(1, "n1", "eth0", True, OUTER),
        hop(2, "wire", "n1", False, OUTER),
        hop(3, "wire", "n2", True, OUTER, 1),
        hop(4, "wire", "n3", True, OUTER, 2),
        hop(5, "n2", "eth0", False, OUTER, 1),
        hop(6, "n3", "eth0", False, OUTER, 2),
        hop(7, "n2", "kubenet.1", False, THERE, 1),
    ]
    return hops, [Drop(8, "n3", "eth0", "OTHERHOST", "", OUTER, 2)]


def test_a_bridges_copies_are_set_apart() -> None:
    (way,) = journeys(*flood())
    assert way.copies == ("n3",)
    assert way.lost is None
    assert [(each.place, each.ifname) for each in way.hops][-2:] == [("n2", "eth0"), ("n2", "kubenet.1")]
    assert ("wire", "n3") not in [(each.place, each.ifname) for each in way.hops]


def test_a_frame_with_the_wrong_address_is_a_loss_and_no_copy() -> None:
    hops, _ = flood()
    alone = [each for each in hops if each.place != "n3" and each.ifname != "n3"]
    (way,) = journeys(alone, [Drop(8, "n2", "kubenet.1", "OTHERHOST", "", THERE, 1)])
    assert way.lost
    assert way.lost.ifname == "kubenet.1"
    assert not way.copies


def test_what_a_program_had_not_read_at_its_end_is_no_loss() -> None:
    (way,) = journeys([hop(1, "a", "eth0", True, SYN)], [Drop(2, "a", "", "QUEUE_PURGE", "", SYN)])
    assert way.lost is None


def test_an_error_about_the_packet_is_its_answer() -> None:
    error = Packet(FiveTuple(B, A, 1, 0, 0), 4, 64, 88, icmp_type=3, icmp_code=3, about=THERE)
    ways = journeys([hop(1, "a", "eth0", True, SYN), hop(2, "b", "eth0", True, error, 3)], [])
    assert answer_to(ways, ways[0]) is ways[1]


def test_packet_sockets_stamp_late_so_routers_tell_the_order() -> None:
    late = hop(9, "a", "eth0", True, SYN, 0)
    early = hop(3, "n1", "va", True, replace(THERE, ttl=63), 0)
    (way,) = journeys([early, late], [])
    assert [each.place for each in way.hops] == ["a", "n1"]
