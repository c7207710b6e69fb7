"""What iptables-save prints, compared with what a table shall hold. *Pure.*

The comparison is by text first, since our rules print as the tool prints them, and by meaning where the text
differs: other versions quote, order or round differently. A rule that says what we never say is a stranger's
and is left alone where it stands in a chain of everybody's.

Source: iptables-save(8), iptables-extensions(8).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from kubenet.model.iptables import (
    AddressKind,
    Comment,
    CtState,
    Destination,
    DestinationKind,
    DestinationPort,
    Dnat,
    EveryNth,
    Family,
    FlipMark,
    InInterface,
    InState,
    Jump,
    Marked,
    Masquerade,
    Match,
    OfProtocol,
    OneIn,
    OutInterface,
    PutOnList,
    Reject,
    Rule,
    Rules,
    SeenWithin,
    SetMark,
    Source,
    SourceKind,
    Table,
    TableWrite,
    Target,
    Verdict,
)
from kubenet.model.protocol import Protocol

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED = re.compile(r"\\(.)")
_OPTION = re.compile(r"-[A-Za-z]")
_TARGET = re.compile(r"(?:^| )-[jg] (\S+)")


@dataclass(frozen=True, slots=True)
class SavedTable:
    """One table as it was read: every chain with its rules as text, without ``-A CHAIN``."""

    chains: Mapping[str, Sequence[str]]


def read_save(text: str) -> dict[str, SavedTable]:
    """Return the tables in the output of iptables-save, by name."""
    tables: dict[str, SavedTable] = {}
    chains: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            chains = {}
            tables[line[1:].strip()] = SavedTable(chains)
        elif line.startswith(":"):
            chains.setdefault(line[1:].split(" ", 1)[0], [])
        elif line.startswith("-A "):
            _, chain, *rule = line.split(" ", 2)
            chains.setdefault(chain, []).append("".join(rule).strip())
    return tables


def write_between(
    have: SavedTable | None, want: Table, is_ours: Callable[[str], bool], family: Family = 4
) -> TableWrite:
    """Return what makes ``have`` hold ``want``; it is falsy when nothing has to be done.

    ``is_ours`` says of a chain's name whether the chain goes when it is no longer wanted.
    """
    saved = have.chains if have else {}
    stale = [name for name in saved if is_ours(name) and name not in want.chains]
    kept_busy = _jumped_to(saved, {*stale, *want.chains})
    inserted, withdrawn = _hook_changes(saved, want)
    return TableWrite(
        want.name,
        chains={n: r for n, r in want.chains.items() if n not in saved or not _same(saved[n], r, family)},
        removed=[name for name in stale if name not in kept_busy],
        emptied=[name for name in stale if name in kept_busy and saved[name]],
        inserted=inserted,
        withdrawn=withdrawn,
    )


def _jumped_to(saved: Mapping[str, Sequence[str]], known: set[str]) -> set[str]:
    """Return the chains that rules outside ``known`` chains jump to."""
    strange = (line for name, lines in saved.items() if name not in known for line in lines)
    return {target for line in strange for target in _TARGET.findall(line)}


def _hook_changes(
    saved: Mapping[str, Sequence[str]], want: Table
) -> tuple[list[tuple[str, Rule]], list[tuple[str, Rule]]]:
    inserted: list[tuple[str, Rule]] = []
    withdrawn: list[tuple[str, Rule]] = []
    doors = {rule.target for rules in want.hooks.values() for rule in rules if _opens(rule, want)}
    for chain, rules in sorted(want.hooks.items()):
        present = [rule for rule in map(read_rule, saved.get(chain, ())) if rule]
        # Each is put first, so the last one goes in first.
        inserted += [(chain, rule) for rule in reversed(rules) if rule not in present]
        for rule in dict.fromkeys(present):
            if rule in rules:
                withdrawn += [(chain, rule)] * (present.count(rule) - 1)
            elif rule.target in doors:  # how an older version of ours got there
                withdrawn += [(chain, rule)] * present.count(rule)
    return inserted, withdrawn


def _opens(hook: Rule, want: Table) -> bool:
    return isinstance(hook.target, Jump) and hook.target.chain in want.chains


def _same(lines: Sequence[str], rules: Rules, family: Family) -> bool:
    return len(lines) == len(rules) and all(
        line == rule.text(family) or read_rule(line) == rule for line, rule in zip(lines, rules, strict=True)
    )


def read_rule(line: str) -> Rule | None:
    """Return the rule that ``line`` says (without ``-A CHAIN``), or None if we have no such sentence."""
    matches: list[Match] = []
    target: Target | None = None
    try:
        for clause in _clauses(line):
            if clause[0] in ("-j", "-g"):
                target = _target(clause)
            else:
                _add_match(matches, clause)
        return Rule(tuple(matches), target) if target else None
    except ValueError:
        return None


def _clauses(line: str) -> Iterator[list[str]]:
    """Cut a rule before each option of one letter; an exclamation mark before it stays with it."""
    words = [bare or _ESCAPED.sub(r"\1", quoted) for quoted, bare in _WORD.findall(line)]
    clause: list[str] = []
    for number, word in enumerate(words):
        negation = word == "!" and number + 1 < len(words) and _OPTION.fullmatch(words[number + 1])
        starts = negation or (_OPTION.fullmatch(word) and clause != ["!"])
        if starts and clause:
            yield clause
            clause = []
        clause.append(word)
    if clause:
        yield clause


def _add_match(matches: list[Match], clause: list[str]) -> None:
    match clause:
        case ["-m", name, "--dport", port] if matches and isinstance(matches[-1], OfProtocol):
            protocol = matches.pop()
            if protocol != OfProtocol(Protocol(name.upper())):
                raise ValueError(f"{name} after {protocol}")
            matches.append(DestinationPort(Protocol(name.upper()), int(port)))
        case ["-m", ("tcp" | "udp" | "sctp")]:
            pass  # what some versions add of themselves
        case ["-m", *_]:
            matches.append(_extension(clause))
        case ["!", *positive]:
            matches.append(_option(positive, negated=True))
        case _:
            matches.append(_option(clause, negated=False))


def _option(clause: list[str], *, negated: bool) -> Match:
    match clause:
        case ["-s", network]:
            return Source(ip_network(network), negated)
        case ["-d", network]:
            return Destination(ip_network(network), negated)
        case ["-i", ifname]:
            return InInterface(ifname, negated)
        case ["-o", ifname]:
            return OutInterface(ifname, negated)
        case ["-p", name] if not negated:
            return OfProtocol(Protocol(name.upper()))
    raise ValueError(f"not a match of ours: {clause}")


def _extension(clause: list[str]) -> Match:
    match clause[1:]:
        case ["comment", "--comment", words]:
            return Comment(words)
        case ["conntrack", "--ctstate", states]:
            return InState(frozenset(CtState(state) for state in states.split(",")))
        case ["conntrack", "!", "--ctstate", states]:
            return InState(frozenset(CtState(state) for state in states.split(",")), negated=True)
        case ["mark", *rest]:
            return _marked(rest)
        case ["addrtype", *rest]:
            return _address_kind(rest)
        case ["statistic", "--mode", *rest]:
            return _statistic(rest)
        case ["recent", *rest]:
            return _recent(rest)
    raise ValueError(f"not a match of ours: {clause}")


def _marked(words: list[str]) -> Match:
    match words:
        case ["--mark", value]:
            return Marked(_bits(value))
        case ["!", "--mark", value]:
            return Marked(_bits(value), negated=True)
    raise ValueError(f"not a match of ours: {words}")


def _bits(value: str) -> int:
    """Return what ``0x4000/0x4000`` asks for; a mask that differs is not a sentence of ours."""
    bits, _, mask = value.partition("/")
    if int(bits, 0) != int(mask, 0):
        raise ValueError(f"not a mark of ours: {value}")
    return int(bits, 0)


def _address_kind(words: list[str]) -> Match:
    negated = words[:1] == ["!"]
    match words[negated:]:
        case ["--dst-type", kind]:
            return DestinationKind(AddressKind(kind), negated)
        case ["--src-type", kind]:
            return SourceKind(AddressKind(kind), negated)
    raise ValueError(f"not a match of ours: {words}")


def _statistic(words: list[str]) -> Match:
    match words:
        case ["random", "--probability", share]:
            chance = OneIn(round(1 / float(share)) if float(share) else 0)
            # Half a step of the kernel's 31 bits: what two versions may round differently.
            if abs(1 / chance.share - float(share)) > 2**-31:
                raise ValueError(f"not a share of ours: {share}")
            return chance
        case ["nth", "--every", every] | ["nth", "--every", every, "--packet", "0"]:
            return EveryNth(int(every))
    raise ValueError(f"not a match of ours: {words}")


def _recent(words: list[str]) -> Match:
    match words:
        case ["--set", "--name", name, *rest] if _whole_source(rest):
            return PutOnList(name)
        case ["--rcheck", "--seconds", seconds, "--reap", "--name", name, *rest] if _whole_source(rest):
            return SeenWithin(name, int(seconds))
    raise ValueError(f"not a match of ours: {words}")


def _whole_source(words: list[str]) -> bool:
    match words:
        case [] | ["--rsource"]:
            return True
        case ["--mask", mask, "--rsource"]:
            return int(ip_address(mask)) + 1 == 1 << ip_address(mask).max_prefixlen
    return False


def _target(clause: list[str]) -> Target:
    match clause:
        case ["-j", "DNAT", "--to-destination", where]:
            host, _, port = where.rpartition(":")
            return Dnat(ip_address(host.strip("[]")), int(port))
        case ["-j", "MASQUERADE", *rest] if rest in ([], ["--random-fully"]):
            return Masquerade(random_fully=bool(rest))
        case ["-j", "REJECT"]:
            return Reject()
        case ["-j", "REJECT", "--reject-with", "icmp-port-unreachable" | "icmp6-port-unreachable"]:
            return Reject()
        case ["-j", "MARK", "--set-xmark", value]:
            bits, _, mask = value.partition("/")
            return FlipMark(int(bits, 0)) if int(mask, 0) == 0 else SetMark(_bits(value))
        case ["-j", ("ACCEPT" | "DROP" | "RETURN") as verdict]:
            return Verdict(verdict)
        case ["-j", chain] if chain.upper() != chain or "-" in chain:
            return Jump(chain)  # a name in capitals alone is a target of the kernel's
    raise ValueError(f"not a target of ours: {clause}")
