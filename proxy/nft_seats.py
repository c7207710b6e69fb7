"""Which endpoint has which number in a pool. *Pure.*

The order of a pool's endpoints means nothing to packets, so whoever stays keeps the number: a change is then
a few elements however many endpoints there are.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from kubenet.model.nft import Ruleset
from kubenet.model.nft_fields import Field, width
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

    Newcomers take the seats that fell empty; then the last move up. One may have several seats.
    """
    if not before:
        return tuple(wanted)
    left = Counter(wanted)
    seats: list[bytes | None] = []
    for each in before:
        stays = left[each] > 0
        left[each] -= stays
        seats.append(each if stays else None)
    newcomers = _newcomers(wanted, left)
    empty = [number for number, each in enumerate(seats) if each is None]
    for number, each in zip(empty, newcomers, strict=False):
        seats[number] = each
    seats += newcomers[len(empty) :]
    return _closed_up(seats)


def _newcomers(wanted: Sequence[bytes], left: Counter[bytes]) -> list[bytes]:
    """Return those of ``wanted`` that are ``left`` to be seated, in their order."""
    found = []
    for each in wanted:
        if left[each] > 0:
            left[each] -= 1
            found.append(each)
    return found


def _closed_up(seats: list[bytes | None]) -> Seats:
    taken: list[bytes] = []
    number = 0
    while number < len(seats):
        each = seats[number]
        while each is None and len(seats) > number + 1:
            each = seats.pop()
        if each is not None:
            taken.append(each)
        number += 1
    return tuple(taken)


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
