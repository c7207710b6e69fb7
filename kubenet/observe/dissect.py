"""A frame in one line, as scapy reads it."""

import logging

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)  # it looks for routes and complains

from scapy.layers import dns, inet, l2, vxlan  # noqa: E402, F401 - importing a layer makes scapy know it

_VXLAN_PORTS = (8472, 4789)


def summary(frame: bytes) -> str:
    """Return what scapy makes of a frame, from IP on; what it cannot read is said to be so."""
    try:
        read = l2.Ether(frame)
        outer = read.getlayer(inet.UDP)
        if outer is not None and outer.dport in _VXLAN_PORTS and outer.dport != 4789:
            inside = vxlan.VXLAN(bytes(outer.payload))
            return f"{read[inet.IP].src} > {read[inet.IP].dst} VXLAN {inside.vni} / {_short(inside.payload)}"
        return _short(read)
    except (IndexError, ValueError, TypeError) as error:
        return f"{len(frame)} bytes that scapy cannot read: {error}"


def _short(read: "l2.Ether") -> str:
    return str(read.summary()).removeprefix("Ether / ")
