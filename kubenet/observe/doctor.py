"""Try each kernel feature that kubenet needs, or would like, in a throw-away namespace."""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from kubenet.errors import KubenetError
from kubenet.kernel import sysctl
from kubenet.kernel.bpf_programs import EventKind
from kubenet.kernel.hub import Hub, TraceTable
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft_trace import NFNLGRP_CONNTRACK_NEW, NFNLGRP_NFTRACE, Traced
from kubenet.kernel.nft_uapi import NETLINK_NETFILTER
from kubenet.kernel.packet_watch import PacketWatch
from kubenet.kernel.run import run
from kubenet.model.packet import UDP


class Need(Enum):
    """What is lost without a feature."""

    NETWORK = "no pod network"
    ONE_WAY = "one of several ways"
    SEEING = "kubenet trace sees less"
    NICE = "some exercises do it another way"


@dataclass(frozen=True, slots=True)
class Feature:
    """Something to try."""

    name: str
    need: Need
    without: str  # what it means that it is missing
    attempt: Callable[[NetNs], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it."""

    feature: Feature
    error: str = ""

    @property
    def word(self) -> str:
        if not self.error:
            return "ok"
        return "FAIL" if self.feature.need is Need.NETWORK else "warn"


def examine() -> list[Tried]:
    """Try everything. Raises NotPermitted when not even a namespace can be made."""
    tried = []
    for feature in FEATURES:
        with NetNs.unnamed() as netns:
            try:
                feature.attempt(netns)
            except (KubenetError, OSError) as error:
                tried.append(Tried(feature, str(error)))
            else:
                tried.append(Tried(feature))
    return tried


def _ip(*words: str) -> Callable[[NetNs], None]:
    def attempt(netns: NetNs) -> None:
        run(["ip", "link", "add", *words], netns=netns)

    return attempt


def _program(argv: Sequence[str], stdin: bytes = b"") -> Callable[[NetNs], None]:
    def attempt(netns: NetNs) -> None:
        run(list(argv), netns=netns, stdin=stdin)

    return attempt


def _bpf(netns: NetNs) -> None:
    PacketWatch([netns.inode], list(EventKind), flows=[]).close()


def _rule_trace(netns: NetNs) -> None:
    Hub([netns], NETLINK_NETFILTER, (NFNLGRP_NFTRACE, NFNLGRP_CONNTRACK_NEW)).close()
    TraceTable(netns, "kubenet-doctor", Traced(UDP, 9)).close()


def _packet_socket(netns: NetNs) -> None:
    netns.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def _forwarding(netns: NetNs) -> None:
    sysctl.write(netns, "net.ipv4.ip_forward", 1)


def _conntrack(netns: NetNs) -> None:
    run(
        ["nft", "-f", "-"],
        netns=netns,
        stdin=_STATEFUL,
    )
    sysctl.read(netns, "net.netfilter.nf_conntrack_max")


_NAT = b"*nat\n-A OUTPUT -d 192.0.2.1/32 -p tcp -j DNAT --to-destination 192.0.2.2:80\nCOMMIT\n"
_STATEFUL = b"table ip t { chain c { type filter hook input priority 0; ct state new accept; }; }"
_MAPS = b"""table ip t {
  map m { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
  chain c { type nat hook output priority -100; dnat ip to ip daddr . meta l4proto . th dport map @m; }
}"""

FEATURES = (
    Feature(
        "veth",
        Need.NETWORK,
        "pods cannot be joined to nodes",
        _ip("v0", "type", "veth", "peer", "name", "v1"),
    ),
    Feature(
        "vxlan",
        Need.NETWORK,
        "no overlay between nodes",
        _ip("x0", "type", "vxlan", "id", "1", "dstport", "8472"),
    ),
    Feature("forwarding", Need.NETWORK, "nodes cannot route", _forwarding),
    Feature("conntrack", Need.NETWORK, "no NAT: modprobe nf_conntrack", _conntrack),
    Feature("bridge", Need.ONE_WAY, "bridge wiring and labs: modprobe bridge", _ip("b0", "type", "bridge")),
    Feature("nftables maps", Need.ONE_WAY, "no --proxy-mode nftables", _program(["nft", "-f", "-"], _MAPS)),
    Feature(
        "iptables over nftables", Need.ONE_WAY, "no iptables mode", _program(["iptables-nft-restore"], _NAT)
    ),
    Feature(
        "iptables legacy", Need.ONE_WAY, "no legacy iptables", _program(["iptables-legacy-restore"], _NAT)
    ),
    Feature(
        "BTF and BPF tracepoints", Need.SEEING, "trace falls back to packet sockets and sees no losses", _bpf
    ),
    Feature("rule trace, conntrack events", Need.SEEING, "trace shows no rules", _rule_trace),
    Feature("packet sockets", Need.SEEING, "capture does not work", _packet_socket),
    Feature(
        "netem",
        Need.NICE,
        "delay and loss are made with nftables and queues",
        _program(["tc", "qdisc", "add", "dev", "lo", "root", "netem", "loss", "1%"]),
    ),
)
