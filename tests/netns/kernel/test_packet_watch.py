"""What the kernel tells of packets, rules and connections, in namespaces of the test's own."""

import os
import select
import signal
import socket
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from kubenet.kernel import sysctl
from kubenet.kernel.bpf_programs import EventKind, Record, flow_key
from kubenet.kernel.ct_events import ConntrackEvent, read_event
from kubenet.kernel.hub import Heard, Hub, PacketLog, TraceTable
from kubenet.kernel.kallsyms import function_names
from kubenet.kernel.netlink import NetlinkError
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft_trace import (
    MSG_TRACE,
    NFNLGRP_CONNTRACK_NEW,
    NFNLGRP_NFTRACE,
    RuleEvent,
    Traced,
    read_trace,
)
from kubenet.kernel.nft_uapi import NETLINK_NETFILTER
from kubenet.kernel.packet_socket import PacketSocket
from kubenet.kernel.packet_watch import PacketWatch, kernel_layout
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import run
from kubenet.model.links import Address, Link, LinkKind, LinkState, VethPeer, diff_state, state_of
from kubenet.model.packet import TCP, UDP, decode

pytestmark = pytest.mark.netns

HERE, THERE = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
T = TypeVar("T")


class Source(Protocol[T]):
    def fileno(self) -> int: ...
    def read(self) -> list[T]: ...


def until(source: Source[T], enough: Callable[[list[T]], bool]) -> list[T]:
    """Return all that is told until it is enough."""
    told: list[T] = []
    deadline = time.monotonic() + 10
    while not enough(told):
        assert time.monotonic() < deadline, told
        select.select([source], [], [], 1)
        told += source.read()
    return told


@pytest.fixture
def pair(netns: NetNs, other_netns: NetNs) -> tuple[NetNs, NetNs]:
    """Two namespaces joined by a cable, 192.0.2.1 and 192.0.2.2."""
    link = Link("here", LinkKind.VETH, peer=VethPeer("there", "other"))
    with Rtnl(netns) as rtnl:
        want = state_of(link, Address("here", IPv4Interface(f"{HERE}/24")))
        rtnl.apply(diff_state(LinkState(), want), {"other": other_netns})
    with Rtnl(other_netns) as rtnl:
        have = rtnl.observe().owned_by(["there"])
        up = state_of(Link("there", LinkKind.VETH), Address("there", IPv4Interface(f"{THERE}/24")))
        rtnl.apply(diff_state(have, up))
    return netns, other_netns


def client(netns: NetNs, kind: int) -> socket.socket:
    made = netns.socket(socket.AF_INET, kind)
    made.settimeout(5)
    made.bind((str(HERE), 0))
    return made


def packets_of(records: list[Record], protocol: int) -> list[Record]:
    return [r for r in records if (p := decode(r.packet[14:])) and p.flow.protocol == protocol]


def test_A2_a_connection_is_seen_at_every_interface_in_order(pair: tuple[NetNs, NetNs]) -> None:
    near, far = pair
    with (
        far.socket(socket.AF_INET, socket.SOCK_STREAM) as listener,
        client(near, socket.SOCK_STREAM) as opened,
    ):
        listener.bind((str(THERE), 80))
        listener.listen()
        port = opened.getsockname()[1]
        flows = [flow_key(HERE, THERE, TCP, port, 80), flow_key(THERE, HERE, TCP, 80, port)]
        kinds = (EventKind.SENT, EventKind.RECEIVED)
        with PacketWatch([near.inode, far.inode], kinds, flows=flows) as watch:
            opened.connect((str(THERE), 80))
            records = until(watch, lambda told: len(told) >= 6)
            assert watch.lost == 0
    seen = [(r.kind, r.netns, r.skb) for r in records[:4]]
    assert [(kind, inode) for kind, inode, _ in seen] == [
        (EventKind.SENT, near.inode),
        (EventKind.RECEIVED, far.inode),
        (EventKind.SENT, far.inode),
        (EventKind.RECEIVED, near.inode),
    ]
    assert seen[0][2] == seen[1][2]  # the kernel keeps the packet at one address
    flags = [packet.flags for r in records[:4] if (packet := decode(r.packet[14:]))]
    assert flags == ["SYN", "SYN", "SYN,ACK", "SYN,ACK"]


def test_A2_only_the_flow_that_was_asked_for_is_told(pair: tuple[NetNs, NetNs]) -> None:
    near, far = pair
    with client(near, socket.SOCK_DGRAM) as asked, client(near, socket.SOCK_DGRAM) as other:
        flows = [flow_key(HERE, THERE, UDP, asked.getsockname()[1], 9)]
        with PacketWatch([near.inode, far.inode], (EventKind.SENT,), flows=flows) as watch:
            other.sendto(b"x", (str(THERE), 9))
            asked.sendto(b"x", (str(THERE), 9))
            port = asked.getsockname()[1]
            records = until(watch, bool)
    packets = [packet for record in records if (packet := decode(record.packet[14:]))]
    assert packets[0].flow.source_port == port
    # The other end complains that nobody listens there; that belongs to the flow too.
    assert all(packet.about.flow.source_port == port for packet in packets[1:] if packet.about)


def test_D4_a_loss_is_told_with_the_kernels_reason_and_function(pair: tuple[NetNs, NetNs]) -> None:
    near, far = pair
    with (
        PacketWatch([far.inode], (EventKind.DROPPED,)) as watch,
        client(near, socket.SOCK_DGRAM) as sender,
    ):
        sender.sendto(b"nobody listens", (str(THERE), 4242))
        (record, *_) = until(watch, lambda told: bool(packets_of(told, UDP)))
        record = packets_of([record, *_], UDP)[0]
        assert watch.reasons[record.reason] == "NO_SOCKET"
    assert record.netns == far.inode
    assert "udp" in function_names([record.location])[record.location]


