"""A look-up table by which a client's hash finds its endpoint, and goes on finding it. *Pure.*

Every endpoint has an order of its own in which it would like the table's places, and they take turns to claim
the first that is free. So all have about the same number of places, every node makes the same table, and when
an endpoint comes or goes, few places besides its own change hands: a client stays where it was without
anybody remembering it.

Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache

# Primes, so that every step size reaches all places. A hundred places an endpoint keep shares within 1 %,
# says the paper; here five at least, as each is an element of a map.
SIZES = (251, 1021, 4093)
_PLACES_EACH = 5


def size_for(count: int) -> int:
    """Return how many places a table for ``count`` endpoints has."""
    return next((size for size in SIZES if size >= count * _PLACES_EACH), SIZES[-1])


@lru_cache(maxsize=1024)
def table(endpoints: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return who has which place. One who is named w times claims w places a turn."""
    if not endpoints:
        return ()
    weights = Counter(endpoints)
    size = size_for(len(weights))
    wishes = {each: _wishes(each, size) for each in sorted(weights)}
    places: list[bytes | None] = [None] * size
    left = size
    while left:
        for each, wish in wishes.items():
            for _ in range(min(weights[each], left)):
                places[next(place for place in wish if places[place] is None)] = each
                left -= 1
    return tuple(each for each in places if each is not None)


def _wishes(endpoint: bytes, size: int) -> Iterator[int]:
    digest = hashlib.blake2b(endpoint, digest_size=16).digest()
    offset = int.from_bytes(digest[:8], "big") % size
    skip = int.from_bytes(digest[8:], "big") % (size - 1) + 1
    return ((offset + number * skip) % size for number in range(size))
