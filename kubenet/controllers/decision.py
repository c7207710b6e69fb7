"""What every controller returns. *Pure.*"""

from dataclasses import dataclass
from datetime import datetime

from kubenet.model.writes import Write


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write now, and when to look again even if nothing changes."""

    writes: tuple[Write, ...] = ()
    again_s: float | None = None


def sooner(first_s: float | None, second_s: float | None) -> float | None:
    """Return the sooner of two waits; None is never."""
    waits = [wait_s for wait_s in (first_s, second_s) if wait_s is not None]
    return min(waits, default=None)


def moment(timestamp: str | None) -> datetime | None:
    """Return an API timestamp as a time, None for one that is absent or is no timestamp."""
    try:
        return datetime.fromisoformat(timestamp) if timestamp else None
    except ValueError:
        return None


def seconds_since(timestamp: str | None, now: datetime) -> float:
    """Return how long ago ``timestamp`` was; an absent one was infinitely long ago."""
    then = moment(timestamp)
    return (now - then).total_seconds() if then else float("inf")
