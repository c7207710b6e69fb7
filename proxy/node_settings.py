"""What the kernel of a node has to be set to for Services: conntrack's size and patience, localhost.

These need more privileges than anything else the proxy does, so they can be set by a run of their own
(``--init-only``). A table that is larger already stays as it is.

Source: Kubernetes kube-proxy (conntrack options); kernel Documentation/networking/nf_conntrack-sysctl.rst.
"""

import logging
import os

from kubenet.errors import KubenetError
from kubenet.kernel import sysctl
from kubenet.kernel.netns import NetNs
from proxy.config import Settings

log = logging.getLogger(__name__)

_CONNTRACK = "net/netfilter/nf_conntrack_"
_PER_CORE, _LEAST, _MOST = 32768, 131072, 1048576
_DAY_S = 86400
_MAX, _BUCKETS = f"{_CONNTRACK}max", f"{_CONNTRACK}buckets"


def wanted_settings(settings: Settings, cores: int) -> dict[str, int]:
    """Return the values by sysctl (row 55); what is set to 0 is left to the kernel. *Pure.*"""
    per_core = _PER_CORE if settings.conntrack_max_per_core is None else settings.conntrack_max_per_core
    least = _LEAST if settings.conntrack_min is None else settings.conntrack_min
    wanted = {
        f"{_CONNTRACK}tcp_timeout_established": _seconds(settings.tcp_established_s, _DAY_S),
        f"{_CONNTRACK}tcp_timeout_close_wait": _seconds(settings.tcp_close_wait_s, 3600),
        f"{_CONNTRACK}udp_timeout": _seconds(settings.udp_timeout_s, 0),
        f"{_CONNTRACK}udp_timeout_stream": _seconds(settings.udp_stream_timeout_s, 0),
        f"{_CONNTRACK}tcp_be_liberal": int(settings.tcp_liberal),
    }
    if per_core:
        wanted[_MAX] = min(max(per_core * cores, least), _MOST)
    if settings.localhost_node_ports and settings.mode != "nftables":
        wanted["net/ipv4/conf/all/route_localnet"] = 1
    return {key: value for key, value in wanted.items() if value}


def buckets_for(most: int, have: int) -> int:
    """Return how many hash buckets so many connections need: four to a bucket, and never fewer than now."""
    return max(have, most // 4)


def _widen(netns: NetNs | None, most: int) -> None:
    have = int(sysctl.read(netns, _BUCKETS))
    if (wanted := buckets_for(most, have)) > have:
        sysctl.write(netns, _BUCKETS, str(wanted))


def _seconds(said_s: float | None, otherwise_s: int) -> int:
    return otherwise_s if said_s is None else int(said_s)


def apply_settings(netns: NetNs | None, settings: Settings) -> list[str]:
    """Set what differs and return the complaints: a namespace inside another may not set everything."""
    complaints = []
    for key, value in wanted_settings(settings, os.cpu_count() or 1).items():
        try:
            have = int(sysctl.read(netns, key))
            if have != value and not (key == _MAX and have > value):
                sysctl.write(netns, key, str(value))
                if key == _MAX:
                    _widen(netns, value)
        except KubenetError as error:
            complaints.append(str(error))
    return complaints
