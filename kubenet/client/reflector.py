"""List, then watch, for ever: what to ask the server next, decided without I/O. *Pure.*

The machine is told what happened and answers two questions: what to do next (``action``, with the wait before
it) and what this means for the cache (the return value of ``receive``). Time and chance are arguments.

    List ──page──> List(continue) ──last page──> Watch ──event──> Watch
     ^                   │410: whole list              │ end, reset, 429, 5xx: Watch again, from the last
     │<──────────────────┘                             │ resourceVersion seen
     └────────────────────────410, other 4xx, garbage twice────┘

Rule 1: a watch starts at the list's resourceVersion, never at that of an item: between two items anything may
have happened. Rule 2: the resourceVersion moves only by what was received whole, so a cut loses and repeats
nothing. Rule 3: the server keeps only minutes of history; 410 means "list again", and a list *replaces*, so
that what vanished meanwhile is deleted. Rule 4: a failure is never answered at once: all clients would answer
together. Bookmarks are asked for: they keep the resourceVersion of a quiet kind young enough to resume from.

Source: Kubernetes API concepts, "Efficient detection of changes"; client-go tools/cache (Reflector).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeAlias

from kubenet.client.packing import Listed
from kubenet.model.objects import ObjectT

PAGE_SIZE = 500
# client-go's figures: 0.8 s doubling to 30 s, each stretched by up to 100 % so that clients drift apart.
BACKOFF_FIRST_S, BACKOFF_MOST_S, BACKOFF_RESET_S = 0.8, 30.0, 120.0
WATCH_LEAST_S = 300  # the server ends a watch after 5 to 10 minutes, so that clients spread over its replicas
SHORT_WATCH_S = 1.0  # a watch that ends sooner, having brought nothing, counts as a failure


@dataclass(frozen=True, slots=True)
class List:
    """Ask for one page; ``limit`` 0 asks for everything at once."""

    delay_s: float
    limit: int = PAGE_SIZE
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """Ask for every change after ``resource_version``."""

    delay_s: float
    resource_version: str
    timeout_s: int


Action: TypeAlias = List | Watch


@dataclass(frozen=True, slots=True)
class Page(Generic[ObjectT]):
    """Input: a list reply."""

    items: "Sequence[Listed[ObjectT]]"
    resource_version: str
    continue_token: str = ""


class EventKind(Enum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class Event(Generic[ObjectT]):
    """Input: a watch event; a bookmark has a resourceVersion only."""

    kind: EventKind
    resource_version: str
    object: ObjectT | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Input: a status of 400 or more, or the same as an ERROR event inside the stream."""

    status: int
    retry_after_s: float | None = None
    version_too_new: bool = False  # the server has never been at the resourceVersion we named


