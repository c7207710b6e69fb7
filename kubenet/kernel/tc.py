"""Hold back what links send and receive.

What the kernel lacks for it is named: each request says in its error which part of traffic control it is.

Source: tc(8), tc-tbf(8).
"""

import errno
from collections.abc import Sequence

from kubenet.errors import KernelLacks, NotFound
from kubenet.kernel import codec_tc
from kubenet.kernel.netlink import NetlinkError, Request
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.bucket import Bucket

_MODULES = {
    "make ifb": "ifb",
    "qdisc tbf": "sch_tbf",
    "qdisc ingress": "sch_ingress",
    "filter u32": "cls_u32",
}


def hold_sent(rtnl: Rtnl, ifname: str, bucket: Bucket) -> None:
    """Let ``ifname`` send no more than ``bucket`` says. Raises KernelLacks, NetlinkError, NotFound."""
    _transact(rtnl, [codec_tc.hold_back(rtnl.ifindex(ifname), bucket, ifname)])


def hold_received(rtnl: Rtnl, ifname: str, ifb: str, bucket: Bucket) -> None:
    """Let ``ifname`` receive no more than that, by way of a link ``ifb`` that is made if it is missing.

    Raises KernelLacks, NetlinkError, NotFound.
    """
    _transact(rtnl, [codec_tc.new_ifb(ifb)])
    index, ifb_index = rtnl.ifindex(ifname), rtnl.ifindex(ifb)
    _transact(
        rtnl,
        [
            codec_tc.hold_back(ifb_index, bucket, ifb),
            codec_tc.new_ingress(index, ifname),
            codec_tc.redirect(index, ifb_index, f"{ifname} to {ifb}"),
        ],
    )


def sent_limits(rtnl: Rtnl) -> dict[int, int]:
    """Return the bytes a second that links may send, by their numbers. Raises NetlinkError."""
    told = (codec_tc.bucket_rate(body) for body in rtnl.dump(codec_tc.get_qdiscs()))
    return dict(entry for entry in told if entry is not None)


def redirected_to(rtnl: Rtnl, ifname: str) -> set[int]:
    """Return the numbers of the links that get what ``ifname`` receives; none for a link that is gone."""
    try:
        index = rtnl.ifindex(ifname)
        return {codec_tc.redirect_target(body) for body in rtnl.dump(codec_tc.get_filters(index))} - {0}
    except NotFound:
        return set()
    except NetlinkError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT, errno.ENODEV):  # there is no place for filters
            raise
        return set()


def _transact(rtnl: Rtnl, requests: Sequence[Request]) -> None:
    try:
        rtnl.transact(requests)
    except NetlinkError as error:
        lacking = next((name for act, name in _MODULES.items() if error.what.startswith(act)), "")
        if not lacking or error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
            raise
        raise KernelLacks(f"{error}: the kernel lacks {lacking}", f"modprobe {lacking}") from error
