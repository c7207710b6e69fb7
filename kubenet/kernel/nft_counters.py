"""What the elements of a map have counted, in a message of a dump. *Pure.*

Source: linux/netfilter/nf_tables.h.
"""

import struct
from collections.abc import Mapping

from kubenet.kernel import nft_uapi as nf
from kubenet.kernel.netlink import CodecError, attributes
from kubenet.kernel.nft_codec import body_attributes

_HEAD = struct.Struct("=HH")
_PACKETS = struct.Struct("!Q")

Counted = dict[bytes, tuple[bytes, int]]
"""Value and packets by key."""


def counted_elements(body: bytes) -> Counted:
    """Return the elements of a map that have a counter. Raises CodecError."""
    packed = body_attributes(body).get(nf.NFTA_SET_ELEM_LIST_ELEMENTS, b"")
    read: Counted = {}
    offset = 0
    while len(packed) - offset >= _HEAD.size:
        length, _ = _HEAD.unpack_from(packed, offset)
        if not _HEAD.size <= length <= len(packed) - offset:
            raise CodecError(f"nftables: an element of {length} bytes in {len(packed) - offset}")
        found = attributes(packed[offset + _HEAD.size : offset + length])
        if nf.NFTA_SET_ELEM_EXPR in found:
            key, value = (_plain(found, kind) for kind in (nf.NFTA_SET_ELEM_KEY, nf.NFTA_SET_ELEM_DATA))
            read[key] = value, _packets(found[nf.NFTA_SET_ELEM_EXPR])
        offset += (length + 3) & ~3
    return read


def _plain(found: Mapping[int, bytes], kind: int) -> bytes:
    return attributes(found.get(kind, b"")).get(nf.NFTA_DATA_VALUE, b"")


def _packets(expression: bytes) -> int:
    parts = attributes(attributes(expression).get(nf.NFTA_EXPR_DATA, b""))
    told = parts.get(nf.NFTA_COUNTER_PACKETS, b"")
    return int(_PACKETS.unpack(told)[0]) if len(told) == _PACKETS.size else 0
