"""A server that misbehaves on purpose: for tests of clients, and for exercises.

Each piece of a watch, and each request, is spoilt with a probability: the stream is cut, breaks off in the
middle of a line, repeats itself, says that its place is gone, or falls silent and is cut later; a request is
refused for now, or fails. What is stored is never wrong.
"""

import asyncio
import random
from dataclasses import dataclass, fields

from aiohttp import web

from kubenet.apiserver.gate import too_many
from kubenet.apiserver.status import StatusError, expired, internal, unavailable
from kubenet.apiserver.watch import error_line
from kubenet.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """How likely each fault is, from 0 to 1; ``silence_s`` is how long a silent stream is held."""

    cut: float = 0.0
    half: float = 0.0
    duplicate: float = 0.0
    gone: float = 0.0
    silence: float = 0.0
    refuse: float = 0.0
    silence_s: float = 5.0
    seed: int = 0


def parse_misbehaviour(text: str) -> Misbehaviour:
    """Return what ``cut=0.1,refuse=0.05`` means. Raises InvalidInput."""
    known = {field.name for field in fields(Misbehaviour)}
    given: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            raise InvalidInput(
                f"--misbehave {part}: no such fault", f"choose from {', '.join(sorted(known))}"
            )
        try:
            given[name] = float(value)
        except ValueError:
            raise InvalidInput(f"--misbehave {part}: not a number") from None
        if given[name] < 0 or (given[name] > 1 and name not in ("seed", "silence_s")):
            raise InvalidInput(f"--misbehave {part}: not a probability")
    seed = int(given.pop("seed", 0))
    return Misbehaviour(**given, seed=seed)


class Mischief:
    """Does what a Misbehaviour says."""

    def __init__(self, rule: Misbehaviour) -> None:
        self._rule = rule
        self._random = random.Random(rule.seed)

    def _happens(self, likely: float) -> bool:
        return likely > 0 and self._random.random() < likely

    def request(self) -> None:
        """Spoil a request. Raises StatusError (429, 500, 503)."""
        if self._happens(self._rule.refuse):
            refusals: list[StatusError] = [too_many(1), internal("on purpose"), unavailable("on purpose")]
            raise self._random.choice(refusals)

    async def write(self, response: web.StreamResponse, chunk: bytes) -> bool:
        """Write a piece of a watch, spoilt or not; return whether the stream goes on.

        Raises ConnectionError where the stream is to be cut.
        """
        rule = self._rule
        if self._happens(rule.silence):
            await asyncio.sleep(rule.silence_s)
            raise ConnectionError("silent on purpose")
        if self._happens(rule.cut):
            raise ConnectionError("cut on purpose")
        if self._happens(rule.half):
            await response.write(chunk[: len(chunk) // 2])
            raise ConnectionError("broken off on purpose")
        if self._happens(rule.gone):
            await response.write(error_line(expired("gone on purpose")))
            return False
        await response.write(chunk)
        if self._happens(rule.duplicate):
            await response.write(chunk)
        return True