@dataclass(frozen=True, slots=True)
class Ended:
    """Input: the server ended the stream in good order."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Input: no connection, a reset, or silence for too long."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """Input: bytes that are no list and no event."""


Input: TypeAlias = "Page[ObjectT] | Event[ObjectT] | Refused | Ended | Broken | Garbage"


@dataclass(frozen=True, slots=True)
class Replace(Generic[ObjectT]):
    """Output: the cache shall hold exactly these."""

    objects: "Sequence[Listed[ObjectT]]"
    resource_version: str


@dataclass(frozen=True, slots=True)
class Put(Generic[ObjectT]):
    """Output: this object is new or has changed."""

    object: ObjectT


@dataclass(frozen=True, slots=True)
class Remove(Generic[ObjectT]):
    """Output: this object is gone; here is its last state."""

    object: ObjectT


Update: TypeAlias = "Replace[ObjectT] | Put[ObjectT] | Remove[ObjectT]"


class Backoff:
    """Waits that double while failures follow each other, and start anew after a quiet time."""

    def __init__(self) -> None:
        self._next_s = BACKOFF_FIRST_S
        self._last_failure_s: float | None = None

    def delay_s(self, now_s: float, jitter: float) -> float:
        """Return how long to wait after a failure; ``jitter`` is in [0, 1)."""
        if self._last_failure_s is not None and now_s - self._last_failure_s > BACKOFF_RESET_S:
            self._next_s = BACKOFF_FIRST_S
        self._last_failure_s = now_s
        delay_s, self._next_s = self._next_s, min(self._next_s * 2, BACKOFF_MOST_S)
        return min(delay_s * (1 + jitter), BACKOFF_MOST_S)


class Reflector(Generic[ObjectT]):
    """The machine. It starts by listing."""

    def __init__(self) -> None:
        self.action: Action = List(delay_s=0.0)
        self.resource_version = ""
        self._pages: list[Listed[ObjectT]] = []
        self._backoff = Backoff()
        self._began_s = 0.0  # when the present watch was to start
        self._progressed = False  # whether the present watch has brought anything
        self._garbage_in_a_row = 0

    def receive(self, what: "Input[ObjectT]", now_s: float, jitter: float) -> "Update[ObjectT] | None":
        """Take in what happened, set ``action``, and return what it means for the cache."""
        if isinstance(self.action, List):
            return self._while_listing(what, self.action, now_s, jitter)
        return self._while_watching(what, now_s, jitter)

    def _while_listing(
        self, what: "Input[ObjectT]", asked: List, now_s: float, jitter: float
    ) -> "Replace[ObjectT] | None":
        match what:
            case Page():
                return self._on_page(what, now_s, jitter)
            case Refused():
                # A page that is no longer kept (410): pages would meet the same fate, so ask for all at once.
                limit = 0 if what.status == 410 and asked.continue_token else PAGE_SIZE
                self._list(now_s, jitter, limit, what.retry_after_s)
            case Broken() | Garbage():
                self._list(now_s, jitter)
            case _:
                raise RuntimeError(f"{type(what).__name__} while listing")
        return None

    def _while_watching(
        self, what: "Input[ObjectT]", now_s: float, jitter: float
    ) -> "Update[ObjectT] | None":
        match what:
            case Event():
                return self._on_event(what)
            case Refused():
                self._on_refused_watch(what, now_s, jitter)
            case Ended():
                self._on_end(now_s, jitter)
            case Broken():
                self._watch(now_s, jitter, self._backoff.delay_s(now_s, jitter))
            case Garbage():
                self._on_garbage(now_s, jitter)
            case _:
                raise RuntimeError(f"{type(what).__name__} while watching")
        return None

    def _on_event(self, event: "Event[ObjectT]") -> "Update[ObjectT] | None":
        self.resource_version = event.resource_version
        self._progressed = True
        self._garbage_in_a_row = 0
        if event.object is None:
            return None
        return Remove(event.object) if event.kind is EventKind.DELETED else Put(event.object)

    def _on_page(self, page: "Page[ObjectT]", now_s: float, jitter: float) -> "Replace[ObjectT] | None":
        self._pages.extend(page.items)
        if page.continue_token:
            self.action = List(0.0, PAGE_SIZE, page.continue_token)
            return None
        objects, self._pages = self._pages, []
        self.resource_version = page.resource_version
        self._garbage_in_a_row = 0
        self._watch(now_s, jitter, delay_s=0.0)
        return Replace(objects, page.resource_version)

    def _on_refused_watch(self, refusal: Refused, now_s: float, jitter: float) -> None:
        passing = refusal.status >= 500 or refusal.status in (401, 403, 408, 429)
        if refusal.version_too_new or not passing:
            # 410 Gone, or a resourceVersion that means nothing to the server: only a list gives a good one.
            self._list(now_s, jitter, PAGE_SIZE, refusal.retry_after_s)
            return
        delay_s = self._backoff.delay_s(now_s, jitter)
        self._watch(now_s, jitter, max(delay_s, refusal.retry_after_s or 0.0))

    def _on_end(self, now_s: float, jitter: float) -> None:
        worthy = self._progressed or now_s - self._began_s >= SHORT_WATCH_S
        self._watch(now_s, jitter, 0.0 if worthy else self._backoff.delay_s(now_s, jitter))

    def _on_garbage(self, now_s: float, jitter: float) -> None:
        """Once may be a broken connection; twice at the same place is an event that we must step over."""
        self._garbage_in_a_row += 1
        if self._garbage_in_a_row > 1:
            self._list(now_s, jitter)
        else:
            self._watch(now_s, jitter, self._backoff.delay_s(now_s, jitter))

    def _list(
        self, now_s: float, jitter: float, limit: int = PAGE_SIZE, retry_after_s: float | None = None
    ) -> None:
        self._pages = []
        delay_s = self._backoff.delay_s(now_s, jitter)
        self.action = List(max(delay_s, retry_after_s or 0.0), limit)

    def _watch(self, now_s: float, jitter: float, delay_s: float) -> None:
        self._progressed = False
        self._began_s = now_s + delay_s
        timeout_s = int(WATCH_LEAST_S * (1 + jitter))
        self.action = Watch(delay_s, self.resource_version, timeout_s)
