"""The acts on the kernel that wire one pod, and that take it off again.

Making a pod is three sends: the veth pair, whose one end is born in the pod's namespace; everything inside
the pod; the way to it on the node. What they say is computed by ``plan``; nothing is looked up but the
numbers that the kernel gave the two ends, so the cost does not grow with the number of pods.

Taking it off has two halves. ``retire`` cuts the pod off at once: link down, and into the group of those that
are going. ``bury`` deletes all links of that group: one deletion waits 12-20 ms for the kernel's readers
to leave, of one link as of many, and nobody who asked for a DEL has to wait for that.
"""

import errno
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from cni.plan import PodNet, new_pod_state, node_state, pod_state
from cni.shaping import buckets, shaper_ifname, unshaped
from cni.spec import CniError, Code
from ipam.record import Bandwidth
from kubenet.errors import KernelLacks, NotFound
from kubenet.kernel import arrange, codec, codec_port, tc, uapi
from kubenet.kernel.decode import NumberedLink
from kubenet.kernel.netlink import NetlinkError, Request
from kubenet.kernel.netns import NetNs
from kubenet.kernel.peers import PeerSocket
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import DYING_GROUP, Link, LinkState, PeerEnd, diff_state

_GONE = (errno.ENODEV,)
LOOPBACK_INDEX = 1  # include/net/net_namespace.h: the first link of every namespace
# How long a name can stay taken after the pod that had it is gone: 32 ms is usual, 70 ms the worst seen.
NAME_FREE_WITHIN_S = 2.0
_NAME_RETRY_S = 0.005


class Wires(Protocol):
    """What attaching needs of the kernel. One thread uses one of these."""

    def make(self, pod: PodNet, netns: NetNs) -> None:
        """Make the veth pair. Raises CniError when the pod has such an interface already."""
        ...

    def dress(self, pod: PodNet, netns: NetNs) -> None:
        """Bring the pod's end up, with addresses, routes and neighbours."""
        ...

    def reach(self, pod: PodNet) -> None:
        """Tell the node the way to the pod."""
        ...

    def shape(self, host_ifname: str, bandwidth: Bandwidth) -> None:
        """Hold back what the pod receives and sends. Raises CniError where the kernel cannot."""
        ...

    def unshaped(self, host_ifname: str, bandwidth: Bandwidth) -> Sequence[str]:
        """Return, in words, which of the limits do not hold."""
        ...

    def resize(self, host_ifname: str, ifname: str, netns: NetNs, mtu: int) -> None:
        """Give both ends another MTU, in bytes; if the pod's end cannot have it, neither gets it."""
        ...

    def remove(self, host_ifname: str) -> None:
        """Delete the pair and wait until it is gone; one that is not there is fine."""
        ...

    def retire(self, host_ifname: str) -> bool:
        """Cut the pod off, and leave its link to ``bury``. False: there is no such link."""
        ...

    def bury(self, host_ifnames: Sequence[str]) -> None:
        """Delete links in one pass of the kernel; when this returns, they are gone."""
        ...

    def node(self) -> LinkState:
        """Return what the node's namespace holds."""
        ...

    def pod(self, netns: NetNs) -> LinkState:
        """Return what a pod's namespace holds."""
        ...

    def pod_end(self, host_ifname: str) -> PeerEnd | None:
        """Return the pod's end of a link, wherever that is; None if there is none."""
        ...

    def close(self) -> None: ...


