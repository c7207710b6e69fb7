"""The legacy iptables interface through python-iptables: a few rules read, and put back where they miss.

python-iptables is quick where iptables-legacy is slow (a packet counter, six jump rules: no program, no text
of the whole table) and dangerous where that is safe: it takes no lock, so that of three who write at once
every fifth rule is lost, and it keeps one view of a table for the whole process, whatever the namespace. So
here it is used inside the namespace, under the lock of iptables itself, with a view read anew each time, and
only for what is listed below. Nothing is programmed with it. It knows the legacy interface alone, and loading
it makes the legacy tables; so it is loaded only where those are in use already.

Source: python-iptables 1.2; iptables-legacy(8), option --wait; flock(2).
"""

import fcntl
import importlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any, Literal

from kubenet.errors import KubenetError, ProgramMissing, TimedOut
from kubenet.kernel.iptables import lock_path
from kubenet.kernel.netns import NetNs
from kubenet.model.iptables import Comment, InState, Jump, Rule

Family = Literal[4, 6]
_ANYWHERE = {"0.0.0.0/0.0.0.0", "::/0"}  # as the package spells it
Jumps = Mapping[str, Sequence[Rule]]
"""The rules that built-in chains begin with; each jumps."""

LOCK_WAIT_S = 5.0  # a mend that comes late comes with the next look
_LOCK_POLL_S = 0.02  # flock(2) has no timeout
# One view of a table for the whole process: two threads must not take turns in it.
_one_at_a_time = threading.Lock()


def load() -> ModuleType:
    """Return the package. Raises ProgramMissing, which says what is lacking."""
    try:
        return importlib.import_module("iptc")
    except Exception as error:
        raise ProgramMissing(
            f"python-iptables cannot be used: {type(error).__name__}: {error}",
            "pip install 'kubenet[legacy]'",
        ) from error


@contextmanager
def xtables_lock(wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the lock that iptables-legacy takes. Raises TimedOut when somebody else keeps it."""
    deadline_s = time.monotonic() + wait_s
    fd = os.open(lock_path(), os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline_s:
                    raise TimedOut(f"{lock_path()}: held by somebody else for {wait_s:g} s") from None
            time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(fd)  # and the lock goes with it


class LegacyTables:
    """The legacy tables of one namespace and family. Calls block. Raises KubenetError throughout."""

    def __init__(self, netns: NetNs | None, family: Family) -> None:
        self._netns = netns
        self._family = family
        self._iptc = load()

    def packets(self, table: str, chain: str) -> list[int]:
        """Return how many packets each rule of a chain has taken; nothing without the chain."""
        with self._opened(table) as opened:
            if not opened.is_chain(chain):
                return []
            return [int(rule.get_counters()[0]) for rule in self._chain(opened, chain).rules]

    def missing(self, table: str, wanted: Jumps) -> list[tuple[str, Rule]]:
        """Return the rules of ``wanted`` that are not in their chains, though what they jump to is there."""
        with self._opened(table) as opened:
            return self._missing(opened, wanted)

    def mend(self, table: str, wanted: Jumps) -> list[tuple[str, Rule]]:
        """Put the rules that are missing before all others; return them. One write, or none."""
        with xtables_lock(), self._opened(table) as opened:
            missing = self._missing(opened, wanted)
            for chain, rule in reversed(missing):
                self._chain(opened, chain).insert_rule(self._rule(rule))
            if missing:
                opened.commit()
        return missing

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        """Yield a fresh view of a table; errors of the package become ours."""
        kind = self._iptc.Table if self._family == 4 else self._iptc.Table6
        with _one_at_a_time, self._netns.entered() if self._netns else nullcontext():
            try:
                table = kind(name, autocommit=False)
                table.autocommit = False  # the package hands out the table that it made first
                table.refresh()
                yield table
            except (self._iptc.IPTCError, self._iptc.XTablesError, OSError) as error:
                raise KubenetError(f"legacy table {name}: {error}", "iptables-legacy-save") from error

    def _chain(self, table: Any, name: str) -> Any:
        return self._iptc.Chain(table, name)

    def _missing(self, table: Any, wanted: Jumps) -> list[tuple[str, Rule]]:
        missing = []
        for chain, rules in wanted.items():
            have = [_said(rule) for rule in self._chain(table, chain).rules]
            missing += [
                (chain, rule)
                for rule in rules
                if (wish := _wish(rule)) not in have and table.is_chain(wish[0])
            ]
        return missing

    def _rule(self, wanted: Rule) -> Any:
        rule = self._iptc.Rule() if self._family == 4 else self._iptc.Rule6()
        for match in wanted.matches:
            if isinstance(match, Comment):
                rule.create_match("comment").comment = match.words
            elif isinstance(match, InState):
                rule.create_match("conntrack").ctstate = _states(match)
        rule.target = self._iptc.Target(rule, _wish(wanted)[0])
        return rule


_Words = tuple[str, str, str]
"""Where a rule jumps to, its comment, its states."""


def _wish(rule: Rule) -> _Words:
    """Return what tells a jump rule from others. Raises ValueError for one that says more."""
    comment = state = ""
    for match in rule.matches:
        match match:
            case Comment(words):
                comment = words
            case InState(negated=False):
                state = _states(match)
            case _:
                raise ValueError(f"{rule.text()}: no jump rule of ours")
    if not isinstance(rule.target, Jump):
        raise ValueError(f"{rule.text()}: does not jump")  # noqa: TRY004 - the same kind of mistake
    return rule.target.chain, comment, state


def _states(match: InState) -> str:
    return ",".join(sorted(state.value for state in match.states))


def _said(rule: Any) -> _Words:
    found = {match.name: match.get_all_parameters() for match in rule.matches}
    narrowed = rule.in_interface or rule.out_interface or not {rule.src, rule.dst} <= _ANYWHERE
    if narrowed or rule.protocol != "ip" or found.keys() - {"comment", "conntrack"}:
        return "", "", ""  # it takes fewer packets than ours do
    (comment,) = found.get("comment", {}).get("comment", [""])
    (states,) = found.get("conntrack", {}).get("ctstate", [""])
    return rule.target.name, comment, ",".join(sorted(states.split(",")))
