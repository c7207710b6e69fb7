"""Every hop and every loss of packets, in many namespaces, by programs in the kernel.

Reading where fields are takes 50 ms of parsing, so what was found is kept on tmpfs for the running kernel.

Source: see ``bpf_programs``.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from kubenet.errors import KernelLacks
from kubenet.kernel.bpf import VMLINUX_BTF, Attached, BpfMap, RingBuffer, kernel_types
from kubenet.kernel.bpf_programs import (
    FLOW_KEY_BYTES,
    TRACEPOINTS,
    EventKind,
    Maps,
    Offsets,
    Record,
    offsets_in,
    program,
    read_record,
)
from kubenet.model.packet import VXLAN_PORTS

LAYOUTS = Path("/run/kubenet/kernel-layout.json")
RING_BYTES = 4 << 20
MAX_NAMESPACES = 8192
MAX_FLOWS = 4096
_PRESENT = b"\1\0\0\0\0\0\0\0"


class Layout(msgspec.Struct, frozen=True):
    """What the programs need to know of a kernel."""

    kernel: str
    offsets: Offsets
    reasons: dict[int, str]  # of a loss, without the prefix that all have


def kernel_layout(cache: Path = LAYOUTS) -> Layout:
    """Return the running kernel's layout. Raises KernelLacks."""
    running = _running_kernel()
    with suppress(OSError, msgspec.DecodeError):
        kept = msgspec.json.decode(cache.read_bytes(), type=Layout)
        if kept.kernel == running:
            return kept
    types = kernel_types()
    names = types.enumerators("skb_drop_reason")
    reasons = {number: name.removeprefix("SKB_DROP_REASON_") for number, name in names.items()}
    layout = Layout(running, offsets_in(types), reasons)
    with suppress(OSError):  # not root: it is parsed again next time
        cache.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = cache.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(msgspec.json.encode(layout))
        fresh.rename(cache)
    return layout


def _running_kernel() -> str:
    name = os.uname()
    try:
        size = VMLINUX_BTF.stat().st_size
    except OSError as error:
        raise KernelLacks(
            f"{VMLINUX_BTF}: {error.strerror}", "use a kernel with CONFIG_DEBUG_INFO_BTF"
        ) from error
    return f"{name.release} {name.version} {name.machine} {size}"


class PacketWatch:
    """What packets do in some namespaces, while this is open.

    With ``flows`` only those packets are told whose five-tuple is in the table (``bpf_programs.flow_key``),
    and what becomes of them by NAT, and those of a socket with ``socket_port``; without, every
    packet, or UDP from and to ``udp_port``.
    """

    def __init__(
        self,
        namespaces: Iterable[int],
        kinds: Sequence[EventKind],
        *,
        flows: Sequence[bytes] | None = None,
        socket_port: int = 0,
        udp_port: int = 0,
        vxlan_ports: tuple[int, ...] = VXLAN_PORTS,
    ) -> None:
        """Start to watch. Raises KernelLacks, NotPermitted, ProgramRefused."""
        self._layout = kernel_layout()
        with ExitStack() as undo:
            self._ring = RingBuffer(RING_BYTES)
            undo.callback(self._ring.close)
            self._namespaces = BpfMap.hash(4, 4, MAX_NAMESPACES)
            undo.callback(self._namespaces.close)
            self._lost = BpfMap.counter()
            undo.callback(self._lost.close)
            maps = Maps(self._ring.fd, self._namespaces.fd, self._lost.fd, udp_port=udp_port)
            self._flows: BpfMap | None = None
            if flows is not None:
                maps = self._flow_maps(maps, flows, socket_port, undo)
            for inode in namespaces:
                self.add_namespace(inode)
            attached = undo.enter_context(Attached())
            for kind in kinds:
                attached.attach(TRACEPOINTS[kind], program(kind, self._layout.offsets, maps, vxlan_ports))
            self._undo = undo.pop_all()

    def _flow_maps(self, maps: Maps, flows: Sequence[bytes], socket_port: int, undo: ExitStack) -> Maps:
        self._flows = BpfMap.hash(FLOW_KEY_BYTES, 8, MAX_FLOWS)
        undo.callback(self._flows.close)
        packets = BpfMap.recent(8, 8, 4096)
        undo.callback(packets.close)
        for key in flows:
            self._flows.put(key, _PRESENT)
        return Maps(maps.ring, maps.namespaces, maps.lost, self._flows.fd, packets.fd, socket_port)

    @property
    def reasons(self) -> Mapping[int, str]:
        """What this kernel's reasons of a loss are called."""
        return self._layout.reasons

    @property
    def lost(self) -> int:
        """How many events found no room since the start."""
        return int.from_bytes(self._lost.get(b"\0\0\0\0") or b"", "little")

    def add_namespace(self, inode: int) -> None:
        """Watch one more namespace."""
        self._namespaces.put(inode.to_bytes(4, "little"), _PRESENT[:4])

    def add_flow(self, key: bytes) -> None:
        """Watch one more direction of a flow."""
        if self._flows is not None:
            self._flows.put(key, _PRESENT)

    def fileno(self) -> int:
        return self._ring.fileno()

    def read(self) -> list[Record]:
        """Return what happened since the last call, in order. Does not block."""
        return [read_record(raw) for raw in self._ring.read()]

    def close(self) -> None:
        """Stop; nothing of it stays in the kernel."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
