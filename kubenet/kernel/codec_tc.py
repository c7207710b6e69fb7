"""Requests to the kernel's traffic control: what a link sends at most, and where what it gets goes. *Pure.*

A token bucket (tbf) holds back what a link sends. What a link receives cannot be held back, so it is sent on
to a link made for that purpose (ifb), which has a bucket.

Source: linux/pkt_sched.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h; tc-tbf(8), tc-mirred(8).
"""

import errno
import struct

from kubenet.kernel import uapi
from kubenet.kernel.codec import IFINFOMSG, checked_ifname
from kubenet.kernel.netlink import Request, attribute, attributes, fixed_part, nested, text, text_in, u32
from kubenet.model.bucket import Bucket

TCMSG = struct.Struct("=BxxxiIII")  # family, index, handle, parent, info
RTM_NEWQDISC, RTM_GETQDISC = 36, 38
RTM_NEWTFILTER, RTM_GETTFILTER = 44, 46
_ROOT, _INGRESS, _INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TBF_PARMS, _TBF_RATE64, _TBF_BURST = 1, 4, 6
_U32_SEL, _U32_ACT = 5, 7
_ACT_KIND, _ACT_OPTIONS, _MIRRED_PARMS = 1, 2, 2
_EGRESS_REDIRECT, _STOLEN, _TERMINAL = 1, 4, 1
_ETHERNET, _ALL_PROTOCOLS, _PRIORITY = 1, 0x0003, 1
_RATESPEC = struct.Struct("=BBHhHI")  # cell log, link layer, overhead, cell align, least packet, rate
_TBF_QOPT = struct.Struct("=III")  # limit, buffer, largest packet
_SELECTOR = struct.Struct("=BBBxHHhhI")  # flags, shift, keys, mask, offset, key offset, hash offset and mask
_KEY = struct.Struct("=IIii")  # mask, value, offset, mask of the offset
_MIRRED = struct.Struct("=IIiiiiI")  # index, capabilities, action, references, bindings, what, link
_UNLIMITED = 0xFFFFFFFF


def new_ifb(ifname: str) -> Request:
    """Make a link that only passes on what is sent to it."""
    body = IFINFOMSG.pack(0, 0, 0, uapi.IFF_UP, uapi.IFF_UP) + text(uapi.IFLA_IFNAME, checked_ifname(ifname))
    body += nested(uapi.IFLA_LINKINFO, text(uapi.IFLA_INFO_KIND, "ifb"))
    return Request(
        uapi.RTM_NEWLINK, uapi.NLM_F_CREATE | uapi.NLM_F_EXCL, body, f"make ifb {ifname}", (errno.EEXIST,)
    )


def hold_back(index: int, bucket: Bucket, what: str) -> Request:
    """Let the link send no more than ``bucket`` says."""
    rate = _RATESPEC.pack(0, _ETHERNET, 0, 0, 0, min(bucket.bytes_per_s, _UNLIMITED))
    parms = rate + bytes(_RATESPEC.size) + _TBF_QOPT.pack(min(bucket.queue_bytes, _UNLIMITED), 0, 0)
    options = attribute(_TBF_PARMS, parms) + u32(_TBF_BURST, min(bucket.burst_bytes, _UNLIMITED))
    if bucket.bytes_per_s >= _UNLIMITED:
        options += attribute(_TBF_RATE64, struct.pack("=Q", bucket.bytes_per_s))
    body = TCMSG.pack(0, index, 0, _ROOT, 0) + text(_TCA_KIND, "tbf") + nested(_TCA_OPTIONS, options)
    return Request(RTM_NEWQDISC, uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE, body, f"qdisc tbf: {what}")


def new_ingress(index: int, what: str) -> Request:
    """Have a place for filters where the link receives."""
    body = TCMSG.pack(0, index, _INGRESS_HANDLE, _INGRESS, 0) + text(_TCA_KIND, "ingress")
    flags = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
    return Request(RTM_NEWQDISC, flags, body, f"qdisc ingress: {what}", (errno.EEXIST,))


def redirect(index: int, to_index: int, what: str) -> Request:
    """Send all that the link receives to another link, which passes it on when it may."""
    mirred = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, to_index)
    action = nested(1, text(_ACT_KIND, "mirred"), nested(_ACT_OPTIONS, attribute(_MIRRED_PARMS, mirred)))
    everything = _SELECTOR.pack(_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + _KEY.pack(0, 0, 0, 0)
    info = _PRIORITY << 16 | int.from_bytes(struct.pack("!H", _ALL_PROTOCOLS), "little")
    body = TCMSG.pack(0, index, 0, _INGRESS_HANDLE, info) + text(_TCA_KIND, "u32")
    body += nested(_TCA_OPTIONS, attribute(_U32_SEL, everything), nested(_U32_ACT, action))
    flags = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
    return Request(RTM_NEWTFILTER, flags, body, f"filter u32 with action mirred: {what}", (errno.EEXIST,))


def get_qdiscs() -> Request:
    """Dump the queues of all links."""
    return Request(RTM_GETQDISC, uapi.NLM_F_DUMP, TCMSG.pack(0, 0, 0, 0, 0), "list queues")


def get_filters(index: int) -> Request:
    """Dump the filters where a link receives."""
    body = TCMSG.pack(0, index, 0, _INGRESS_HANDLE, 0)
    return Request(RTM_GETTFILTER, uapi.NLM_F_DUMP, body, f"list filters of link {index}")


def bucket_rate(body: bytes) -> tuple[int, int] | None:
    """Return link and bytes a second of a queue that is a bucket. Raises CodecError."""
    _, index, _, _, _ = fixed_part(TCMSG, body)
    found = attributes(body, TCMSG.size)
    if text_in(found, _TCA_KIND) != "tbf":
        return None
    options = attributes(found.get(_TCA_OPTIONS, b""))
    if _TBF_RATE64 in options:
        return index, int.from_bytes(options[_TBF_RATE64], "little")
    return index, fixed_part(_RATESPEC, options.get(_TBF_PARMS, b""))[-1]


def redirect_target(body: bytes) -> int:
    """Return the link that a filter sends to; 0 if it does something else. Raises CodecError."""
    fixed_part(TCMSG, body)
    options = attributes(attributes(body, TCMSG.size).get(_TCA_OPTIONS, b""))
    action = attributes(attributes(options.get(_U32_ACT, b"")).get(1, b""))
    if text_in(action, _ACT_KIND) != "mirred":
        return 0
    mirred = attributes(action.get(_ACT_OPTIONS, b"")).get(_MIRRED_PARMS, b"")
    return fixed_part(_MIRRED, mirred)[-1]
