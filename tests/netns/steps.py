"""The system calls of a process as steps: name them, let one fail, or kill the process there.

Everything a process changes in the world it changes by a system call. A seccomp filter holds each of these
until this module has said what becomes of it, so the process under test is the real one, unchanged, and no
step can be forgotten: one more send, file or socket is one more step.

A step that fails returns the errno. A request to netlink is different: the kernel takes the message, and
refuses it in its answer. So the message is swallowed, and the refusal put where the answer is read.

Source: seccomp_unotify(2), seccomp(2); netlink(7).
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field

_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "sendto": 44,
        "recvfrom": 45,
        "write": 1,
        "openat": 257,
        "rename": 82,
        "unlink": 87,
        "mkdir": 83,
        "setns": 308,
        "socket": 41,
        "seccomp": 317,
    },
    "aarch64": {
        "sendto": 206,
        "recvfrom": 207,
        "write": 64,
        "openat": 56,
        "renameat": 38,
        "unlinkat": 35,
        "mkdirat": 34,
        "setns": 268,
        "socket": 198,
        "seccomp": 277,
    },
}  # asm/unistd_64.h
NUMBERS = _NUMBERS[platform.machine()]
NAMES = {number: name for name, number in NUMBERS.items()}

_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3  # linux/seccomp.h
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _EQUAL, _ABOVE, _HAS, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06  # linux/filter.h
_ARCH_AT, _NUMBER_AT, _ARGUMENTS_AT = 4, 0, 16  # struct seccomp_data
_CALL = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
_VERDICT = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_RECEIVE, _ANSWER = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
_CONTINUE = 1

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ERROR, _CAPPED, _BATCH_BEGIN = 2, 0x100, 0x10
_LONGEST_PATH = 256


def report_steps(to: socket.socket) -> None:
    """Have whoever holds the other end of ``to`` decide on each step of this process from now on.

    To be called before there is a second thread.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    program = _program()
    instructions = b"".join(struct.pack("=HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(instructions)
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    listener = libc.syscall(NUMBERS["seccomp"], _SET_MODE_FILTER, _NEW_LISTENER, header)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    socket.send_fds(to, [b"%d" % os.getpid()], [listener])  # sendmsg(2), which is no step
    os.close(listener)


def _program() -> list[tuple[int, int, int, int]]:
    """Return the filter: calls that change something are held, and answers of the kernel are."""
    plain = [number for name, number in NUMBERS.items() if name not in ("openat", "write", "seccomp")]
    lines: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, _ARCHES[platform.machine()]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_EQUAL, 0, 3, NUMBERS["openat"]),
        (_LOAD, 0, 0, _ARGUMENTS_AT + 16),
        (_HAS, len(plain) + 6, 0, os.O_CREAT),
        (_RETURN, 0, 0, _ALLOW),
        (_EQUAL, 0, 3, NUMBERS["write"]),
        (_LOAD, 0, 0, _ARGUMENTS_AT),
        (_ABOVE, len(plain) + 2, 0, 2),  # what goes to stdout and stderr is talk
        (_RETURN, 0, 0, _ALLOW),
    ]
    lines += [(_EQUAL, len(plain) - place, 0, number) for place, number in enumerate(plain)]
    return [*lines, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _NOTIFY)]


