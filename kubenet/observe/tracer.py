"""Follow one flow through all namespaces of a site.

Everything that is opened here is gone when the tracer is: the programs and the trace tables with their
descriptors, also after a kill. Legacy iptables needs one setting more, which a small process that waits for
our end puts back.
"""

import os
import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from kubenet.errors import KernelLacks, KubenetError, NotPermitted
from kubenet.kernel import ct_events, sysctl
from kubenet.kernel.bpf_programs import EventKind, Record, flow_key
from kubenet.kernel.hub import Heard, Hub, PacketLog, TraceTable
from kubenet.kernel.kallsyms import function_names
from kubenet.kernel.nft_trace import (
    MSG_TRACE,
    NFNLGRP_CONNTRACK_NEW,
    NFNLGRP_CONNTRACK_UPDATE,
    NFNLGRP_NFTRACE,
    RuleEvent,
    Traced,
    read_trace,
)
from kubenet.kernel.nft_uapi import NETLINK_NETFILTER
from kubenet.kernel.packet_socket import Frame, PacketSocket
from kubenet.kernel.packet_watch import PacketWatch
from kubenet.model.packet import ETHERNET_BYTES, ICMP, FiveTuple, Packet, decode
from kubenet.observe.events import Connection, Drop, Hop, Observation, PlaceKind, ProbeResult, RuleHit
from kubenet.observe.gather import ifnames_of, uses_legacy
from kubenet.observe.place import Place, Site

QUIET_S = 0.03  # after the last event
SETTLE_S = 0.5  # however many events there are
NF_LOG = "net/netfilter/nf_log/2"
LOGGER = "nfnetlink_log"


@dataclass(slots=True)
class _Collected:
    """Events as they come."""

    records: list[Record] = field(default_factory=list)
    frames: list[tuple[str, Frame]] = field(default_factory=list)
    rules: list[tuple[str, RuleEvent]] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)


