"""What a fault is: how to do it, how to undo it, and how to tell whether it is there. *Pure.*

A fault never runs a shell and never holds free text for one: it gives ``Step`` values (a program with its
arguments in one place, a daemon to stop, an object to change), and reads what programs print. What it needs
for undoing is read before anything is done (``before``), so a fault can be taken back in another process.

``cause`` is the question "is it still broken?". It asks for the state that matters, not for the way it was
repaired: any repair that brings that state back counts.
"""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

# A JSON object, as it stands in an exercise and goes to the API server.
Tree: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Run:
    """A program in a place (``node-1``, ``wire``, ``pod/front-1``)."""

    place: str
    argv: tuple[str, ...]
    stdin: str = ""
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A kernel setting of a place; read it with no value."""

    place: str
    key: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Switch:
    """A daemon to start or stop; ``list`` asks for its state."""

    verb: Literal["start", "stop", "list"]
    daemon: str


@dataclass(frozen=True, slots=True)
class Request:
    """An API request; a missing object answers with an empty text."""

    method: str
    path: str
    body: Tree | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file of the lab, by its name there (``node-1:net.d/x``, ``pod/front-1:resolv.conf``).

    Reading has no text; a text of None removes it.
    """

    path: str
    text: str | None = None
    write: bool = False


Step: TypeAlias = Run | Sysctl | Switch | Request | File


@dataclass(frozen=True, slots=True)
class Cause:
    """A question about the state: the fault is there if the answer matches (or does not, if ``unless``)."""

    ask: Step
    pattern: str
    unless: bool = False

    def present(self, answer: str) -> bool:
        """Whether ``answer`` says that the fault is there."""
        return (re.search(self.pattern, answer) is not None) != self.unless


class Fault(msgspec.Struct, frozen=True, tag_field="kind", forbid_unknown_fields=True):
    """One thing that is broken. Its text fields are filled with the names of the cast first."""

    def before(self) -> tuple[Step, ...]:
        """Return what to read before; the answers are given to ``do`` and ``undo``."""
        return ()

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        """Return how to break it."""
        raise NotImplementedError

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        """Return how to take it back."""
        raise NotImplementedError

    def cause(self) -> Cause | None:
        """Return how to see it; None when it leaves nothing that must be repaired."""
        raise NotImplementedError
