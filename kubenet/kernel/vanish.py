"""Prove that namespaces are gone.

Unpinning returns at once; the kernel takes a namespace apart later, in a worker, when the last descriptor,
socket and process have left it. It tells that to every namespace that had given the leaving one a number. The
watcher gives such numbers in a namespace of its own, so that nothing of the machine's is touched.

The word comes when nothing can find the namespace any more; its devices go in the same run of the worker.

Source: linux/net_namespace.h, net/core/net_namespace.c (cleanup_net).
"""

import socket
import time
from collections.abc import Collection
from types import TracebackType
from typing import Self

from kubenet.errors import TimedOut
from kubenet.kernel import codec, uapi
from kubenet.kernel.netlink import attributes, number_in, unpack
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nlsocket import LARGEST_DATAGRAM_BYTES, NetlinkSocket, open_socket

_RTGENMSG_BYTES = 4
_EVENT_BUFFER_BYTES = 16 << 20  # 700 bytes of buffer an event; SO_RCVBUFFORCE may go beyond the usual limit
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h


class Vanishing:
    """Watches over namespaces from now on; holds none of them."""

    def __init__(self, namespaces: Collection[NetNs]) -> None:
        self._left = set(range(1, len(namespaces) + 1))
        with NetNs.unnamed() as hub:
            self._socket = open_socket(hub)
            try:
                self._listen(hub, namespaces)
            except BaseException:
                self._socket.close()
                raise

    def _listen(self, hub: NetNs, namespaces: Collection[NetNs]) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENT_BUFFER_BYTES)
        with NetlinkSocket(hub) as numbering:
            numbering.transact([codec.new_nsid(ns.fd, nsid) for nsid, ns in enumerate(namespaces, 1)])
        self._socket.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, uapi.RTNLGRP_NSID)

    def wait(self, timeout_s: float) -> None:
        """Return once all of them are gone. Raises TimedOut, saying how many are left."""
        end = time.monotonic() + timeout_s
        while self._left:
            self._socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                datagram = self._socket.recv(LARGEST_DATAGRAM_BYTES)
            except TimeoutError as error:
                raise TimedOut(
                    f"{len(self._left)} namespaces are still there after {timeout_s:g} s"
                ) from error
            for message in unpack(datagram):
                if message.type == uapi.RTM_DELNSID:
                    self._left.discard(number_in(attributes(message.body, _RTGENMSG_BYTES), uapi.NETNSA_NSID))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
