"""Domain names as they travel: length-prefixed labels, ended by the root. *Pure.*

A name is a ``bytes`` value in wire form throughout this package; text exists at the edges only. Two names are
the same name exactly when their lower-cased wire forms are equal, so a label that holds a dot, a NUL or an
octet above 127 can never pass for another name.

``bytes.lower`` on a whole valid name changes label octets only: lengths are at most 63, and "A" is 65.

Source: RFC 1035 sections 2.3.4, 3.1 and 5.1; RFC 3596 section 2.5; RFC 4343.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from kubenet.errors import InvalidInput

WireName: TypeAlias = bytes
Labels: TypeAlias = tuple[bytes, ...]

MAX_LABEL = 63  # octets
MAX_NAME = 255  # octets, lengths and root included
MAX_LABELS = 127  # (255 - 1) // 2: the most that fit

ROOT: WireName = b"\0"

IN_ADDR_ARPA: WireName = b"\x07in-addr\x04arpa\0"
IP6_ARPA: WireName = b"\x03ip6\x04arpa\0"

_NIBBLES = frozenset(bytes([digit]) for digit in b"0123456789abcdef")
_OCTETS = {str(number).encode(): number for number in range(256)}  # canonical only: "07" is no octet
# What zone files give a meaning to, and what is not printable, is written with a backslash.
_SPECIAL = frozenset(b'."();@$\\')


def from_labels(labels: Iterable[bytes]) -> WireName:
    """Return the name made of ``labels``, outermost last.

    Raises InvalidInput for an empty or overlong label and for a name of more than 255 octets.
    """
    parts = []
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL:
            raise InvalidInput(f"label {label!r}: {len(label)} octets, must be 1 to {MAX_LABEL}")
        parts.append(prefixed(label))
    name = b"".join(parts) + ROOT
    if len(name) > MAX_NAME:
        raise InvalidInput(f"name {to_text(name)}: {len(name)} octets, at most {MAX_NAME}")
    return name


def to_labels(name: WireName) -> Labels:
    """Return the labels of a valid ``name``, without the root."""
    labels = []
    at = 0
    while length := name[at]:
        labels.append(name[at + 1 : at + 1 + length])
        at += 1 + length
    return tuple(labels)


def end_of(octets: bytes, at: int) -> int:
    """Return where the uncompressed, valid name at ``at`` ends."""
    while length := octets[at]:
        at += 1 + length
    return at + 1


def suffixes(name: WireName) -> list[tuple[int, WireName]]:
    """Return each name that ``name`` ends in, itself first, the root left out, with its place in ``name``."""
    found = []
    at = 0
    while length := name[at]:
        found.append((at, name[at:]))
        at += 1 + length
    return found


def from_text(text: str) -> WireName:
    r"""Return the name that ``text`` spells; ``\.`` and ``\046`` are a dot inside a label.

    A final dot may be left out; every name is absolute. Raises InvalidInput.
    """
    if text in ("", "."):
        return ROOT
    labels: list[bytearray] = [bytearray()]
    at = 0
    while at < len(text):
        if text[at] == ".":
            labels.append(bytearray())
            at += 1
        else:
            octets, at = _read_octets(text, at)
            labels[-1] += octets
    if not labels[-1]:
        labels.pop()
    return from_labels(bytes(label) for label in labels)


def _read_octets(text: str, at: int) -> tuple[bytes, int]:
    if text[at] != "\\":
        return text[at].encode(), at + 1
    digits = text[at + 1 : at + 4]
    if len(digits) == 3 and digits.isascii() and digits.isdigit():
        if int(digits) > 255:
            raise InvalidInput(f"name {text!r}: \\{digits} is no octet")
        return bytes((int(digits),)), at + 4
    if at + 1 == len(text):
        raise InvalidInput(f"name {text!r}: ends in a backslash")
    return text[at + 1].encode(), at + 2


def to_text(name: WireName) -> str:
    """Return the spelling of ``name`` in zone files, with its final dot."""
    if name == ROOT:
        return "."
    return "".join(_label_text(label) + "." for label in to_labels(name))


def _label_text(label: bytes) -> str:
    return "".join(
        f"\\{chr(octet)}" if octet in _SPECIAL else chr(octet) if 32 < octet < 127 else f"\\{octet:03d}"
        for octet in label
    )


def is_in(name: WireName, zone: WireName) -> bool:
    """Return whether a lower-cased name is ``zone`` or below it."""
    if not name.endswith(zone):
        return False
    at = 0
    while len(name) - at > len(zone):
        at += 1 + name[at]
    return len(name) - at == len(zone)


def label_of(text: str) -> bytes | None:
    """Return ``text`` as one lower-cased label, or None when it cannot be one that people mean.

    A dot would make a label that looks like two, so it is refused here though the wire could carry it.
    """
    label = text.encode("utf-8", "replace").lower()
    return label if 0 < len(label) <= MAX_LABEL and b"." not in label else None


def reverse_name(packed: bytes) -> WireName:
    """Return the name under which the pointer of an address (4 or 16 octets) is asked for."""
    if len(packed) == 4:
        return b"".join(prefixed(str(octet).encode()) for octet in reversed(packed)) + IN_ADDR_ARPA
    return b"".join(prefixed(bytes((digit,))) for digit in reversed(packed.hex().encode())) + IP6_ARPA


def prefixed(label: bytes) -> bytes:
    """Return a valid label as it travels."""
    return bytes((len(label),)) + label


def reverse_address(labels: Sequence[bytes]) -> bytes | None:
    """Return the address a reverse name stands for, None if it is not the name of a whole address.

    A name of which only the front is missing gives ``b""``: it stands above addresses and so may never be
    denied. ``labels`` are those of the whole, lower-cased name.
    """
    tree, digits = tuple(labels[-2:]), tuple(reversed(labels[:-2]))
    if tree == (b"in-addr", b"arpa"):
        return _joined([_OCTETS.get(label) for label in digits], 4)
    if tree == (b"ip6", b"arpa") and all(label in _NIBBLES for label in digits):
        return bytes.fromhex(b"".join(digits).decode()) if len(digits) == 32 else _partial(len(digits), 32)
    return None


def _joined(octets: Sequence[int | None], full: int) -> bytes | None:
    known = [octet for octet in octets if octet is not None]
    if len(known) != len(octets):
        return None
    return bytes(known) if len(known) == full else _partial(len(known), full)


def _partial(have: int, full: int) -> bytes | None:
    return b"" if have < full else None
