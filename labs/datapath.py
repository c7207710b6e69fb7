"""A whole pod network without any daemon: nodes, overlay and pods, written by netlink from values alone.

What the agents of a running lab reach through watches and CNI calls, reached in one go, from the same pure
functions. It is the lab for looking at packets, and the floor that a running lab is measured against.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from cni.overlay import NodeNet, Tunnel, compile_overlay, pod_mtu
from cni.plan import PodNet, host_ifname, new_pod_state, node_state, pod_state
from ipam.node_cidrs import allocate
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import LinkState, diff_state
from labs.build import Underlay, build_underlay
from labs.ledger import LabDirectory
from labs.topology import UNDERLAY_IFNAME, UNDERLAY_MTU, LabSpec, topology

NODE_MASK = 24
TUNNEL = Tunnel(1, 8472, UNDERLAY_IFNAME, UNDERLAY_MTU)
POD_IFNAME = "eth0"


@dataclass(frozen=True, slots=True)
class LabPod:
    """A pod that is only a namespace."""

    name: str  # node-1-pod-2
    net: PodNet

    @property
    def address(self) -> IPv4Address:
        (address,) = self.net.addresses
        assert isinstance(address, IPv4Address)
        return address


def node_nets(spec: LabSpec) -> list[NodeNet]:
    """Return the nodes' parts in the overlay, each with the next free range."""
    nets: list[NodeNet] = []
    for node in topology(spec).nodes:
        cidr = allocate([net.pod_cidrs[0] for net in nets], spec.cluster_cidr, NODE_MASK)
        nets.append(NodeNet(node.name, node.ip, (cidr,)))
    return nets


def pods_of(net: NodeNet, count: int) -> list[LabPod]:
    """Return ``count`` pods of a node; the first two addresses of its range are the network's and the
    gateway's.
    """
    (cidr,) = net.pod_cidrs
    assert isinstance(cidr, IPv4Network)
    mtu = pod_mtu(TUNNEL, net)
    names = (f"{net.name}-pod-{number}" for number in range(1, count + 1))
    return [
        LabPod(name, PodNet(host_ifname(name, POD_IFNAME), POD_IFNAME, (cidr[number + 2],), mtu))
        for number, name in enumerate(names)
    ]


def build_datapath(spec: LabSpec, pods_per_node: int, directory: LabDirectory) -> Underlay:
    """Return the lab's nodes, every pod of which reaches every other.

    A failure leaves no namespace behind.
    """
    lab, nets = topology(spec), node_nets(spec)
    with ExitStack() as undo:
        underlay = undo.enter_context(build_underlay(lab, directory))
        for name in ("wire", *(node.name for node in lab.nodes)):
            undo.callback(unpin, directory.netns(name))
        for net in nets:
            peers = [peer for peer in nets if peer is not net]
            overlay = compile_overlay(net, peers, TUNNEL)
            _build_node(underlay.nodes[net.name], overlay, pods_of(net, pods_per_node), directory, undo)
        undo.pop_all()
    return underlay


def _build_node(
    netns: NetNs, overlay: LinkState, pods: Sequence[LabPod], directory: LabDirectory, undo: ExitStack
) -> None:
    """Make the overlay and all pods of one node: two batches in the node, one in each pod."""
    namespaces = dict(_pod_namespaces(pods, directory, undo))
    want = overlay
    for pod in pods:
        want = want.union(_in_own_namespace(node_state(pod.net), pod.name))
    with Rtnl(netns) as rtnl:
        rtnl.apply(diff_state(LinkState(), want), namespaces)
    for pod in pods:
        with namespaces[pod.name] as pod_netns, Rtnl(pod_netns) as rtnl:
            rtnl.apply(diff_state(new_pod_state(pod.net), pod_state(pod.net)))


def _pod_namespaces(
    pods: Sequence[LabPod], directory: LabDirectory, undo: ExitStack
) -> Iterator[tuple[str, NetNs]]:
    for pod in pods:
        path = directory.netns(pod.name)
        yield pod.name, NetNs.create(path)
        undo.callback(unpin, path)


def _in_own_namespace(state: LinkState, name: str) -> LinkState:
    """Return ``state`` with the peers of its links in the namespace ``name``: many pods go in one batch."""
    links = {
        ifname: replace(link, peer=replace(link.peer, netns=name)) if link.peer else link
        for ifname, link in state.links.items()
    }
    return replace(state, links=links)
