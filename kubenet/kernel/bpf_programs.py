"""The programs that watch packets: every hop between interfaces, every loss. *Pure.*

All start alike. The packet's device (for one that has none yet, its socket) tells its namespace; one that is
not watched ends the program there, so that other labs and the machine's own traffic are never seen. A program
for one flow then reads the packet's five-tuple, inside VXLAN and inside an ICMP error too, and looks it up in
a table of tuples.

The kernel keeps an skb at the same address from a pod through NAT, encapsulation and wire to the other pod.
The programs use this to learn translations: a packet whose tuple is not in the table, but whose address and
fingerprint (IP identification and length) are those of a packet that was, is that packet after NAT, and its
new tuple and the reverse of it are added. So the answer to a masqueraded packet is recognised when it comes.
What a node itself sends is translated before its first interface: there the sending socket's port tells it.

A record that finds no room is counted, never waited for.

Source: trace_net_dev_queue, trace_netif_receive_skb (net/core/dev.c), trace_kfree_skb (net/core/skbuff.c).
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import NamedTuple

from kubenet.kernel.bpf_asm import (
    FRAME,
    KTIME_GET_NS,
    MAP_LOOKUP,
    MAP_UPDATE,
    RINGBUF_OUTPUT,
    Assembler,
)
from kubenet.kernel.btf import Btf

ETHERNET_BYTES = 14
CAPTURED_BYTES = ETHERNET_BYTES + 128  # of a packet: room for VXLAN, IP and TCP headers within
FLOW_KEY = struct.Struct("!4s4sHHB3x")
FLOW_KEY_BYTES = FLOW_KEY.size

# The record: fixed fields, two bytes of padding, Ethernet header, the packet from its network header on.
_FIXED = struct.Struct("=QQIIIIQII2x")
RECORD_BYTES = _FIXED.size + CAPTURED_BYTES
_TS, _LOCATION, _KIND, _REASON, _IFINDEX, _NETNS, _SKB, _LEN, _MARK, _ETHERNET = (
    0, 8, 16, 20, 24, 28, 32, 40, 44, 50,
)  # fmt: skip
_NETWORK = _ETHERNET + ETHERNET_BYTES

# Places on the stack.
_RECORD = -RECORD_BYTES
_SCRATCH = _RECORD - 8
_KEY = _SCRATCH - 16
_REVERSE = _KEY - 16
_HEADER = _REVERSE - 32  # 28 bytes: an IP header without options and the start of what follows
_ONE = _HEADER - 8
_LOWEST = _ONE

_IP_BYTES, _VXLAN_BYTES = 20, 20 + 8 + 8 + ETHERNET_BYTES
_ICMP, _TCP, _UDP = 1, 6, 17
_ICMP_ERRORS = (3, 5, 11, 12)  # RFC 792: they carry the packet that they are about


class EventKind(IntEnum):
    """What a record tells."""

    RECEIVED = 1
    SENT = 2
    DROPPED = 3


TRACEPOINTS = {
    EventKind.RECEIVED: "netif_receive_skb",
    EventKind.SENT: "net_dev_queue",
    EventKind.DROPPED: "kfree_skb",
}


@dataclass(frozen=True, slots=True)
class Offsets:
    """Where the fields that the programs read are, in bytes."""

    skb_dev: int
    skb_sk: int
    skb_head: int
    skb_network_header: int
    skb_len: int
    skb_mark: int
    dev_ifindex: int
    dev_net: int
    sock_net: int
    sock_port: int
    net_inum: int


def offsets_in(types: Btf) -> Offsets:
    """Return the offsets on the kernel of ``types``. Raises KernelLacks."""
    return Offsets(
        skb_dev=types.offset("sk_buff", "dev"),
        skb_sk=types.offset("sk_buff", "sk"),
        skb_head=types.offset("sk_buff", "head"),
        skb_network_header=types.offset("sk_buff", "network_header"),
        skb_len=types.offset("sk_buff", "len"),
        skb_mark=types.offset("sk_buff", "mark"),
        dev_ifindex=types.offset("net_device", "ifindex"),
        dev_net=types.offset("net_device", "nd_net.net"),
        sock_net=types.offset("sock_common", "skc_net.net"),
        sock_port=types.offset("sock_common", "skc_num"),
        net_inum=types.offset("net", "ns.inum"),
    )


@dataclass(frozen=True, slots=True)
class Maps:
    """The descriptors that a program works with. Without ``flows`` every packet is taken."""

    ring: int
    namespaces: int
    lost: int
    flows: int = -1
    packets: int = -1
    socket_port: int = 0  # packets that a socket with this port sends are the flow's too
    udp_port: int = 0  # without flows: only UDP from or to this port


class Record(NamedTuple):
    """What one record says. ``packet`` begins with its Ethernet header, and may be cut off."""

    time_ns: int  # CLOCK_MONOTONIC
    kind: EventKind
    netns: int  # inode
    ifindex: int  # 0: no device yet
    skb: int
    length: int
    mark: int
    reason: int
    location: int  # address of the code that dropped it
    packet: bytes


def read_record(raw: bytes) -> Record:
    """Return a record of the ring buffer."""
    time_ns, location, kind, reason, ifindex, netns, skb, length, mark = _FIXED.unpack_from(raw)
    packet = raw[_ETHERNET : _ETHERNET + CAPTURED_BYTES]
    return Record(time_ns, EventKind(kind), netns, ifindex, skb, length, mark, reason, location, packet)


def flow_key(
    source: IPv4Address, destination: IPv4Address, protocol: int, source_port: int, destination_port: int
) -> bytes:
    """Return how the table of flows names one direction of a flow; both ports of an ICMP echo are its id."""
    return FLOW_KEY.pack(source.packed, destination.packed, source_port, destination_port, protocol)


def program(kind: EventKind, at: Offsets, maps: Maps, vxlan_ports: tuple[int, ...] = ()) -> bytes:
    """Return the program for the tracepoint of ``kind``."""
    asm = Assembler()
    asm.move(6, 1)
    asm.load(8, 7, 6, 0)  # the packet is the first argument of all three tracepoints
    for place in range(_LOWEST, 0, 8):
        asm.store_number(8, FRAME, place, 0)
    _watched_namespace(asm, at, maps)
    asm.read_kernel(_SCRATCH, 8, 7, at.skb_head)
    asm.load(8, 8, FRAME, _SCRATCH)
    asm.store_number(8, FRAME, _SCRATCH, 0)
    asm.read_kernel(_SCRATCH, 2, 7, at.skb_network_header)
    asm.load(8, 1, FRAME, _SCRATCH)
    asm.add_register(8, 1)  # r8: the network header
    asm.read_kernel(_RECORD + _ETHERNET, CAPTURED_BYTES, 8, -ETHERNET_BYTES)
    if maps.flows >= 0:
        _of_the_flow(asm, at, maps, vxlan_ports)
    elif maps.udp_port:
        _of_the_port(asm, maps.udp_port)
    _write_record(asm, kind, at, maps)
    asm.label("end")
    asm.set(0, 0)
    asm.exit()
    return asm.assemble()


def _watched_namespace(asm: Assembler, at: Offsets, maps: Maps) -> None:
    """End unless the packet is in a namespace of the table; r9 is its device or socket."""
    asm.read_kernel(_SCRATCH, 8, 7, at.skb_dev)
    asm.load(8, 9, FRAME, _SCRATCH)
    asm.jump_if(9, 0, "no device")
    asm.read_kernel(_RECORD + _IFINDEX, 4, 9, at.dev_ifindex)
    asm.read_kernel(_SCRATCH, 8, 9, at.dev_net)
    asm.jump("net")
    asm.label("no device")
    asm.read_kernel(_SCRATCH, 8, 7, at.skb_sk)
    asm.load(8, 9, FRAME, _SCRATCH)
    asm.jump_if(9, 0, "end")
    asm.read_kernel(_SCRATCH, 8, 9, at.sock_net)
    asm.label("net")
    asm.load(8, 9, FRAME, _SCRATCH)
    asm.read_kernel(_RECORD + _NETNS, 4, 9, at.net_inum)
    _lookup(asm, maps.namespaces, _RECORD + _NETNS)
    asm.jump_if(0, 0, "end")


def _of_the_flow(asm: Assembler, at: Offsets, maps: Maps, vxlan_ports: tuple[int, ...]) -> None:
    """End unless the packet belongs to the flow; learn the tuple it has now."""
    asm.read_kernel(_HEADER, 28, 8, 0)
    _inside_vxlan(asm, vxlan_ports)
    _inside_icmp_error(asm)
    _version_4_or_end(asm)
    _build_keys(asm)
    # The fingerprint: identification and length of the packet, which NAT leaves alone.
    asm.load(2, 9, FRAME, _HEADER + 2)
    asm.load(2, 1, FRAME, _HEADER + 4)
    asm.shift_left(9, 16)
    asm.bit_or(9, 1)
    _lookup(asm, maps.flows, _KEY)
    asm.jump_unless(0, 0, "known")
    asm.store(8, FRAME, _SCRATCH, 7)
    _lookup(asm, maps.packets, _SCRATCH)
    asm.jump_if(0, 0, "new")
    asm.load(8, 1, 0, 0)
    asm.jump_unless_equal(1, 9, "new")
    asm.jump("learn")
    asm.label("new")
    _from_the_socket(asm, at, maps.socket_port)
    asm.label("learn")
    asm.store(8, FRAME, _ONE, 9)
    _update(asm, maps.flows, _KEY, _ONE)
    _update(asm, maps.flows, _REVERSE, _ONE)
    asm.label("known")
    asm.store(8, FRAME, _SCRATCH, 7)
    asm.store(8, FRAME, _ONE, 9)
    _update(asm, maps.packets, _SCRATCH, _ONE)


def _of_the_port(asm: Assembler, port: int) -> None:
    """End unless it is UDP from or to a port."""
    asm.read_kernel(_HEADER, 28, 8, 0)
    _version_4_or_end(asm)
    asm.load(1, 1, FRAME, _HEADER + 9)
    asm.jump_unless(1, _UDP, "end")
    asm.load(2, 1, FRAME, _HEADER + _IP_BYTES)
    asm.jump_if(1, _network_order(port), "of the port")
    asm.load(2, 1, FRAME, _HEADER + _IP_BYTES + 2)
    asm.jump_unless(1, _network_order(port), "end")
    asm.label("of the port")


def _from_the_socket(asm: Assembler, at: Offsets, port: int) -> None:
    """End unless the packet is of a socket with the port: NAT comes before the first interface."""
    if not port:
        asm.jump("end")
        return
    asm.store_number(8, FRAME, _SCRATCH, 0)
    asm.read_kernel(_SCRATCH, 8, 7, at.skb_sk)
    asm.load(8, 1, FRAME, _SCRATCH)
    asm.jump_if(1, 0, "end")
    asm.store_number(8, FRAME, _SCRATCH, 0)
    asm.read_kernel(_SCRATCH, 2, 1, at.sock_port)
    asm.load(8, 1, FRAME, _SCRATCH)
    asm.jump_unless(1, port, "end")


def _inside_vxlan(asm: Assembler, vxlan_ports: tuple[int, ...]) -> None:
    asm.load(1, 1, FRAME, _HEADER + 9)
    asm.jump_unless(1, _UDP, "plain")
    asm.load(2, 1, FRAME, _HEADER + _IP_BYTES + 2)
    for port in vxlan_ports:
        asm.jump_if(1, _network_order(port), "vxlan")
    asm.jump("plain")
    asm.label("vxlan")
    asm.add(8, _VXLAN_BYTES)
    asm.read_kernel(_HEADER, 28, 8, 0)
    asm.label("plain")


def _inside_icmp_error(asm: Assembler) -> None:
    asm.load(1, 1, FRAME, _HEADER + 9)
    asm.jump_unless(1, _ICMP, "no error")
    asm.load(1, 1, FRAME, _HEADER + _IP_BYTES)
    for number in _ICMP_ERRORS:
        asm.jump_if(1, number, "error")
    asm.jump("no error")
    asm.label("error")
    asm.add(8, _IP_BYTES + 8)
    asm.read_kernel(_HEADER, 28, 8, 0)
    asm.label("no error")


def _version_4_or_end(asm: Assembler) -> None:
    asm.load(1, 1, FRAME, _HEADER)
    asm.shift_right(1, 4)
    asm.jump_unless(1, 4, "end")


def _build_keys(asm: Assembler) -> None:
    """Write the tuple of the header and its reverse."""
    for at, source, destination in ((_KEY, 12, 16), (_REVERSE, 16, 12)):
        asm.load(4, 1, FRAME, _HEADER + source)
        asm.store(4, FRAME, at, 1)
        asm.load(4, 1, FRAME, _HEADER + destination)
        asm.store(4, FRAME, at + 4, 1)
    asm.load(1, 1, FRAME, _HEADER + 9)
    asm.store(1, FRAME, _KEY + 12, 1)
    asm.store(1, FRAME, _REVERSE + 12, 1)
    asm.load(2, 2, FRAME, _HEADER + _IP_BYTES)
    asm.load(2, 3, FRAME, _HEADER + _IP_BYTES + 2)
    asm.jump_unless(1, _ICMP, "ports")
    asm.load(2, 2, FRAME, _HEADER + _IP_BYTES + 4)  # the echo's identifier
    asm.move(3, 2)
    asm.label("ports")
    asm.store(2, FRAME, _KEY + 8, 2)
    asm.store(2, FRAME, _KEY + 10, 3)
    asm.store(2, FRAME, _REVERSE + 8, 3)
    asm.store(2, FRAME, _REVERSE + 10, 2)


def _write_record(asm: Assembler, kind: EventKind, at: Offsets, maps: Maps) -> None:
    asm.call(KTIME_GET_NS)
    asm.store(8, FRAME, _RECORD + _TS, 0)
    asm.store_number(4, FRAME, _RECORD + _KIND, kind)
    asm.store(8, FRAME, _RECORD + _SKB, 7)
    if kind is EventKind.DROPPED:
        asm.load(8, 1, 6, 8)
        asm.store(8, FRAME, _RECORD + _LOCATION, 1)
        asm.load(8, 1, 6, 16)
        asm.store(4, FRAME, _RECORD + _REASON, 1)
    asm.read_kernel(_RECORD + _LEN, 4, 7, at.skb_len)
    asm.read_kernel(_RECORD + _MARK, 4, 7, at.skb_mark)
    asm.map_into(1, maps.ring)
    asm.move(2, FRAME)
    asm.add(2, _RECORD)
    asm.set(3, RECORD_BYTES)
    asm.set(4, 0)
    asm.call(RINGBUF_OUTPUT)
    asm.jump_if(0, 0, "end")
    asm.store_number(8, FRAME, _SCRATCH, 0)
    _lookup(asm, maps.lost, _SCRATCH)
    asm.jump_if(0, 0, "end")
    asm.set(1, 1)
    asm.atomic_add(0, 0, 1)


def _lookup(asm: Assembler, map_fd: int, key_at: int) -> None:
    asm.map_into(1, map_fd)
    asm.move(2, FRAME)
    asm.add(2, key_at)
    asm.call(MAP_LOOKUP)


def _update(asm: Assembler, map_fd: int, key_at: int, value_at: int) -> None:
    asm.map_into(1, map_fd)
    asm.move(2, FRAME)
    asm.add(2, key_at)
    asm.move(3, FRAME)
    asm.add(3, value_at)
    asm.set(4, 0)
    asm.call(MAP_UPDATE)


def _network_order(port: int) -> int:
    """Return a port as a load of two bytes finds it."""
    return int(struct.unpack("=H", struct.pack("!H", port))[0])
