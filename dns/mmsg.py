"""Receives and sends many datagrams with one call each: recvmmsg and sendmmsg, which Python does not have.

All structures are laid out once and filled in place. A reply goes out from the slot of its query: the address
it came from and the ancillary data (which of our addresses was asked) are still there.

Only where pointers have 8 bytes and the C library has both calls; ``available`` tells.

Source: recvmmsg(2), sendmmsg(2); struct msghdr and iovec of the 64-bit Linux ABI.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import TypeAlias

SLOTS = 64
SLOT_BYTES = 4096
_NAME_BYTES = 28  # struct sockaddr_in6, the longer of the two
_CONTROL_BYTES = 64
_HEADER_BYTES = 64  # struct mmsghdr: msghdr 56, length 4, padding 4
_IN_PKTINFO_AT = 16  # after struct cmsghdr

Quick: TypeAlias = Callable[[bytes, int], bytes | None]  # answers what is ordinary; see dns.respond

_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Return whether this machine has the calls, with structures as they are laid out here."""
    return ctypes.sizeof(ctypes.c_void_p) == 8 and hasattr(_libc, "recvmmsg") and hasattr(_libc, "sendmmsg")


class Datagrams:
    """The datagrams of one call, and the replies to them."""

    def __init__(self, bound: socket.socket, *, ancillary: bool) -> None:
        self._fd = bound.fileno()
        self._v4 = bound.family == socket.AF_INET
        self._ancillary = ancillary
        self._names = bytearray(SLOTS * _NAME_BYTES)
        self._control = bytearray(SLOTS * _CONTROL_BYTES)
        self._in = bytearray(SLOTS * SLOT_BYTES)
        self._out = bytearray(SLOTS * SLOT_BYTES)
        # Addresses of buffers that live, and stay in place, as long as this object.
        self._names_at, control_at = _address(self._names), _address(self._control)
        self._control_at = control_at
        self._in_headers, self._in_vectors = self._layout(_address(self._in))
        self._out_headers, self._out_vectors = self._layout(_address(self._out))
        self._in_at, self._out_at = _address(self._in_headers), _address(self._out_headers)
        self._in_view, self._names_view = memoryview(self._in), memoryview(self._names)
        self._out_view = memoryview(self._out)
        self._source_bytes = 8 if self._v4 else _NAME_BYTES
        self._lengths = memoryview(self._in_headers).cast("I")
        self._out_words = memoryview(self._out_headers).cast("Q")
        self._out_sizes = memoryview(self._out_vectors).cast("Q")
        self._in_words = memoryview(self._in_headers).cast("Q")
        self._pointed = list(range(SLOTS))  # which slot's address each reply goes to
        self._control_bytes = ((16 + (12 if self._v4 else 20)) + 7) & ~7
        self._replies = self._received = 0
        self._sources: dict[bytes, tuple[str, int] | tuple[str, int, int, int]] = {}

    def _layout(self, buffers_at: int) -> tuple[bytearray, bytearray]:
        vectors = bytearray(SLOTS * 16)
        vectors_at = _address(vectors)
        headers = bytearray(SLOTS * _HEADER_BYTES)
        for slot in range(SLOTS):
            struct.pack_into("=QQ", vectors, slot * 16, buffers_at + slot * SLOT_BYTES, SLOT_BYTES)
            control_at = self._control_at + slot * _CONTROL_BYTES if self._ancillary else 0
            struct.pack_into(
                "=QIxxxxQQQQ",
                headers,
                slot * _HEADER_BYTES,
                self._names_at + slot * _NAME_BYTES,
                16 if self._v4 else _NAME_BYTES,
                vectors_at + slot * 16,
                1,
                control_at,
                _CONTROL_BYTES if self._ancillary else 0,
            )
        return headers, vectors

    def receive(self) -> int:
        """Return how many datagrams came, 0 if none waits. Raises OSError."""
        for slot in range(self._received if self._ancillary else 0):
            self._in_words[slot * 8 + 5] = _CONTROL_BYTES  # the kernel wrote how much it used
        count: int = _libc.recvmmsg(self._fd, ctypes.c_void_p(self._in_at), SLOTS, socket.MSG_DONTWAIT, None)
        self._replies = 0
        if count >= 0:
            self._received = count
            return count
        number = ctypes.get_errno()
        if number in (errno.EAGAIN, errno.EINTR):
            return 0
        raise OSError(number, os.strerror(number))

    def message(self, slot: int) -> bytes:
        """Return a datagram."""
        at = slot * SLOT_BYTES
        return self._in_view[at : at + self._lengths[slot * 16 + 14]].tobytes()

    def source(self, slot: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return where a datagram came from, as ``recvfrom`` tells it."""
        at = slot * _NAME_BYTES
        raw = self._names_view[at : at + self._source_bytes].tobytes()
        known = self._sources.get(raw)
        if known is None:
            if len(self._sources) >= 1024:
                self._sources.clear()
            known = self._sources[raw] = self._read_source(raw)
        return known

    def _read_source(self, raw: bytes) -> tuple[str, int] | tuple[str, int, int, int]:
        port = int.from_bytes(raw[2:4], "big")
        if self._v4:
            return socket.inet_ntop(socket.AF_INET, raw[4:8]), port
        scope = int.from_bytes(raw[24:28], "little" if _LITTLE else "big")
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), port, int.from_bytes(raw[4:8], "big"), scope

    def ancillary(self, slot: int) -> list[tuple[int, int, bytes]]:
        """Return the ancillary data of a datagram, as ``recvmsg`` tells it: at most the one we asked for."""
        if not self._ancillary:
            return []
        at = slot * _CONTROL_BYTES
        size, level, kind = struct.unpack_from("=QII", self._control, at)
        return [(level, kind, bytes(self._control[at + 16 : at + size]))] if size > 16 else []

    def answer(self, count: int, quick: Quick | None, way: int, slow: Callable[[int], None]) -> None:
        """Have ``quick`` answer each datagram, and ``slow`` see to the slots that it leaves.

        What came from a port below 256 is left too: nobody asks from the ports that answer everything.
        """
        view, lengths, sources = self._in_view, self._lengths, self._names
        for slot in range(count):
            reply = None
            if quick is not None and sources[slot * _NAME_BYTES + 2]:
                at = slot * SLOT_BYTES
                reply = quick(view[at : at + lengths[slot * 16 + 14]].tobytes(), way)
            if reply is None:
                slow(slot)
            else:
                self.reply(slot, reply)

    def sizes(self, count: int) -> tuple[list[int], list[int]]:
        """Return how big the datagrams are that came, and the replies that wait for ``flush``."""
        received = self._lengths[14 : count * 16 : 16].tolist()
        return received, self._out_sizes[1 : self._replies * 2 : 2].tolist()

    def reply(self, slot: int, message: bytes) -> None:
        """Have ``message`` sent, with the next ``flush``, to where the datagram of ``slot`` came from."""
        number, size = self._replies, len(message)
        at = number * SLOT_BYTES
        self._out_view[at : at + size] = message
        self._out_sizes[number * 2 + 1] = size
        if self._pointed[number] != slot:
            self._pointed[number] = slot
            self._out_words[number * 8] = self._names_at + slot * _NAME_BYTES
            if self._ancillary:
                self._out_words[number * 8 + 4] = self._control_at + slot * _CONTROL_BYTES
        if self._ancillary:
            if self._v4:  # interface 0 leaves the way to the routes
                at = slot * _CONTROL_BYTES + _IN_PKTINFO_AT
                self._control[at : at + 4] = b"\0\0\0\0"
            self._out_words[number * 8 + 5] = self._control_bytes
        self._replies = number + 1

    def flush(self) -> int:
        """Send the replies; return how many the kernel did not take."""
        total, self._replies = self._replies, 0
        sent = unsent = 0
        while sent < total:
            at = ctypes.c_void_p(self._out_at + sent * _HEADER_BYTES)
            count: int = _libc.sendmmsg(self._fd, at, total - sent, socket.MSG_DONTWAIT)
            if count <= 0:  # the first one was not taken: it is given up, as a single send would be
                unsent += 1
                count = 1
            sent += count
        return unsent


_LITTLE = struct.pack("=H", 1) == b"\x01\0"


def _address(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
