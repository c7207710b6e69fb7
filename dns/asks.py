"""What is asked upstream. *Pure.*

Most questions are plain: nothing but a question and some flags. Their keys are octets, so that neither to
look for an equal one nor to ask takes more than those.
"""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from dns.wire import AD, CD, RD, Query, Question

WaiterT = TypeVar("WaiterT")
WaiterT_co = TypeVar("WaiterT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a question upstream is made of; clients with equal ones share it."""

    question: Question  # the name in lower case
    flags: int  # RD, AD, CD
    dnssec_ok: bool | None  # None: without EDNS, as the client
    options: bytes = b""  # of EDNS


def ask_of(query: Query, question: Question, options: bytes = b"") -> Ask:
    """Return what to ask upstream for a client's ``query``; ``question`` may be that of an alias's target."""
    lowered = Question(question.name.lower(), question.qtype, question.qclass)
    return Ask(lowered, query.flags & (RD | AD | CD), query.edns.dnssec_ok if query.edns else None, options)


class Passer(Protocol[WaiterT_co]):
    """Who waits for the answer to a question in its ordinary form."""

    @property
    def began(self) -> float:
        """When it was asked, in the loop's time."""
        ...

    def widened(self, ask: Ask) -> WaiterT_co:
        """Return the waiter who waits instead once the question is no longer an ordinary one."""
        ...


class Plain(Generic[WaiterT]):
    """A question under way in the ordinary way: one try over UDP, without options, nobody else asked yet."""

    __slots__ = ("at", "attempt", "id", "key", "passers", "question", "server")

    def __init__(self, key: bytes, attempt: int, server: int, passer: Passer[WaiterT], at: float) -> None:
        self.key = key
        self.attempt = attempt
        self.server = server
        self.passers = [passer]
        self.at = at
        self.id = b""
        self.question = b""  # as sent, in its case


def form_of(flags: int, dnssec_ok: bool | None) -> bytes:
    """Return what comes after the question in the key of a plain question."""
    return bytes((flags >> 8, flags & 0xFF, 0 if dnssec_ok is None else 1 + dnssec_ok))


FORM_BYTES = 3  # what ``form_of`` gives


def ask_of_key(key: bytes) -> Ask:
    """Return what a plain question asks."""
    high, low, dnssec_ok = key[-FORM_BYTES:]
    return Ask(question_of(key), high << 8 | low, dnssec_ok == 2 if dnssec_ok else None)


def question_of(key: bytes) -> Question:
    """Return the question of a plain question's key."""
    at = len(key) - FORM_BYTES - 4
    return Question(
        key[:at], int.from_bytes(key[at : at + 2], "big"), int.from_bytes(key[at + 2 : at + 4], "big")
    )


def key_of(ask: Ask) -> bytes:
    """Return the key of a question as a plain one."""
    return ask.question.wire + form_of(ask.flags, ask.dnssec_ok)
