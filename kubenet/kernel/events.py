"""Hear that something changed in a namespace: links, addresses, neighbours, forwarding entries, routes.

An event says where to look, not what is there: whoever hears it reads the state again and compares. Events
get lost when they come faster than they are read; then ``Overrun`` comes in their place, and everything may
have changed. Our own changes are heard too; comparing makes nothing of them.

Source: rtnetlink(7), linux/rtnetlink.h.
"""

import errno
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self, TypeAlias

from kubenet.kernel import decode, uapi
from kubenet.kernel.codec import IFADDRMSG, IFINFOMSG, NDMSG, RTMSG
from kubenet.kernel.netlink import Message, attributes, fixed_part, number_in, unpack
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nlsocket import LARGEST_DATAGRAM_BYTES, open_socket
from kubenet.kernel.rtnl import Rtnl


class Group(Enum):
    """What can be listened to: the kernel's multicast groups."""

    LINK = uapi.RTNLGRP_LINK
    NEIGHBOR = uapi.RTNLGRP_NEIGH  # also tells of forwarding entries
    ADDRESS_V4 = uapi.RTNLGRP_IPV4_IFADDR
    ADDRESS_V6 = uapi.RTNLGRP_IPV6_IFADDR
    ROUTE_V4 = uapi.RTNLGRP_IPV4_ROUTE
    ROUTE_V6 = uapi.RTNLGRP_IPV6_ROUTE


class Subject(Enum):
    """What an event is about."""

    LINK = "link"
    ADDRESS = "address"
    NEIGHBOR = "neighbour"
    FDB = "forwarding entry"
    ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Changed:
    """Something came, changed or (``gone``) went; on which link, and for a route in which table."""

    subject: Subject
    ifname: str  # empty for a route without a link, or when the link came and went before we looked
    table: int = 0
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Overrun:
    """Events were lost: anything may have changed."""


Event: TypeAlias = Changed | Overrun

_GONE = (uapi.RTM_DELLINK, uapi.RTM_DELADDR, uapi.RTM_DELNEIGH, uapi.RTM_DELROUTE)


class Subscription:
    """A socket that hears events of one namespace; an event loop may watch it for being readable."""

    def __init__(self, netns: NetNs | None = None, groups: Collection[Group] = tuple(Group)) -> None:
        self._rtnl = Rtnl(netns)
        self._socket = open_socket(netns)
        try:
            for group in groups:
                self._socket.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, group.value)
            self._socket.setblocking(False)
            self._names = self._links()  # after joining: a link that comes in between is heard of
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._rtnl.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self) -> list[Event]:
        """Return the events that are there, at once; none is an empty list. Raises CodecError."""
        heard = list(self._heard())
        messages = [message for message in heard if message is not None]
        self._names |= decode.names_of(
            decode.link(message.body) for message in messages if message.type == uapi.RTM_NEWLINK
        )
        names = self._names
        if len(messages) < len(heard) or any(_is_unnamed(message, names) for message in messages):
            # Names are among what was lost, or a link came of which only other things were heard.
            self._names = self._links()
            names = names | self._names  # events about links that went are in the queue too
        events = (Overrun() if message is None else changed(message, names) for message in heard)
        return [event for event in events if event is not None]

    def _heard(self) -> Iterator[Message | None]:
        """Yield the messages that are there; None where some were lost."""
        while True:
            try:
                datagram = self._socket.recv(LARGEST_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield None
                continue
            yield from unpack(datagram)

    def _links(self) -> dict[int, str]:
        return decode.names_of(self._rtnl.links().values())


def changed(message: Message, names: decode.Names) -> Changed | None:
    """Return what a message is about; None if that is nothing of ours. Raises CodecError. *Pure.*"""
    gone = message.type in _GONE
    match message.type:
        case uapi.RTM_NEWLINK | uapi.RTM_DELLINK:
            # A bridge tells by a message of its own family that a port left it; the link itself stays.
            family, _, index, _, _ = fixed_part(IFINFOMSG, message.body)
            return Changed(Subject.LINK, names.get(index, ""), gone=gone and family != uapi.AF_BRIDGE)
        case uapi.RTM_NEWADDR | uapi.RTM_DELADDR:
            *_, index = fixed_part(IFADDRMSG, message.body)
            return Changed(Subject.ADDRESS, names.get(index, ""), gone=gone)
        case uapi.RTM_NEWNEIGH | uapi.RTM_DELNEIGH:
            family, index, _, _, _ = fixed_part(NDMSG, message.body)
            subject = Subject.FDB if family == uapi.AF_BRIDGE else Subject.NEIGHBOR
            return Changed(subject, names.get(index, ""), gone=gone)
        case uapi.RTM_NEWROUTE | uapi.RTM_DELROUTE:
            return _route_changed(message.body, names, gone)
    return None


def _is_unnamed(message: Message, names: decode.Names) -> bool:
    event = changed(message, names)
    return event is not None and not event.ifname


def _route_changed(body: bytes, names: decode.Names, gone: bool) -> Changed:
    table = fixed_part(RTMSG, body)[4]
    found = attributes(body, RTMSG.size)
    ifname = names.get(number_in(found, uapi.RTA_OIF), "")
    return Changed(Subject.ROUTE, ifname, table=number_in(found, uapi.RTA_TABLE) or table, gone=gone)
