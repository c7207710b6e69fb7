"""Packets of one namespace by a packet socket: what is left to see where BPF is not allowed.

Source: packet(7), linux/if_packet.h.
"""

import socket
import struct
from typing import NamedTuple

from kubenet.kernel.netns import NetNs

_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
_QUEUE_BYTES = 8 << 20
_SNAP_BYTES = 2048
PACKET_OUTGOING = 4


class Frame(NamedTuple):
    """One frame as an interface received or sent it."""

    time_ns: int  # CLOCK_REALTIME
    ifname: str
    sent: bool
    length: int
    frame: bytes  # with its Ethernet header, cut off after 2048 bytes


class PacketSocket:
    """All frames of all interfaces of one namespace."""

    def __init__(self, netns: NetNs) -> None:
        """Listen. Raises OSError only for what no root meets."""
        self._socket = netns.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_ALL)
        )
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> list[Frame]:
        """Return the frames since the last call. Does not block."""
        frames: list[Frame] = []
        while True:
            try:
                frame, ancillary, _, address = self._socket.recvmsg(_SNAP_BYTES, 128)
            except BlockingIOError:
                return frames
            time_ns = 0
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                    seconds, nanoseconds = _TIMESPEC.unpack_from(payload)
                    time_ns = seconds * 10**9 + nanoseconds
            frames.append(Frame(time_ns, address[0], address[2] == PACKET_OUTGOING, len(frame), frame))

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
