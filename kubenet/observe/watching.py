"""Watch what happens in all namespaces of a site: losses, connections, rules, links, DNS."""

import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime

from kubenet.kernel import ct_events, decode, uapi
from kubenet.kernel import nft_uapi as nf
from kubenet.kernel.bpf_programs import EventKind, Record
from kubenet.kernel.hub import Heard, Hub
from kubenet.kernel.kallsyms import function_names
from kubenet.kernel.netlink import attributes, text_in
from kubenet.kernel.nft_trace import (
    NFNLGRP_CONNTRACK_DESTROY,
    NFNLGRP_CONNTRACK_NEW,
    NFNLGRP_CONNTRACK_UPDATE,
)
from kubenet.kernel.packet_watch import PacketWatch
from kubenet.model.packet import ETHERNET_BYTES
from kubenet.model.packet import decode as decode_packet
from kubenet.observe.events import PlaceKind
from kubenet.observe.gather import ifnames_of
from kubenet.observe.names import Names, names_of
from kubenet.observe.place import Place, Site
from kubenet.observe.watch_text import (
    DNS_PORT,
    Happening,
    connection_text,
    counted,
    dns_text,
    drop_text,
)

MOMENT_S = 0.2  # what happens again within it becomes one line
SUBJECTS = ("drops", "conntrack", "rules", "links", "dns")
_VAGUE = ("NOT_SPECIFIED", "NETFILTER_DROP", "QDISC_DROP")  # reasons that the function makes clearer
_NO_LOSS = ("QUEUE_PURGE", "CONSUMED")  # what a program had not read when it closed a connection
_RULE_WORDS = {
    nf.NEWTABLE: "table made", nf.DELTABLE: "table gone",
    nf.NEWCHAIN: "chain made", nf.DELCHAIN: "chain gone",
    nf.NEWRULE: "rule made", nf.DELRULE: "rule gone", nf.NEWSET: "set made", nf.DELSET: "set gone",
    nf.NEWSETELEM: "elements put", nf.DELSETELEM: "elements gone",
}  # fmt: skip
_ROUTE_GROUPS = (
    uapi.RTNLGRP_LINK,
    uapi.RTNLGRP_NEIGH,
    uapi.RTNLGRP_IPV4_IFADDR,
    uapi.RTNLGRP_IPV4_ROUTE,
)


@dataclass(slots=True)
class Ifnames:
    """Names of interfaces by place and number, read again when there is a new one."""

    places: Mapping[str, Place]
    known: dict[str, dict[int, str]] = field(default_factory=dict)

    def of(self, place: str, ifindex: int) -> str:
        """Return a name; of an interface that is gone, its number."""
        if ifindex and ifindex not in self.known.get(place, {}):
            self.known[place] = self.known.get(place, {}) | ifnames_of(self.places[place])
        return self.known.get(place, {}).get(ifindex, f"if{ifindex}" if ifindex else "")


