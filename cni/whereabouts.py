"""Where the namespace of a pod is that was attached a while ago, and whether it is there still."""

from pathlib import Path

from ipam.record import AllocationRecord
from kubenet.errors import KubenetError, NotFound
from kubenet.kernel.netns import NetNs


def netns_of(record: AllocationRecord) -> NetNs:
    """Return the pod's namespace. Raises NotFound."""
    netns = NetNs.open(Path(record.netns))
    if record.netns_inode and netns.inode != record.netns_inode:
        netns.close()
        raise NotFound(f"{record.netns}: another namespace by now")
    return netns


def may_live(record: AllocationRecord) -> bool:
    """Whether the pod's namespace is where it was.

    Where that cannot be seen, as in a container without the node's mounts, a pod whose link is gone is dead;
    one whose link was never ours to see is not.
    """
    path = Path(record.netns)
    try:
        with NetNs.open(path) as netns:
            return netns.inode == record.netns_inode
    except NotFound:
        return record.address_only and (path.exists() or not path.parent.is_dir())
    except (KubenetError, OSError):
        return True
