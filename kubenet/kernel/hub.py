"""Hear the events of many namespaces through one socket.

A socket with NETLINK_LISTEN_ALL_NSID hears multicast of every namespace that has a number in its own. So an
empty namespace is made, each one to be heard gets a number in it, and one socket there hears them all; with
the socket, the namespace goes.

Source: netlink(7), Linux net/netlink/af_netlink.c (do_one_broadcast), linux/net_namespace.h.
"""

import errno
import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from kubenet.errors import KubenetError
from kubenet.kernel import nft_trace as nt
from kubenet.kernel import uapi
from kubenet.kernel.netlink import (
    Message,
    Request,
    acknowledged,
    attribute,
    attributes,
    pack,
    refusal,
    u32,
    unpack,
)
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft_uapi import NETLINK_NETFILTER
from kubenet.kernel.nlsocket import LARGEST_DATAGRAM_BYTES, NetlinkSocket, open_socket

_NETLINK_LISTEN_ALL_NSID = 8  # linux/netlink.h
_RTM_GETNSID = 90  # linux/rtnetlink.h
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_QUEUE_BYTES = 32 << 20
_NSID = struct.Struct("=i")


class Heard(NamedTuple):
    """One message, and the place in ``namespaces`` of where it comes from."""

    place: int
    message: Message


class Hub:
    """One socket that hears the multicast groups of one netlink protocol in all of ``namespaces``."""

    def __init__(self, namespaces: Sequence[NetNs], protocol: int, groups: Sequence[int]) -> None:
        """Listen from now on. Raises NetlinkError, NotPermitted."""
        self.lost = 0  # how often events came faster than they were read
        with NetNs.unnamed() as hub:
            with NetlinkSocket(hub) as routing:
                routing.transact([_number(netns, place) for place, netns in enumerate(namespaces)])
            self._socket = open_socket(hub, protocol)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE_BYTES)
            self._socket.setsockopt(uapi.SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
            for group in groups:
                self._socket.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, group)
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> list[Heard]:
        """Return what was heard since the last call. Does not block. Raises CodecError."""
        heard: list[Heard] = []
        while True:
            try:
                packet, ancillary, _, _ = self._socket.recvmsg(LARGEST_DATAGRAM_BYTES, 64)
            except BlockingIOError:
                return heard
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1
                continue
            for level, kind, payload in ancillary:
                if level == uapi.SOL_NETLINK and kind == _NETLINK_LISTEN_ALL_NSID:
                    (place,) = _NSID.unpack_from(payload)
                    heard += [Heard(place, message) for message in unpack(packet)]

    def close(self) -> None:
        """Stop listening; the namespace of the hub goes with it."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _number(netns: NetNs, place: int) -> Request:
    body = b"\0\0\0\0" + u32(uapi.NETNSA_FD, netns.fd) + attribute(uapi.NETNSA_NSID, _NSID.pack(place))
    return Request(uapi.RTM_NEWNSID, 0, body, f"number {netns!r}")


def is_linked(routing: NetlinkSocket, other: NetNs) -> bool:
    """Whether the namespace of ``routing`` has a number for another: one end of a cable is in each."""
    body = b"\0\0\0\0" + u32(uapi.NETNSA_FD, other.fd)
    told = routing.ask(Request(_RTM_GETNSID, 0, body, f"number of {other!r}"), whole=False)
    numbers = (_NSID.unpack(attributes(m.body, 4).get(uapi.NETNSA_NSID, _NSID.pack(-1)))[0] for m in told)
    return any(number >= 0 for number in numbers)


class TraceTable:
    """The nftables table that asks for messages about one flow, in one namespace, while this is open."""

    def __init__(self, netns: NetNs, name: str, traced: nt.Traced) -> None:
        """Make the table. Raises NetlinkError, also when the kernel knows no owned tables."""
        self._socket = open_socket(netns, NETLINK_NETFILTER)
        try:
            self._send(nt.trace_table(name, traced))
        except BaseException:
            self._socket.close()
            raise

    def _send(self, requests: Sequence[Request]) -> None:
        last = len(requests) - 2  # the end of a transaction is not acknowledged
        flags = [uapi.NLM_F_ACK if place == last else 0 for place in range(len(requests))]
        packed = [pack(each, place + 1, flags[place]) for place, each in enumerate(requests)]
        self._socket.settimeout(5.0)
        self._socket.send(b"".join(packed))
        while True:
            try:
                answer = self._socket.recv(LARGEST_DATAGRAM_BYTES)
            except TimeoutError as error:
                raise KubenetError("trace table: no answer from the kernel within 5 s") from error
            for message in unpack(answer):
                if message.type != uapi.NLMSG_ERROR:
                    continue
                code, said = acknowledged(message)
                if code:
                    raise refusal(code, requests[min(message.sequence, last) - 1].what, said)
                if message.sequence == last + 1:
                    return

    def close(self) -> None:
        """Let go: the kernel removes the table."""
        self._socket.close()


class PacketLog:
    """What iptables in its legacy flavour says of traced packets, in one namespace."""

    def __init__(self, netns: NetNs, group: int = 0) -> None:
        """Listen. Raises NetlinkError; errno EBUSY: somebody else reads this group."""
        self._connection = NetlinkSocket(netns, NETLINK_NETFILTER)
        try:
            self._connection.transact(nt.nflog_requests(group))
        except BaseException:
            self._connection.close()
            raise
        self._socket = socket.socket(fileno=self._connection.fileno())
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._connection.fileno()

    def read(self) -> list[nt.RuleEvent]:
        """Return what was said since the last call. Does not block."""
        events: list[nt.RuleEvent] = []
        while True:
            try:
                packet = self._socket.recv(LARGEST_DATAGRAM_BYTES)
            except BlockingIOError:
                return events
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            for message in unpack(packet):
                if message.type == nt.NFULNL_PACKET and (event := nt.read_nflog(message.body)):
                    events.append(event)

    def close(self) -> None:
        """Stop listening."""
        self._socket.detach()
        self._connection.close()
