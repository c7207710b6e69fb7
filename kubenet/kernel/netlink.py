"""Netlink framing: messages, attributes, acknowledgements. *Pure.*

Everything is host byte order and padded to 4 bytes. Reading is strict: a length that lies is a
``CodecError``, never an exception of another kind, whatever the bytes.

Source: netlink(7), linux/netlink.h, RFC 3549 section 2.3.2.
"""

import errno
import os
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kubenet.errors import KernelLacks, KubenetError, NotPermitted
from kubenet.kernel import uapi

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_U32_ATTRIBUTE = struct.Struct("=HHI")
_I32 = struct.Struct("=i")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

Attributes = Mapping[int, bytes]


class CodecError(KubenetError):
    """Bytes that are no netlink message."""


class NetlinkError(KubenetError):
    """The kernel refused a request. ``errno`` is its reason as a number."""

    def __init__(self, code: int, what: str, said: str = "", next_step: str = "") -> None:
        super().__init__(f"{what}: {os.strerror(code)}" + (f" ({said})" if said else ""), next_step)
        self.errno = code
        self.what = what


class NetlinkPermissionError(NetlinkError, NotPermitted):
    """The kernel wants CAP_NET_ADMIN in the namespace."""


class NetlinkSupportError(NetlinkError, KernelLacks):
    """The kernel was built without what the request needs."""


def refusal(code: int, what: str, said: str = "") -> NetlinkError:
    """Return the error for a request answered with errno ``code``; ``said`` is the kernel's own text."""
    if code in (errno.EPERM, errno.EACCES):
        return NetlinkPermissionError(code, what, said, "run the command as root, for example with sudo")
    if code in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
        return NetlinkSupportError(code, what, said, "use a kernel with this feature, or load its module")
    return NetlinkError(code, what, said)


@dataclass(frozen=True, slots=True)
class Request:
    """One message to the kernel. ``forgiven`` are the refusals that mean "it is so already"."""

    type: int
    flags: int
    body: bytes
    what: str  # the act with its values, for error texts
    forgiven: tuple[int, ...] = ()


class Message(NamedTuple):
    """One message from the kernel. A tuple, because a dump makes thousands: half the time of a dataclass."""

    type: int
    flags: int
    sequence: int
    body: bytes


def pack(request: Request, sequence: int, flags: int) -> bytes:
    """Return the bytes of ``request`` with ``flags`` added; their length is a multiple of 4."""
    body = request.body
    flags |= request.flags | uapi.NLM_F_REQUEST
    return _HEADER.pack(_HEADER.size + len(body), request.type, flags, sequence, 0) + body


def unpack(packet: bytes) -> Iterator[Message]:
    """Yield the messages of one datagram. Raises CodecError."""
    offset, end = 0, len(packet)
    while offset < end:
        if end - offset < _HEADER.size:
            raise CodecError(f"netlink: {end - offset} bytes at the end are no message")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(packet, offset)
        if not _HEADER.size <= length <= end - offset:
            raise CodecError(f"netlink: a message of {length} bytes in the {end - offset} that are left")
        yield Message(kind, flags, sequence, packet[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


def bodies(packet: bytes, sequence: int, into: list[bytes]) -> tuple[int, Message | None]:
    """Append the bodies of a dump's messages; return all their flags together, and the message that ends it.

    The same as ``unpack`` in half the time: a dump of a large overlay has 15,000 messages. Raises CodecError.
    """
    offset, end, all_flags, head = 0, len(packet), 0, _HEADER.size
    unpack_from = _HEADER.unpack_from
    while offset < end:
        if end - offset < head:
            raise CodecError(f"netlink: {end - offset} bytes at the end are no message")
        length, kind, flags, number, _ = unpack_from(packet, offset)
        if not head <= length <= end - offset:
            raise CodecError(f"netlink: a message of {length} bytes in the {end - offset} that are left")
        if number == sequence:  # else the answer to a request of before that nobody waited for
            all_flags |= flags
            if kind in (uapi.NLMSG_DONE, uapi.NLMSG_ERROR):
                return all_flags, Message(kind, flags, number, packet[offset + head : offset + length])
            into.append(packet[offset + head : offset + length])
        offset += (length + 3) & ~3
    return all_flags, None


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute with its padding."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + _PADDING[len(payload) & 3]


def u32(kind: int, number: int) -> bytes:
    """Return an attribute that holds an unsigned number of 32 bits."""
    return _U32_ATTRIBUTE.pack(8, kind, number)


def text(kind: int, value: str) -> bytes:
    """Return an attribute that holds a string, ended by a zero byte."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *children: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | uapi.NLA_F_NESTED, b"".join(children))


def attributes(body: bytes, offset: int = 0) -> Attributes:
    """Return the attributes from ``offset`` on; of two of one type, the last. Raises CodecError."""
    found: dict[int, bytes] = {}
    end = len(body)
    while offset < end:
        if end - offset < 4:
            raise CodecError(f"netlink: {end - offset} bytes at the end are no attribute")
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if not 4 <= length <= end - offset:
            raise CodecError(f"netlink: an attribute of {length} bytes in the {end - offset} that are left")
        found[kind & uapi.NLA_TYPE_MASK] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def number_in(found: Attributes, kind: int) -> int:
    """Return an unsigned number of 8, 16 or 32 bits; 0 when it is absent. Raises CodecError."""
    payload = found.get(kind)
    if payload is None:
        return 0
    if len(payload) not in (1, 2, 4):
        raise CodecError(f"netlink: attribute {kind} is no number: {len(payload)} bytes")
    return int.from_bytes(payload, byteorder=sys.byteorder)


def text_in(found: Attributes, kind: int) -> str:
    """Return a string; an empty one when it is absent. Raises CodecError."""
    payload = found.get(kind, b"").rstrip(b"\0")
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise CodecError(f"netlink: attribute {kind} is no text: {payload!r}") from error


def fixed_part(layout: struct.Struct, body: bytes) -> Sequence[int]:
    """Return the fields of the fixed header that ``body`` starts with. Raises CodecError."""
    if len(body) < layout.size:
        raise CodecError(f"netlink: {len(body)} bytes where a header of {layout.size} is due")
    return layout.unpack_from(body)


def acknowledged(message: Message) -> tuple[int, str]:
    """Return the errno of an NLMSG_ERROR (0: done as asked) and what the kernel says about it.

    Raises CodecError.
    """
    code = -_status(message.body)
    offset = 4 + _HEADER.size
    if not message.flags & uapi.NLM_F_ACK_TLVS or len(message.body) < offset:
        return code, ""
    if code and not message.flags & uapi.NLM_F_CAPPED:
        (length,) = struct.unpack_from("=I", message.body, 4)  # the refused request is repeated here
        offset = 4 + ((max(length, _HEADER.size) + 3) & ~3)
    return code, text_in(attributes(message.body, offset), uapi.NLMSGERR_ATTR_MSG)


def done(message: Message) -> int:
    """Return the errno that an NLMSG_DONE ends a dump with; 0 is success. Raises CodecError."""
    return -_status(message.body) if message.body else 0


def _status(body: bytes) -> int:
    if len(body) < 4:
        raise CodecError(f"netlink: a status of {len(body)} bytes")
    status: int = _I32.unpack_from(body)[0]
    if status > 0 or status == -(2**31):
        raise CodecError(f"netlink: a status of {status}")
    return status
