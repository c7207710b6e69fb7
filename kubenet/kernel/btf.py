"""Where fields are in the running kernel's structures, and what its enums call their numbers. *Pure.*

The kernel describes its own types in BTF. A field is looked up by the names a C programmer would write
(``net_device``, ``nd_net.net``), through anonymous structures and unions, so nothing here depends on a
kernel's version or configuration.

Source: Linux Documentation/bpf/btf.rst, linux/btf.h.
"""

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum

from kubenet.errors import KernelLacks, Malformed

_HEADER = struct.Struct("=HBBIIIII")  # magic, version, flags, header length, then offset and length twice
_TYPE = struct.Struct("=III")  # name, info, size or type
_MEMBER = struct.Struct("=III")  # name, type, offset in bits
_ENUMERATOR = struct.Struct("=Ii")
_INFO = struct.Struct("=I")
_MAGIC = 0xEB9F
_BIT_OFFSET = 0xFFFFFF  # the lower bits of a member's offset where the structure has bit fields


class Kind(IntEnum):
    """The kinds of types that are read here (BTF_KIND_*)."""

    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    TYPE_TAG = 18


_LAST_KIND = 19
# Bytes after the common part of a type: at any rate, and for each member.
_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_SEEN_THROUGH = (Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG)
_COMPOSITE = (Kind.STRUCT, Kind.UNION)


class Btf:
    """The types of one kernel."""

    def __init__(self, raw: bytes) -> None:
        """Index the types. Raises Malformed."""
        try:
            self._index(raw)
        except (struct.error, KeyError, ValueError) as error:
            raise Malformed(f"BTF: damaged: {error}") from error

    def _index(self, raw: bytes) -> None:
        magic, _, _, header, types_at, types_bytes, names_at, names_bytes = _HEADER.unpack_from(raw)
        if magic != _MAGIC:
            raise Malformed(f"BTF: begins with {magic:#06x}, not {_MAGIC:#06x}")
        self._raw = raw
        self._names = raw[header + names_at : header + names_at + names_bytes]
        at, end = header + types_at, header + types_at + types_bytes
        if end > len(raw):
            raise Malformed(f"BTF: {end} bytes said, {len(raw)} there")
        sizes = [_FIXED.get(kind, 0) + 12 for kind in range(32)]
        each = [_EACH.get(kind, 0) for kind in range(32)]
        places = [0]  # type 0 is void
        append, info_at = places.append, _INFO.unpack_from
        while at < end:  # a hundred thousand types: this loop is most of the time
            append(at)
            (info,) = info_at(raw, at + 4)
            kind = (info >> 24) & 31
            at += sizes[kind] + each[kind] * (info & 0xFFFF)
        self._places = places

    def offset(self, structure: str, path: str) -> int:
        """Return where the field ``path`` (names with dots between) is in a structure, in bytes.

        Raises KernelLacks if this kernel has no such structure or field.
        """
        place, total = self._find(structure, Kind.STRUCT), 0
        for name in path.split("."):
            found = self._member(place, name)
            if found is None:
                raise KernelLacks(f"struct {structure} of this kernel has no field {path}")
            offset, type_id = found
            total += offset
            place = self._seen_through(type_id)
        return total

    def enumerators(self, name: str) -> Mapping[int, str]:
        """Return the names of an enum's numbers. Raises KernelLacks if this kernel has no such enum."""
        place = self._find(name, Kind.ENUM)
        _, info, _ = _TYPE.unpack_from(self._raw, place)
        found = (_ENUMERATOR.unpack_from(self._raw, place + 12 + 8 * n) for n in range(info & 0xFFFF))
        return {number: self._name(name_at) for name_at, number in found}

    def _find(self, name: str, kind: Kind) -> int:
        wanted = b"\0" + name.encode() + b"\0"
        name_at = self._names.find(wanted) + 1
        if name_at:
            for place in self._places[1:]:
                at, info, _ = _TYPE.unpack_from(self._raw, place)
                if at == name_at and (info >> 24) & 31 == kind:
                    return place
        raise KernelLacks(f"this kernel knows no {kind.name.lower()} {name}")

    def _name(self, at: int) -> str:
        end = self._names.find(b"\0", at)
        if end < 0:
            raise Malformed(f"BTF: a name at {at} without end")
        return self._names[at:end].decode(errors="replace")

    def _members(self, place: int) -> Iterator[tuple[str, int, int]]:
        """Yield name, type and offset in bytes."""
        _, info, _ = _TYPE.unpack_from(self._raw, place)
        mask = _BIT_OFFSET if info >> 31 else 0xFFFFFFFF
        for number in range(info & 0xFFFF):
            name_at, type_id, bits = _MEMBER.unpack_from(self._raw, place + 12 + 12 * number)
            yield self._name(name_at), type_id, (bits & mask) // 8

    def _member(self, place: int, wanted: str) -> tuple[int, int] | None:
        """Return offset and type of a field, also one of an anonymous structure inside."""
        if self._kind(place) not in _COMPOSITE:
            return None
        for name, type_id, offset in self._members(place):
            if name == wanted:
                return offset, type_id
            if not name and (inside := self._member(self._seen_through(type_id), wanted)):
                return offset + inside[0], inside[1]
        return None

    def _kind(self, place: int) -> int:
        if not place:
            return 0
        _, info, _ = _TYPE.unpack_from(self._raw, place)
        return int(info >> 24) & 31

    def _seen_through(self, type_id: int) -> int:
        """Return the place of a type behind its names and qualifiers."""
        for _ in range(32):
            if type_id >= len(self._places):
                raise Malformed(f"BTF: no type {type_id}")
            place = self._places[type_id]
            if self._kind(place) not in _SEEN_THROUGH:
                return place
            type_id = _TYPE.unpack_from(self._raw, place)[2]
        raise Malformed(f"BTF: type {type_id} has no end")
