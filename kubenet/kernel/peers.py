"""What the other end of a veth has, in whatever namespace it is: no path or process of it need be known.

The kernel numbers the namespaces that a namespace has links to, and answers for one of them if it is asked by
its number (Linux 4.20 and later).

Source: rtnetlink(7); linux/if_link.h, linux/if_addr.h, linux/netlink.h.
"""

from kubenet.kernel import decode, uapi
from kubenet.kernel.codec import IFADDRMSG, IFINFOMSG, get_link
from kubenet.kernel.netlink import Request, attributes, number_in, u32
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nlsocket import NetlinkSocket
from kubenet.model.links import IPAddress, MacAddress, PeerEnd

_NETLINK_GET_STRICT_CHK = 12  # else the kernel does not look at what is asked for
_IFLA_LINK, _IFLA_LINK_NETNSID, _IFLA_TARGET_NETNSID = 5, 37, 46
_IFA_TARGET_NETNSID = 10


class PeerSocket(NetlinkSocket):
    """Asks about the far ends of the veths of one namespace."""

    def __init__(self, netns: NetNs | None = None) -> None:
        super().__init__(netns)
        self._socket.setsockopt(uapi.SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)

    def end_of(self, ifname: str) -> PeerEnd | None:
        """Return the other end of ``ifname``; None when it is in the same namespace, or in none.

        Raises NetlinkError.
        """
        (told,) = self.ask(get_link(ifname))
        own = attributes(told.body, IFINFOMSG.size)
        if _IFLA_LINK_NETNSID not in own:
            return None
        index, nsid = number_in(own, _IFLA_LINK), number_in(own, _IFLA_LINK_NETNSID)
        body = IFINFOMSG.pack(0, 0, index, 0, 0) + u32(_IFLA_TARGET_NETNSID, nsid)
        what = f"look up the other end of {ifname}"
        (told,) = self.ask(Request(uapi.RTM_GETLINK, 0, body, what))
        link = decode.link(told.body).link
        return PeerEnd(link.ifname, link.mac or "", self._addresses(index, nsid, link.ifname, link.mac))

    def _addresses(self, index: int, nsid: int, ifname: str, mac: MacAddress | None) -> tuple[IPAddress, ...]:
        body = IFADDRMSG.pack(0, 0, 0, 0, index) + u32(_IFA_TARGET_NETNSID, nsid)
        told = self.dump(Request(uapi.RTM_GETADDR, uapi.NLM_F_DUMP, body, f"list addresses of {ifname}"))
        found = (decode.address(each, {index: ifname}, {ifname: mac}) for each in told)
        return tuple(entry.interface.ip for entry in found if entry is not None)
