"""Make and keep the node's side of the pod network: overlay, bridge, packet filter, forwarding.

One ``sync`` reads what the namespace holds, computes what it shall hold, and writes the difference; so it
does not matter who changed what, and when nothing differs nothing is written. It blocks: run it in a
thread.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from cni.attach import PodWiring
from cni.masquerade import Surroundings, compile_tables, is_ours
from cni.overlay import NodeNet, Tunnel, compile_overlay, pod_mtu
from cni.plan import Bridge, Wiring, bridge_state
from ipam.pool import Pool
from kubenet.errors import NotFound
from kubenet.kernel import codec, iptables, sysctl
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.iptables import Family, render_restore
from kubenet.model.iptables_save import read_save, write_between
from kubenet.model.links import IPNetwork, Link, LinkState, diff_state

log = logging.getLogger(__name__)

FAMILIES: tuple[Family, ...] = (4, 6)
FORWARDING = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}
BRIDGE_IFNAME = "cni0"
FILTER_CHECK_S = 55.0  # a little less than the time between two syncs when nothing happens


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What does not change while a node lives."""

    netns: NetNs
    underlay_ifname: str
    vni: int
    vxlan_port: int
    cluster_cidrs: tuple[IPNetwork, ...]
    service_cidrs: tuple[IPNetwork, ...]
    wiring: Wiring


class NodeNetwork:
    """The part of a node's namespace that all its pods share. One thread at a time may use it."""

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._rtnl = Rtnl(config.netns)
        self._filtered: Surroundings | None = None
        self._filter_due_s = 0.0

    def sync(self, own: NodeNet, peers: Iterable[NodeNet]) -> PodWiring:
        """Make everything as it shall be, and return how pods are to be wired.

        Raises NotFound without the underlay's link, NetlinkError, ProgramFailed.
        """
        have = self._rtnl.observe()
        tunnel = self._tunnel(have)
        bridge = bridge_for(own) if self._config.wiring is Wiring.BRIDGE else None
        wiring = PodWiring(pod_mtu(tunnel, own), bridge)
        want = compile_overlay(own, peers, tunnel)
        if wiring.bridge:
            want = want.union(bridge_state(wiring.bridge, wiring.mtu))
        self._write(have, want)
        self._forward(own)
        around = self._surroundings(own, tunnel.ifname)
        # Nothing tells us when somebody flushes the packet filter, and reading it starts three programs.
        if around != self._filtered or time.monotonic() > self._filter_due_s:
            self._filter(around)
            self._filtered, self._filter_due_s = around, time.monotonic() + FILTER_CHECK_S
        return wiring

    def close(self) -> None:
        self._rtnl.close()

    def _tunnel(self, have: LinkState) -> Tunnel:
        config = self._config
        underlay = have.links.get(config.underlay_ifname)
        if underlay is None:
            raise NotFound(
                f"{config.underlay_ifname}: the node has no such link to carry the overlay",
                "name the link that reaches the other nodes (--underlay)",
            )
        return Tunnel(config.vni, config.vxlan_port, config.underlay_ifname, underlay.mtu)

    def _write(self, have: LinkState, want: LinkState) -> None:
        ours = set(want.links)
        # What a tunnel is made of cannot be changed while it exists.
        outdated = [name for name in ours if _is_outdated(have.links.get(name), want.links[name])]
        if outdated:
            log.warning("cni: %s was made otherwise, making it anew", ", ".join(outdated))
            self._rtnl.transact([codec.delete_link(ifname=name) for name in outdated])
            have = self._rtnl.observe()
        change = diff_state(have.owned_by(ours), want)
        if change:
            self._rtnl.apply(change)
            log.info("cni: overlay written, %d routes in all", len(want.routes))

    def _forward(self, own: NodeNet) -> None:
        for family in {cidr.version for cidr in own.pod_cidrs}:
            if sysctl.read(self._config.netns, FORWARDING[family]) != "1":
                sysctl.write(self._config.netns, FORWARDING[family], 1)

    def _surroundings(self, own: NodeNet, tunnel_ifname: str) -> Surroundings:
        config = self._config
        bridged = config.wiring is Wiring.BRIDGE
        return Surroundings(
            own.pod_cidrs,
            config.cluster_cidrs,
            config.service_cidrs,
            config.vxlan_port,
            (BRIDGE_IFNAME, tunnel_ifname) if bridged else ("k+",),
        )

    def _filter(self, around: Surroundings) -> None:
        netns = self._config.netns
        for family in FAMILIES:
            writes = []
            for table in compile_tables(around, family):
                saved = read_save(iptables.save(netns, table.name, family=family))
                writes.append(write_between(saved.get(table.name), table, is_ours, family))
            if text := render_restore(writes, family):
                iptables.restore(netns, text, family=family)
                log.info("cni: packet filter of IPv%d written", family)


def bridge_for(own: NodeNet) -> Bridge:
    """Return the bridge of a node: the second address of each of its ranges is the gateway there."""
    gateways = tuple(Pool(cidr).gateway for cidr in own.pod_cidrs)
    return Bridge(BRIDGE_IFNAME, gateways)


def _is_outdated(have: Link | None, want: Link) -> bool:
    return have is not None and (have.kind, have.vxlan) != (want.kind, want.vxlan)
