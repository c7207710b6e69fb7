"""Framing, acknowledgements, and what refusals become."""

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.errors import KernelLacks, KubenetError, NotPermitted
from kubenet.kernel import uapi
from kubenet.kernel.netlink import (
    CodecError,
    Message,
    NetlinkError,
    Request,
    acknowledged,
    attribute,
    attributes,
    done,
    nested,
    number_in,
    pack,
    refusal,
    text,
    text_in,
    u32,
    unpack,
)
from kubenet.kernel.nlsocket import BATCH_BYTES, BATCH_MESSAGES, batches

HEADER = struct.Struct("=IHHII")
REQUEST_HEADER = HEADER.pack(20, uapi.RTM_NEWLINK, 5, 1, 0)


def answer(code: int, flags: int = 0, rest: bytes = b"") -> Message:
    return Message(uapi.NLMSG_ERROR, flags, 1, struct.pack("=i", -code) + REQUEST_HEADER + rest)


@given(st.dictionaries(st.integers(0, uapi.NLA_TYPE_MASK), st.binary(max_size=40)))
def test_attributes_read_back_whatever_their_length(wanted: dict[int, bytes]) -> None:
    packed = b"".join(attribute(kind, payload) for kind, payload in wanted.items())
    assert len(packed) % 4 == 0
    assert attributes(packed) == wanted


def test_the_mark_of_nesting_is_no_part_of_the_type() -> None:
    assert attributes(nested(18, u32(1, 7), text(2, "veth"))) == {18: u32(1, 7) + text(2, "veth")}


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        pytest.param(b"\x07", 7, id="8 bits"),
        pytest.param(struct.pack("=H", 700), 700, id="16 bits"),
        pytest.param(struct.pack("=I", 70000), 70000, id="32 bits"),
    ],
)
def test_a_number_is_read_in_the_width_it_has(payload: bytes, number: int) -> None:
    assert number_in({4: payload}, 4) == number


def test_what_is_absent_reads_as_nothing() -> None:
    assert number_in({}, 4) == 0
    assert text_in({}, 3) == ""


@pytest.mark.parametrize("payload", [b"", b"abc", bytes(8)])
def test_a_number_of_another_width_is_refused(payload: bytes) -> None:
    with pytest.raises(CodecError, match="attribute 4 is no number"):
        number_in({4: payload}, 4)


def test_text_that_is_no_text_is_refused() -> None:
    with pytest.raises(CodecError, match="attribute 3 is no text"):
        text_in({3: b"\xff\xfe"}, 3)


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(bytes(15), id="shorter than a header"),
        pytest.param(HEADER.pack(15, 2, 0, 0, 0), id="a length below that of the header"),
        pytest.param(HEADER.pack(17, 2, 0, 0, 0), id="a length beyond the end"),
        pytest.param(HEADER.pack(16, 2, 0, 0, 0) + b"x", id="a byte after the last message"),
        pytest.param(HEADER.pack(0, 2, 0, 0, 0), id="a length of nothing, on which a loop would stay"),
    ],
)
def test_a_datagram_whose_lengths_lie_is_refused(datagram: bytes) -> None:
    with pytest.raises(CodecError, match="netlink: "):
        list(unpack(datagram))


@given(st.binary(max_size=200))
def test_any_datagram_is_messages_or_a_codec_error(datagram: bytes) -> None:
    try:
        for message in unpack(datagram):
            acknowledged(message)
            done(message)
            attributes(message.body)
    except CodecError:
        pass


def test_a_padded_message_is_followed_by_the_next() -> None:
    odd = HEADER.pack(17, 9, 0, 1, 0) + b"x\0\0\0"
    assert [m.body for m in unpack(odd + HEADER.pack(16, 9, 0, 2, 0))] == [b"x", b""]


def test_success_has_no_reason() -> None:
    assert acknowledged(answer(0)) == (0, "")


def test_the_kernels_words_are_found_after_the_header_of_the_request() -> None:
    said = text(uapi.NLMSGERR_ATTR_MSG, "Nexthop has invalid gateway")
    flags = uapi.NLM_F_ACK_TLVS | uapi.NLM_F_CAPPED
    assert acknowledged(answer(errno.ENETUNREACH, flags, said)) == (
        errno.ENETUNREACH,
        "Nexthop has invalid gateway",
    )


def test_the_kernels_words_are_found_after_the_whole_request_when_it_is_repeated() -> None:
    said = text(uapi.NLMSGERR_ATTR_MSG, "why")
    assert acknowledged(answer(errno.EINVAL, uapi.NLM_F_ACK_TLVS, b"body" + said)) == (errno.EINVAL, "why")


def test_words_come_with_success_too() -> None:
    said = text(uapi.NLMSGERR_ATTR_MSG, "a warning")
    assert acknowledged(answer(0, uapi.NLM_F_ACK_TLVS, said)) == (0, "a warning")


@pytest.mark.parametrize("body", [b"", b"\0\0\0", struct.pack("=i", 5), struct.pack("=i", -(2**31))])
def test_a_status_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(CodecError, match="status"):
        acknowledged(Message(uapi.NLMSG_ERROR, 0, 1, body))


def test_a_dump_ends_with_its_own_status() -> None:
    assert done(Message(uapi.NLMSG_DONE, 2, 1, struct.pack("=i", -errno.EINVAL))) == errno.EINVAL
    assert done(Message(uapi.NLMSG_DONE, 2, 1, bytes(4))) == 0
    assert done(Message(uapi.NLMSG_DONE, 2, 1, b"")) == 0


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        pytest.param(errno.EPERM, NotPermitted, 77, id="not root"),
        pytest.param(errno.EOPNOTSUPP, KernelLacks, 4, id="not built into the kernel"),
        pytest.param(errno.EEXIST, NetlinkError, 1, id="anything else"),
    ],
)
def test_a_refusal_becomes_the_error_it_means(code: int, kind: type[KubenetError], exit_code: int) -> None:
    error = refusal(code, "make vxlan vx", "its own words")
    assert isinstance(error, kind)
    assert isinstance(error, NetlinkError)
    assert (error.errno, error.exit_code) == (code, exit_code)
    assert str(error).startswith("make vxlan vx: ")
    assert "its own words" in str(error)


def test_requests_are_sent_in_order_in_sends_that_fit() -> None:
    small = [Request(16, 0, bytes(4), str(number)) for number in range(BATCH_MESSAGES + 1)]
    large = [Request(16, 0, bytes(20000), f"large {number}") for number in range(3)]
    cut = list(batches([*small, *large]))
    assert [request for batch in cut for request in batch] == [*small, *large]
    assert all(sum(len(pack(r, 0, 0)) for r in batch) <= BATCH_BYTES for batch in cut)
    assert all(len(batch) <= BATCH_MESSAGES for batch in cut)
    assert len(cut) == 4


def test_a_request_larger_than_a_send_goes_alone() -> None:
    huge = Request(16, 0, bytes(BATCH_BYTES + 4), "huge")
    assert list(batches([huge, huge])) == [[huge], [huge]]


def test_no_requests_are_no_send() -> None:
    assert list(batches([])) == []
