"""Rules as the kernel's expressions. *Pure.*

A rule is a row of small instructions over 16 registers of 4 bytes. A rule that chooses an endpoint lays its
registers out like this (one column a field; an IPv6 address fills four registers, and all 16 are used):

    client's address | service's address | protocol | port | seat number  ->  endpoint's address | port
                     '------------ key of an endpoint -----'        the answer is put where the number was

so that every key is one row of registers, and what is known need not be moved.

What a map answers is used as a key again here, which nft's own language cannot say, and nft 1.0 ends with an
assertion when it lists a rule in which a key begins in the register that an answer begins in. So an answer
that is a key, or part of one, starts with an address that means nothing and is put over the client's, which
is then loaded again; nft prints the rest of the rule, and the comment says what it does.

Source: linux/netfilter/nf_tables.h; nft --debug=netlink prints the same instructions.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kubenet.kernel import nft_uapi as nf
from kubenet.kernel.netlink import attribute, nested, text
from kubenet.model.nft import (
    COMMENT_LENGTH,
    Always,
    By,
    ByMap,
    Choose,
    ClearMark,
    Count,
    Dispatch,
    Family,
    Forget,
    From,
    FromElsewhere,
    FromThisNode,
    Goto,
    InInterface,
    InSet,
    Invalid,
    IPNetwork,
    Jump,
    Load,
    Loads,
    Marked,
    Masquerade,
    Reject,
    Resume,
    Rule,
    SendTo,
    Sentence,
    SetMark,
    Stay,
    To,
    ToThisNode,
    Translated,
    Verdict,
    rule_text,
)

_U32 = struct.Struct("!I")
_IFNAMSIZ = 16
_SEED = 1  # of hashes: any number, the same on every node and after every restart
_ADDRESS_WORDS: Mapping[Family, int] = {4: 1, 6: 4}
_NFPROTO: Mapping[Family, int] = {4: nf.NFPROTO_IPV4, 6: nf.NFPROTO_IPV6, 7: nf.NFPROTO_BRIDGE}
_ADDRESS_OFFSETS: Mapping[tuple[Family, Load], int] = {  # in the header: RFC 791, RFC 8200
    (4, Load.SOURCE): 12,
    (4, Load.DESTINATION): 16,
    (6, Load.SOURCE): 8,
    (6, Load.DESTINATION): 24,
}
_ETHERNET = 8 + 8  # where the inner Ethernet header begins: after UDP and VXLAN (RFC 7348 section 5)
_LINK, _NETWORK, _TRANSPORT = (
    nf.NFT_PAYLOAD_LL_HEADER,
    nf.NFT_PAYLOAD_NETWORK_HEADER,
    nf.NFT_PAYLOAD_TRANSPORT_HEADER,
)
_PLACES: Mapping[Load, tuple[int, int, int]] = {  # header, offset in it, bytes
    Load.PORT: (_TRANSPORT, 2, 2),
    Load.SOURCE_PORT: (_TRANSPORT, 0, 2),
    Load.ICMP_TYPE: (_TRANSPORT, 0, 1),  # RFC 4443
    Load.ND_TARGET: (_TRANSPORT, 8, 16),  # RFC 4861 section 4.4
    Load.MAC_SOURCE: (_LINK, 6, 6),
    Load.ETHERTYPE: (_LINK, 12, 2),
    Load.BRIDGED_SOURCE_V4: (_NETWORK, 12, 4),
    Load.BRIDGED_SOURCE_V6: (_NETWORK, 8, 16),
    Load.ARP_MAC: (_NETWORK, 8, 6),  # RFC 826
    Load.ARP_SOURCE: (_NETWORK, 14, 4),
    Load.INNER_KIND: (_TRANSPORT, _ETHERNET + 12, 2),  # from the start of the UDP header
    Load.INNER_SOURCE_V4: (_TRANSPORT, _ETHERNET + 14 + 12, 4),
    Load.INNER_SOURCE_V6: (_TRANSPORT, _ETHERNET + 14 + 8, 16),
}


def nfproto(family: Family) -> int:
    """Return the number that netfilter knows an address family by."""
    return _NFPROTO[family]


def be32(kind: int, number: int) -> bytes:
    """Return an attribute that holds a number of 32 bits in network order."""
    return attribute(kind, _U32.pack(number & 0xFFFFFFFF))


def rule_bytes(rule: Rule, family: Family) -> bytes:
    """Return the attributes of a rule: its expressions, and its text as the comment that nft shows."""
    expressions = b"".join(b"".join(_Writer(family).sentence(each)) for each in rule)
    words = rule_text(rule).encode()[: COMMENT_LENGTH - 1] + b"\0"
    # linux userdata is ours to fill; nft reads type (0: comment), length, text.
    comment = bytes([0, len(words)]) + words
    return nested(nf.NFTA_RULE_EXPRESSIONS, expressions) + attribute(nf.NFTA_RULE_USERDATA, comment)


def _register(word: int) -> int:
    """Return the number of the register that begins at 32-bit word ``word``, as the kernel tells it.

    The registers of 16 bytes are 1 to 4, those of 4 bytes 8 to 23; where both begin it says the former.
    """
    return 8 + word if word % 4 else 1 + word // 4


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(nf.NFTA_LIST_ELEM, text(nf.NFTA_EXPR_NAME, name), nested(nf.NFTA_EXPR_DATA, *parts))


def _value(kind: int, packed: bytes) -> bytes:
    return nested(kind, attribute(nf.NFTA_DATA_VALUE, packed))


def _native(number: int) -> bytes:
    return struct.pack("=I", number & 0xFFFFFFFF)


def _meta(key: int, word: int) -> bytes:
    return _expression("meta", be32(nf.NFTA_META_DREG, _register(word)), be32(nf.NFTA_META_KEY, key))


def _compare(packed: bytes, *, unequal: bool = False) -> bytes:
    operation = nf.NFT_CMP_NEQ if unequal else nf.NFT_CMP_EQ
    return _expression(
        "cmp",
        be32(nf.NFTA_CMP_SREG, _register(0)),
        be32(nf.NFTA_CMP_OP, operation),
        _value(nf.NFTA_CMP_DATA, packed),
    )


def _bitwise(mask: bytes, flip: bytes) -> bytes:
    return _expression(
        "bitwise",
        be32(nf.NFTA_BITWISE_SREG, _register(0)),
        be32(nf.NFTA_BITWISE_DREG, _register(0)),
        be32(nf.NFTA_BITWISE_LEN, len(mask)),
        _value(nf.NFTA_BITWISE_MASK, mask),
        _value(nf.NFTA_BITWISE_XOR, flip),
    )


def _lookup(name: str, source: int, target: int | None = None, *, inverted: bool = False) -> bytes:
    parts = [text(nf.NFTA_LOOKUP_SET, name), be32(nf.NFTA_LOOKUP_SREG, _register(source))]
    if target is not None:
        register = nf.NFT_REG_VERDICT if target < 0 else _register(target)
        parts.append(be32(nf.NFTA_LOOKUP_DREG, register))
    if inverted:
        parts.append(be32(nf.NFTA_LOOKUP_FLAGS, nf.NFT_LOOKUP_F_INV))
    return _expression("lookup", *parts)


_VERDICT_WORD = -1  # where _lookup puts what decides


def _immediate_verdict(code: int, chain: str = "") -> bytes:
    parts = [be32(nf.NFTA_VERDICT_CODE, code)]
    if chain:
        parts.append(text(nf.NFTA_VERDICT_CHAIN, chain))
    verdict = attribute(nf.NFTA_DATA_VERDICT, b"".join(parts))  # as the kernel tells it, without the flag
    return _expression(
        "immediate",
        be32(nf.NFTA_IMMEDIATE_DREG, nf.NFT_REG_VERDICT),
        nested(nf.NFTA_IMMEDIATE_DATA, verdict),
    )


def _of_connection(sentence: Translated | Invalid | Count) -> Iterator[bytes]:
    if isinstance(sentence, Count):
        yield _expression("counter")
        return
    translated = nf.NFT_CT_STATUS, nf.IPS_DST_NAT
    invalid = nf.NFT_CT_STATE, nf.NF_CT_STATE_INVALID_BIT
    key, bit = translated if isinstance(sentence, Translated) else invalid
    yield _expression("ct", be32(nf.NFTA_CT_DREG, _register(0)), be32(nf.NFTA_CT_KEY, key))
    yield _bitwise(_native(bit), _native(0))
    yield _compare(_native(0), unequal=True)


_VERDICTS = {Verdict.DROP: nf.NF_DROP, Verdict.RETURN: nf.NFT_RETURN}


@dataclass(frozen=True, slots=True)
class _Writer:
    """Turns sentences into expressions for one family."""

    family: Family

    @property
    def words(self) -> int:
        """How many registers an address fills."""
        return _ADDRESS_WORDS[self.family]

    @property
    def service_word(self) -> int:
        return self.words

    @property
    def seat_word(self) -> int:
        return 2 * self.words + 2

    def sentence(self, sentence: Sentence) -> Iterator[bytes]:
        match sentence:
            case From() | To() | InInterface() | FromThisNode() | ToThisNode() | Marked():
                yield from self._condition(sentence)
            case Translated() | Invalid() | Count():
                yield from _of_connection(sentence)
            case FromElsewhere():
                yield from _comes_from_elsewhere()
            case InSet(loads, name, negated):
                yield from self._load(loads, 0)
                yield _lookup(name, 0, inverted=negated)
            case Dispatch(loads, name, ways):
                yield from self._load(loads, 0)
                yield _lookup(name, 0, 0)
                yield _lookup(ways, self.words, _VERDICT_WORD)
            case SendTo(loads, name):
                yield from self._load(loads, 0)
                yield _lookup(name, 0, self.seat_word)
                yield self._dnat()
            case Choose() | Resume() | Forget():
                yield from self._endpoint_sentence(sentence)
            case _:
                yield from self._end(sentence)

    def _condition(self, sentence: Sentence) -> Iterator[bytes]:
        match sentence:
            case From(network, negated):
                yield from self._network(Load.SOURCE, network, negated)
            case To(network, negated):
                yield from self._network(Load.DESTINATION, network, negated)
            case InInterface(ifname, negated):
                yield _meta(nf.NFT_META_IIFNAME, 0)
                pattern = ifname.encode()
                whole = pattern[:-1] if pattern.endswith(b"+") else pattern.ljust(_IFNAMSIZ, b"\0")
                yield _compare(whole, unequal=negated)
            case FromThisNode():
                yield from _is_local(nf.NFTA_FIB_F_SADDR)
            case ToThisNode():
                yield from _is_local(nf.NFTA_FIB_F_DADDR)
            case Marked(bit):
                yield _meta(nf.NFT_META_MARK, 0)
                yield _bitwise(_native(bit), _native(0))
                yield _compare(_native(0), unequal=True)

    def _end(self, sentence: Sentence) -> Iterator[bytes]:
        match sentence:
            case SetMark(bit):
                yield from _change_mark(keep=~bit, flip=bit)
            case ClearMark(bit):
                yield from _change_mark(keep=~bit, flip=0)
            case Jump(chain):
                yield _immediate_verdict(nf.NFT_JUMP, chain)
            case Goto(chain):
                yield _immediate_verdict(nf.NFT_GOTO, chain)
            case Verdict():
                yield _immediate_verdict(_VERDICTS[sentence])
            case Reject():
                code = nf.ICMP_PORT_UNREACH if self.family == 4 else nf.ICMPV6_PORT_UNREACH
                kind = be32(nf.NFTA_REJECT_TYPE, nf.NFT_REJECT_ICMP_UNREACH)
                yield _expression("reject", kind, attribute(nf.NFTA_REJECT_ICMP_CODE, bytes([code])))
            case Masquerade():
                yield _expression("masq", be32(nf.NFTA_MASQ_FLAGS, nf.NF_NAT_RANGE_PROTO_RANDOM_FULLY))
            case _:
                raise ValueError(f"{sentence.text()}: nothing that we say")

    def _network(self, load: Load, network: IPNetwork, negated: bool) -> Iterator[bytes]:
        yield from self._load((load,), 0)
        mask = network.netmask.packed
        yield _bitwise(mask, bytes(len(mask)))
        yield _compare(network.network_address.packed, unequal=negated)

    def _load(self, loads: Loads, word: int) -> Iterator[bytes]:
        """Put what ``loads`` names into registers from ``word`` on."""
        for load in loads:
            if load is Load.PROTOCOL:
                yield _meta(nf.NFT_META_L4PROTO, word)
                word += 1
            elif load is Load.IN_IFNAME:
                yield _meta(nf.NFT_META_IIFNAME, word)
                word += _IFNAMSIZ // 4
            elif load in _PLACES:
                header, offset, size = _PLACES[load]
                yield _payload(header, offset, size, word)
                word += (size + 3) // 4
            else:
                offset = _ADDRESS_OFFSETS[self.family, load]
                yield _payload(nf.NFT_PAYLOAD_NETWORK_HEADER, offset, 4 * self.words, word)
                word += self.words

    def _service(self, by: By) -> Iterator[bytes]:
        """Put the service's address, protocol and port into their registers."""
        word = self.service_word
        match by:
            case Always(packed):
                size = 4 * self.words
                yield _immediate(word, packed[:size])
                # Each by itself and in its own length, so that nft can tell what it is.
                yield _immediate(word + self.words, packed[size : size + 1])
                yield _immediate(word + self.words + 1, packed[size + 4 : size + 6])
            case ByMap(name, loads):
                yield from self._load(loads, word)
                yield _lookup(name, word, 0)
            case _:
                yield from self._load((Load.DESTINATION, Load.PROTOCOL, Load.PORT), word)

    def _endpoint_sentence(self, sentence: Choose | Resume | Forget) -> Iterator[bytes]:
        match sentence:
            case Choose(by=by, stay=stay):
                yield from self._service(by)
                yield from self._chosen(sentence)
                if stay:
                    yield from self._client()
                    yield self._learn(stay)
                yield self._dnat()
            case Resume(by, members, stay):
                yield from self._service(by)
                yield from self._client()
                yield _lookup(stay.name, 0, 0)
                yield from self._client()
                yield _lookup(members, self.service_word)
                yield self._learn(stay)
                yield self._dnat()
            case Forget(by, stay):
                yield from self._service(by)
                yield from self._client()
                # The kernel wants a value to be named for any map; to delete it is not looked at.
                yield from self._load((Load.SOURCE, Load.PORT), self.seat_word)
                yield self._learn(stay, nf.NFT_DYNSET_OP_DELETE)

    def _client(self) -> Iterator[bytes]:
        """Put the client's address where it belongs, over what an answer left there."""
        yield from self._load((Load.SOURCE,), 0)

    def _chosen(self, choose: Choose) -> Iterator[bytes]:
        """Put an endpoint into its registers."""
        if choose.hashed:
            yield from self._client()
            yield self._hashed(choose)
        else:
            yield self._numbered(choose)
        answer = 0 if choose.told_again else self.seat_word
        yield _lookup(choose.seats, self.service_word, answer)

    def _hashed(self, choose: Choose) -> bytes:
        return _expression(
            "hash",
            be32(nf.NFTA_HASH_SREG, _register(0)),
            be32(nf.NFTA_HASH_DREG, _register(self.seat_word)),
            be32(nf.NFTA_HASH_LEN, 4 * self.words),
            be32(nf.NFTA_HASH_MODULUS, choose.count),
            be32(nf.NFTA_HASH_SEED, _SEED),
            be32(nf.NFTA_HASH_OFFSET, choose.first),
        )

    def _numbered(self, choose: Choose) -> bytes:
        kind = nf.NFT_NG_INCREMENTAL if choose.in_turn else nf.NFT_NG_RANDOM
        return _expression(
            "numgen",
            be32(nf.NFTA_NG_DREG, _register(self.seat_word)),
            be32(nf.NFTA_NG_MODULUS, choose.count),
            be32(nf.NFTA_NG_TYPE, kind),
            be32(nf.NFTA_NG_OFFSET, choose.first),
        )

    def _learn(self, stay: Stay, operation: int = nf.NFT_DYNSET_OP_UPDATE) -> bytes:
        parts = [
            text(nf.NFTA_DYNSET_SET_NAME, stay.name),
            be32(nf.NFTA_DYNSET_OP, operation),
            be32(nf.NFTA_DYNSET_SREG_KEY, _register(0)),
            be32(nf.NFTA_DYNSET_SREG_DATA, _register(0)),
        ]
        if operation == nf.NFT_DYNSET_OP_UPDATE:
            parts.append(attribute(nf.NFTA_DYNSET_TIMEOUT, struct.pack("!Q", stay.timeout_s * 1000)))
        return _expression("dynset", *parts)

    def _dnat(self) -> bytes:
        return _expression(
            "nat",
            be32(nf.NFTA_NAT_TYPE, nf.NFT_NAT_DNAT),
            be32(nf.NFTA_NAT_FAMILY, nfproto(self.family)),
            be32(nf.NFTA_NAT_REG_ADDR_MIN, _register(self.seat_word)),
            be32(nf.NFTA_NAT_REG_PROTO_MIN, _register(self.seat_word + self.words)),
        )


