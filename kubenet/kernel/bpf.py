"""The bpf(2) system call: maps, programs on raw tracepoints, the ring buffer that they write to.

Everything lives as long as its descriptor: when this process ends, however it ends, the kernel takes programs
and maps away. No compiler and no library is involved; see ``bpf_asm`` and ``btf``.

Source: bpf(2), linux/bpf.h, Documentation/bpf/ringbuf.rst; tools/lib/bpf/ringbuf.c for the order of reads.
"""

import ctypes
import errno
import mmap
import os
import platform
import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from kubenet.errors import KernelLacks, KubenetError, NotPermitted
from kubenet.kernel.btf import Btf

VMLINUX_BTF = Path("/sys/kernel/btf/vmlinux")

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 1, 2, 5, 17
_HASH, _ARRAY, _LRU_HASH, _RINGBUF = 1, 2, 9, 27
_RAW_TRACEPOINT = 17
_ATTR_BYTES = 128
_LOG_BYTES = 1 << 16
_BUSY, _DISCARD, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_PAGE = mmap.PAGESIZE

_libc = ctypes.CDLL(None, use_errno=True)


class ProgramRefused(KubenetError):
    """The kernel's verifier did not take a program: a fault of ours, or a kernel that is very different."""


def kernel_types() -> Btf:
    """Return the running kernel's types. Raises KernelLacks."""
    try:
        return Btf(VMLINUX_BTF.read_bytes())
    except OSError as error:
        raise KernelLacks(
            f"{VMLINUX_BTF}: {error.strerror}", "use a kernel with CONFIG_DEBUG_INFO_BTF"
        ) from error


class BpfMap:
    """A table that programs and we share: keys and values are bytes of fixed length."""

    def __init__(self, kind: int, key_bytes: int, value_bytes: int, entries: int) -> None:
        self.fd = -1  # should the next line fail
        self.fd = _bpf(_MAP_CREATE, struct.pack("=IIIII", kind, key_bytes, value_bytes, entries, 0), "a map")
        self._value_bytes = value_bytes

    @classmethod
    def hash(cls, key_bytes: int, value_bytes: int, entries: int) -> Self:
        """Return a table that refuses more than ``entries``."""
        return cls(_HASH, key_bytes, value_bytes, entries)

    @classmethod
    def recent(cls, key_bytes: int, value_bytes: int, entries: int) -> Self:
        """Return a table that forgets what was not used for the longest time."""
        return cls(_LRU_HASH, key_bytes, value_bytes, entries)

    @classmethod
    def counter(cls) -> Self:
        """Return a table with one number of 64 bits."""
        return cls(_ARRAY, 4, 8, 1)

    def put(self, key: bytes, value: bytes) -> None:
        """Write one entry. Raises KubenetError when the table is full."""
        k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
        attr = struct.pack("=IxxxxQQQ", self.fd, ctypes.addressof(k), ctypes.addressof(v), 0)
        _bpf(_MAP_UPDATE, attr, "an entry of a map")

    def get(self, key: bytes) -> bytes | None:
        """Return one value, or None if there is no such key."""
        k, v = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(self._value_bytes)
        attr = struct.pack("=IxxxxQQQ", self.fd, ctypes.addressof(k), ctypes.addressof(v), 0)
        try:
            _bpf(_MAP_LOOKUP, attr, "an entry of a map")
        except KubenetError as error:
            if ctypes.get_errno() == errno.ENOENT:
                return None
            raise error from None
        return v.raw

    def close(self) -> None:
        """Let go of the map; programs that use it keep it."""
        self.fd = _closed(self.fd)


