"""Objects of a cache as a few bytes each. *Pure.*

A large cluster's objects are kept for as long as they are there, and hardly ever looked at. An object is
dozens of Python objects; packed it is one, a fifth as large, and what asks for it gets it unpacked.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeAlias

import msgspec

from kubenet.model.objects import ObjectT

Kept: TypeAlias = "ObjectT | bytes"


class Whole(Generic[ObjectT]):
    """Keeps objects as they are."""

    def __init__(self, trim: Callable[[ObjectT], ObjectT] | None = None) -> None:
        """``trim`` returns what is to be kept of an object."""
        self._trim = trim

    def pack(self, each: ObjectT) -> "Kept[ObjectT]":
        return self._trim(each) if self._trim else each

    def unpack(self, kept: "Kept[ObjectT]") -> ObjectT:
        if isinstance(kept, bytes):
            raise TypeError("packed, where nothing is")
        return kept

    def mapping(self, kept: "dict[str, Kept[ObjectT]]") -> Mapping[str, ObjectT]:
        """Return the objects of ``kept``, which does not change any more."""
        return MappingProxyType({key: self.unpack(each) for key, each in kept.items()})


class Packing(Generic[ObjectT]):
    """How the objects of one kind are packed."""

    def __init__(
        self,
        type: type[ObjectT],
        trim: Callable[[ObjectT], ObjectT],
        is_small: Callable[[ObjectT], bool] = lambda _: True,
    ) -> None:
        """``trim`` returns what is to be kept of an object; what is not small stays as it is then."""
        self._trim = trim
        self._is_small = is_small
        self._decoder = msgspec.msgpack.Decoder(type)
        self._encoder = msgspec.msgpack.Encoder()
        self._buffer = bytearray()

    def pack(self, each: ObjectT) -> "Kept[ObjectT]":
        trimmed = self._trim(each)
        if not self._is_small(trimmed):
            return trimmed
        self._encoder.encode_into(trimmed, self._buffer)
        return bytes(self._buffer)  # no larger than it is; what the encoder returns has room to spare

    def unpack(self, kept: "Kept[ObjectT]") -> ObjectT:
        return self._decoder.decode(kept) if isinstance(kept, bytes) else kept

    def mapping(self, kept: "dict[str, Kept[ObjectT]]") -> Mapping[str, ObjectT]:
        """Return the objects of ``kept``, which does not change any more."""
        return _Unpacking(kept, self)


@dataclass(frozen=True, slots=True)
class Packed(Generic[ObjectT]):
    """An object on its way into the cache, packed already."""

    key: str
    kept: "Kept[ObjectT]"


Listed: TypeAlias = "ObjectT | Packed[ObjectT]"


class _Unpacking(Mapping[str, ObjectT]):
    """Packed objects by key, unpacked one by one as they are asked for: each time a new object."""

    def __init__(self, kept: "Mapping[str, Kept[ObjectT]]", packing: Packing[ObjectT]) -> None:
        self._kept = kept
        self._packing = packing

    def __getitem__(self, key: str) -> ObjectT:
        return self._packing.unpack(self._kept[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: object) -> bool:
        return key in self._kept
