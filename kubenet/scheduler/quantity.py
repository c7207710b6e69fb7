"""Amounts of resources as the API writes them: ``500m``, ``1.5Gi``, ``2k``, ``1e3``. *Pure.*

Source: Kubernetes API reference, "Quantity" (resource.k8s.io api/resource).
"""

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil

from kubenet.errors import InvalidInput

# Amounts of resources are never negative, so there is no minus. Two digits of exponent go past every suffix.
_GRAMMAR = re.compile(r"\+?(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,2})|([KMGTPE]i|[numkMGTPE]))?", re.ASCII)

_SUFFIXES = {
    **{
        suffix: Fraction(1024) ** power
        for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)
    },
    **{suffix: Fraction(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{suffix: Fraction(1, 1000) ** power for power, suffix in enumerate(("m", "u", "n"), 1)},
}


@lru_cache(maxsize=4096)  # a cluster writes the same few quantities again and again
def parse_quantity(text: str) -> Fraction:
    """Return the exact number that ``text`` stands for. Raises InvalidInput."""
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{text!r}: not a quantity", "write an amount such as 500m, 2, 128Mi or 1.5Gi")
    number, exponent, suffix = match.groups()
    if exponent is not None:
        return Fraction(number) * Fraction(10) ** int(exponent)
    return Fraction(number) * _SUFFIXES.get(suffix, Fraction(1))


def amount(resource: str, written: str | float) -> int:
    """Return how much of ``resource`` was written: thousandths of a core for ``cpu``, else whole units.

    Rounded up, so that a request is never counted as less than it is. Raises InvalidInput.
    """
    exact = parse_quantity(str(written))
    return ceil(exact * 1000) if resource == "cpu" else ceil(exact)
