"""Rules as the kernel tells them: whether they are ours, and what they have counted. *Pure.*

The kernel tells expressions, not the sentences that they were made of. So a rule is told by comparing it with
what we would have written in its place; any other is somebody else's.

Source: linux/netfilter/nf_tables.h.
"""

import struct
from collections.abc import Mapping
from typing import TypeAlias

from kubenet.kernel import nft_uapi as nf
from kubenet.kernel.netlink import CodecError, attributes, text_in
from kubenet.kernel.nft_rules import rule_bytes
from kubenet.model.nft import Family, Foreign, Rule, Rules


def rules_read(told: list[bytes], wanted: Rules, family: Family) -> Rules:
    """Return the rules of a chain that the kernel ``told``: the wanted ones where they are the same.

    Raises CodecError.
    """
    read: list[Rule] = []
    for place, body in enumerate(told):
        expressions = _expressions(attributes(body).get(nf.NFTA_RULE_EXPRESSIONS, b""))
        rule = wanted[place] if place < len(wanted) else None
        if rule is not None and _covers(expressions, _wanted_expressions(rule, family)):
            read.append(rule)
        else:
            read.append((Foreign(" ".join(name for name, _ in expressions) or "nothing"),))
    return tuple(read)


Expression: TypeAlias = tuple[str, Mapping[int, bytes]]


def _wanted_expressions(rule: Rule, family: Family) -> list[Expression]:
    return _expressions(attributes(rule_bytes(rule, family))[nf.NFTA_RULE_EXPRESSIONS])


def _expressions(body: bytes) -> list[Expression]:
    """Return the name and the attributes of each expression in a list of them."""
    found: list[Expression] = []
    offset = 0
    while offset < len(body):
        if len(body) - offset < 4:
            raise CodecError(f"nftables: {len(body) - offset} bytes at the end are no expression")
        (length,) = struct.unpack_from("=H", body, offset)
        if not 4 <= length <= len(body) - offset:
            raise CodecError(f"nftables: an expression of {length} bytes in {len(body) - offset}")
        parts = attributes(body[offset + 4 : offset + length])
        found.append((text_in(parts, nf.NFTA_EXPR_NAME), attributes(parts.get(nf.NFTA_EXPR_DATA, b""))))
        offset += (length + 3) & ~3
    return found


def packets_counted(told: bytes) -> int:
    """Return how many packets a rule that the kernel ``told`` has counted. Raises CodecError."""
    for name, parts in _expressions(attributes(told).get(nf.NFTA_RULE_EXPRESSIONS, b"")):
        if name == "counter":
            return int.from_bytes(parts.get(nf.NFTA_COUNTER_PACKETS, b""), "big")
    return 0


def _covers(told: list[Expression], wanted: list[Expression]) -> bool:
    """Return whether the kernel tells what we would; it adds what it defaults."""
    return len(told) == len(wanted) and all(
        name == other and all(parts.get(kind) == value for kind, value in want.items())
        for (name, parts), (other, want) in zip(told, wanted, strict=True)
    )
