"""What has to happen to an nftables table of ours, and its text for people. *Pure.*

Law: ``patched(have, change_between(have, want))`` holds what ``want`` holds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kubenet.diff import diff
from kubenet.model.nft import Chain, Elements, Ruleset, rule_text
from kubenet.model.nft_fields import Set


@dataclass(frozen=True, slots=True)
class RulesetChange:
    """One transaction. An element that gets another value is in ``elements_out`` and in ``elements_in``."""

    anew: bool = False  # the table is deleted first, with all that is in it
    sets: Mapping[str, Set] = field(default_factory=dict)  # made
    chains: Mapping[str, Chain] = field(default_factory=dict)  # made, or emptied and filled
    elements_out: Mapping[str, Elements] = field(default_factory=dict)
    elements_in: Mapping[str, Elements] = field(default_factory=dict)
    sets_gone: tuple[str, ...] = ()
    chains_gone: tuple[str, ...] = ()
    shapes: Mapping[str, Set] = field(default_factory=dict)  # what the sets with elements look like

    def __bool__(self) -> bool:
        parts = (self.sets, self.chains, self.elements_out, self.elements_in)
        return self.anew or any(parts) or bool(self.sets_gone or self.chains_gone)

    @property
    def written(self) -> int:
        """How many chains and elements it makes or replaces."""
        return len(self.chains) + sum(map(len, self.elements_in.values()))

    @property
    def removed(self) -> int:
        """How many chains and elements it takes away for good."""
        gone = sum(
            len(elements.keys() - self.elements_in.get(name, {}).keys())
            for name, elements in self.elements_out.items()
        )
        return gone + len(self.chains_gone)

    @property
    def element_operations(self) -> int:
        """How many elements the kernel takes out or puts in."""
        return sum(len(e) for part in (self.elements_out, self.elements_in) for e in part.values())


def change_between(have: Ruleset | None, want: Ruleset) -> RulesetChange:
    """Return what turns ``have`` into ``want``; None is no table at all."""
    if have is None or _unlike(have, want):
        anew = have is not None
        elements = _without_empty(want.elements)
        return RulesetChange(anew, want.sets, want.chains, {}, elements, shapes=want.sets)
    sets, chains = diff(have.sets, want.sets), diff(have.chains, want.chains)
    taken: dict[str, Elements] = {}
    put: dict[str, Elements] = {}
    for name in want.sets:
        before, after = have.contents(name), want.contents(name)
        if before == after:
            continue
        change = diff(before, after)
        taken[name] = {**change.removed, **{key: before[key] for key in change.changed}}
        put[name] = {**change.added, **change.changed}
    return RulesetChange(
        False,
        sets.added,
        {**chains.added, **chains.changed},
        _without_empty(taken),
        _without_empty(put),
        tuple(sorted(sets.removed)),
        tuple(sorted(chains.removed)),
        want.sets,
    )


def _unlike(have: Ruleset, want: Ruleset) -> bool:
    """Return whether a set or base chain has another shape: that cannot be changed in place."""
    sets = diff(have.sets, want.sets).changed
    shared = have.chains.keys() & want.chains.keys()
    return bool(sets) or any(have.chains[name].header() != want.chains[name].header() for name in shared)


def _without_empty(elements: Mapping[str, Elements]) -> dict[str, Elements]:
    return {name: each for name, each in elements.items() if each}


def patched(have: Ruleset | None, change: RulesetChange) -> Ruleset:
    """Return ``have`` with ``change`` carried out. Raises KeyError where the kernel would refuse."""
    base = Ruleset() if have is None or change.anew else have
    sets = {**base.sets, **change.sets}
    chains = {**base.chains, **change.chains}
    elements = {name: dict(base.contents(name)) for name in sets}
    for name, gone in change.elements_out.items():
        for key in gone:
            del elements[name][key]
    for name, new in change.elements_in.items():
        if clash := [key for key in new if key in elements[name] and elements[name][key] != new[key]]:
            raise KeyError(f"{name}: {sets[name].element_text(clash[0], new[clash[0]])} is there already")
        elements[name].update(new)
    for name in change.chains_gone:
        del chains[name]
    for name in change.sets_gone:
        del sets[name], elements[name]
    return Ruleset(base.family, sets, chains, elements)


def render(ruleset: Ruleset, table: str) -> str:
    """Return the whole table as text, much as ``nft list table`` prints it; sorted, so that it diffs well."""
    family = "ip" if ruleset.family == 4 else "ip6"
    return "\n".join([f"table {family} {table} {{", *_body(ruleset), "}", ""])


def _body(ruleset: Ruleset) -> Iterator[str]:
    for name in sorted(ruleset.sets):
        kind = ruleset.sets[name]
        yield f"  {'map' if kind.value or kind.verdicts else 'set'} {name} {{"
        elements = ruleset.contents(name)
        yield from (f"    {kind.element_text(key, elements[key])}" for key in sorted(elements))
        yield "  }"
    for name in sorted(ruleset.chains):
        chain = ruleset.chains[name]
        yield f"  chain {name} {{"
        yield from (f"    {line}" for line in (chain.header(), *map(rule_text, chain.rules)) if line)
        yield "  }"
