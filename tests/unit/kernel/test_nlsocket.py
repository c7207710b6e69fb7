"""A conversation with a kernel that does what the real one does rarely."""

import errno
import struct
from collections.abc import Callable

import pytest

from kubenet.errors import TimedOut
from kubenet.kernel import codec, nlsocket, uapi
from kubenet.kernel.netlink import CodecError, NetlinkError
from kubenet.kernel.nlsocket import DUMP_TRIES, NetlinkSocket, Resync

_HEADER = struct.Struct("=IHHII")
LINK = codec.IFINFOMSG.pack(0, 1, 7, 0, 0)


def told(kind: int, sequence: int, body: bytes, flags: int = 0) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def status(code: int) -> bytes:
    return struct.pack("=i", -code)


class FakeKernel:
    """A netlink socket whose other end answers each send as it is told to."""

    def __init__(self, answer: Callable[[int, int], list[bytes | OSError]]) -> None:
        self._answer = answer
        self._queue: list[bytes | OSError] = []
        self.sends = 0

    def setsockopt(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def send(self, datagram: bytes) -> int:
        self.sends += 1
        sequence = _HEADER.unpack_from(datagram)[3]
        self._queue += self._answer(self.sends, sequence)
        return len(datagram)

    def recv(self, _size: int, _flags: int = 0) -> bytes:
        if not self._queue:
            raise BlockingIOError
        answer = self._queue.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeKernel], NetlinkSocket]:
    def connected(kernel: FakeKernel) -> NetlinkSocket:
        monkeypatch.setattr(nlsocket, "open_socket", lambda *_: kernel)
        return NetlinkSocket()

    return connected


Connect = Callable[[FakeKernel], NetlinkSocket]


def dump(sequence: int, flags: int = 0) -> list[bytes | OSError]:
    return [told(uapi.RTM_NEWLINK, sequence, LINK, flags), told(uapi.NLMSG_DONE, sequence, status(0), flags)]


def test_an_interrupted_dump_is_read_again(connect: Connect) -> None:
    kernel = FakeKernel(lambda turn, seq: dump(seq, uapi.NLM_F_DUMP_INTR if turn < 3 else 0))
    assert [message.body for message in connect(kernel).ask(codec.get_links())] == [LINK]
    assert kernel.sends == 3


def test_an_interruption_told_at_the_end_counts_too(connect: Connect) -> None:
    def answer(turn: int, seq: int) -> list[bytes | OSError]:
        first, last = dump(seq)
        return [first, told(uapi.NLMSG_DONE, seq, status(0), uapi.NLM_F_DUMP_INTR) if turn == 1 else last]

    kernel = FakeKernel(answer)
    connect(kernel).ask(codec.get_links())
    assert kernel.sends == 2


def test_a_dump_that_is_always_interrupted_is_given_up(connect: Connect) -> None:
    kernel = FakeKernel(lambda _, seq: dump(seq, uapi.NLM_F_DUMP_INTR))
    with pytest.raises(Resync, match="list links: it changed during each of 10 readings"):
        connect(kernel).ask(codec.get_links())
    assert kernel.sends == DUMP_TRIES


def test_A5_row53_what_an_interrupted_dump_told_is_enough_for_whoever_says_so(connect: Connect) -> None:
    kernel = FakeKernel(lambda _, seq: dump(seq, uapi.NLM_F_DUMP_INTR))
    assert [message.body for message in connect(kernel).ask(codec.get_links(), whole=False)] == [LINK]
    assert kernel.sends == 1


def test_a_dump_that_fails_at_its_end_is_a_refusal(connect: Connect) -> None:
    kernel = FakeKernel(lambda _, seq: [told(uapi.NLMSG_DONE, seq, status(errno.EINVAL))])
    with pytest.raises(NetlinkError, match="list links: Invalid argument"):
        connect(kernel).ask(codec.get_links())


def test_answers_to_what_nobody_waits_for_any_more_are_passed_over(connect: Connect) -> None:
    stale = (
        told(uapi.RTM_NEWLINK, 999, b"stale"),
        told(uapi.NLMSG_ERROR, 999, status(errno.EPERM) + bytes(16)),
    )
    kernel = FakeKernel(lambda turn, seq: [*stale, *(dump(seq) if turn == 1 else [ack(seq)])])
    connection = connect(kernel)
    assert [message.body for message in connection.ask(codec.get_links())] == [LINK]
    connection.transact([codec.delete_link(index=7)])


def ack(sequence: int, code: int = 0) -> bytes:
    return told(uapi.NLMSG_ERROR, sequence, status(code) + bytes(16))


def test_of_several_refusals_the_first_is_told(connect: Connect) -> None:
    kernel = FakeKernel(lambda _, seq: [ack(seq + 1, errno.EBUSY), ack(seq + 2, errno.EEXIST)])
    requests = [codec.set_link(1, mtu=1), codec.set_link(2, mtu=2), codec.set_link(3, mtu=3)]
    with pytest.raises(NetlinkError, match="set link 2: mtu 2: Device or resource busy"):
        connect(kernel).transact(requests)


def test_a_forgiven_refusal_is_none(connect: Connect) -> None:
    kernel = FakeKernel(lambda _, seq: [ack(seq, errno.ENODEV)])
    connect(kernel).transact([codec.delete_link(index=7)])


def test_a_kernel_that_does_not_answer_is_not_waited_for_for_ever(connect: Connect) -> None:
    connection = connect(FakeKernel(lambda *_: []))
    with pytest.raises(TimedOut, match="list links: no answer from the kernel"):
        connection.ask(codec.get_links())
    with pytest.raises(TimedOut, match="delete link 7: no answer from the kernel"):
        connection.transact([codec.delete_link(index=7)])


def test_lost_answers_mean_that_nothing_is_known(connect: Connect) -> None:
    def answer(turn: int, seq: int) -> list[bytes | OSError]:
        overrun = OSError(errno.ENOBUFS, "No buffer space available")
        return [ack(seq, errno.EBUSY), overrun, ack(seq), overrun] if turn == 1 else dump(seq)

    kernel = FakeKernel(answer)
    connection = connect(kernel)
    with pytest.raises(Resync, match="answers of the kernel got lost") as caught:
        connection.transact([codec.set_link(1, mtu=1), codec.set_link(2, mtu=2)])
    assert caught.value.next_step == "read the state again"
    assert [message.body for message in connection.ask(codec.get_links())] == [LINK]


def test_another_failure_of_the_socket_is_not_hidden(connect: Connect) -> None:
    connection = connect(FakeKernel(lambda *_: [OSError(errno.EIO, "Input/output error")]))
    with pytest.raises(OSError, match="Input/output error"):
        connection.ask(codec.get_links())


def test_an_answer_that_is_no_netlink_is_refused(connect: Connect) -> None:
    connection = connect(FakeKernel(lambda *_: [b"not netlink at all"]))
    with pytest.raises(CodecError):
        connection.ask(codec.get_links())
