"""The assembler of BPF programs: bytes as the kernel's headers define them."""

import struct

import pytest

from kubenet.errors import Malformed
from kubenet.kernel.bpf_asm import FRAME, INSTRUCTION, Assembler
from kubenet.kernel.bpf_programs import (
    CAPTURED_BYTES,
    RECORD_BYTES,
    EventKind,
    Maps,
    Offsets,
    program,
    read_record,
)

OFFSETS = Offsets(16, 24, 192, 180, 112, 164, 224, 264, 48, 14, 176)


def decoded(code: bytes) -> list[tuple[int, ...]]:
    """Return opcode, target, source, offset and number of each instruction."""
    return [
        (opcode, registers & 15, registers >> 4, offset, number)
        for opcode, registers, offset, number in INSTRUCTION.iter_unpack(code)
    ]


def test_instructions_are_laid_out_as_the_kernel_reads_them() -> None:
    asm = Assembler()
    asm.move(6, 1)
    asm.set(2, -3)
    asm.load(2, 3, FRAME, -8)
    asm.store(8, FRAME, -16, 6)
    asm.map_into(1, 7)
    asm.call(113)
    asm.exit()
    assert decoded(asm.assemble()) == [
        (0xBF, 6, 1, 0, 0),
        (0xB7, 2, 0, 0, -3),
        (0x69, 3, 10, -8, 0),
        (0x7B, 10, 6, -16, 0),
        (0x18, 1, 1, 0, 7),
        (0, 0, 0, 0, 0),
        (0x85, 0, 0, 0, 113),
        (0x95, 0, 0, 0, 0),
    ]


def test_a_jump_counts_from_the_next_instruction_and_a_map_takes_two() -> None:
    asm = Assembler()
    asm.jump_if(0, 0, "end")
    asm.map_into(1, 3)
    asm.label("end")
    asm.exit()
    assert decoded(asm.assemble())[0] == (0x15, 0, 0, 2, 0)


def test_a_jump_may_go_back() -> None:
    asm = Assembler()
    asm.label("again")
    asm.add(1, 1)
    asm.jump_unless_equal(1, 2, "again")
    assert decoded(asm.assemble())[1] == (0x5D, 1, 2, -2, 0)


def test_a_label_that_is_missing_or_there_twice_is_refused() -> None:
    asm = Assembler()
    asm.jump("nowhere")
    with pytest.raises(Malformed, match="nowhere"):
        asm.assemble()
    asm.label("here")
    with pytest.raises(Malformed, match="here"):
        asm.label("here")


@pytest.mark.parametrize("kind", list(EventKind))
def test_every_jump_of_our_programs_lands_inside_and_the_stack_is_not_left(kind: EventKind) -> None:
    code = decoded(program(kind, OFFSETS, Maps(3, 4, 5, 6, 7, 40000), (8472, 4789)))
    for place, (opcode, target, _, offset, _) in enumerate(code):
        if opcode & 7 == 5 and opcode not in (0x85, 0x95):
            assert 0 <= place + 1 + offset < len(code)
        if opcode in (0x7A, 0x7B, 0x63, 0x6B, 0x73) and target == FRAME:
            assert -512 <= offset < 0


def test_a_program_for_all_packets_has_no_look_up_of_flows() -> None:
    everything = program(EventKind.DROPPED, OFFSETS, Maps(3, 4, 5))
    one_flow = program(EventKind.DROPPED, OFFSETS, Maps(3, 4, 5, 6, 7))
    assert len(everything) < len(one_flow)
    assert not any(opcode == 0x18 and number in (6, 7) for opcode, _, _, _, number in decoded(everything))


def test_a_record_is_read_as_it_is_written() -> None:
    packet = bytes(range(CAPTURED_BYTES))
    raw = struct.pack("=QQIIIIQII2x", 5, 0xFFFF, 3, 8, 2, 4026531840, 0xDEAD, 60, 0x4000) + packet
    assert len(raw) == RECORD_BYTES
    record = read_record(raw)
    assert (record.time_ns, record.kind, record.reason, record.ifindex) == (5, EventKind.DROPPED, 8, 2)
    assert (record.netns, record.skb, record.length, record.mark) == (4026531840, 0xDEAD, 60, 0x4000)
    assert record.packet == packet