class Tracer:
    """All that listens to one flow. Open it, send, ``settle``, then take the ``observation``."""

    def __init__(self, site: Site, flow: FiveTuple, traced: Traced, *, bpf: bool = True) -> None:
        """Listen. What cannot be looked at is noted, not an error."""
        self._site = site
        self._flow = flow
        self._got = _Collected()
        self._unseen: list[str] = []
        self._sources: list[tuple[int, Callable[[], None]]] = []
        self._watch: PacketWatch | None = None
        self._hub: Hub | None = None
        self._nodes = site.of_kind(PlaceKind.NODE, PlaceKind.WIRE)
        self._by_inode = {place.netns.inode: place.name.name for place in site.places}
        # The programs tell time since boot, packet sockets and people since 1970.
        self._to_realtime_ns = time.time_ns() - time.monotonic_ns()
        with ExitStack() as undo:
            self._open_packets(undo, bpf=bpf)
            self._open_rules(undo, traced)
            self._undo = undo.pop_all()

    def _open_packets(self, undo: ExitStack, *, bpf: bool) -> None:
        flow, back = self._flow, self._flow.reversed()
        if bpf:
            try:
                watch = PacketWatch(
                    self._by_inode,
                    list(EventKind),
                    flows=[flow_key(*flow), flow_key(*back)],
                    socket_port=0 if flow.protocol == ICMP else flow.source_port,
                )
            except (KernelLacks, NotPermitted) as error:
                self._unseen.append(
                    f"{error.message}: losses are not seen, and packets only by packet sockets"
                )
            else:
                self._watch = watch
                undo.callback(watch.close)
                self._sources.append((watch.fileno(), lambda: self._got.records.extend(watch.read())))
                return
        else:
            self._unseen.append("BPF was not asked for: losses are not seen")
        for place in self._site.places:
            listener = PacketSocket(place.netns)
            undo.callback(listener.close)
            self._sources.append((listener.fileno(), self._frames_of(place.name.name, listener)))

    def _frames_of(self, name: str, listener: PacketSocket) -> Callable[[], None]:
        return lambda: self._got.frames.extend((name, frame) for frame in listener.read())

    def _open_rules(self, undo: ExitStack, traced: Traced) -> None:
        groups = (NFNLGRP_NFTRACE, NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE)
        hub = self._hub = Hub([place.netns for place in self._nodes], NETLINK_NETFILTER, groups)
        undo.callback(hub.close)
        self._sources.append((hub.fileno(), lambda: self._take(hub.read())))
        for place in self._nodes:
            if place.name.kind is not PlaceKind.NODE:
                continue
            try:
                table = TraceTable(place.netns, f"kubenet-trace-{os.getpid()}", traced)
            except KubenetError as error:
                self._unseen.append(f"rules of {place.name}: {error.message}")
                continue
            undo.callback(table.close)
            if uses_legacy(place.netns):
                self._open_log(undo, place)

    def _open_log(self, undo: ExitStack, place: Place) -> None:
        try:
            log = PacketLog(place.netns)
        except KubenetError as error:
            self._unseen.append(f"rules of legacy iptables of {place.name}: {error.message}")
            return
        undo.callback(log.close)
        before = sysctl.read(place.netns, NF_LOG)
        if before != LOGGER:
            undo.callback(_put_back_when_we_end(place, before))
            sysctl.write(place.netns, NF_LOG, LOGGER)
        name = place.name.name
        self._sources.append((log.fileno(), lambda: self._got.rules.extend((name, e) for e in log.read())))

    def settle(self, quiet_s: float = QUIET_S) -> None:
        """Take events until there are no more for a moment."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline and self.wait(quiet_s):
            pass

    def wait(self, timeout_s: float) -> bool:
        """Take what is there within ``timeout_s``; return whether there was anything."""
        poller = select.poll()
        readers = dict(self._sources)
        for fd in readers:
            poller.register(fd, select.POLLIN)
        ready = poller.poll(timeout_s * 1000)
        for fd, _ in ready:
            readers[fd]()
        return bool(ready)

    def _take(self, heard: Iterable[Heard]) -> None:
        for place, message in heard:
            name = self._nodes[place].name.name
            if message.type == MSG_TRACE:
                if event := read_trace(message.body):
                    self._got.rules.append((name, event))
            elif message.type >> 8 == ct_events.SUBSYSTEM:
                told = ct_events.read_event(message.type, message.flags, message.body)
                if told is not None:
                    self._got.connections.append(Connection(name, told))

    def observation(self, result: ProbeResult) -> Observation:
        """Return all that was taken."""
        names = _Ifnames(self._site.places)
        unseen = list(self._unseen)
        if self._watch is not None and self._watch.lost:
            unseen.append(f"{self._watch.lost} events of packets came faster than they were read")
        if self._hub is not None and self._hub.lost:
            unseen.append("events of rules came faster than they were read")
        seen = [*self._hops(names), *self._frame_hops()]
        return Observation(
            tuple(hop for hop in seen if isinstance(hop, Hop)),
            tuple(drop for drop in seen if isinstance(drop, Drop)),
            tuple(self._rule_hits()),
            tuple(c for c in self._got.connections if c.event.original.protocol == self._flow.protocol),
            result,
            tuple(unseen),
        )

    def _hops(self, names: "_Ifnames") -> Iterator[Hop | Drop]:
        lost_at = {r.location for r in self._got.records if r.kind is EventKind.DROPPED}
        functions = function_names(lost_at) if lost_at else {}
        reasons = self._watch.reasons if self._watch else {}
        for record in self._got.records:
            packet = decode(record.packet[ETHERNET_BYTES:])
            place = self._by_inode.get(record.netns)
            if packet is None or place is None:
                continue
            time_ns = record.time_ns + self._to_realtime_ns
            ifname = names.of(place, record.ifindex)
            frame = record.packet[: ETHERNET_BYTES + _captured(packet)]
            if record.kind is EventKind.DROPPED:
                reason = reasons.get(record.reason, str(record.reason))
                function = functions.get(record.location, "")
                yield Drop(time_ns, place, ifname, reason, function, packet, record.skb, frame)
            else:
                sent = record.kind is EventKind.SENT
                yield Hop(time_ns, place, ifname, sent, packet, record.skb, frame)

    def _frame_hops(self) -> Iterator[Hop]:
        known = _Known(self._flow)
        frames = [(place, f, p) for place, f in self._got.frames if (p := decode(f.frame[ETHERNET_BYTES:]))]
        while known.learn(packet for _, _, packet in frames):
            pass  # what a packet was translated to may have been seen before the packet
        for place, frame, packet in frames:
            if known.belongs(packet):
                yield Hop(frame.time_ns, place, frame.ifname, frame.sent, packet, raw=frame.frame)

    def _rule_hits(self) -> Iterator[RuleHit]:
        """Yield the rules with what the packet was when its chain began: later messages do not repeat it."""
        packets: dict[tuple[str, int], Packet | None] = {}
        own = f"kubenet-trace-{os.getpid()}"
        for place, event in self._got.rules:
            key = (place, event.trace_id)
            if event.packet:
                packets[key] = decode(event.packet)
            if event.table != own and (event.handle or event.kind != "rule"):
                yield RuleHit(place, event, packets.get(key))

    def close(self) -> None:
        """Stop listening; the datapath is as it was."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _captured(packet: Packet) -> int:
    return packet.vxlan.length if packet.vxlan else packet.length


class _Ifnames:
    """Names of interfaces, asked for once a place, and only where something was seen."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = {place.name.name: place for place in places}
        self._names: dict[str, Mapping[int, str]] = {}

    def of(self, place: str, ifindex: int) -> str:
        if not ifindex:
            return ""
        if place not in self._names:
            self._names[place] = ifnames_of(self._places[place])
        return self._names[place].get(ifindex, f"if{ifindex}")


class _Known:
    """Which packets belong to the flow, when they are seen by packet sockets: as the programs tell it."""

    def __init__(self, flow: FiveTuple) -> None:
        self._flows = {flow, flow.reversed()}
        self._prints: set[tuple[int, ...]] = set()

    def learn(self, packets: Iterable[Packet]) -> bool:
        """Take in what flows the packets have; return whether there was anything new."""
        before = len(self._flows), len(self._prints)
        for packet in packets:
            flow = (packet.about or packet).flow
            if flow in self._flows:
                self._prints.add(packet.fingerprint)
            elif packet.fingerprint in self._prints:
                self._flows |= {flow, flow.reversed()}
        return before != (len(self._flows), len(self._prints))

    def belongs(self, packet: Packet) -> bool:
        """Whether a packet is one of the flow."""
        return (packet.about or packet).flow in self._flows


def _put_back_when_we_end(place: Place, before: str) -> Callable[[], None]:
    """Start a process that puts the logger back when we end, however we end; return what ends it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(writer)
            os.read(reader, 1)
            sysctl.write(place.netns, NF_LOG, before)
        finally:
            os._exit(0)
    os.close(reader)

    def end() -> None:
        os.close(writer)
        os.waitpid(child, 0)

    return end
