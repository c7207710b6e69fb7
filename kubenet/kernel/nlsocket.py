"""A netlink socket: requests out, answers in, many at a time.

The kernel works a whole send off, in order, before the system call returns, and reports each refusal whether
asked to or not. So only the last message of a send asks for an acknowledgement, and a batch costs two system
calls however long it is; the sequence numbers say which request a refusal belongs to.

Source: netlink(7), linux/netlink.h.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from threading import Lock
from types import TracebackType
from typing import Self

from kubenet.errors import KubenetError, TimedOut
from kubenet.kernel import uapi
from kubenet.kernel.netlink import (
    Message,
    NetlinkError,
    Request,
    acknowledged,
    bodies,
    done,
    pack,
    refusal,
    unpack,
)
from kubenet.kernel.netns import NetNs

BATCH_BYTES = 32 * 1024  # far below the send buffer (208 KiB by default), beyond which a send is refused
BATCH_MESSAGES = 256  # so many refusals fit into the receive buffer at once
RECEIVE_BUFFER_BYTES = 1 << 20
LARGEST_DATAGRAM_BYTES = 64 * 1024  # a dump comes in pieces of at most 32 KiB
DUMP_TRIES = 10
ANSWER_WITHIN_S = 30  # answers come within the send; only deleting thousands of links takes seconds

_TIMEVAL = struct.Struct("@ll")


class Resync(KubenetError):
    """The kernel had more to say than the socket could hold: what is known is stale, read all again."""


def open_socket(netns: NetNs | None = None, protocol: int = uapi.NETLINK_ROUTE) -> socket.socket:
    """Return a bound netlink socket that belongs to ``netns``; None is the calling thread's own.

    Raises NetlinkError, also when the process may not have one more descriptor.
    """
    family, kind = socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC
    try:
        made = netns.socket(family, kind, protocol) if netns else socket.socket(family, kind, protocol)
    except OSError as error:
        raise refusal(error.errno or errno.EIO, "open a netlink socket") from error
    try:
        made.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_CAP_ACK, 1)
        made.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_EXT_ACK, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        made.bind((0, 0))
    except BaseException:
        made.close()
        raise
    return made


class NetlinkSocket:
    """A connection to the kernel's networking in one namespace. May be used by several threads."""

    def __init__(self, netns: NetNs | None = None, protocol: int = uapi.NETLINK_ROUTE) -> None:
        self._socket = open_socket(netns, protocol)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(ANSWER_WITHIN_S, 0))
        self._lock = Lock()
        self._sequence = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; the namespace may then go."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def transact(self, requests: Sequence[Request]) -> None:
        """Send all requests, in order; one that is refused does not stop those after it.

        Raises NetlinkError for the first refusal that its request does not forgive, Resync when answers got
        lost, TimedOut.
        """
        with self._lock:
            refused = [error for batch in batches(requests) for error in self._send(batch)]
        if refused:
            raise refused[0]

    def ask(self, request: Request, *, whole: bool = True) -> list[Message]:
        """Return what the kernel answers to a request that gets, once more when the tables moved meanwhile.

        If it need not be ``whole``, what was heard at the first time is enough.

        Raises NetlinkError, Resync, TimedOut.
        """
        with self._lock:
            for _ in range(DUMP_TRIES):
                if (answer := self._ask_once(request, whole=whole)) is not None:
                    return answer
        raise Resync(f"{request.what}: it changed during each of {DUMP_TRIES} readings")

    def dump(self, request: Request) -> list[bytes]:
        """Return the bodies of a dump's messages, read once more when the tables moved meanwhile.

        Raises NetlinkError, Resync, TimedOut.
        """
        with self._lock:
            for _ in range(DUMP_TRIES):
                if (told := self._dump_once(request)) is not None:
                    return told
        raise Resync(f"{request.what}: it changed during each of {DUMP_TRIES} readings")

    def _dump_once(self, request: Request) -> list[bytes] | None:
        self._sequence += 1
        self._put(pack(request, self._sequence, 0), request.what)
        told: list[bytes] = []
        all_flags = 0
        for datagram in self._datagrams(request.what):
            flags, end = bodies(datagram, self._sequence, told)
            all_flags |= flags
            if end is None:
                continue
            code = done(end) if end.type == uapi.NLMSG_DONE else acknowledged(end)[0]
            if code:
                raise refusal(code, request.what)
            break
        return None if all_flags & uapi.NLM_F_DUMP_INTR else told

    def _send(self, batch: Sequence[Request]) -> list[NetlinkError]:
        """Send a batch and return what was refused and is not forgiven, in order."""
        first = self._sequence + 1
        self._sequence = last = self._sequence + len(batch)
        packed = [pack(request, first + place, 0) for place, request in enumerate(batch[:-1])]
        self._put(b"".join([*packed, pack(batch[-1], last, uapi.NLM_F_ACK)]), batch[0].what)
        refused: list[NetlinkError] = []
        for message in self._answers(batch[-1].what):
            if message.type != uapi.NLMSG_ERROR or not first <= message.sequence <= last:
                continue  # the answer to a request of before that nobody waited for
            request = batch[message.sequence - first]
            code, said = acknowledged(message)
            if code and code not in request.forgiven:
                refused.append(refusal(code, request.what, said))
            if message.sequence == last:
                break
        return refused

    def _ask_once(self, request: Request, *, whole: bool) -> list[Message] | None:
        """Return the answer; None when what was being read changed meanwhile."""
        self._sequence += 1
        wants_ack = 0 if request.flags & uapi.NLM_F_DUMP else uapi.NLM_F_ACK
        self._put(pack(request, self._sequence, wants_ack), request.what)
        answer: list[Message] = []
        code, said, interrupted = 0, "", 0
        for message in self._answers(request.what):
            if message.sequence != self._sequence:
                continue  # the answer to a request of before that nobody waited for
            if message.type == uapi.NLMSG_ERROR:
                code, said = acknowledged(message)
                break
            interrupted |= message.flags & uapi.NLM_F_DUMP_INTR
            if message.type == uapi.NLMSG_DONE:
                code = done(message)
                break
            answer.append(message)
        if code:
            raise refusal(code, request.what, said)
        return None if interrupted and whole else answer

    def _put(self, packed: bytes, what: str) -> None:
        try:
            self._socket.send(packed)
        except OSError as error:  # no memory for it: nothing was done
            raise refusal(error.errno or errno.EIO, what) from error

    def _answers(self, what: str) -> Iterator[Message]:
        """Yield messages for as long as the caller wants more."""
        for datagram in self._datagrams(what):
            yield from unpack(datagram)

    def _datagrams(self, what: str) -> Iterator[bytes]:
        while True:
            try:
                datagram = self._socket.recv(LARGEST_DATAGRAM_BYTES)
            except BlockingIOError as error:
                raise TimedOut(f"{what}: no answer from the kernel within {ANSWER_WITHIN_S} s") from error
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._drain()
                raise Resync(f"{what}: answers of the kernel got lost", "read the state again") from error
            yield datagram

    def _drain(self) -> None:
        """Throw away what is left: the kernel queues nothing more until an overrun socket is empty."""
        while True:
            try:
                self._socket.recv(LARGEST_DATAGRAM_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise


def batches(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Cut requests into sends that the socket's buffers hold."""
    start = bytes_used = 0
    for end, request in enumerate(requests):
        size = 16 + len(request.body)
        if end > start and (bytes_used + size > BATCH_BYTES or end - start >= BATCH_MESSAGES):
            yield requests[start:end]
            start, bytes_used = end, 0
        bytes_used += size
    if start < len(requests):
        yield requests[start:]
