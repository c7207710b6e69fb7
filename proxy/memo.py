"""Results that are kept for as long as they are asked for about the same object. *Pure.*

A sync goes over every service; almost none has changed. Values here are frozen, so the same object means the
same result, and comparing identities costs a hundredth of comparing values.
"""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V")


class Memo(Generic[T, V]):
    """Computes each result once in a row of rounds; what a round leaves out is forgotten."""

    def __init__(self, compute: Callable[[T], V]) -> None:
        self._compute = compute
        self._known: dict[int, tuple[T, V]] = {}

    def of(self, things: Iterable[T]) -> tuple[V, ...]:
        """Return the result for each of ``things``, in their order."""
        before = self._known
        after: dict[int, tuple[T, V]] = {}
        results = []
        for thing in things:
            number = id(thing)  # cannot be another's: what is known is held, so that it lives
            known = before.get(number)
            if known is None:
                known = after.get(number) or (thing, self._compute(thing))
            after[number] = known
            results.append(known[1])
        self._known = after
        return tuple(results)
