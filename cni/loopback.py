"""The plugin ``loopback``, which runtimes run for every pod before its network.

Source: CNI plugin ``loopback``; linux/if.h.
"""

from ipaddress import IPv4Interface, IPv6Interface

from cni.result import AssignedAddress, Interface, Result
from cni.spec import CniError, Code
from kubenet.kernel import codec
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl

IFNAME = "lo"
_MAC = "00:00:00:00:00:00"


def bring_up(netns: NetNs) -> None:
    """Bring the namespace's loopback up; the kernel gives it its addresses. Raises NetlinkError."""
    with Rtnl(netns) as rtnl:
        rtnl.transact([codec.set_link(name=IFNAME, up=True)])


def check(netns: NetNs) -> None:
    """Return if it is up. Raises CniError."""
    with Rtnl(netns) as rtnl:
        if not rtnl.links()[IFNAME].link.up:
            raise CniError(Code.CHECK_FAILED, f"{IFNAME} is down in the pod")


def result_for(ifname: str, sandbox: str) -> Result:
    """Return what the runtime is told."""
    addresses = (IPv4Interface("127.0.0.1/8"), IPv6Interface("::1/128"))
    return Result(
        (Interface(ifname, _MAC, sandbox=sandbox),),
        tuple(AssignedAddress(address, index=0) for address in addresses),
    )
