"""Protocol Buffers on the wire: fields of a message to bytes and back. *Pure.*

Only what our peers use: varints, and bytes with a length. Which number means what is the caller's business.

Source: Protocol Buffers documentation, "Encoding".
"""

from collections.abc import Iterator

from kubenet.errors import Malformed

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WIDTHS = {FIXED64: 8, FIXED32: 4}
VARINT_MOST_BYTES = 10  # 10 x 7 bits hold 64

Wire = int | bytes


def varint(number: int) -> bytes:
    """Return a number; a negative one as the 64 bits of its two's complement."""
    number &= 2**64 - 1
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def number_field(number: int, value: int | bool) -> bytes:
    """Return a field with a number or a truth; a zero is left out, as in proto3."""
    return varint(number << 3 | VARINT) + varint(int(value)) if value else b""


def bytes_field(number: int, value: bytes | str) -> bytes:
    """Return a field with bytes or a text; an empty one is left out, as in proto3."""
    return message_field(number, value.encode() if isinstance(value, str) else value) if value else b""


def message_field(number: int, content: bytes) -> bytes:
    """Return a field with a message, an empty one too: that it is there means something."""
    return varint(number << 3 | BYTES) + varint(len(content)) + content


def read_varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the number that begins at ``at``, and where it ends. Raises Malformed."""
    number = 0
    for index in range(VARINT_MOST_BYTES):
        if at + index >= len(content):
            raise Malformed("protobuf: a message ends in the middle of a number")
        byte = content[at + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number & (2**64 - 1), at + index + 1
    raise Malformed("protobuf: a number has more than ten bytes")


def fields(content: bytes) -> Iterator[tuple[int, Wire]]:
    """Yield the fields of a message in their order. Raises Malformed."""
    at = 0
    while at < len(content):
        tag, at = read_varint(content, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            value, at = read_varint(content, at)
            yield number, value
            continue
        if wire_type == BYTES:
            size, at = read_varint(content, at)
        elif wire_type in WIDTHS:
            size = WIDTHS[wire_type]
        else:
            raise Malformed(f"protobuf: field {number} has wire type {wire_type}")
        if size > len(content) - at:
            raise Malformed("protobuf: a message ends in the middle of a field")
        yield number, content[at : at + size]
        at += size


def signed(value: Wire) -> int:
    """Return a number of 64 bits with its sign. Raises Malformed."""
    if isinstance(value, bytes):
        raise Malformed("protobuf: bytes where a number belongs")
    return value - 2**64 if value >= 2**63 else value


def content_of(value: Wire) -> bytes:
    """Return the bytes of a field. Raises Malformed."""
    if isinstance(value, int):
        raise Malformed("protobuf: a number where bytes belong")
    return value
