"""A pool in which an endpoint of weight w has w places. *Pure.*

Whatever chooses one place out of n, by chance or in turn, then chooses endpoints by weight, and no rule has
to know of weights. Turns are spread: of the weights 3 and 1 it is a a b a, not a a a b.

Source: the smooth weighted round robin of nginx (ngx_http_upstream_round_robin.c).
"""

from collections.abc import Sequence
from math import gcd

from proxy.ports import Endpoint

MOST_WEIGHT = 100
MOST_PLACES = 256  # of a pool: each is an element of a map, or a rule of a chain


def places(pool: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Return ``pool`` with each endpoint as often as its weight says; as it is if all have the same.

    Who has none gets nothing, as long as another has some.
    """
    if all(endpoint.weight == 1 for endpoint in pool):
        return pool
    weights = _reduced([endpoint.weight for endpoint in pool])
    total = sum(weights)
    due = [0] * len(pool)
    found = []
    for _ in range(total):
        due = [have + weight for have, weight in zip(due, weights, strict=True)]
        next_ = due.index(max(due))
        due[next_] -= total
        found.append(pool[next_])
    return tuple(found)


def _reduced(weights: Sequence[int]) -> list[int]:
    """Return the smallest whole numbers that say about the same; ones if nobody has any weight."""
    if not any(weights):
        return [1] * len(weights)
    divisor = gcd(*weights)
    small = [weight // divisor for weight in weights]
    total = sum(small)
    if total <= max(MOST_PLACES, len(small)):
        return small
    # Nobody who has weight falls to none.
    return [max(1, weight * MOST_PLACES // total) if weight else 0 for weight in small]
