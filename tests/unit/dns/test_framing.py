"""Messages on a stream, however it is cut."""

from hypothesis import given
from hypothesis import strategies as st

from dns.framing import FrameReader, framed


@given(st.lists(st.binary(max_size=300), max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_B8_messages_arrive_however_the_stream_is_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(framed, messages))
    reader = FrameReader()
    got: list[bytes] = []
    at = turn = 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        reader.feed(stream[at : at + size])
        got += reader.messages()
        at, turn = at + size, turn + 1
    assert got == messages
    assert not reader.partial


def test_B8_half_a_length_is_a_partial_message() -> None:
    reader = FrameReader()
    assert not reader.partial
    reader.feed(b"\0")
    assert list(reader.messages()) == []
    assert reader.partial
    assert not reader.ready


def test_B8_messages_not_taken_wait() -> None:
    reader = FrameReader()
    reader.feed(framed(b"one") + framed(b"two"))
    assert next(reader.messages()) == b"one"
    assert reader.ready
    reader.feed(b"\0")
    assert list(reader.messages()) == [b"two"]
    assert reader.partial
    assert not reader.ready
