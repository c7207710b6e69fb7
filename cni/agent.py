"""The CNI agent of one node: everything of the pod network that outlives a request.

It starts by listening, so that shims wait instead of failing, takes over what an earlier agent has left,
does the DELs that came meanwhile, and answers. Pods can be added once the node's own Node object says which
addresses it has; only then, and after overlay and packet filter stand, is the runtime told of the network.
"""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from cni.attach import Attachments
from cni.checksums import Proof, prove
from cni.deferred import deferred, directory_for
from cni.install import CACHE, CONFLIST, ShimKind, install_conflist, install_plugin, rival_of
from cni.masquerade import is_within
from cni.network import BRIDGE_IFNAME, NetworkConfig, NodeNetwork
from cni.overlay import NodeNet
from cni.plan import PodWiring, Wiring
from cni.publish import KernelPublisher
from cni.server import Server
from cni.spec import CniError
from cni.verbs import Plugin
from cni.vitals import Vitals
from cni.wires import KernelWires
from ipam.pool import NO_RULES
from ipam.sticky import StickyFile
from ipam.store import RecordStore
from kubenet.errors import KubenetError
from kubenet.kernel.netns import NetNs
from kubenet.model.links import IPNetwork

log = logging.getLogger(__name__)


PROVE_EVERY_S, PROVE_BY = 30.0, 3  # as long as no peer answers: how often, and by how many


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What the agent of one node is told at its start."""

    node_name: str
    netns: NetNs
    socket_path: Path
    state_dir: Path  # on a tmpfs
    bin_dir: Path
    conf_dir: Path
    cluster_cidrs: tuple[IPNetwork, ...]
    service_cidrs: tuple[IPNetwork, ...] = ()
    underlay_ifname: str = ""  # empty: the link that has the node's address
    conflist: str = CONFLIST  # the file's name: runtimes take the first in the order of names
    wiring: Wiring = Wiring.ROUTED
    vni: int = 1
    vxlan_port: int = 8472
    strict_delete: bool = False  # answer a DEL only when the link is gone
    workers: int = 8
    cache_dir: Path = CACHE
    shim: ShimKind | None = None  # None: compiled if that is possible
    sticky_path: Path | None = None  # on a disk: the addresses that pods keep; None keeps them in memory
    settings_path: Path | None = None  # may change while the agent runs: see cni.settings
    publish: bool = True  # tell of the tunnel end, and that there is a network, in the Node object

    @property
    def network(self) -> NetworkConfig:
        return NetworkConfig(
            self.netns,
            self.underlay_ifname,
            self.vni,
            self.vxlan_port,
            self.cluster_cidrs,
            self.service_cidrs,
            self.wiring,
            self.settings_path,
            self.state_dir / "made.json",
        )


class NodeAgent:
    """The agent without its view of the cluster: it is told of the nodes. Its calls block."""

    def __init__(self, config: AgentConfig, vitals: Vitals | None = None) -> None:
        self.config = config
        self.vitals = vitals or Vitals()
        with ExitStack() as undo:
            store = RecordStore.open(config.state_dir / "attachments")
            publisher = KernelPublisher(config.netns, bridged=config.wiring is Wiring.BRIDGE)
            undo.callback(publisher.close)
            self.attachments = Attachments(
                store,
                lambda: KernelWires(config.netns),
                publisher,
                strict_delete=config.strict_delete,
                sticky=StickyFile(config.sticky_path),
            )
            undo.callback(self.attachments.close)
            self.vitals.attachments = lambda: len(self.attachments.records)
            self.plugin = Plugin(self.attachments, config.netns)
            self.server = Server(config.socket_path, self.plugin.serve, config.workers)
            undo.callback(self.server.stop)
            self._network = NodeNetwork(config.network)
            undo.callback(self._network.close)
            self._reaper = ThreadPoolExecutor(1, thread_name_prefix="cni-reaper")
            self._pod_cidrs: tuple[IPNetwork, ...] = ()
            self._rules = NO_RULES
            self._proved = 0  # the number of the tunnel device whose checksums are known
            self._prove_due_s, self._prove_turn = 0.0, 0
            self._mtu = 0  # that the pods have
            self._acting = Lock()  # a thread whose task was cancelled goes on; ``stop`` waits for it
            self._stopped = False
            undo.pop_all()

    def start(self) -> "list[Future[None]]":
        """Take over what an earlier agent left, and answer from now on.

        The futures end with ``stop``; one that ends with an exception tells of a bug.

        Raises StateLost, StoreFailed, NetlinkError.
        """
        self.attachments.recover()
        self._do_deferred()
        return [self._reaper.submit(self.attachments.reaper.run), *self.server.start()]

    def sync(self, own: NodeNet, peers: Sequence[NodeNet]) -> None:
        """Make the node's network as it shall be; after the first time, pods can be added.

        Raises KubenetError; what could be written, is.
        """
        with self._acting:
            if self._stopped:
                return
            began_s = time.monotonic()
            self.vitals.began()
            try:
                wiring = self._network.sync(own, peers)
            except KubenetError as error:
                self.plugin.limited = str(error)
                self.vitals.failed(str(error))
                raise
            self.plugin.limited = ""
            now_s = time.monotonic()
            self.vitals.ended(now_s - began_s, now_s, len(peers))
            self._wire(own, wiring)

    def _wire(self, own: NodeNet, wiring: PodWiring) -> None:
        rules = self._network.pool_rules
        if (own.pod_cidrs, rules) == (self._pod_cidrs, self._rules):
            self.attachments.rewire(wiring)
        else:
            self.attachments.open(own.pod_cidrs, wiring, rules)
            self._pod_cidrs, self._rules = own.pod_cidrs, rules
            log.info("cni: %s adds pods of %s", own.name, ", ".join(str(cidr) for cidr in own.pod_cidrs))
            for cidr in own.pod_cidrs:
                if not is_within(cidr, self.config.cluster_cidrs):
                    log.warning("cni: %s is in no --cluster-cidr: other nodes see this one's address", cidr)
        if wiring.mtu != self._mtu:
            self.attachments.follow_mtu()
            self._mtu = wiring.mtu

    @property
    def ifnames(self) -> frozenset[str]:
        """The node's links whose changes are ours to repair, and the one that carries the overlay."""
        names = {self._network.underlay_ifname, self._network.tunnel_ifname}
        return frozenset(names | ({BRIDGE_IFNAME} if self.config.wiring is Wiring.BRIDGE else set()))

    def install(self) -> None:
        """Tell the runtime of the network. Raises KubenetError."""
        config = self.config
        kind = install_plugin(config.bin_dir, config.socket_path, cache=config.cache_dir, kind=config.shim)
        path = install_conflist(self.config.conf_dir, name=self.config.conflist)
        log.info("cni: %s plugin in %s, network in %s", kind.value, self.config.bin_dir, path)
        self.look_for_rivals()

    def look_for_rivals(self) -> None:
        """Notice whether the runtime uses somebody else's network, and say so when that changes."""
        rival = rival_of(self.config.conf_dir, self.config.conflist)
        if rival and rival != self.vitals.rival:
            log.warning(
                "cni: %s goes before %s: pods get that network; remove it, or name ours lower (--conflist)",
                self.config.conf_dir / rival,
                self.config.conflist,
            )
        self.vitals.rival = rival

    def drifting(self) -> bool:
        """Return whether it is time to compare although nobody told of a change."""
        return self._network.settings_changed() or self._network.filter_is_due()

    def prove_tunnel(self) -> None:
        """Find out once for each tunnel device whether its checksums are right. Raises KubenetError."""
        now_s = time.monotonic()
        with self._acting:
            index, peers = self._network.tunnel_index, self._network.tunnel_ends
            if self._stopped or not index or self._proved == index or now_s < self._prove_due_s:
                return
            self._prove_due_s = now_s + PROVE_EVERY_S
        # The proof takes seconds when peers are silent: others must not wait for it.
        chosen = peers[self._prove_turn :] + peers[: self._prove_turn]
        self._prove_turn = (self._prove_turn + PROVE_BY) % max(1, len(peers))
        proof = prove(self.config.netns, self._network.tunnel_ifname, chosen[:PROVE_BY])
        self.vitals.checksums = proof.value
        if proof is not Proof.UNKNOWN:
            self._proved = index

    def tend(self) -> None:
        """Let go of what is dead, and do what could not be done when it was asked. Raises KubenetError."""
        with self._acting:
            if not self._stopped:
                self._do_deferred()
                self.attachments.sweep(time.time_ns())
                self.look_for_rivals()

    def stop(self) -> None:
        """Finish what is under way and end all threads. Pods and rules stay."""
        self.server.stop()
        with self._acting:
            self._stopped = True
        self.attachments.reaper.close()
        self._reaper.shutdown()
        self.attachments.close()
        self._network.close()

    def _do_deferred(self) -> None:
        for request in deferred(directory_for(self.config.socket_path)):
            try:
                self.plugin.replay(request.environment, request.written_ns)
            except CniError as error:
                log.warning("cni: %s: forgotten, it is no DEL: %s", request.path, error)
            except KubenetError as error:
                log.warning("cni: %s: cannot be done yet: %s", request.path, error)
                continue
            request.done()
