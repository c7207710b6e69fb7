"""Make and keep the node's side of the pod network: overlay, bridge, packet filter, forwarding.

One ``sync`` reads what the namespace holds, computes what it shall hold, and writes the difference; so it
does not matter who changed what, and when nothing differs nothing is written. It blocks: run it in a
thread.

How it scales. With 5,000 nodes there are 15,000 entries, and nearly always they are as they were. So what is
wanted is computed again only when a node changed, and what is there is read again only when its bytes differ
from those of a sync that found nothing to do.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cni.book import Book, Made, made_of
from cni.guard import compile_guard
from cni.masquerade import TABLES, Surroundings, compile_tables, is_ours, withdrawal
from cni.overlay import NodeNet, Tunnel, compile_overlay, on_link, own_ranges, pod_mtu
from cni.peer_guard import PeerGuard
from cni.plan import Bridge, PodWiring, Wiring, bridge_state
from cni.settings import DirectRouting, Settings
from cni.settings_file import SettingsFile
from ipam.pool import NO_RULES, Pool
from kubenet.errors import KubenetError, NotFound
from kubenet.kernel import codec, iptables, sysctl
from kubenet.kernel.dump import Dump, Imprint
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.iptables import Family, Table, render_restore
from kubenet.model.iptables_save import read_save, write_between
from kubenet.model.links import (
    ROUTE_OF_AN_ADDRESS,
    ROUTE_PROTOCOL,
    IPAddress,
    IPNetwork,
    LinkKind,
    LinkState,
    can_become,
    diff_state,
    insisting,
)
from kubenet.model.nft import Ruleset

log = logging.getLogger(__name__)

FAMILIES: tuple[Family, ...] = (4, 6)
FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
BRIDGE_IFNAME = "cni0"
FILTER_CHECK_S = 8.0  # nothing tells of a flush where rules are not nftables'
SILENT_FOR_S = 60.0  # so long a peer that did not answer on the underlay is reached by the tunnel


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What does not change while a node lives."""

    netns: NetNs
    underlay_ifname: str  # empty: the link that has the node's address
    vni: int
    vxlan_port: int
    cluster_cidrs: tuple[IPNetwork, ...]
    service_cidrs: tuple[IPNetwork, ...]
    wiring: Wiring
    settings_path: Path | None = None  # what may change
    book_path: Path | None = None  # where it is written down what was made; on a tmpfs


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the tables shall hold, and all that it was computed from."""

    own: NodeNet
    peers: Sequence[NodeNet]
    tunnel: Tunnel
    direct: frozenset[str]
    state: LinkState
    guard: Ruleset

    def is_for(self, own: NodeNet, peers: Sequence[NodeNet], tunnel: Tunnel, direct: frozenset[str]) -> bool:
        same_peers = self.peers is peers or self.peers == peers
        return same_peers and (self.own, self.tunnel, self.direct) == (own, tunnel, direct)


class NodeNetwork:
    """The part of a node's namespace that all its pods share. One thread at a time may use it."""

    def __init__(self, config: NetworkConfig, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._monotonic = monotonic
        self._rtnl = Rtnl(config.netns)
        self._settings = SettingsFile(config.settings_path)
        self._wish: _Wish | None = None
        self._settled: Imprint | None = None  # what a sync saw that found its wish fulfilled
        self._silent: dict[IPAddress, float] = {}
        self._guard = PeerGuard(config.netns)
        self.underlay_ifname = config.underlay_ifname  # found at a sync if nobody named it
        self.pool_rules = NO_RULES  # as the file said at the last sync
        self._tunnel_index = 0
        self._book = Book(config.book_path)
        self._filtered: Surroundings | None = None
        self._filter_due_s = 0.0

    def sync(self, own: NodeNet, peers: Sequence[NodeNet]) -> PodWiring:
        """Make everything as it shall be, and return how pods are to be wired.

        Raises NotFound without the underlay's link, NetlinkError, ProgramFailed.
        """
        dump = self._rtnl.tables()
        tunnel = self._tunnel(dump, own)
        bridge = bridge_for(own) if self._config.wiring is Wiring.BRIDGE else None
        wiring = PodWiring(pod_mtu(tunnel, own), bridge)
        settings = self._settings.current()
        self.pool_rules = settings.pool_rules
        wish = self._wished(own, peers, tunnel, self._direct(dump, peers, settings))
        self._write(dump, wish)
        self._tunnel_index = self._rtnl.ifindex(self.tunnel_ifname)
        self._forward(own)
        self._guard.sync(wish.guard)
        self._filter_if_due(self._surroundings(own, tunnel.ifname, settings))
        return wiring

    @property
    def tunnel_ifname(self) -> str:
        return f"kubenet.{self._config.vni}"

    @property
    def tunnel_index(self) -> int:
        """The number of the tunnel device as of the last sync; 0 before."""
        return self._tunnel_index

    @property
    def tunnel_ends(self) -> list[IPAddress]:
        """The addresses of the peers' tunnel ends, of a family that the node has pods of."""
        if self._wish is None:
            return []
        families = {cidr.version for cidr in self._wish.own.pod_cidrs}
        through = (peer for peer in self._wish.peers if peer.name not in self._wish.direct)
        ends = (next((c for c in peer.pod_cidrs if c.version in families), None) for peer in through)
        return [cidr.network_address for cidr in ends if cidr is not None]

    def settings_changed(self) -> bool:
        """Return whether the file of settings is another than at the last sync."""
        return self._settings.changed()

    def filter_is_due(self) -> bool:
        """Return whether it is time to look whether somebody damaged the packet filter."""
        return self._monotonic() > self._filter_due_s

    def remove(self) -> None:
        """Take everything away again that a sync made, and nothing else. Raises KubenetError.

        Pods keep their links; they reach no other node any more.
        """
        made = self._owned(self._rtnl.tables().state(), self._book.made())
        if change := diff_state(made, LinkState()):
            self._rtnl.apply(change)
        self._book.forget()
        self._wish = self._settled = self._filtered = None
        self._guard.remove()
        for family in FAMILIES:
            saved = {name: iptables.save(self._config.netns, name, family=family) for name in TABLES}
            writes = [withdrawal(name, read_save(text).get(name)) for name, text in saved.items()]
            if undone := render_restore(writes, family):
                iptables.restore(self._config.netns, undone, family=family)

    def close(self) -> None:
        self._rtnl.close()
        self._guard.close()

    def _tunnel(self, dump: Dump, own: NodeNet) -> Tunnel:
        config = self._config
        self.underlay_ifname = config.underlay_ifname or self._link_with(dump, own.node_ip)
        underlay = dump.links.get(self.underlay_ifname)
        if underlay is None:
            raise NotFound(
                f"{self.underlay_ifname}: the node has no such link to carry the overlay",
                "name the link that reaches the other nodes (--underlay)",
            )
        return Tunnel(config.vni, config.vxlan_port, self.underlay_ifname, underlay.mtu)

    def _link_with(self, dump: Dump, node_ip: IPAddress) -> str:
        """Return the link that has the node's address; while none has, the one that had it."""
        names = [entry.ifname for entry in dump.told_addresses() if entry.interface.ip == node_ip]
        near = [name for name in names if dump.links[name].kind is not LinkKind.LOOPBACK]
        if not near and self.underlay_ifname in dump.links:
            return self.underlay_ifname  # it is getting another address, and the Node object will say so
        if not near:
            raise NotFound(
                f"no link of this node has its address {node_ip}, or only loopback has",
                "name the link that reaches the other nodes (--underlay)",
            )
        return near[0]

    def _direct(self, dump: Dump, peers: Sequence[NodeNet], settings: Settings) -> frozenset[str]:
        """Return the names of the peers that are reached without the tunnel."""
        if settings.direct_routing is DirectRouting.OFF:
            return frozenset()
        underlay = self.underlay_ifname
        networks = [entry.interface.network for entry in dump.told_addresses() if entry.ifname == underlay]
        if settings.direct_routing is DirectRouting.AUTO:
            now_s = self._monotonic()
            self._silent = {ip: since for ip, since in self._silent.items() if now_s - since < SILENT_FOR_S}
            self._silent |= dict.fromkeys(dump.silent_neighbors(underlay), now_s)
            peers = [peer for peer in peers if peer.node_ip not in self._silent]
        return on_link(peers, networks)

    def _wished(
        self, own: NodeNet, peers: Sequence[NodeNet], tunnel: Tunnel, direct: frozenset[str]
    ) -> _Wish:
        if self._wish and self._wish.is_for(own, peers, tunnel, direct):
            return self._wish
        state = compile_overlay(own, peers, tunnel, direct)
        if self._config.wiring is Wiring.BRIDGE:
            state = state.union(bridge_state(bridge_for(own), pod_mtu(tunnel, own)))
        else:
            state = state.union(own_ranges(own))
        self._settled = None
        self._wish = _Wish(own, peers, tunnel, direct, state, compile_guard(own, peers, tunnel))
        return self._wish

    def _ours(self) -> set[str]:
        bridges = {BRIDGE_IFNAME} if self._config.wiring is Wiring.BRIDGE else set()
        return {f"kubenet.{self._config.vni}"} | bridges

    def _write(self, dump: Dump, wish: _Wish) -> None:
        imprint = dump.imprint(self._ours())
        if imprint == self._settled:
            return
        have, want = dump.state(), wish.state
        _refuse_networks_of_the_node(have, want)
        # What a tunnel is made of cannot be changed while it exists.
        outdated = [
            name
            for name, link in want.links.items()
            if name in have.links and not can_become(have.links[name], link)
        ]
        if outdated:
            log.warning("cni: %s was made otherwise, making it anew", ", ".join(outdated))
            self._rtnl.transact([codec.delete_link(ifname=name) for name in outdated])
            have = self._rtnl.observe()
        before, after = self._book.made(), made_of(want, self._ours())
        # Pods may still hang on a bridge of another wiring: it goes with --cleanup only.
        after = Made(after.links | before.links, after.routes)
        self._book.write(before | after)  # before anything is made, so that no crash leaves what nobody owns
        if change := diff_state(self._owned(have, Made(routes=before.routes)), want):
            # The ranges are the cluster's: a route that another overlay left behind gives way.
            self._rtnl.apply(insisting(change))
            self._book.write(after)
            log.info("cni: overlay written, %d routes in all", len(want.routes))
        elif not outdated:
            self._settled = imprint

    def _owned(self, have: LinkState, made: Made) -> LinkState:
        """Return what is ours: links with all on them, and the routes elsewhere that were written down."""
        elsewhere = {
            key: route
            for key, route in have.routes.items()
            if route.protocol == ROUTE_PROTOCOL and made.has(route)
        }
        return have.owned_by(self._ours() | made.links).union(LinkState(routes=elsewhere))

    def _forward(self, own: NodeNet) -> None:
        keys = [FORWARDING[family] for family in {cidr.version for cidr in own.pod_cidrs}]
        if self._config.wiring is Wiring.BRIDGE:
            keys.append(f"net.ipv4.conf.{BRIDGE_IFNAME}.route_localnet")  # see cni.hostports
        for key in keys:
            if sysctl.read(self._config.netns, key) != "1":
                sysctl.write(self._config.netns, key, 1)

    def _surroundings(self, own: NodeNet, tunnel_ifname: str, settings: Settings) -> Surroundings:
        config = self._config
        bridged = config.wiring is Wiring.BRIDGE
        return Surroundings(
            own.pod_cidrs,
            config.cluster_cidrs,
            config.service_cidrs,
            config.vxlan_port,
            (BRIDGE_IFNAME, tunnel_ifname) if bridged else ("k+",),
            settings.non_masquerade_cidrs,
        )

    def _filter_if_due(self, around: Surroundings) -> None:
        if around == self._filtered and not self.filter_is_due():
            return
        for family in FAMILIES:
            if _write_filter(self._config.netns, compile_tables(around, family), family):
                log.info("cni: packet filter of IPv%d written", family)
        self._filtered, self._filter_due_s = around, self._monotonic() + FILTER_CHECK_S


def _refuse_networks_of_the_node(have: LinkState, want: LinkState) -> None:
    """Raise KubenetError if a range of pods is a network in which the node has an address.

    Taking it over would cut the node off.
    """
    for destination in want.routes:
        found = have.routes.get(destination)
        if found is not None and found.protocol == ROUTE_OF_AN_ADDRESS:
            raise KubenetError(
                f"{destination}: the node is in this network itself, on {found.ifname}, and pods shall be",
                "give the cluster a range for pods that no node uses (--cluster-cidr)",
            )


def _write_filter(netns: NetNs, tables: Sequence[Table], family: Family) -> bool:
    """Make the tables hold what is ours; return whether that was something to do."""
    writes = []
    for table in tables:
        saved = read_save(iptables.save(netns, table.name, family=family))
        writes.append(write_between(saved.get(table.name), table, is_ours, family))
    text = render_restore(writes, family)
    if text:
        iptables.restore(netns, text, family=family)
    return bool(text)


def bridge_for(own: NodeNet) -> Bridge:
    """Return the bridge of a node: the second address of each of its ranges is the gateway there."""
    gateways = tuple(Pool(cidr).gateway for cidr in own.pod_cidrs)
    return Bridge(BRIDGE_IFNAME, gateways)
