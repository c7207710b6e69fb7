"""What the nftables codec makes of bytes: never an exception of another kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.kernel import nft_codec as codec
from kubenet.kernel import nft_uapi as nf
from kubenet.kernel.netlink import CodecError, attribute, nested, unpack
from kubenet.kernel.nft_rules import be32
from kubenet.kernel.nft_rules_read import rules_read
from kubenet.model.nft import Foreign, Verdict
from kubenet.model.nft_change import RulesetChange
from kubenet.model.nft_fields import Field, Set

PAIRS = Set((Field.ADDRESS_V4, Field.PORT), (Field.ADDRESS_V4,))


def key(number: int) -> bytes:
    return number.to_bytes(4, "big") + b"\0\x50\0\0"


def batch_of(count: int) -> codec.Batch:
    elements = {key(number): bytes(4) for number in range(count)}
    return codec.transaction("t", 4, RulesetChange(elements_in={"m": elements}, shapes={"m": PAIRS}))


def test_E3_14_elements_are_split_below_what_an_attribute_holds_and_none_is_lost() -> None:
    batch = batch_of(5000)
    read: dict[bytes, bytes] = {}
    for message in unpack(b"".join(batch.parts)):
        if message.type & 0xFF == nf.NEWSETELEM:
            assert len(message.body) <= 65535
            read |= codec.elements_read(message.body, PAIRS)
    assert read == {key(number): bytes(4) for number in range(5000)}


def test_a_refused_element_is_named_by_where_it_stands() -> None:
    batch = batch_of(3)
    (act,) = (act for act in batch.acts if isinstance(act, codec.Chunk))
    assert [codec.culprit(act, start) for start in act.starts] == [
        f"set m: add 0.0.0.{number} . 80" for number in range(3)
    ]
    assert codec.culprit(act, 0) == "set m: add 3 elements"


def test_what_we_would_not_say_is_foreign() -> None:
    expression = nested(nf.NFTA_LIST_ELEM, attribute(nf.NFTA_EXPR_NAME, b"queue\0"))
    told = nested(nf.NFTA_RULE_EXPRESSIONS, expression)
    assert rules_read([told], ((Verdict.DROP,),), 4) == ((Foreign("queue"),),)


def test_a_set_of_types_we_do_not_know_is_unlike_any_of_ours() -> None:
    found = {nf.NFTA_SET_KEY_TYPE: be32(0, 63)[4:], nf.NFTA_SET_KEY_LEN: be32(0, 4)[4:]}
    assert codec.set_read(found) == Set(())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_codec_error(junk: bytes) -> None:
    for reader in (
        lambda: codec.elements_read(junk, PAIRS),
        lambda: codec.set_read(codec.body_attributes(junk)),
        lambda: codec.chain_read(codec.body_attributes(junk)),
        lambda: list(codec.events_in(junk)),
        lambda: rules_read([junk], ((Verdict.DROP,),), 4),
    ):
        try:
            reader()
        except CodecError:
            continue


@pytest.mark.parametrize("size", [0, 1, 3], ids="{} bytes".format)
def test_a_number_that_is_none_is_refused(size: int) -> None:
    with pytest.raises(CodecError):
        codec.number({1: bytes(size)}, 1)
