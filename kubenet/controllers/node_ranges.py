"""Which part of the cluster's pod ranges each node gets, once, one of each family. *Pure.*

Source: Kubernetes reference, kube-controller-manager (``--allocate-node-cidrs``, ``--node-cidr-mask-size``).
"""

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network

from ipam.node_cidrs import ClusterRangeExhausted, allocate
from kubenet.model.links import IPNetwork
from kubenet.model.objects import Json, Node
from kubenet.model.resources import NODES
from kubenet.model.writes import Patch


def decide(nodes: Iterable[Node], ranges: Sequence[tuple[IPNetwork, int]]) -> Iterator[Patch]:
    """Yield what gives each node without ranges its part of every range, in the order of ``nodes``.

    ``ranges`` holds each cluster range with the prefix length of a node's part, the primary family first.
    When one is used up, those that come later get nothing: half a dual stack would be none.
    """
    found = list(nodes)
    used = [ip_network(cidr) for node in found for cidr in node.spec.pod_cidrs]
    for node in found:
        if node.spec.pod_cidrs or node.metadata.deletion_timestamp is not None:
            continue
        try:
            given = [allocate(used, cluster, mask) for cluster, mask in ranges]
        except ClusterRangeExhausted:
            return  # the node stays NotReady, and its agent says what it waits for
        used += given
        cidrs = [str(cidr) for cidr in given]
        # No version is named: the server never lets a range change once given, which is guard enough.
        spec: Json = {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)}
        yield Patch(NODES, "", node.metadata.name, {"spec": spec})
