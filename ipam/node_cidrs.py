"""Cut the cluster's pod range into one range a node. *Pure.*

Source: Kubernetes reference, kube-controller-manager options ``--cluster-cidr`` and
``--node-cidr-mask-size``.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from kubenet.errors import InvalidInput, KubenetError
from kubenet.model.links import IPNetwork


class ClusterRangeExhausted(KubenetError):
    """Every node range of the cluster's pod range is in use."""


def allocate(used: Iterable[IPNetwork], cluster: IPNetwork, mask: int) -> IPNetwork:
    """Return the lowest ``/mask`` inside ``cluster`` that overlaps none of ``used``.

    Used ranges of other sizes, of the other family or outside the cluster's range are fine.

    Raises ClusterRangeExhausted, and InvalidInput when no ``/mask`` fits into ``cluster``.
    """
    if not cluster.prefixlen <= mask <= cluster.max_prefixlen:
        raise InvalidInput(
            f"node mask /{mask}: must be /{cluster.prefixlen} to /{cluster.max_prefixlen}"
            f" to fit into the cluster's range {cluster}"
        )
    size = 1 << (cluster.max_prefixlen - mask)
    candidate = int(cluster.network_address)
    end = candidate + cluster.num_addresses
    for first, last in _spans(used, cluster):
        if candidate + size <= first:
            break  # the gap before this used range is wide enough
        # Behind the used range, at the next multiple of the size.
        candidate = max(candidate, -(-(last + 1) // size) * size)
    if candidate + size > end:
        raise ClusterRangeExhausted(
            f"{cluster}: all {cluster.num_addresses // size} node ranges of /{mask} are in use",
            "remove nodes that are gone, or use a larger cluster range",
        )
    return IPv4Network((candidate, mask)) if cluster.version == 4 else IPv6Network((candidate, mask))


def _spans(used: Iterable[IPNetwork], cluster: IPNetwork) -> list[tuple[int, int]]:
    """Return first and last address of each used range of the cluster's family, lowest first."""
    return sorted(
        (int(network.network_address), int(network.broadcast_address))
        for network in used
        if network.version == cluster.version and network.overlaps(cluster)
    )