def test_what_is_not_watched_is_not_told(pair: tuple[NetNs, NetNs]) -> None:
    near, far = pair
    with (
        PacketWatch([near.inode], (EventKind.RECEIVED,)) as watch,
        far.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        client(near, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((str(THERE), 4243))
        receiver.settimeout(5)
        sender.sendto(b"x", (str(THERE), 4243))
        receiver.recv(10)
        assert not packets_of(watch.read(), UDP)


def test_the_layout_is_kept_for_the_next_time(tmp_path: Path) -> None:
    cache = tmp_path / "layout.json"
    first = kernel_layout(cache)
    assert first.reasons[2] == "NOT_SPECIFIED"
    cache.write_bytes(cache.read_bytes().replace(b'"NOT_SPECIFIED"', b'"KEPT"'))
    assert kernel_layout(cache).reasons[2] == "KEPT"
    cache.write_bytes(b"damaged")
    assert kernel_layout(cache) == first


def rules_of(heard: list[Heard]) -> list[RuleEvent]:
    read = (read_trace(each.message.body) for each in heard if each.message.type == MSG_TRACE)
    return [event for event in read if event]


def test_D2_rules_of_nftables_and_connections_come_through_one_socket(pair: tuple[NetNs, NetNs]) -> None:
    near, far = pair
    rules = b"""
        table ip t {
            chain c { type filter hook input priority 0; udp dport 7 counter accept; }
            chain d { type filter hook output priority 0; ct state new accept; }
        }"""
    for each in pair:
        run(["nft", "-f", "-"], netns=each, stdin=rules)
    groups = (NFNLGRP_NFTRACE, NFNLGRP_CONNTRACK_NEW)
    with Hub(pair, NETLINK_NETFILTER, groups) as hub, client(near, socket.SOCK_DGRAM) as sender:
        traced = Traced(UDP, sender.getsockname()[1])
        tables = [TraceTable(each, "kubenet-trace-test", traced) for each in pair]
        sender.sendto(b"x", (str(THERE), 7))
        heard = until(hub, lambda told: any(e.table == "t" and e.chain == "c" for e in rules_of(told)))
        assert b"kubenet-trace-test" in run(["nft", "list", "tables"], netns=far).stdout
        for table in tables:
            table.close()
    said = [(each.place, event) for each in heard for event in rules_of([each]) if event.table == "t"]
    assert [(place, e.chain, e.kind, e.verdict) for place, e in said] == [
        (0, "d", "rule", "accept"),
        (1, "c", "rule", "accept"),
    ]
    assert all(event.handle and decode(event.packet) for _, event in said)
    told = [
        read_event(h.message.type, h.message.flags, h.message.body) for h in heard if h.message.type >> 8 == 1
    ]
    assert any(isinstance(e, ConntrackEvent) and e.original.destination_port == 7 for e in told)
    assert b"kubenet-trace-test" not in run(["nft", "list", "tables"], netns=far).stdout


def test_D2_rules_of_legacy_iptables_come_by_the_packet_log(pair: tuple[NetNs, NetNs]) -> None:
    near, far = pair
    before = sysctl.read(far, "net/netfilter/nf_log/2")
    run(["iptables-legacy", "-A", "INPUT", "-p", "udp", "--dport", "7", "-j", "ACCEPT"], netns=far)
    sysctl.write(far, "net/netfilter/nf_log/2", "nfnetlink_log")
    log = PacketLog(far)
    with client(near, socket.SOCK_DGRAM) as sender:
        table = TraceTable(far, "kubenet-trace-test", Traced(UDP, sender.getsockname()[1]))
        sender.sendto(b"x", (str(THERE), 7))
        events = until(log, lambda told: any(e.table == "filter" for e in told))
        table.close()
    log.close()
    sysctl.write(far, "net/netfilter/nf_log/2", before)
    (event,) = [e for e in events if e.table == "filter"]
    assert (event.chain, event.handle, event.kind) == ("INPUT", 1, "rule")


def test_C1_the_trace_table_goes_when_its_owner_is_killed(netns: NetNs) -> None:
    child = os.fork()
    if child == 0:
        TraceTable(netns, "kubenet-trace-test", Traced(UDP, 7))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert run(["nft", "list", "tables"], netns=netns).stdout == b""


def test_a_table_of_that_name_is_a_refusal_in_words(netns: NetNs) -> None:
    table = TraceTable(netns, "taken", Traced(UDP, 7))
    with pytest.raises(NetlinkError, match="table taken"):
        TraceTable(netns, "taken", Traced(UDP, 7))
    table.close()


def test_without_bpf_a_packet_socket_sees_both_ends(pair: tuple[NetNs, NetNs]) -> None:
    near, _far = pair
    sockets = [PacketSocket(each) for each in pair]
    with client(near, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (str(THERE), 7))
        seen = [
            until(
                each,
                lambda told: any((p := decode(f.frame[14:])) and p.flow.destination_port == 7 for f in told),
            )
            for each in sockets
        ]
    for each in sockets:
        each.close()
    assert any(frame.ifname == "here" and frame.sent for frame in seen[0])
    assert any(frame.ifname == "there" and not frame.sent for frame in seen[1])


def test_programs_are_gone_when_the_watch_is_closed(netns: NetNs) -> None:
    def fds() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = fds()
    PacketWatch([netns.inode], (EventKind.DROPPED,)).close()
    assert fds() == before
