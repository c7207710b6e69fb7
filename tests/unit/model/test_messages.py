"""Messages of the protobuf wire format: what is written is read, and what is broken is refused."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.cri.messages import PodSandboxConfig, PodSandboxMetadata, PortMapping
from kubenet.errors import Malformed
from kubenet.model.messages import decode, encode, numbered

numbers = st.integers(-(2**63), 2**63 - 1)
texts = st.text(max_size=20)
metadata = st.builds(PodSandboxMetadata, texts, texts, texts, numbers)
mappings = st.builds(PortMapping, numbers, numbers, numbers, texts)
configs = st.builds(
    PodSandboxConfig,
    metadata,
    texts,
    texts,
    st.lists(mappings, max_size=4).map(tuple),
    st.dictionaries(texts, texts, max_size=4),
)


@dataclass(frozen=True, slots=True)
class Numbers:
    """A message whose list a peer may pack."""

    many: tuple[int, ...] = numbered(4, ())
    flag: bool = numbered(5, False)
    raw: bytes = numbered(6, b"")


@given(configs)
def test_a_message_is_read_as_it_was_written(config: PodSandboxConfig) -> None:
    assert decode(PodSandboxConfig, encode(config)) == config


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_are_refused(content: bytes) -> None:
    try:
        decode(PodSandboxConfig, content)
    except Malformed:
        pass


def test_the_bytes_are_those_of_the_documentation() -> None:
    # "Encoding": field 1 with 150 is 08 96 01, field 2 with "testing" is 12 07 and the text,
    assert encode(PortMapping(150)) == b"\x08\x96\x01"
    assert encode(PodSandboxMetadata(uid="testing")) == b"\x12\x07testing"
    # and three numbers may come packed.
    assert decode(Numbers, b"\x22\x06\x03\x8e\x02\x9e\xa7\x05") == Numbers((3, 270, 86942))
    assert decode(Numbers, encode(Numbers((1, 2), True, b"\0"))) == Numbers((1, 2), True, b"\0")


def test_fields_that_nobody_reads_are_skipped() -> None:
    unknown = b"\x78\x01" + b"\x7a\x01x" + b"\x79" + b"\0" * 8 + b"\x7d" + b"\0" * 4
    assert decode(PortMapping, unknown + b"\x10\x50") == PortMapping(0, 80)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x08", id="ends in a number"),
        pytest.param(b"\x08" + b"\xff" * 11, id="a number without end"),
        pytest.param(b"\x22\x05x", id="ends in a field"),
        pytest.param(b"\x0b", id="a group"),
        pytest.param(b"\x20\x01", id="a number where a text belongs"),
        pytest.param(b"\x0a\x01x", id="a text where a number belongs"),
        pytest.param(b"\x22\x01\xff", id="no UTF-8"),
    ],
)
def test_what_is_broken_is_refused(content: bytes) -> None:
    with pytest.raises(Malformed):
        decode(PortMapping, content)
