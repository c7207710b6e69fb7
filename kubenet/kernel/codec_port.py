"""Requests to rtnetlink on the settings of a bridge's port. *Pure.*

Source: linux/if_link.h.
"""

from kubenet.kernel import uapi
from kubenet.kernel.codec import IFINFOMSG, checked_ifname
from kubenet.kernel.netlink import Request, attribute, nested, text

_IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 4, 5
_IFLA_BRPORT_MODE = 4


def hairpin(ifname: str) -> Request:
    """Let the bridge send a frame back by the port that it came from: a pod that reaches itself."""
    settings = attribute(_IFLA_BRPORT_MODE, b"\1")
    body = IFINFOMSG.pack(0, 0, 0, 0, 0) + text(uapi.IFLA_IFNAME, checked_ifname(ifname))
    body += nested(
        uapi.IFLA_LINKINFO,
        text(_IFLA_INFO_SLAVE_KIND, "bridge"),
        nested(_IFLA_INFO_SLAVE_DATA, settings),
    )
    return Request(uapi.RTM_NEWLINK, 0, body, f"let port {ifname} be a hairpin")