def _payload(base: int, offset: int, length: int, word: int) -> bytes:
    return _expression(
        "payload",
        be32(nf.NFTA_PAYLOAD_DREG, _register(word)),
        be32(nf.NFTA_PAYLOAD_BASE, base),
        be32(nf.NFTA_PAYLOAD_OFFSET, offset),
        be32(nf.NFTA_PAYLOAD_LEN, length),
    )


def _immediate(word: int, packed: bytes) -> bytes:
    return _expression(
        "immediate", be32(nf.NFTA_IMMEDIATE_DREG, _register(word)), _value(nf.NFTA_IMMEDIATE_DATA, packed)
    )


def _comes_from_elsewhere() -> Iterator[bytes]:
    yield _expression(
        "fib",
        be32(nf.NFTA_FIB_DREG, _register(0)),
        be32(nf.NFTA_FIB_RESULT, nf.NFT_FIB_RESULT_OIF),
        be32(nf.NFTA_FIB_FLAGS, nf.NFTA_FIB_F_SADDR | nf.NFTA_FIB_F_IIF),
    )
    yield _compare(_native(0))  # the number of no link


def _is_local(which: int) -> Iterator[bytes]:
    yield _expression(
        "fib",
        be32(nf.NFTA_FIB_DREG, _register(0)),
        be32(nf.NFTA_FIB_RESULT, nf.NFT_FIB_RESULT_ADDRTYPE),
        be32(nf.NFTA_FIB_FLAGS, which),
    )
    yield _compare(_native(nf.RTN_LOCAL))


def _change_mark(keep: int, flip: int) -> Iterator[bytes]:
    yield _meta(nf.NFT_META_MARK, 0)
    yield _bitwise(_native(keep), _native(flip))
    yield _expression("meta", be32(nf.NFTA_META_KEY, nf.NFT_META_MARK), be32(nf.NFTA_META_SREG, _register(0)))