class RingBuffer:
    """What programs write and one reader reads, in order. ``fd`` becomes readable when there is something."""

    def __init__(self, size_bytes: int) -> None:
        """Make one; the size is a power of two and a multiple of the page's."""
        self._size = size_bytes
        self.fd = _bpf(_MAP_CREATE, struct.pack("=IIIII", _RINGBUF, 0, 0, size_bytes, 0), "a ring buffer")
        try:
            self._ours = mmap.mmap(self.fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            # The records are mapped twice in a row, so that one at the end is in one piece.
            self._theirs = mmap.mmap(
                self.fd, _PAGE + 2 * size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE
            )
        except BaseException:
            os.close(self.fd)
            raise

    def fileno(self) -> int:
        return self.fd

    def read(self) -> list[bytes]:
        """Return all records that are there. Does not block."""
        records: list[bytes] = []
        (done,) = struct.unpack_from("=Q", self._ours)
        (written,) = struct.unpack_from("=Q", self._theirs)
        while done < written:
            at = _PAGE + (done & (self._size - 1))
            (head,) = struct.unpack_from("=I", self._theirs, at)
            if head & _BUSY:
                break
            length = head & _LENGTH
            if not head & _DISCARD:
                records.append(self._theirs[at + 8 : at + 8 + length])
            done += (length + 8 + 7) & ~7
        struct.pack_into("=Q", self._ours, 0, done)
        return records

    def close(self) -> None:
        """Let go of the buffer."""
        if self.fd >= 0:
            self._ours.close()
            self._theirs.close()
            self.fd = _closed(self.fd)


class Attached:
    """Programs on raw tracepoints, until this is closed."""

    def __init__(self) -> None:
        self._fds: list[int] = []

    def attach(self, tracepoint: str, code: bytes) -> None:
        """Load a program and run it at a tracepoint. Raises ProgramRefused, KernelLacks, NotPermitted."""
        program = _load(code, tracepoint)
        self._fds.append(program)
        name = ctypes.create_string_buffer(tracepoint.encode())
        attr = struct.pack("=QI", ctypes.addressof(name), program)
        self._fds.append(_bpf(_RAW_TRACEPOINT_OPEN, attr, f"the tracepoint {tracepoint}"))

    def close(self) -> None:
        """Detach and unload all."""
        _close_all(self._fds)
        self._fds = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _load(code: bytes, name: str) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")  # helpers that read kernel memory are for GPL programs
    shown = "".join(c for c in name if c.isalnum() or c == "_")[:15].encode()
    head = struct.pack(
        "=IIQQ",
        _RAW_TRACEPOINT,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
    )
    try:
        return _bpf(
            _PROG_LOAD, head + struct.pack("=IIQII16s", 0, 0, 0, 0, 0, shown), f"a program for {name}"
        )
    except NotPermitted:
        raise
    except KubenetError as error:
        # Once more with the verifier's log, which costs time that nobody wants to spend otherwise.
        log = ctypes.create_string_buffer(_LOG_BYTES)
        tail = struct.pack("=IIQII16s", 1, len(log), ctypes.addressof(log), 0, 0, shown)
        try:
            return _bpf(_PROG_LOAD, head + tail, f"a program for {name}")
        except KubenetError:
            said = log.value.decode(errors="replace").strip().splitlines()
            raise ProgramRefused(f"{error.message}: {said[-2:] if said else 'no reason given'}") from None


def _bpf(command: int, attr: bytes, what: str) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise KernelLacks(f"BPF on {platform.machine()} is not known here", "kubenet trace works without it")
    buffer = ctypes.create_string_buffer(attr.ljust(_ATTR_BYTES, b"\0"), _ATTR_BYTES)
    result = int(_libc.syscall(number, command, buffer, _ATTR_BYTES))
    if result >= 0:
        return result
    code = ctypes.get_errno()
    if code == errno.EPERM:
        raise NotPermitted(
            f"BPF: {what}: {os.strerror(code)}", "run as root with CAP_BPF and CAP_PERFMON, as sudo does"
        )
    if code in (errno.ENOSYS, errno.ENOTSUPP if hasattr(errno, "ENOTSUPP") else errno.EOPNOTSUPP):
        raise KernelLacks(f"BPF: {what}: {os.strerror(code)}", "use a kernel with CONFIG_BPF_SYSCALL")
    ctypes.set_errno(code)
    raise KubenetError(f"BPF: {what}: {os.strerror(code)}")


def _closed(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