@dataclass(frozen=True, slots=True)
class Call:
    """One system call that waits for a verdict."""

    number: int
    thread: int
    name: str
    arguments: tuple[int, ...]

    def read(self, address: int, size: int) -> bytes:
        with open(f"/proc/{self.thread}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
            memory.seek(address)
            return memory.read(size)

    def write(self, address: int, content: bytes) -> None:
        with open(f"/proc/{self.thread}/mem", "wb", buffering=0) as memory:  # noqa: PTH123
            memory.seek(address)
            memory.write(content)

    @property
    def sent(self) -> bytes:
        """What a ``sendto`` sends."""
        return self.read(self.arguments[1], self.arguments[2]) if self.name == "sendto" else b""

    def describe(self) -> str:
        """Return the step in a few words, the same whenever it is repeated."""
        match self.name:
            case "sendto":
                kinds = [str(kind) for _, kind, _ in messages(self.sent)]
                return f"netlink {'+'.join(dict.fromkeys(kinds))}" if kinds else "answer"
            case "rename" | "unlink" | "mkdir":
                return f"{self.name} {self._ending(self.arguments[0])}"
            case "openat" | "renameat" | "unlinkat" | "mkdirat":
                return f"{self.name} {self._ending(self.arguments[1])}"
        return self.name

    def _ending(self, address: int) -> str:
        path = self.read(address, _LONGEST_PATH).partition(b"\0")[0].decode(errors="replace")
        return path.rpartition("/")[2].partition(".")[2]


@dataclass
class Plan:
    """What shall happen: the first step has the number 1; 0 is none."""

    kill_at: int = 0
    fail_at: int = 0
    code: int = errno.EIO
    seen: list[str] = field(default_factory=list)

    def is_done(self) -> bool:
        """Whether what shall happen has happened."""
        return len(self.seen) >= max(self.kill_at, self.fail_at)


class Supervisor:
    """Decides on the steps of one process until it has ended."""

    def __init__(self, listener: int, pid: int) -> None:
        self.pid = pid
        self.plan = Plan()
        self.refused = False  # a step, at any time
        self._listener = listener
        self.pidfd = os.pidfd_open(pid)
        self._swallowed: dict[int, bytes] = {}  # by descriptor: the answer to what was not sent
        self._thread = threading.Thread(target=self._run, name=f"steps of {pid}")
        self._thread.start()

    @classmethod
    def accept(cls, at: socket.socket) -> "Supervisor":
        """Return the supervisor of the process that reports its steps there."""
        told, (listener,), _, _ = socket.recv_fds(at, 64, 1)
        return cls(listener, int(told))

    def expect(self, *, kill_at: int = 0, fail_at: int = 0, code: int = errno.EIO) -> Plan:
        """Count from here on, and let that happen."""
        self.plan = Plan(kill_at, fail_at, code)
        return self.plan

    def kill(self) -> None:
        """Kill the process where it is."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    @property
    def alive(self) -> bool:
        return not select.select([self.pidfd], [], [], 0)[0]

    def wait_dead(self, timeout_s: float = 5.0) -> None:
        """Return when nothing of the process is left."""
        assert select.select([self.pidfd], [], [], timeout_s)[0], "it lives"
        self._thread.join(timeout_s)

    def close(self) -> None:
        self.kill()
        self.wait_dead()
        os.close(self.pidfd)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        while not poller.poll()[0][1] & select.POLLHUP:
            told = bytearray(_CALL.size)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, told)
            except OSError:
                continue  # who called is gone
            number, thread, _, nr, _, _, *arguments = _CALL.unpack(told)
            self._decide(Call(number, thread, NAMES[nr], tuple(arguments)))
        os.close(self._listener)

    def _decide(self, call: Call) -> None:
        try:
            verdict = self._answered(call) if call.name == "recvfrom" else self._step(call)
            if verdict:
                fcntl.ioctl(self._listener, _ANSWER, _VERDICT.pack(call.number, *verdict))
        except OSError:
            pass  # it was killed meanwhile

    def _step(self, call: Call) -> tuple[int, int, int] | None:
        plan = self.plan
        plan.seen.append(call.describe())
        number = len(plan.seen)
        if number == plan.kill_at:
            self.kill()
            return None
        if number != plan.fail_at:
            return 0, 0, _CONTINUE
        self.refused = True
        sent = call.sent
        if refusals := refused(sent, plan.code):
            self._swallowed[call.arguments[0]] = refusals
            return len(sent), 0, 0
        return 0, -plan.code, 0

    def _answered(self, call: Call) -> tuple[int, int, int]:
        answer = self._swallowed.pop(call.arguments[0], b"")
        if not answer:
            return 0, 0, _CONTINUE
        call.write(call.arguments[1], answer)
        return len(answer), 0, 0


def messages(sent: bytes) -> list[tuple[int, int, int]]:
    """Return flags, type and sequence of the netlink messages in a send; nothing if it is something else."""
    found: list[tuple[int, int, int]] = []
    offset = 0
    while len(sent) - offset >= _HEADER.size:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(sent, offset)
        if not _HEADER.size <= length <= len(sent) - offset:
            return []
        found.append((flags, kind, sequence))
        offset += (length + 3) & ~3
    return found


def refused(sent: bytes, code: int) -> bytes:
    """Return what the kernel answers when it refuses all of a send."""
    found = messages(sent)
    if found and found[0][1] == _BATCH_BEGIN and len(found) > 1 and found[1][1] >> 8:
        found = found[1:2]  # a transaction is refused for one of its parts
    return b"".join(_refusal(sequence, code) for _, _, sequence in found)


def _refusal(sequence: int, code: int) -> bytes:
    body = struct.pack("=i", -code) + _HEADER.pack(_HEADER.size, 0, 0, sequence, 0)
    return _HEADER.pack(_HEADER.size + len(body), _ERROR, _CAPPED, sequence, 0) + body
