"""How much a pod may receive and send, as buckets on the node's side of its link. *Pure.*

What the pod receives, the host's end sends: a bucket there. What the pod sends, the host's end receives, and
that goes through a link of its own (ifb) whose name follows from the host's end, so that DEL needs no state.

The burst is what passes at full speed before the rate counts. Runtimes that know none ask for the largest
number they have, half a gigabyte, behind which nobody ever notices a limit (kubernetes#90838): then a
twentieth of a second at full rate is given. It is never less than one packet of segmentation offload.

Source: Kubernetes, annotations ``kubernetes.io/ingress-bandwidth`` and ``egress-bandwidth``; the CNI
convention ``bandwidth``.
"""

from collections.abc import Iterator, Mapping

from ipam.record import Bandwidth
from kubenet.model.bucket import Bucket

_UNLIMITED_BITS = 2**31 - 1  # what runtimes write for "I do not know", or more
_SMALLEST_BURST_BYTES = 65536  # one packet before the kernel cuts it to the size of the link
_BURST_PARTS = 20  # of what passes in a second
_QUEUE_PARTS = 40  # 25 ms of waiting


def shaper_ifname(host_ifname: str) -> str:
    """Return the name of the link that holds back what the pod sends."""
    return f"b{host_ifname[1:]}"


def buckets(bandwidth: Bandwidth) -> tuple[Bucket | None, Bucket | None]:
    """Return what holds back what the pod receives, and what it sends; None where nothing does."""
    return (
        _bucket(bandwidth.ingress_rate, bandwidth.ingress_burst),
        _bucket(bandwidth.egress_rate, bandwidth.egress_burst),
    )


def unshaped(
    host_ifname: str, bandwidth: Bandwidth, limits: Mapping[str, int], redirected: bool
) -> Iterator[str]:
    """Yield, in words, which limits do not hold; ``limits`` are the bytes a second that links may send."""
    received, sent = buckets(bandwidth)
    if received and limits.get(host_ifname) != received.bytes_per_s:
        yield f"what the pod receives is not held to {bandwidth.ingress_rate} bits a second"
    if sent and not (redirected and limits.get(shaper_ifname(host_ifname)) == sent.bytes_per_s):
        yield f"what the pod sends is not held to {bandwidth.egress_rate} bits a second"


def _bucket(rate: int, burst: int) -> Bucket | None:
    if not rate:
        return None
    bytes_per_s = max(1, rate // 8)
    known = 0 < burst < _UNLIMITED_BITS
    burst_bytes = max(_SMALLEST_BURST_BYTES, burst // 8 if known else bytes_per_s // _BURST_PARTS)
    return Bucket(bytes_per_s, burst_bytes, burst_bytes + bytes_per_s // _QUEUE_PARTS)
