"""How plugins stand one behind the other: each sees a request and may ask the next one. *Pure.*

A plugin is a function of a request and of the plugin behind it. It answers, or asks on, perhaps something
else, and may change what comes back. What has to be asked upstream comes back as ``Forward``; what a plugin
wants to do with its answer then travels along in ``Forward.then``. So a plugin is written once for answers of
ours and for those that take a while.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from dns.answer import MOST_ALIASES, Answer, Dropped, Forward, Transfer, refuse
from dns.names import WireName
from dns.records import RRset
from dns.wire import Query, Question, Rcode, RType


@dataclass(frozen=True, slots=True)
class Kept:
    """The client's own question reached our names untouched: a reply that is kept for it will do.

    ``decide`` gives the decision where none is kept, or where a plugin wants to change it.
    """

    decide: "Callable[[], Decision]"


DROP = Dropped()
Decision: TypeAlias = Answer | Forward | Dropped | Transfer | Kept


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a query came from, and how."""

    client: str  # an address
    port: int = 0
    stream: bool = False
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What a plugin is asked."""

    question: Question  # as the plugins before this one left it
    query: Query  # as it came
    origin: Origin
    depth: int = 0  # how many aliases led here

    @property
    def client(self) -> str:
        """The address of who asks."""
        return self.origin.client

    @property
    def stream(self) -> bool:
        """Whether it came over TCP, or what lies above that."""
        return self.origin.stream

    @property
    def name(self) -> WireName:
        """The name in lower case."""
        return self.question.name.lower()

    def asking(self, question: Question) -> "Request":
        """Return the request for another question."""
        return replace(self, question=question)


Next: TypeAlias = Callable[[Request], Decision]
Plugin: TypeAlias = Callable[[Request, Next], Decision]


def chained(plugins: Sequence[Plugin], last: Next) -> Next:
    """Return what asks the first of ``plugins``, and so in the end ``last``."""
    serve = last
    for plugin in reversed(plugins):
        serve = _behind(plugin, serve)
    return serve


def named(name: str, plugin: Plugin) -> Plugin:
    """Return the plugin with its name on what it answers itself."""

    def serve(request: Request, behind: Next) -> Decision:
        decision = plugin(request, behind)
        if isinstance(decision, Answer) and not decision.plugin:
            return replace(decision, plugin=name)
        return decision

    return serve


def _behind(plugin: Plugin, behind: Next) -> Next:
    def serve(request: Request) -> Decision:
        return plugin(request, behind)

    return serve


def changed(decision: Decision, change: Callable[[Answer], Decision]) -> Decision:
    """Return ``decision`` with ``change`` made to its answer, now or when it has come."""
    match decision:
        case Answer():
            return change(decision)
        case Forward():
            return replace(decision, then=(*decision.then, _settled(change)))
        case Kept():
            return changed(decision.decide(), change)
        case _:
            return decision


def _settled(
    change: Callable[[Answer], Decision],
) -> Callable[[Answer], Answer | Forward | Dropped | Transfer]:
    """Return the change as one that never leaves a decision to what is kept: another question was asked."""

    def settle(answer: Answer) -> Answer | Forward | Dropped | Transfer:
        return settled(change(answer))

    return settle


def settled(decision: Decision) -> Answer | Forward | Dropped | Transfer:
    """Return the decision itself."""
    while isinstance(decision, Kept):
        decision = decision.decide()
    return decision


def with_aliases(decision: Decision, aliases: tuple[RRset, ...]) -> Decision:
    """Return what is known of an alias's target as the answer for the alias.

    A target that is refused leaves the alias alone, which is what CoreDNS does; one that fails makes the
    whole SERVFAIL, so that the client asks again.
    """

    def prefixed(found: Answer) -> Decision:
        if found.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN, Rcode.SERVFAIL):
            return Answer(Rcode.NOERROR, aliases)
        return replace(found, answers=(*aliases, *found.answers), service=None)

    return changed(decision, prefixed)


def resolved(request: Request, serve: Next, aliases: Iterable[RRset], target: WireName) -> Decision:
    """Return the answer for ``aliases``, of which the last one points to ``target``."""
    aliases = tuple(aliases)
    if request.question.qtype in (RType.CNAME, RType.ANY) or request.depth >= MOST_ALIASES:
        return Answer(Rcode.NOERROR, aliases)
    question = replace(request.question, name=target)
    inner = replace(request, question=question, depth=request.depth + len(aliases))
    return with_aliases(serve(inner), aliases)


def resumed(
    answer: Answer, then: Sequence[Callable[[Answer], Answer | Forward | Dropped | Transfer]]
) -> Answer | Forward | Dropped | Transfer:
    """Return what becomes of an answer that has come, after all that waited for it."""
    decision: Answer | Forward | Dropped | Transfer = answer
    for index, change in enumerate(then):
        if isinstance(decision, Forward):
            return replace(decision, then=(*decision.then, *then[index:]))
        if isinstance(decision, Dropped | Transfer):
            return decision
        decision = change(decision)
    return decision


def failing(why: Rcode) -> Answer:
    """Return the answer of a plugin that cannot do what it was told."""
    return refuse(why)
