"""Can this machine hold a lab? Found out by trying, in a namespace that nobody sees and that is gone
afterwards.

A kernel's version says little about what it was built with; a lab that fails half way says little about why.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address
from types import MappingProxyType

from kubenet.errors import KernelLacks, KubenetError, ProgramFailed
from kubenet.kernel import iptables
from kubenet.kernel.netns import NetNs
from kubenet.kernel.privileges import require_root
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import find
from kubenet.model.links import Link, LinkKind, LinkState, VethPeer, Vxlan, diff_state, state_of

# What a lab cannot do without; a missing one is named with its package.
PROGRAMS = ("iptables-restore", "iptables-save")

# One device of each kind that a lab is made of.
DEVICES: Mapping[str, Link] = MappingProxyType(
    {
        "veth": Link("try0", LinkKind.VETH, peer=VethPeer("try1")),
        "bridge": Link("try2", LinkKind.BRIDGE),
        "vxlan": Link("try3", LinkKind.VXLAN, vxlan=Vxlan(1, IPv4Address("127.0.0.1"), 8472, "try2")),
    }
)

# The matches and targets without which a Service does not work, in one table.
RULES = """*nat
-A PREROUTING -p tcp -m addrtype --dst-type LOCAL -m statistic --mode nth --every 2 --packet 0 -j RETURN
-A PREROUTING -p tcp -m comment --comment try -m statistic --mode random --probability 0.5 -j RETURN
-A PREROUTING -p tcp -m tcp --dport 1 -j DNAT --to-destination 127.0.0.1:1
-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
COMMIT
"""


def check(devices: Mapping[str, Link] = DEVICES, rules: str = RULES) -> None:
    """Return if a lab can be made here. Raises NotPermitted, ProgramMissing, KernelLacks."""
    require_root("a lab makes network namespaces")
    for program in PROGRAMS:
        find(program)
    with NetNs.unnamed() as netns:
        have = LinkState()
        with Rtnl(netns) as rtnl:
            for module, device in devices.items():
                have = _make(rtnl, have, module, device)
        _load(netns, rules)


def _make(rtnl: Rtnl, have: LinkState, module: str, device: Link) -> LinkState:
    want = have.union(state_of(device))
    try:
        rtnl.apply(diff_state(have, want))
    except KubenetError as error:
        raise KernelLacks(
            f"the kernel makes no {module} devices: {error.message}",
            f"modprobe {module}, or use a kernel that has it",
        ) from error
    return want


def _load(netns: NetNs, rules: str) -> None:
    try:
        iptables.restore(netns, rules)
    except ProgramFailed as error:
        raise KernelLacks(
            f"the kernel or iptables lacks what Services need: {error.message}",
            "load the netfilter modules of that line, or use a kernel that has them",
        ) from error
