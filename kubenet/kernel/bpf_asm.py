"""A program for the kernel's BPF machine, instruction by instruction. *Pure.*

Programs here have a few dozen instructions, known when they are written; what differs between kernels is the
place of fields in structures (``btf``). So no compiler is needed: each method appends one instruction, and
jumps name a label that ``assemble`` turns into a distance.

Source: Linux Documentation/bpf/standardization/instruction-set.rst, linux/bpf.h.
"""

import struct
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kubenet.errors import Malformed

INSTRUCTION = struct.Struct("=BBhi")  # opcode, registers, offset, immediate

Register: TypeAlias = Literal[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
Width: TypeAlias = Literal[1, 2, 4, 8]  # bytes

FRAME: Register = 10  # points at the end of the stack; it is only read
STACK_BYTES = 512

# linux/bpf.h: helpers by number.
MAP_LOOKUP, MAP_UPDATE, KTIME_GET_NS, PROBE_READ_KERNEL, RINGBUF_OUTPUT = 1, 2, 5, 113, 130

_MEM = {4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18}  # the size bits of a load or store
_LDX, _ST, _STX = 0x61, 0x62, 0x63
_PSEUDO_MAP_FD = 1
_MAX_DISTANCE = 32767


@dataclass(frozen=True, slots=True)
class _Jump:
    opcode: int
    registers: int
    immediate: int
    label: str


class Assembler:
    """Collects instructions; ``assemble`` gives their bytes."""

    def __init__(self) -> None:
        self._code: list[bytes | _Jump] = []
        self._labels: dict[str, int] = {}

    def move(self, to: Register, source: Register) -> None:
        """Copy a register."""
        self._append(0xBF, to, source)

    def set(self, to: Register, number: int) -> None:
        """Put a signed number of 32 bits into a register."""
        self._append(0xB7, to, 0, 0, number)

    def add(self, to: Register, number: int) -> None:
        """Add a signed number of 32 bits."""
        self._append(0x07, to, 0, 0, number)

    def add_register(self, to: Register, source: Register) -> None:
        """Add another register."""
        self._append(0x0F, to, source)

    def bit_or(self, to: Register, source: Register) -> None:
        """Set the bits that another register has."""
        self._append(0x4F, to, source)

    def shift_left(self, to: Register, bits: int) -> None:
        """Shift all 64 bits."""
        self._append(0x67, to, 0, 0, bits)

    def shift_right(self, to: Register, bits: int) -> None:
        """Shift all 64 bits, filling with zeroes."""
        self._append(0x77, to, 0, 0, bits)

    def load(self, width: Width, to: Register, base: Register, offset: int) -> None:
        """Read memory that the verifier lets us read: the context, the stack, a map's value."""
        self._append(_LDX | _MEM[width], to, base, offset)

    def store(self, width: Width, base: Register, offset: int, source: Register) -> None:
        """Write a register to memory."""
        self._append(_STX | _MEM[width], base, source, offset)

    def store_number(self, width: Width, base: Register, offset: int, number: int) -> None:
        """Write a number to memory."""
        self._append(_ST | _MEM[width], base, 0, offset, number)

    def atomic_add(self, base: Register, offset: int, source: Register) -> None:
        """Add a register to 8 bytes of memory, whoever else does so at the same time."""
        self._append(0xDB, base, source, offset)

    def map_into(self, to: Register, map_fd: int) -> None:
        """Put the address of a map into a register; this takes two instructions."""
        self._append(0x18, to, _PSEUDO_MAP_FD, 0, map_fd)
        self._append(0)

    def call(self, helper: int) -> None:
        """Call a helper: arguments in registers 1 to 5, which are lost, the result in register 0."""
        self._append(0x85, 0, 0, 0, helper)

    def read_kernel(self, at: int, width_bytes: int, base: Register, offset: int) -> None:
        """Copy ``width_bytes`` of kernel memory at ``base`` + ``offset`` to the stack at ``at``.

        What cannot be read becomes zeroes. Registers 0 to 5 are lost.
        """
        self.move(3, base)
        self.add(3, offset)
        self.move(1, FRAME)
        self.add(1, at)
        self.set(2, width_bytes)
        self.call(PROBE_READ_KERNEL)

    def jump(self, label: str) -> None:
        """Go on at ``label``."""
        self._code.append(_Jump(0x05, 0, 0, label))

    def jump_if(self, register: Register, number: int, label: str) -> None:
        """Go on at ``label`` if the register holds the number."""
        self._code.append(_Jump(0x15, register, number, label))

    def jump_unless(self, register: Register, number: int, label: str) -> None:
        """Go on at ``label`` if the register holds another number."""
        self._code.append(_Jump(0x55, register, number, label))

    def jump_unless_equal(self, left: Register, right: Register, label: str) -> None:
        """Go on at ``label`` if two registers differ."""
        self._code.append(_Jump(0x5D, left | right << 4, 0, label))

    def label(self, name: str) -> None:
        """Name the place of the next instruction. Raises Malformed if the name is taken."""
        if name in self._labels:
            raise Malformed(f"BPF program: two places are called {name!r}")
        self._labels[name] = len(self._code)

    def exit(self) -> None:
        """End the program; register 0 is its result."""
        self._append(0x95)

    def assemble(self) -> bytes:
        """Return the program. Raises Malformed for a jump to nowhere or too far away."""
        return b"".join(self._encoded(place, each) for place, each in enumerate(self._code))

    def _encoded(self, place: int, each: bytes | _Jump) -> bytes:
        if isinstance(each, bytes):
            return each
        if each.label not in self._labels:
            raise Malformed(f"BPF program: no place is called {each.label!r}")
        distance = self._labels[each.label] - place - 1
        if abs(distance) > _MAX_DISTANCE:
            raise Malformed(f"BPF program: {each.label!r} is {distance} instructions away")
        return INSTRUCTION.pack(each.opcode, each.registers, distance, each.immediate)

    def _append(self, opcode: int, to: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> None:
        self._code.append(INSTRUCTION.pack(opcode, to | source << 4, offset, number))