class Watcher:
    """Listens to one subject. ``happenings`` blocks for a moment at a time."""

    def __init__(self, site: Site, subject: str) -> None:
        """Listen. Raises KernelLacks, NotPermitted where the subject needs BPF."""
        self._places = {place.name.name: place for place in site.places}
        self._by_inode = {place.netns.inode: place for place in site.places}
        self._names: Names = names_of(site.cluster)
        self._ifnames = Ifnames(self._places)
        self._functions: dict[int, str] = {}
        self._undo = ExitStack()
        self._order = list(site.places)
        opener: dict[str, Callable[[], Callable[[], list[Happening]]]] = {
            "drops": self._open_drops,
            "dns": self._open_dns,
            "conntrack": self._open_conntrack,
            "rules": self._open_rules,
            "links": self._open_links,
        }
        try:
            self._read = opener[subject]()
        except BaseException:
            self._undo.close()
            raise

    def happenings(self, timeout_s: float) -> list[Happening]:
        """Return what happened within ``timeout_s``; as soon as something does, a moment later."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        if not poller.poll(timeout_s * 1000):
            return []
        time.sleep(min(MOMENT_S, timeout_s))
        return self._read()

    def _hub(self, protocol: int, groups: tuple[int, ...]) -> Hub:
        hub = Hub([place.netns for place in self._order], protocol, groups)
        self._undo.callback(hub.close)
        self._fd = hub.fileno()
        return hub

    def _packets(self, watch: PacketWatch) -> PacketWatch:
        self._undo.callback(watch.close)
        self._fd = watch.fileno()
        return watch

    def _open_drops(self) -> Callable[[], list[Happening]]:
        watch = self._packets(PacketWatch(self._by_inode, (EventKind.DROPPED,)))
        return lambda: list(self._drops(watch))

    def _drops(self, watch: PacketWatch) -> Iterator[Happening]:
        records = watch.read()
        reasons = watch.reasons
        vague = {r.location for r in records if reasons.get(r.reason) in _VAGUE} - self._functions.keys()
        if vague:
            self._functions |= function_names(vague)
        for record in records:
            packet = decode_packet(record.packet[ETHERNET_BYTES:])
            reason = reasons.get(record.reason, str(record.reason))
            if packet is None or reason in _NO_LOSS:
                continue  # neighbour discovery of IPv6, and the like
            function = self._functions.get(record.location, "") if reason in _VAGUE else ""
            yield Happening(self._spot(record), reason, drop_text(packet, function, self._names))

    def _spot(self, record: Record) -> str:
        place = self._by_inode[record.netns].name.name
        ifname = self._ifnames.of(place, record.ifindex)
        return f"{place}/{ifname}" if ifname else place

    def _open_dns(self) -> Callable[[], list[Happening]]:
        kinds = (EventKind.SENT, EventKind.RECEIVED)
        watch = self._packets(PacketWatch(self._by_inode, kinds, udp_port=DNS_PORT))
        return lambda: list(self._dns(watch))

    def _dns(self, watch: PacketWatch) -> Iterator[Happening]:
        """Yield what clients ask and hear: of each message the first or the last of its hops."""
        told: set[bytes] = set()  # what pods ask, nodes only pass on
        for record in watch.read():
            place = self._by_inode[record.netns].name
            packet = decode_packet(record.packet[ETHERNET_BYTES:])
            if packet is None:
                continue
            asks = record.kind is EventKind.SENT and packet.flow.destination_port == DNS_PORT
            hears = record.kind is EventKind.RECEIVED and packet.flow.source_port == DNS_PORT
            client = packet.flow.source if asks else packet.flow.destination
            own = self._names.whose(client) == f"node {place.name}" and packet.payload[:2] not in told
            if place.kind is PlaceKind.POD:
                told.add(packet.payload[:2])
            text = dns_text(packet, self._names) if asks or hears else ""
            if text and (own or place.kind is PlaceKind.POD):
                yield Happening(place.name, "asks" if asks else "hears", text)

    def _open_conntrack(self) -> Callable[[], list[Happening]]:
        groups = (NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_UPDATE, NFNLGRP_CONNTRACK_DESTROY)
        hub = self._hub(nf.NETLINK_NETFILTER, groups)
        return lambda: list(self._connections(hub))

    def _connections(self, hub: Hub) -> Iterator[Happening]:
        for place, message in hub.read():
            event = ct_events.read_event(message.type, message.flags, message.body)
            if event is not None:
                yield Happening(self._order[place].name.name, event.kind, connection_text(event, self._names))

    def _open_rules(self) -> Callable[[], list[Happening]]:
        hub = self._hub(nf.NETLINK_NETFILTER, (nf.NFNLGRP_NFTABLES,))
        return lambda: list(self._rules(hub))

    def _rules(self, hub: Hub) -> Iterator[Happening]:
        for place, message in hub.read():
            words = _RULE_WORDS.get(message.type & 0xFF)
            if message.type >> 8 != nf.NFNL_SUBSYS_NFTABLES or words is None:
                continue
            found = attributes(message.body, 4)
            # The table's name comes first in all of them, the chain's or set's where it has one second.
            text = f"table {text_in(found, nf.NFTA_TABLE_NAME)}"
            if message.type & 0xFF in (nf.NEWRULE, nf.DELRULE):
                text += f" chain {text_in(found, nf.NFTA_RULE_CHAIN)}"
            elif message.type & 0xFF in (nf.NEWSETELEM, nf.DELSETELEM):
                text += f" set {text_in(found, nf.NFTA_SET_ELEM_LIST_SET)}"
            yield Happening(self._order[place].name.name, words, text)

    def _open_links(self) -> Callable[[], list[Happening]]:
        hub = self._hub(uapi.NETLINK_ROUTE, _ROUTE_GROUPS)
        for place in self._order:
            self._ifnames.known[place.name.name] = ifnames_of(place)
        return lambda: [found for heard in hub.read() if (found := self._link(heard))]

    def _link(self, heard: Heard) -> Happening | None:
        place = self._order[heard.place].name.name
        kind, body = heard.message.type, heard.message.body
        gone = kind in (uapi.RTM_DELLINK, uapi.RTM_DELADDR, uapi.RTM_DELROUTE, uapi.RTM_DELNEIGH)
        names = self._ifnames.known.setdefault(place, {})
        if kind in (uapi.RTM_NEWLINK, uapi.RTM_DELLINK):
            told = decode.link(body)
            names[told.index] = told.link.ifname
            words = "link gone" if gone else "link up" if told.link.up else "link down"
            return Happening(f"{place}/{told.link.ifname}", words, f"mtu {told.link.mtu}, {told.link.mac}")
        text = _entry_text(kind, body, names)
        return Happening(place, f"{text[0]} {'gone' if gone else 'set'}", text[1]) if text else None

    def close(self) -> None:
        """Stop."""
        self._undo.close()


def _entry_text(kind: int, body: bytes, names: Mapping[int, str]) -> tuple[str, str] | None:
    """Return what an address, route or neighbour says; None for what the kernel keeps for itself."""
    if kind in (uapi.RTM_NEWADDR, uapi.RTM_DELADDR):
        address = decode.address(body, names, {})
        return ("address", f"{address.interface} dev {address.ifname}") if address else None
    if kind in (uapi.RTM_NEWROUTE, uapi.RTM_DELROUTE):
        ranked = decode.route(body, names)
        via = f" via {ranked.route.gateway}" if ranked and ranked.route.gateway else ""
        return ("route", f"{ranked.route.destination}{via} dev {ranked.route.ifname}") if ranked else None
    neighbor, entry = decode.neighbor(body, names), decode.fdb(body, names)
    if neighbor:
        return "neighbour", f"{neighbor.ip} is {neighbor.mac} dev {neighbor.ifname}"
    return ("forwarding", f"{entry.mac} is behind {entry.vtep} dev {entry.ifname}") if entry else None


def lines(watcher: Watcher, timeout_s: float) -> list[str]:
    """Return what happened within a time, as lines."""
    clock = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
    return [each.line(clock, count) for each, count in counted(watcher.happenings(timeout_s))]
