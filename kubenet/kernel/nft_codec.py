"""nftables messages: a transaction to bytes, dumps to values. *Pure.*

A transaction is one send: a message that begins it, one for each table, chain, rule, set or chunk of
elements, and one that ends it. The kernel carries out all of it or nothing. Elements travel in chunks, since
the length of an attribute has 16 bits.

Source: linux/netfilter/nfnetlink.h, nf_tables.h; nfnetlink and nf_tables of Linux 6.x.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate

from kubenet.kernel import nft_uapi as nf
from kubenet.kernel import uapi
from kubenet.kernel.netlink import (
    Attributes,
    CodecError,
    Message,
    Request,
    attributes,
    nested,
    number_in,
    text,
    text_in,
    unpack,
)
from kubenet.kernel.nft_rules import be32, nfproto, rule_bytes
from kubenet.model.nft import Chain, Elements, Family, Hook
from kubenet.model.nft_change import RulesetChange
from kubenet.model.nft_fields import Field, Fields, Set, width

NFGENMSG = struct.Struct("!BBH")  # family, version, resource
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_BE32 = struct.Struct("!I")

CHUNK_BYTES = 60_000  # of elements in one message; 65,535 is the most that an attribute can hold
LEARNED_MOST = 262_144  # clients that are remembered; the kernel makes room as they come
_VERDICT_BYTES = 16  # sizeof(struct nft_verdict)
_MOST_PARTS = 5  # that fit into 32 bits; nft shows more of them as one number
_TYPE_INTEGER = 4
_TYPE_BITS = 6  # nft packs the types of a concatenation into one number, 6 bits each
_NF_ACCEPT = 1

HEADER_BYTES = _HEADER.size + NFGENMSG.size


@dataclass(frozen=True, slots=True)
class Chunk:
    """The elements of one message: where each begins in it, and what it is."""

    name: str
    added: bool
    kind: Set
    starts: tuple[int, ...]
    keys: tuple[bytes, ...]


@dataclass(slots=True)
class Batch:
    """A transaction in the making. ``acts`` says by sequence number what each message is for."""

    table: str
    family: Family
    parts: list[bytes] = field(default_factory=list)
    acts: list[str | Chunk] = field(default_factory=list)

    def add(self, kind: int, flags: int, body: bytes, act: str | Chunk) -> None:
        """Append a message to the transaction."""
        self._append(kind | nf.NFNL_SUBSYS_NFTABLES << 8, flags, nfproto(self.family), 0, body, act)

    def begin(self) -> None:
        self._append(nf.NFNL_MSG_BATCH_BEGIN, 0, 0, nf.NFNL_SUBSYS_NFTABLES, b"", "begin")

    def end(self) -> None:
        """Close the transaction; what comes before the end asks for an answer.

        Before Linux 6.10 the end itself got none.
        """
        length, kind, flags, sequence, port = _HEADER.unpack(self.parts[-3])
        self.parts[-3] = _HEADER.pack(length, kind, flags | uapi.NLM_F_ACK, sequence, port)
        self._append(nf.NFNL_MSG_BATCH_END, 0, 0, nf.NFNL_SUBSYS_NFTABLES, b"", "commit")

    def _append(
        self, kind: int, flags: int, family: int, resource: int, body: bytes, act: str | Chunk
    ) -> None:
        length = HEADER_BYTES + len(body)
        sequence = len(self.acts)
        self.parts.append(_HEADER.pack(length, kind, flags | uapi.NLM_F_REQUEST, sequence, 0))
        self.parts.append(NFGENMSG.pack(family, 0, resource))
        self.parts.append(body)
        self.acts.append(act)


def transaction(table: str, family: Family, change: RulesetChange, flags: int = 0) -> Batch:
    """Return the messages that carry ``change`` out. Each but the first and last can be refused by itself.

    ``flags`` are the table's; the table is made unless it is there.
    """
    batch = Batch(table, family)
    batch.begin()
    if change.anew:
        batch.add(nf.DELTABLE, 0, text(nf.NFTA_TABLE_NAME, table), f"delete table {table}")
    body = text(nf.NFTA_TABLE_NAME, table) + be32(nf.NFTA_TABLE_FLAGS, flags)
    batch.add(nf.NEWTABLE, uapi.NLM_F_CREATE, body, f"table {table}")
    for number, (name, kind) in enumerate(sorted(change.sets.items()), start=1):
        batch.add(nf.NEWSET, uapi.NLM_F_CREATE, _set_bytes(table, name, kind, number), f"set {name}")
    _add_chains(batch, change.chains)
    for name, elements in change.elements_out.items():
        _add_elements(batch, nf.DELSETELEM, change, name, elements)
    for name, elements in change.elements_in.items():
        _add_elements(batch, nf.NEWSETELEM, change, name, elements)
    _add_removals(batch, change)
    batch.end()
    return batch


def _add_chains(batch: Batch, chains: Mapping[str, Chain]) -> None:
    for name, chain in chains.items():  # all of them first, since rules lead from one to another
        body = text(nf.NFTA_CHAIN_TABLE, batch.table) + text(nf.NFTA_CHAIN_NAME, name) + _hook_bytes(chain)
        batch.add(nf.NEWCHAIN, uapi.NLM_F_CREATE, body, f"chain {name}")
        where = text(nf.NFTA_RULE_TABLE, batch.table) + text(nf.NFTA_RULE_CHAIN, name)
        batch.add(nf.DELRULE, 0, where, f"chain {name}: empty it")
    for name, chain in chains.items():
        where = text(nf.NFTA_RULE_TABLE, batch.table) + text(nf.NFTA_RULE_CHAIN, name)
        for number, rule in enumerate(chain.rules, start=1):
            body = where + rule_bytes(rule, batch.family)
            flags = uapi.NLM_F_CREATE | nf.NLM_F_APPEND
            batch.add(nf.NEWRULE, flags, body, f"chain {name} rule {number}")


def _add_removals(batch: Batch, change: RulesetChange) -> None:
    for name in change.chains_gone:  # emptied first: they may lead to each other
        body = text(nf.NFTA_RULE_TABLE, batch.table) + text(nf.NFTA_RULE_CHAIN, name)
        batch.add(nf.DELRULE, 0, body, f"chain {name}: empty it")
    for name in change.chains_gone:
        body = text(nf.NFTA_CHAIN_TABLE, batch.table) + text(nf.NFTA_CHAIN_NAME, name)
        batch.add(nf.DELCHAIN, 0, body, f"delete chain {name}")
    for name in change.sets_gone:
        body = text(nf.NFTA_SET_TABLE, batch.table) + text(nf.NFTA_SET_NAME, name)
        batch.add(nf.DELSET, 0, body, f"delete set {name}")


def _hook_bytes(chain: Chain) -> bytes:
    if chain.hook is None:
        return b""
    hook = be32(nf.NFTA_HOOK_HOOKNUM, chain.hook.value) + be32(nf.NFTA_HOOK_PRIORITY, chain.priority)
    kind = text(nf.NFTA_CHAIN_TYPE, chain.kind)
    return nested(nf.NFTA_CHAIN_HOOK, hook) + be32(nf.NFTA_CHAIN_POLICY, _NF_ACCEPT) + kind


def _set_flags(kind: Set) -> int:
    flags = nf.NFT_SET_MAP if kind.value or kind.verdicts else 0
    if kind.intervals:
        flags |= nf.NFT_SET_INTERVAL | nf.NFT_SET_CONCAT
    if kind.learned:
        flags |= nf.NFT_SET_TIMEOUT | nf.NFT_SET_EVAL
    return flags


_SHAPE = (
    nf.NFTA_SET_FLAGS,
    nf.NFTA_SET_KEY_TYPE,
    nf.NFTA_SET_KEY_LEN,
    nf.NFTA_SET_DATA_TYPE,
    nf.NFTA_SET_DATA_LEN,
)


def _shape(kind: Set) -> tuple[int, ...]:
    """Return what the kernel tells of a set, attribute by attribute of ``_SHAPE``."""
    value = _type_number(kind.value), width(kind.value)
    if kind.verdicts:
        value = nf.NFT_DATA_VERDICT, _VERDICT_BYTES
    return _set_flags(kind), _type_number(kind.key), width(kind.key), *value


def _type_number(fields: Fields) -> int:
    number = 0
    for part in fields:
        number = number << _TYPE_BITS | part.type_number
    return number if len(fields) <= _MOST_PARTS else _TYPE_INTEGER


def _set_bytes(table: str, name: str, kind: Set, number: int) -> bytes:
    parts = [text(nf.NFTA_SET_TABLE, table), text(nf.NFTA_SET_NAME, name), be32(nf.NFTA_SET_ID, number)]
    # Zero is how the kernel tells that there is no value; it does not want to be told so itself.
    parts += [be32(what, told) for what, told in zip(_SHAPE, _shape(kind), strict=True) if told]
    if not _set_flags(kind):
        parts.append(be32(nf.NFTA_SET_FLAGS, 0))
    parts.append(nested(nf.NFTA_SET_DESC, *_description(kind)))
    if kind.counted:
        parts.append(nested(nf.NFTA_SET_EXPR, text(nf.NFTA_EXPR_NAME, "counter")))
    return b"".join(parts)


def _description(kind: Set) -> Iterator[bytes]:
    if kind.learned:
        yield be32(nf.NFTA_SET_DESC_SIZE, LEARNED_MOST)
    if kind.intervals:
        lengths = (be32(nf.NFTA_SET_FIELD_LEN, part.bytes_used) for part in kind.key)
        yield nested(nf.NFTA_SET_DESC_CONCAT, *(nested(nf.NFTA_LIST_ELEM, each) for each in lengths))


# An element's attributes have a fixed size in each set, so what is not key or value is made once and the rest
# is joining: 100,000 elements in a tenth of a second.


def _header(kind: int, payload_bytes: int) -> bytes:
    return _ATTRIBUTE.pack(4 + payload_bytes, kind)


def _held(kind: int, payload_bytes: int) -> bytes:
    """Return what stands before the bytes of a key or value."""
    return _header(kind | uapi.NLA_F_NESTED, 4 + payload_bytes) + _header(nf.NFTA_DATA_VALUE, payload_bytes)


def _packed_elements(kind: Set, elements: Elements, *, whole: bool) -> Iterator[bytes]:
    """Yield each element; to take one out its key is enough (``whole`` is false)."""
    key_bytes, value_bytes = width(kind.key), width(kind.value) if whole else 0
    if kind.intervals:
        yield from (_interval(key[:key_bytes], key[key_bytes:]) for key in elements)
    elif kind.verdicts and whole:
        yield from (_verdict_element(key, chain.decode()) for key, chain in elements.items())
    else:
        key_head = _held(nf.NFTA_SET_ELEM_KEY, key_bytes)
        middle = _held(nf.NFTA_SET_ELEM_DATA, value_bytes) if value_bytes else b""
        size = len(key_head) + key_bytes + len(middle) + value_bytes
        head = _header(nf.NFTA_LIST_ELEM | uapi.NLA_F_NESTED, size) + key_head
        if value_bytes:
            yield from (head + key + middle + value for key, value in elements.items())
        else:
            yield from (head + key for key in elements)


def _interval(start: bytes, end: bytes) -> bytes:
    first = _held(nf.NFTA_SET_ELEM_KEY, len(start)) + start
    return nested(nf.NFTA_LIST_ELEM, first, _held(nf.NFTA_SET_ELEM_KEY_END, len(end)) + end)


def _verdict_element(key: bytes, chain: str) -> bytes:
    verdict = be32(nf.NFTA_VERDICT_CODE, nf.NFT_GOTO) + text(nf.NFTA_VERDICT_CHAIN, chain)
    there = nested(nf.NFTA_SET_ELEM_DATA, nested(nf.NFTA_DATA_VERDICT, verdict))
    return nested(nf.NFTA_LIST_ELEM, _held(nf.NFTA_SET_ELEM_KEY, len(key)) + key, there)


def _add_elements(batch: Batch, message: int, change: RulesetChange, name: str, elements: Elements) -> None:
    kind = change.shapes[name]
    head = text(nf.NFTA_SET_ELEM_LIST_TABLE, batch.table) + text(nf.NFTA_SET_ELEM_LIST_SET, name)
    first = HEADER_BYTES + len(head) + 4  # where the first element begins in the message
    for packed, keys in _chunks(_packed_elements(kind, elements, whole=message == nf.NEWSETELEM), elements):
        body = head + nested(nf.NFTA_SET_ELEM_LIST_ELEMENTS, *packed)
        starts = tuple(accumulate((len(each) for each in packed[:-1]), initial=first))
        act = Chunk(name, message == nf.NEWSETELEM, kind, starts, tuple(keys))
        batch.add(message, uapi.NLM_F_CREATE, body, act)


def _chunks(packed: Iterator[bytes], keys: Iterable[bytes]) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Yield as many elements at a time, with their keys, as one attribute holds."""
    chunk: list[bytes] = []
    chunk_keys: list[bytes] = []
    size = 0
    for each, key in zip(packed, keys, strict=True):
        if size + len(each) > CHUNK_BYTES:
            yield chunk, chunk_keys
            chunk, chunk_keys, size = [], [], 0
        chunk.append(each)
        chunk_keys.append(key)
        size += len(each)
    if chunk:
        yield chunk, chunk_keys


