"""What a CHECK has to find: the attachment as the ADD told of it, and as it has changed since. *Pure.*"""

from cni.plan import PodNet, PodWiring
from cni.result import interface_in
from cni.spec import Request
from ipam.record import AllocationRecord
from kubenet.model.links import LinkState


def as_told(record: AllocationRecord, request: Request, inside: LinkState, wiring: PodWiring) -> PodNet:
    """Return the pod as it must be; ``inside`` is what its namespace holds.

    MAC address and MTU are those of the earlier result, which a later plugin may have changed; and the MTU
    follows the underlay's, unless one was asked for.
    """
    made = interface_in(request.prev_result or {}, request.ifname, request.netns)
    mac, mtu = (made.mac or None, made.mtu) if made else (None, 0)
    link = inside.links.get(request.ifname)
    if mtu and not record.mtu and link is not None and link.mtu == wiring.mtu:
        mtu = wiring.mtu
    return PodNet(record.host_ifname, request.ifname, record.addresses, mtu, wiring.bridge, mac)
