"""Which attachments are dead. *Pure.*

An attachment is let go only when it is provably nobody's: its container is not on the list that the runtime
gave with a GC, or both its link and the pod's namespace are gone. One that is being made is never touched,
nor one that is younger than what the judgement rests on.

Source: CNI specification 1.1.0, section 2, "GC".
"""

from collections.abc import Collection, Iterable

from cni.spec import Attachment
from ipam.record import AllocationRecord

# A namespace may be on its way from one holder to the next while we look; a pod starts in far less.
GRACE_NS = 60 * 10**9


def unlisted(
    records: Iterable[AllocationRecord], network: str, valid: Collection[Attachment], before_ns: int
) -> list[AllocationRecord]:
    """Return the attachments of ``network``, made before ``before_ns``, that a runtime's GC does not list.

    A record that was found in the kernel has lost its network's name; whose it is nobody knows, so it stays.
    """
    return [
        record
        for record in records
        if record.network == network
        and record.created_ns < before_ns
        and Attachment(record.container_id, record.ifname) not in valid
    ]


def vanished(
    records: Iterable[AllocationRecord],
    ifnames: Collection[str],
    live_inodes: Collection[int],
    now_ns: int,
) -> list[AllocationRecord]:
    """Return the attachments whose link is gone and whose pod's namespace nobody holds any more.

    While the namespace lives, the API may still name the address as that pod's, so it stays taken.
    """
    return [
        record
        for record in records
        if record.host_ifname not in ifnames
        and record.netns_inode not in live_inodes
        and record.created_ns < now_ns - GRACE_NS
    ]
