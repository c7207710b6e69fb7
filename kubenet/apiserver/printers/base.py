"""What every printer uses: columns, cells, and time in words. *Pure.*

Source: metav1.Table (TableColumnDefinition).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from kubenet.apiserver.tree import strings_at, text_at
from kubenet.model.objects import Json, JsonValue

Cells = Callable[[Json, datetime], "list[JsonValue]"]
NONE = "<none>"
UNKNOWN = "<unknown>"
UNSET = "<unset>"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; ``wide`` ones show with ``-o wide`` only."""

    name: str
    type: str = "string"
    wide: bool = False

    def definition(self) -> Mapping[str, JsonValue]:
        return {
            "name": self.name,
            "type": self.type,
            "format": "name" if self.name == "Name" else "",
            "description": self.name,
            "priority": 1 if self.wide else 0,
        }


@dataclass(frozen=True, slots=True)
class Printer:
    """How one kind is shown; ``cells`` returns one value per column."""

    columns: tuple[Column, ...]
    cells: Cells


def columns(*names: str, wide: tuple[str, ...] = (), numbers: tuple[str, ...] = ()) -> tuple[Column, ...]:
    """Return text columns by name, those in ``numbers`` as integers, those in ``wide`` for wide output."""
    return tuple(Column(name, "integer" if name in numbers else "string", name in wide) for name in names)


def name_of(value: Json) -> str:
    return text_at(value, "metadata", "name")


def age(value: Json, now: datetime) -> str:
    """Return how long ago an object was created."""
    return since(text_at(value, "metadata", "creationTimestamp"), now)


def since(timestamp: str, now: datetime) -> str:
    """Return the time that has passed since a timestamp, ``<unknown>`` if there is none."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return UNKNOWN
    return human_duration(int((now - moment).total_seconds()))


def human_duration(seconds: int) -> str:
    """Return a duration in at most two units: 59s, 2m5s, 15m, 3h4m, 23h, 5d3h, 40d, 2y35d."""
    if seconds < 0:
        return "0s" if seconds >= -1 else "<invalid>"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    steps: tuple[tuple[bool, str], ...] = (
        (seconds < 120, f"{seconds}s"),
        (minutes < 10, _two(minutes, "m", seconds % 60, "s")),
        (minutes < 180, f"{minutes}m"),
        (hours < 8, _two(hours, "h", minutes % 60, "m")),
        (hours < 48, f"{hours}h"),
        (days < 8, _two(days, "d", hours % 24, "h")),
        (days < 365 * 2, f"{days}d"),
        (days < 365 * 8, _two(days // 365, "y", days % 365, "d")),
    )
    return next((text for fits, text in steps if fits), f"{days // 365}y")


def _two(more: int, more_unit: str, less: int, less_unit: str) -> str:
    return f"{more}{more_unit}{less}{less_unit}" if less else f"{more}{more_unit}"


def joined(texts: Iterable[str]) -> str:
    """Return texts with commas between, ``<none>`` if there are none."""
    return ",".join(texts) or NONE


def few(texts: list[str], most: int = 3) -> str:
    """Return the first texts, and how many more there are."""
    if len(texts) <= most:
        return joined(texts)
    return f"{','.join(texts[:most])} + {len(texts) - most} more..."


def labels_text(value: Json, *path: str) -> str:
    """Return a map of labels as ``a=b,c=d``, sorted."""
    return joined(f"{key}={text}" for key, text in sorted(strings_at(value, *path).items()))
