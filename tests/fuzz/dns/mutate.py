"""Inputs that are nearly right: what a seed becomes when some of its octets lie."""

import random
import time
from collections.abc import Iterator, Sequence

_TELLING = (0, 1, 0x0C, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF)  # lengths, pointers and signs live here


def mutated(seed: bytes, dice: random.Random) -> bytes:
    """Return ``seed`` after one to eight changes of the kinds that break parsers."""
    octets = bytearray(seed)
    for _ in range(dice.randint(1, 8)):
        at = dice.randrange(len(octets) + 1)
        match dice.randrange(6):
            case 0 if at < len(octets):
                octets[at] = dice.randrange(256)
            case 1 if at < len(octets):
                octets[at] = dice.choice(_TELLING)
            case 2:
                del octets[at : at + dice.randint(1, 12)]
            case 3:
                octets[at:at] = dice.randbytes(dice.randint(1, 12))
            case 4:
                octets[at:at] = octets[dice.randrange(len(octets) + 1) :][: dice.randint(1, 200)]
            case _:
                octets[at : at + 2] = (0xC000 | dice.randrange(len(octets) + 16)).to_bytes(2, "big")
    return bytes(octets[:65535])


def inputs(seeds: Sequence[bytes], seconds: float) -> Iterator[bytes]:
    """Give the seeds, then their descendants, for so many seconds.

    The number that the dice start from is the time; who asserts something shows the input itself.
    """
    yield from seeds
    dice = random.Random(time.time_ns())
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for _ in range(100):
            yield mutated(dice.choice(seeds), dice)
