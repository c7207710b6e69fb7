"""Compare what is with what shall be. *Pure.*

Every applier of the project has this shape: observe ``have``, compute ``want``, write ``diff(have, want)`` in
one go or not at all. Law: ``patched(have, diff(have, want)) == want``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Diff(Generic[K, V]):
    """What has to happen to a mapping; the three parts never share a key."""

    added: Mapping[K, V]
    changed: Mapping[K, V]
    removed: Mapping[K, V]  # with the value that goes, so that an applier can name all of it

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def diff(have: Mapping[K, V], want: Mapping[K, V]) -> Diff[K, V]:
    """Return what turns ``have`` into ``want``."""
    return Diff(
        added={key: value for key, value in want.items() if key not in have},
        changed={
            key: value
            for key, value in want.items()
            # The same object needs no look inside, and most of a large state is the same objects.
            if key in have and have[key] is not value and have[key] != value
        },
        removed={key: value for key, value in have.items() if key not in want},
    )


def patched(have: Mapping[K, V], change: Diff[K, V]) -> dict[K, V]:
    """Return ``have`` with ``change`` carried out."""
    kept = {key: value for key, value in have.items() if key not in change.removed}
    return kept | dict(change.added) | dict(change.changed)
