"""Make the namespaces of a lab: the wire and the nodes.

One netlink socket a namespace, one batch a namespace; what each namespace holds is decided in
``labs.topology``.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from kubenet.kernel import sysctl
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import Link, LinkKind, LinkState, diff_state, state_of
from labs.ledger import LabDirectory
from labs.topology import WIRE, LabNode, Topology, node_base, wire_base, wire_ports

# What the kernel puts into every new namespace.
FRESH = state_of(Link("lo", LinkKind.LOOPBACK, mtu=65536, mac="00:00:00:00:00:00", up=False))

# A node forwards. It does not judge packets by the way they came, since replies of the overlay take another
# one, and tells nobody of a shorter way: a redirect would hide the REJECT of a Service without endpoints.
NODE_SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
}


@dataclass(frozen=True, slots=True)
class Underlay:
    """The open namespaces of a lab; closing lets go of the descriptors, not of the pins."""

    wire: NetNs
    nodes: dict[str, NetNs]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for netns in (self.wire, *self.nodes.values()):
            netns.close()


def build_underlay(lab: Topology, directory: LabDirectory) -> Underlay:
    """Return the wire and the nodes, up and connected. A failure leaves no namespace behind."""
    with ExitStack() as undo:
        wire = _make(directory, WIRE, undo)
        with Rtnl(wire) as rtnl:
            rtnl.apply(diff_state(FRESH, wire_base()))
            nodes = {node.name: _build_node(node, wire, directory, undo) for node in lab.nodes}
            have = rtnl.observe().owned_by(wire_ports(lab).links)
            rtnl.apply(diff_state(have, wire_ports(lab)))
        undo.pop_all()
    return Underlay(wire, nodes)


def apply_fresh(netns: NetNs, want: LinkState, namespaces: dict[str, NetNs] | None = None) -> None:
    """Make a namespace that was just created hold ``want``."""
    with Rtnl(netns) as rtnl:
        rtnl.apply(diff_state(FRESH, want), namespaces or {})


def _build_node(node: LabNode, wire: NetNs, directory: LabDirectory, undo: ExitStack) -> NetNs:
    netns = _make(directory, node.name, undo)
    sysctl.write_all(netns, NODE_SYSCTLS)
    apply_fresh(netns, node_base(node), {WIRE: wire})
    return netns


def _make(directory: LabDirectory, name: str, undo: ExitStack) -> NetNs:
    path = directory.netns(name)
    netns = NetNs.create(path)
    undo.callback(unpin, path)
    undo.callback(netns.close)
    return netns
