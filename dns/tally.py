"""Counts of queries and replies, cheap enough for every query. *Pure.*

A count is a list with one number for each way that a query can come. Who answers one kind of query again and
again holds that list and adds to it; nothing is looked up by name for that.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate

UDP, UDP6, TCP, TCP6 = range(4)  # ways that a query comes
WAYS = (("udp", "1"), ("udp", "2"), ("tcp", "1"), ("tcp", "2"))  # as CoreDNS's labels proto and family

MOST_KINDS = 512  # that are counted apart; a client can invent 65,536 types
OTHER_TYPE = 0xFFFF

# CoreDNS's buckets: seconds, and bytes.
DURATION_BUCKETS = tuple(0.00025 * 2**n for n in range(16))
SIZE_BUCKETS = (0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3)


def way_of(client: str, *, stream: bool) -> int:
    """Return how a query of ``client`` came."""
    return (TCP if stream else UDP) + (":" in client)


class Tallies:
    """Replies by type, code and plugin."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, int, str], list[int]] = {}
        self.dropped = 0  # queries without an answer
        self.dnssec_ok = 0

    def of(self, rtype: int, rcode: int, plugin: str) -> list[int]:
        """Return the numbers, by way, to add to."""
        found = self._of.get((rtype, rcode, plugin))
        if found is None:
            if len(self._of) >= MOST_KINDS:
                rtype = OTHER_TYPE
            found = self._of.setdefault((rtype, rcode, plugin), [0] * len(WAYS))
        return found

    def items(self) -> Iterator[tuple[tuple[int, int, str], Sequence[int]]]:
        """Give type, code, plugin and the numbers by way."""
        yield from tuple(self._of.items())


class Histogram:
    """How often a value was at most so much."""

    __slots__ = ("buckets", "counts", "total")

    def __init__(self, buckets: Sequence[float]) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)  # the last one is for what is more than all
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Note ``value``, ``times`` times."""
        self.counts[bisect_left(self.buckets, value)] += times
        self.total += value * times

    def cumulative(self) -> list[int]:
        """Return how many values were at most each bound, and how many there were."""
        return list(accumulate(self.counts))


class Meter:
    """How long answers took, and how big queries and answers were."""

    def __init__(self) -> None:
        self.durations = Histogram(DURATION_BUCKETS)
        self._sizes: dict[tuple[str, str], Counter[int]] = {
            (what, proto): Counter() for what in ("request", "response") for proto in ("udp", "tcp")
        }

    def many(self, proto: str, query_bytes: list[int], reply_bytes: list[int], seconds: float) -> None:
        """Note queries and answers of one batch: each took as long as all of them, at most.

        A Counter adds a list of numbers faster than anything written here could.
        """
        self._sizes["request", proto].update(query_bytes)
        self._sizes["response", proto].update(reply_bytes)
        self.durations.add(seconds, len(reply_bytes))

    def one(self, proto: str, query_bytes: int, reply_bytes: int, seconds: float) -> None:
        """Note one query and its answer."""
        self._sizes["request", proto][query_bytes] += 1
        self._sizes["response", proto][reply_bytes] += 1
        self.durations.add(seconds)

    def sizes(self, what: str, proto: str) -> Histogram:
        """Return the sizes of "request" or "response" over "udp" or "tcp"."""
        found = Histogram(SIZE_BUCKETS)
        for size, times in tuple(self._sizes[what, proto].items()):
            found.add(size, times)
        return found