class KernelWires:
    """The kernel's own."""

    def __init__(self, node_netns: NetNs) -> None:
        self._netns = node_netns
        self._rtnl = Rtnl(node_netns)

    def make(self, pod: PodNet, netns: NetNs) -> None:
        master_index = self._rtnl.ifindex(pod.bridge.ifname) if pod.bridge else 0
        link = node_state(pod).links[pod.host_ifname]
        request = codec.new_link(link, master_index=master_index, peer_fd=netns.fd)
        give_up = time.monotonic() + NAME_FREE_WITHIN_S
        while True:
            try:
                self._rtnl.transact([request])
            except NetlinkError as error:
                if error.errno != errno.EEXIST or time.monotonic() > give_up:
                    raise
                self._free_name(pod)
            else:
                return

    def _free_name(self, pod: PodNet) -> None:
        """Nobody holds an attachment of this name, so a link that has it is a remnant of one."""
        try:
            self._rtnl.ifindex(pod.host_ifname)
        except NotFound as error:
            raise CniError(
                Code.ALREADY_ATTACHED,
                f"{pod.ifname} exists already in the pod's namespace",
                "an interface of another attachment, or one that somebody else made",
            ) from error
        self._rtnl.transact([codec.delete_link(ifname=pod.host_ifname)])
        time.sleep(_NAME_RETRY_S)

    def dress(self, pod: PodNet, netns: NetNs) -> None:
        before = new_pod_state(pod)
        with Rtnl(netns) as rtnl:
            numbers = {"lo": LOOPBACK_INDEX, pod.ifname: rtnl.ifindex(pod.ifname)}
            change = diff_state(before, pod_state(pod))
            requests = arrange.contents(change, _numbered(before.links, numbers))
            rtnl.transact([_first_wins(request) for request in requests])

    def reach(self, pod: PodNet) -> None:
        # Asking for a link also makes the kernel (since 6.8) take notice of its carrier, which it otherwise
        # does some time later, up to a second for a bridge; until then what is sent there is dropped.
        numbers = {pod.host_ifname: self._rtnl.ifindex(pod.host_ifname)}
        if pod.bridge:
            self._rtnl.ifindex(pod.bridge.ifname)
            self._rtnl.transact([codec_port.hairpin(pod.host_ifname)])
            return  # a bridge finds the pods behind its ports by itself
        want = node_state(pod)
        before = LinkState(links=want.links)
        self._rtnl.transact(arrange.contents(diff_state(before, want), _numbered(before.links, numbers)))

    def shape(self, host_ifname: str, bandwidth: Bandwidth) -> None:
        received, sent = buckets(bandwidth)
        try:
            if received:
                tc.hold_sent(self._rtnl, host_ifname, received)
            if sent:
                tc.hold_received(self._rtnl, host_ifname, shaper_ifname(host_ifname), sent)
        except KernelLacks as error:
            raise CniError(
                Code.UNSUPPORTED_FIELD, f"bandwidth cannot be limited here: {error}", error.next_step
            ) from error

    def unshaped(self, host_ifname: str, bandwidth: Bandwidth) -> Sequence[str]:
        links, ifb = self._rtnl.links(), shaper_ifname(host_ifname)
        names = {entry.index: name for name, entry in links.items()}
        limits = {names.get(index, ""): rate for index, rate in tc.sent_limits(self._rtnl).items()}
        redirected = ifb in links and links[ifb].index in tc.redirected_to(self._rtnl, host_ifname)
        return list(unshaped(host_ifname, bandwidth, limits, redirected))

    def resize(self, host_ifname: str, ifname: str, netns: NetNs, mtu: int) -> None:
        with Rtnl(netns) as rtnl:
            rtnl.transact([codec.set_link(name=ifname, mtu=mtu)])
        self._rtnl.transact([codec.set_link(name=host_ifname, mtu=mtu)])

    def remove(self, host_ifname: str) -> None:
        names = (host_ifname, shaper_ifname(host_ifname))
        self._rtnl.transact([codec.delete_link(ifname=name) for name in names])

    def retire(self, host_ifname: str) -> bool:
        ifb = shaper_ifname(host_ifname)
        try:
            self._rtnl.transact([_retirement(ifb, forgiven=_GONE), _retirement(host_ifname)])
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise
            self._rtnl.transact([codec.delete_link(ifname=ifb)])
            return False
        return True

    def bury(self, host_ifnames: Sequence[str]) -> None:
        names = [name for each in host_ifnames for name in (each, shaper_ifname(each))]
        marks = [_retirement(name, forgiven=_GONE) for name in names]
        self._rtnl.transact([*marks, codec.delete_link(group=DYING_GROUP)])

    def node(self) -> LinkState:
        return self._rtnl.observe()

    def pod(self, netns: NetNs) -> LinkState:
        with Rtnl(netns) as rtnl:
            return rtnl.observe()

    def pod_end(self, host_ifname: str) -> PeerEnd | None:
        with PeerSocket(self._netns) as peers:
            return peers.end_of(host_ifname)

    def close(self) -> None:
        self._rtnl.close()


def _first_wins(request: Request) -> Request:
    """Of a pod's interfaces that want the same route, such as the default, the first keeps it."""
    if request.type != uapi.RTM_NEWROUTE:
        return request
    return replace(request, forgiven=(errno.EEXIST,))


def _retirement(host_ifname: str, forgiven: tuple[int, ...] = ()) -> Request:
    return replace(codec.set_link(name=host_ifname, up=False, group=DYING_GROUP), forgiven=forgiven)


def _numbered(links: Mapping[str, Link], numbers: Mapping[str, int]) -> dict[str, NumberedLink]:
    return {name: NumberedLink(number, links[name]) for name, number in numbers.items()}
