"""When a schedule is due: the five fields of cron, their names and short forms, and ``@every``. *Pure.*

Times are those of a wall clock in some zone. One that a zone skips in spring never is; one that it has twice
in autumn is taken once.

Source: crontab(5); Kubernetes documentation, "CronJob" (schedule syntax).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from kubenet.errors import InvalidInput

_SHORT = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([hms])")
DAYS_MOST = 366 * 8  # 29 February comes within eight years, also around 2100


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again after the same time."""

    interval: timedelta


@dataclass(frozen=True, slots=True)
class Times:
    """The values of each field; a day has to be of both kinds, unless both are named: then one is enough."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def has(self, day: date) -> bool:
        """Whether something is due on a day."""
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        meant = (of_month or of_week) if self.either_day else (of_month and of_week)
        return day.month in self.months and meant


def parse(text: str) -> Times | Every:
    """Return a schedule. Raises InvalidInput."""
    words = _SHORT.get(text.strip(), text).split()
    if words[:1] == ["@every"] and len(words) == 2:
        return Every(_interval(words[1]))
    if len(words) != 5:
        raise InvalidInput(f"schedule {text!r}: not five fields", "write minute hour day month weekday")
    minutes, hours, days, months, weekdays = words
    return Times(
        minutes=tuple(sorted(_field(minutes, 0, 59))),
        hours=tuple(sorted(_field(hours, 0, 23))),
        days=_field(days, 1, 31),
        months=_field(months, 1, 12, _MONTHS, 1),
        weekdays=frozenset(each % 7 for each in _field(weekdays, 0, 7, _DAYS)),
        either_day=not days.startswith(("*", "?")) and not weekdays.startswith(("*", "?")),
    )


def _interval(text: str) -> timedelta:
    if not re.fullmatch(rf"({_SPAN.pattern})+", text):
        raise InvalidInput(f"schedule '@every {text}': no duration", "write it as 1h30m")
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _SPAN.findall(text))
    return timedelta(seconds=max(1.0, seconds))


def _field(
    text: str, least: int, most: int, names: list[str] | None = None, first: int = 0
) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        low, dash, high = span.partition("-")
        if span in ("*", "?"):
            start, end = least, most
        else:
            start = _number(low, names, first, text)
            end = _number(high, names, first, text) if dash else (most if slash else start)
        stride = _number(step, None, 0, text) if slash else 1
        if not (least <= start <= end <= most and stride > 0):
            raise InvalidInput(f"schedule field {text!r}: not within {least} to {most}", "see crontab(5)")
        found |= {*range(start, end + 1, stride)}
    return frozenset(found)


def _number(text: str, names: list[str] | None, first: int, field: str) -> int:
    if names and text.lower() in names:
        return names.index(text.lower()) + first
    if not (text.isascii() and text.isdecimal()):
        raise InvalidInput(f"schedule field {field!r}: {text!r} is no number", "see crontab(5)")
    return int(text)


def last_due(schedule: Times | Every, since: datetime, now: datetime, zone: tzinfo) -> datetime | None:
    """Return the last time due after ``since`` and not after ``now``; None if none was."""
    if isinstance(schedule, Every):
        passed = (now - since) // schedule.interval
        return since + passed * schedule.interval if passed > 0 else None
    day, first = now.astimezone(zone).date(), since.astimezone(zone).date()
    while day >= first:
        for moment in reversed([*_moments(schedule, day, zone)]):
            if since < moment <= now:
                return moment
        day -= timedelta(days=1)
    return None


def next_due(schedule: Times | Every, now: datetime, zone: tzinfo, since: datetime) -> datetime | None:
    """Return the first time due after ``now``; None for one that never comes, such as 30 February."""
    if isinstance(schedule, Every):
        return since + ((now - since) // schedule.interval + 1) * schedule.interval
    day = now.astimezone(zone).date()
    for _ in range(DAYS_MOST):
        for moment in _moments(schedule, day, zone):
            if moment > now:
                return moment
        day += timedelta(days=1)
    return None


def _moments(times: Times, day: date, zone: tzinfo) -> Iterator[datetime]:
    """Yield what is due on a day, in UTC."""
    if not times.has(day):
        return
    for hour in times.hours:
        for minute in times.minutes:
            local = datetime.combine(day, time(hour, minute), zone)
            moment = local.astimezone(UTC)
            if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
                yield moment