def culprit(act: str | Chunk, offset: int) -> str:
    """Return what was refused: the element at ``offset`` of the message, where the kernel tells that."""
    if isinstance(act, str):
        return act
    verb = "add" if act.added else "delete"
    if not offset:
        return f"set {act.name}: {verb} {len(act.keys)} elements"
    place = max(bisect_right(act.starts, offset) - 1, 0)
    key = act.keys[place]
    value_free = Set(act.kind.key, intervals=act.kind.intervals)
    return f"set {act.name}: {verb} {value_free.element_text(key, b'')}"


# Reading.


def get(message: int, family: Family, body: bytes, what: str, flags: int) -> Request:
    """Return the request for a dump, or for one answer."""
    header = NFGENMSG.pack(nfproto(family), 0, 0)
    return Request(message | nf.NFNL_SUBSYS_NFTABLES << 8, flags, header + body, what)


def refused_at(message: Message) -> int:
    """Return where in a refused request the kernel saw the fault; 0 when it does not tell."""
    offset = 4 + _HEADER.size
    if not message.flags & uapi.NLM_F_ACK_TLVS or not message.flags & uapi.NLM_F_CAPPED:
        return 0
    return number_in(attributes(message.body, offset), nf.NLMSGERR_ATTR_OFFS)


def events_in(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind, originator's port and body of each message; another subsystem's are left out."""
    offset = 0
    for message in unpack(datagram):
        port = _HEADER.unpack_from(datagram, offset)[4]
        if message.type >> 8 == nf.NFNL_SUBSYS_NFTABLES:
            yield message.type & 0xFF, port, message.body
        offset += (_HEADER.size + len(message.body) + 3) & ~3


def body_attributes(body: bytes) -> Attributes:
    """Return the attributes of a message. Raises CodecError."""
    if len(body) < NFGENMSG.size:
        raise CodecError(f"nftables: {len(body)} bytes where a header of {NFGENMSG.size} is due")
    return attributes(body, NFGENMSG.size)


def number(found: Attributes, kind: int) -> int:
    """Return a number of 32 bits in network order; 0 when it is absent. Raises CodecError."""
    payload = found.get(kind)
    if payload is None:
        return 0
    if len(payload) != _BE32.size:
        raise CodecError(f"nftables: attribute {kind} is no number: {len(payload)} bytes")
    value: int = _BE32.unpack(payload)[0]
    return value


def set_read(found: Attributes, wanted: Set | None = None) -> Set:
    """Return the set that a message tells of: ``wanted`` if that is it.

    A type that we do not know makes it unlike any of ours. Raises CodecError.
    """
    told = tuple(number(found, kind) for kind in _SHAPE)
    counted = nf.NFTA_SET_EXPR in found
    if wanted is not None and (told, counted) == (_shape(wanted), wanted.counted):
        return wanted
    flags, key, _, value, _ = told
    verdicts = value == nf.NFT_DATA_VERDICT
    read = Set(
        _fields_read(key),
        () if verdicts else _fields_read(value),
        verdicts,
        intervals=bool(flags & nf.NFT_SET_INTERVAL),
        learned=bool(flags & nf.NFT_SET_EVAL),
        counted=counted,
    )
    return read if _shape(read) == told else replace(read, key=())


_FIELDS = {part.type_number: part for part in Field}


def _fields_read(number: int) -> Fields:
    found: list[Field] = []
    while number:
        part = _FIELDS.get(number & (1 << _TYPE_BITS) - 1)
        if part is None:
            return ()
        found.insert(0, part)
        number >>= _TYPE_BITS
    return tuple(found)


def chain_read(found: Attributes) -> Chain:
    """Return the chain that a message tells of, without its rules. Raises CodecError."""
    if nf.NFTA_CHAIN_HOOK not in found:
        return Chain(())
    hook = attributes(found[nf.NFTA_CHAIN_HOOK])
    numbers = {each.value: each for each in Hook}
    known = numbers.get(number(hook, nf.NFTA_HOOK_HOOKNUM))
    priority = number(hook, nf.NFTA_HOOK_PRIORITY)
    priority -= 1 << 32 if priority >> 31 else 0
    return Chain((), known, priority, text_in(found, nf.NFTA_CHAIN_TYPE))


def elements_read(body: bytes, kind: Set) -> dict[bytes, bytes]:
    """Return the elements in one message of a dump. Raises CodecError."""
    packed = body_attributes(body).get(nf.NFTA_SET_ELEM_LIST_ELEMENTS, b"")
    read: dict[bytes, bytes] = {}
    offset, end = 0, len(packed)
    while offset < end:
        if end - offset < 4:
            raise CodecError(f"nftables: {end - offset} bytes at the end are no element")
        length, _ = _ATTRIBUTE.unpack_from(packed, offset)
        if not 4 <= length <= end - offset:
            raise CodecError(f"nftables: an element of {length} bytes in the {end - offset} that are left")
        found = attributes(packed[offset + 4 : offset + length])
        key = _value_read(found, nf.NFTA_SET_ELEM_KEY)
        if kind.intervals:
            key += _value_read(found, nf.NFTA_SET_ELEM_KEY_END)
        read[key] = _value_read(found, nf.NFTA_SET_ELEM_DATA)
        offset += (length + 3) & ~3
    return read


def _value_read(found: Attributes, kind: int) -> bytes:
    """Return a key or value; of a verdict the name of its chain; empty when there is none."""
    if kind not in found:
        return b""
    inside = attributes(found[kind])
    if nf.NFTA_DATA_VERDICT not in inside:
        return inside.get(nf.NFTA_DATA_VALUE, b"")
    verdict = attributes(inside[nf.NFTA_DATA_VERDICT])
    chain = text_in(verdict, nf.NFTA_VERDICT_CHAIN).encode()
    code = number(verdict, nf.NFTA_VERDICT_CODE)
    return chain if code == nf.NFT_GOTO & 0xFFFFFFFF else b"verdict %d %b" % (code, chain)
