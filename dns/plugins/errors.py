"""``errors``: what went wrong is told; many errors of a kind as one line. *Pure*: the time comes in.

Source: manual page of the plugin errors of CoreDNS.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dns.corefile import Directive
from dns.plugins.values import Consolidation
from dns.settings import Block
from dns.words import duration_s, pattern_of, unknown_option

LEVELS = ("debug", "info", "warning", "error")


def read_errors(block: Block, directive: Directive) -> Block:
    """Return the block that tells its errors. Raises InvalidInput."""
    found: list[Consolidation] = []
    for option in directive.options:
        match option.name:
            case "consolidate":
                found.append(_consolidation(option))
            case "stacktrace" | "panicRecoveryStacktrace" | "show_first":
                pass  # a bug is always told with its stack
            case _:
                raise unknown_option(option, "errors", ("consolidate", "stacktrace"))
    return replace(block, errors=True, consolidations=tuple(found))


def _consolidation(option: Directive) -> Consolidation:
    args = tuple(word for word in option.args if word != "show_first")
    if len(args) not in (2, 3):
        raise option.wrong("needs a duration, a pattern and perhaps a level")
    pattern = pattern_of(args[1])
    level = args[2] if len(args) == 3 else "error"
    if level not in LEVELS:
        raise option.wrong(f"{level!r} is not one of {', '.join(LEVELS)}")
    return Consolidation(duration_s(args[0]), pattern, level)


@dataclass(frozen=True, slots=True)
class Line:
    """What is to be logged."""

    level: str
    text: str


class ErrorLines:
    """Errors as they come, and the lines that tell them."""

    def __init__(self, rules: Sequence[Consolidation]) -> None:
        self._rules = [(re.compile(rule.pattern), rule) for rule in rules]
        self._counts: dict[int, int] = {}
        self._due: dict[int, float] = {}

    @property
    def next_due(self) -> float | None:
        """When ``due`` has something to tell, None if nothing waits."""
        return min(self._due.values(), default=None)

    def note(self, text: str, now: float) -> Line | None:
        """Return the line for an error, None if it is told later together with others of its kind."""
        for number, (pattern, rule) in enumerate(self._rules):
            if pattern.search(text):
                self._counts[number] = self._counts.get(number, 0) + 1
                self._due.setdefault(number, now + rule.every_s)
                return None
        return Line("error", text)

    def due(self, now: float) -> Iterator[Line]:
        """Give the lines for what has waited long enough."""
        for number in [number for number, at in self._due.items() if at <= now]:
            del self._due[number]
            rule = self._rules[number][1]
            count = self._counts.pop(number)
            yield Line(rule.level, f"{count} errors like '{rule.pattern}' occurred in last {rule.every_s:g}s")
