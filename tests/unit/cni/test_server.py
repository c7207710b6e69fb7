"""What a shim sends, and DELs that it has left behind."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.deferred import deferred, directory_for
from cni.locks import KeyedLocks
from cni.server import parse_variables
from kubenet.errors import TimedOut


def test_variables_are_read_up_to_the_zero_byte_and_split_at_the_first_equals_sign() -> None:
    message = b"CNI_COMMAND=ADD\0CNI_ARGS=A=1;B=2\0CNI_NETNS=\0"
    assert parse_variables(message) == {"CNI_COMMAND": "ADD", "CNI_ARGS": "A=1;B=2", "CNI_NETNS": ""}


@given(st.binary(max_size=100))
def test_any_bytes_can_be_read(message: bytes) -> None:
    assert all(isinstance(value, str) for value in parse_variables(message).values())


def test_N9_requests_that_wait_come_in_the_order_they_were_asked(tmp_path: Path) -> None:
    directory = directory_for(tmp_path / "cni.sock")
    assert deferred(directory) == []
    for name, asked_s in (("9.1.1", 5), ("10.1.1", 3)):
        (directory / name).write_bytes(b"CNI_COMMAND=DEL\0CNI_CONTAINERID=" + name.encode() + b"\0")
        os.utime(directory / name, (asked_s, asked_s))
    (directory / "11.1.1.tmp").write_bytes(b"half")
    waiting = deferred(directory)
    assert [request.environment["CNI_CONTAINERID"] for request in waiting] == ["10.1.1", "9.1.1"]
    assert [request.written_ns for request in waiting] == [3 * 10**9, 5 * 10**9]
    for request in waiting:
        request.done()
    assert deferred(directory) == []


def test_a_lock_is_for_one_key_and_gone_when_nobody_wants_it() -> None:
    locks = KeyedLocks()
    with locks.held("a", 1), locks.held("b", 1):
        assert len(locks) == 2
        with pytest.raises(TimedOut, match="a: another request"), locks.held("a", 0.01):
            pass
    assert len(locks) == 0
    with locks.held("a", 0.01):
        assert len(locks) == 1
