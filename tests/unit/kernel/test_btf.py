"""The reader of the kernel's types, on types made by hand and on damaged ones."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet.errors import KernelLacks, KubenetError, Malformed
from kubenet.kernel.btf import Btf


class Types:
    """Writes BTF: types are numbered from 1 in the order in which they are added."""

    def __init__(self) -> None:
        self.names = b"\0"
        self.types = b""
        self.count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        at = len(self.names)
        self.names += text.encode() + b"\0"
        return at

    def add(self, name: str, kind: int, size: int, *rest: bytes, members: int = 0, flag: int = 0) -> int:
        info = kind << 24 | members | flag << 31
        self.types += struct.pack("=III", self.name(name), info, size) + b"".join(rest)
        self.count += 1
        return self.count

    def composite(
        self, name: str, kind: int, *members: tuple[str, int, int], bit_fields: bool = False
    ) -> int:
        packed = [struct.pack("=III", self.name(member), of, bits) for member, of, bits in members]
        return self.add(name, kind, 64, *packed, members=len(members), flag=int(bit_fields))

    def bytes(self) -> bytes:
        head = struct.pack(
            "=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.types), len(self.types), len(self.names)
        )
        return head + self.types + self.names


def example() -> bytes:
    types = Types()
    number = types.add("int", 1, 4, struct.pack("=I", 32))
    namespace = types.composite("ns_common", 4, ("inum", number, 64))
    alias = types.add("ns_t", 8, namespace)
    union = types.composite("", 5, ("dev", number, 0), ("scratch", number, 0))
    inside = types.composite("", 4, ("next", number, 0), ("", union, 128))
    types.composite(
        "sk_buff", 4, ("", inside, 0), ("ns", alias, 256), ("flags", number, 3 << 24 | 320), bit_fields=True
    )
    names = [struct.pack("=Ii", types.name(text), value) for text, value in (("NONE", 0), ("LOST", 7))]
    types.add("why", 6, 4, *names, members=2)
    return types.bytes()


@pytest.mark.parametrize(
    ("path", "offset"),
    [
        pytest.param("next", 0, id="in an anonymous structure"),
        pytest.param("dev", 16, id="in a union in an anonymous structure"),
        pytest.param("ns.inum", 40, id="through a typedef"),
        pytest.param("flags", 40, id="a bit field"),
    ],
)
def test_a_field_is_found_by_its_name(path: str, offset: int) -> None:
    assert Btf(example()).offset("sk_buff", path) == offset


def test_an_enum_tells_its_names() -> None:
    assert Btf(example()).enumerators("why") == {0: "NONE", 7: "LOST"}


@pytest.mark.parametrize(
    ("structure", "path"), [("sk_buff", "gone"), ("no_such", "dev"), ("sk_buff", "dev.x")]
)
def test_what_this_kernel_does_not_have_is_said(structure: str, path: str) -> None:
    with pytest.raises(KernelLacks):
        Btf(example()).offset(structure, path)


@given(st.binary(max_size=80))
def test_any_bytes_are_types_or_malformed(raw: bytes) -> None:
    for attempt in (raw, example()[:24] + raw):
        try:
            Btf(attempt).offset("sk_buff", "ns.inum")
        except KubenetError:
            pass


@given(st.integers(min_value=0, max_value=10_000), st.binary(min_size=1, max_size=4))
def test_damage_anywhere_is_never_a_bug_of_ours(at: int, scribble: bytes) -> None:
    raw = bytearray(example())
    at %= len(raw)
    raw[at : at + len(scribble)] = scribble
    try:
        types = Btf(bytes(raw))
        types.offset("sk_buff", "ns.inum")
        types.enumerators("why")
    except KubenetError:
        pass


def test_a_cut_is_malformed() -> None:
    with pytest.raises(Malformed):
        Btf(example()[:40])
