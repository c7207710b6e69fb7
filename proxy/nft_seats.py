"""Which endpoint has which number in a pool. *Pure.*

The order of a pool's endpoints means nothing to packets, so whoever stays keeps the number: a change is then
a few elements however many endpoints there are.
"""

import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from kubenet.model.nft import Field, Ruleset, width
from proxy import nft_names as n

_NUMBER = struct.Struct("=I")

Seats = tuple[bytes, ...]
"""Endpoints as packed values, by number."""


@dataclass(frozen=True, slots=True)
class TakenSeats:
    """Who sits where in the two pools of a service port."""

    cluster: Seats = ()
    local: Seats = ()


def seated(wanted: Sequence[bytes], before: Seats) -> Seats:
    """Return ``wanted`` in an order that moves as few of ``before`` as can be.

    Newcomers take the seats that fell empty; then the last move up.
    """
    if not before:
        return tuple(wanted)
    old, left = set(before), set(wanted)
    newcomers = [each for each in wanted if each not in old]
    seats = list(before)
    for number, each in enumerate(seats):
        if each not in left and newcomers:
            seats[number] = newcomers.pop(0)
    seats += newcomers
    number = 0
    while number < len(seats):
        if seats[number] in left:
            number += 1
        elif (last := seats.pop()) in left:
            seats[number] = last
    return tuple(seats)


def seats_in(ruleset: Ruleset) -> dict[bytes, TakenSeats]:
    """Return who sits where in a table, by service."""
    found: dict[bytes, dict[int, bytes]] = defaultdict(dict)
    size = width((n.address_field(ruleset.family), Field.PORT))
    for name in filter(n.is_seats, ruleset.sets):
        for key, value in ruleset.contents(name).items():
            found[key[:-4]][_NUMBER.unpack_from(key, len(key) - 4)[0]] = value[-size:]
    return {service: _taken(numbered) for service, numbered in found.items()}


def _taken(numbered: dict[int, bytes]) -> TakenSeats:
    numbers = sorted(numbered)
    return TakenSeats(
        tuple(numbered[each] for each in numbers if each < n.LOCAL_SEATS),
        tuple(numbered[each] for each in numbers if each >= n.LOCAL_SEATS),
    )


def seat_key(service: bytes, number: int) -> bytes:
    """Return the key of a seat."""
    return service + _NUMBER.pack(number)
