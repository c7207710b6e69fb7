"""Make the kernel's iptables hold what we want, writing no more than differs.

What was last applied is remembered, so that a change is written as its own chains and an unchanged state
starts no process at all. A chain that is not written keeps its counters: a service's round robin goes on
where it was whatever happens to other services (with the nft flavour; the legacy one replaces a table whole,
and there the kernel starts all of them again).

When the kernel's state is not known (at the start, after a refusal, after drift) it is read first, and again
only what differs is written. So a restart finds everything in place and touches nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Protocol

from kubenet.diff import diff
from kubenet.errors import KubenetError
from kubenet.kernel import iptables
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft_watch import TableWatch, Touched
from kubenet.model.flavour import Flavour
from kubenet.model.iptables import Family, Jump, Rule, Table, TableWrite, render_restore
from kubenet.model.iptables_save import SavedTable, read_rule, read_save, write_between
from proxy.backend import Applied, StateUnknown
from proxy.compile_iptables import FORWARD, ChainChange, Compiler, is_own_chain, is_service_chain
from proxy.policy import ServingPort
from proxy.ports import NodeNetwork, ServicePortName

_BUILT_IN = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


class Iptables(Protocol):
    """The two programs, for one namespace and family."""

    def save(self, table: str) -> str:
        """Return a table as iptables-save prints it. Raises KubenetError."""
        ...

    def restore(self, text: str) -> None:
        """Load ``text`` beside what is there, each table as a whole or not. Raises KubenetError."""
        ...

    def packets(self, table: str, chain: str) -> int:
        """Return how many packets the first rule of a chain has taken. Raises KubenetError."""
        ...

    def heard(self) -> bool:
        """Return whether somebody else may have changed rules of ours since it was last asked."""
        ...

    @property
    def disturbed(self) -> bool:
        """Whether ``heard`` is known to be true already."""
        ...

    def fileno(self) -> int:
        """Return what is readable when there may be something to hear; -1 where nothing ever is."""
        ...

    def close(self) -> None:
        """Hear no more; the rules stay."""
        ...


class KernelIptables:
    """The real ones."""

    def __init__(self, netns: NetNs | None, family: Family, flavour: Flavour | None = None) -> None:
        self._netns = netns
        self._family: Family = family
        self.flavour = flavour  # None: whatever the host's own iptables programs
        self._watch: TableWatch | None = None
        self._watched = False  # whether it was asked for; a kernel without nf_tables has none

    def save(self, table: str) -> str:
        return iptables.save(self._netns, table, family=self._family, flavour=self.flavour)

    def restore(self, text: str) -> None:
        watch = self._ears()
        with watch.own_writes(text.count("\nCOMMIT")) if watch else nullcontext():
            iptables.restore(self._netns, text, family=self._family, flavour=self.flavour)

    def packets(self, table: str, chain: str) -> int:
        return iptables.packets_of_first_rule(
            self._netns, table, chain, family=self._family, flavour=self.flavour
        )

    def heard(self) -> bool:
        watch = self._ears()
        return watch is not None and watch.heard()

    @property
    def disturbed(self) -> bool:
        return self._watch is not None and self._watch.disturbed

    def fileno(self) -> int:
        watch = self._ears()
        return watch.fileno() if watch else -1

    def close(self) -> None:
        if self._watch:
            self._watch.close()

    def _ears(self) -> TableWatch | None:
        if not self._watched and self.flavour is not Flavour.LEGACY:
            self._watched = True
            with suppress(OSError):
                self._watch = TableWatch(self._netns, self._family, concerns_us)
        return self._watch


def concerns_us(touched: Touched) -> bool:
    """Return whether a chain of ours, or what leads there, is touched; others may add theirs. *Pure.*"""
    if touched.table not in ("nat", "filter"):
        return False
    return is_own_chain(touched.chain) or (touched.gone and touched.chain in ("", *_BUILT_IN))


class IptablesBackend:
    """The iptables way of ``proxy.backend.Backend``."""

    def __init__(self, programs: Iptables, network: NodeNetwork) -> None:
        self.programs = programs
        self._network = network
        self._compiler = Compiler(network)
        self._have: Mapping[str, Table] | None = None  # None: unknown
        self._counts: Mapping[str, int] = {}  # rules by table

    def fileno(self) -> int:
        """Return what is readable when somebody wrote to a table, with the nft flavour."""
        return self.programs.fileno()

    @property
    def disturbed(self) -> bool:
        """Whether somebody else wrote to our rules while we did; the next ``apply`` compares all of them."""
        return self.programs.disturbed

    def close(self) -> None:
        """Let go of the kernel; the rules stay as they are."""
        self.programs.close()

    def apply(self, serving: Sequence[ServingPort]) -> Applied:
        """See ``proxy.backend.Backend``."""
        if self.programs.heard():
            self._have = None
        return self._apply_tables(self._compiler.tables(serving))

    def apply_changed(self, changed: Mapping[ServicePortName, ServingPort | None]) -> Applied:
        """See ``proxy.backend.Backend``."""
        if self.programs.heard():
            self._have = None
            raise StateUnknown("iptables: somebody else touched our rules")
        if self._have is None:
            raise StateUnknown("iptables: the tables have not been read")
        if not changed:
            return Applied(rules=self._counts)
        change = self._compiler.change(changed)
        if not isinstance(change, ChainChange):
            return self._apply_tables(change)
        have, self._have = self._have, None  # unknown until the last line has been reached
        nat = have["nat"]
        write = TableWrite(nat.name, change.put, removed=change.gone)
        self._restore([write])
        left = {name: rules for name, rules in nat.chains.items() if name not in change.gone}
        more = sum(len(rules) - len(nat.chains.get(name, ())) for name, rules in change.put.items())
        more -= sum(len(nat.chains[name]) for name in change.gone)
        self._counts = {**self._counts, nat.name: self._counts[nat.name] + more}
        self._have = {**have, nat.name: Table(nat.name, {**left, **change.put}, nat.hooks)}
        return _applied([write], self._counts)

    def move(self, network: NodeNetwork) -> None:
        """See ``proxy.backend.Backend``."""
        if network != self._network:
            self._network, self._compiler, self._have = network, Compiler(network), None

    def _apply_tables(self, tables: Iterable[Table]) -> Applied:
        want = {table.name: table for table in tables}
        known, self._have = self._have, None  # unknown until the last line has been reached
        writes = [
            _change(known[name], table) if known else self._observed_change(table)
            for name, table in want.items()
        ]
        self._restore(writes)
        self._have = want
        self._counts = {name: sum(map(len, table.chains.values())) for name, table in want.items()}
        return replace(_applied(writes, self._counts), observed=not known)

    def _restore(self, writes: Sequence[TableWrite]) -> None:
        if text := render_restore(writes, self._network.family):
            self.programs.restore(text)

    def invalid_dropped(self) -> int:
        """See ``proxy.backend.Backend``."""
        return 0 if self._network.tcp_liberal else self.programs.packets("filter", FORWARD)

    def connections(self) -> Mapping[tuple[ServicePortName, str], int]:
        """See ``proxy.backend.Backend``: nothing, since to ask iptables means to print all of a table."""
        return {}

    def drifted(self) -> Sequence[str]:
        if self._have is None:
            return ()  # unknown anyway: the next apply reads it
        differing = []
        for name, table in self._have.items():
            write = self._observed_change(table)
            hooks = [chain for chain, _ in (*write.inserted, *write.withdrawn)]
            differing += [
                f"{name} {chain}" for chain in (*write.chains, *write.removed, *write.emptied, *hooks)
            ]
        if differing:
            self._have = None
        return sorted(differing)

    def _observed_change(self, want: Table) -> TableWrite:
        return write_between(self._read(want.name), want, is_service_chain, self._network.family)

    def _read(self, table: str) -> SavedTable | None:
        text = self.programs.save(table)
        if "is incompatible, use 'nft' tool" in text:
            raise KubenetError(
                f"table {table}: another program wrote rules into it that iptables cannot show",
                f"nft list table {'ip' if self._network.family == 4 else 'ip6'} {table}",
            )
        return read_save(text).get(table)


def _applied(writes: Sequence[TableWrite], counts: Mapping[str, int]) -> Applied:
    return Applied(
        written=sum(len(write.chains) + len(write.inserted) for write in writes),
        removed=sum(len(write.removed) + len(write.emptied) + len(write.withdrawn) for write in writes),
        rules=counts,
        rules_written={write.table: sum(map(len, write.chains.values())) for write in writes},
    )


def _change(have: Table, want: Table) -> TableWrite:
    """Return what turns one table of ours into another; the hooks never change."""
    change = diff(have.chains, want.chains)
    return TableWrite(want.name, {**change.added, **change.changed}, removed=sorted(change.removed))


def remove_rules(programs: Iptables, family: Family) -> int:
    """Take out everything of ours, and of a kube-proxy before us; return how many chains went (row 66).

    A chain that a stranger's rule jumps to is emptied and stays. Raises KubenetError.
    """
    writes = []
    for table in ("nat", "filter", "mangle"):
        saved = read_save(programs.save(table)).get(table)
        if saved:
            writes.append(removal_of(table, saved))
    if text := render_restore(writes, family):
        programs.restore(text)
    return sum(len(write.removed) + len(write.emptied) for write in writes)


def removal_of(table: str, saved: SavedTable) -> TableWrite:
    """Return what takes our chains, and the jumps to them, out of a table. *Pure.*"""
    ours = [name for name in saved.chains if is_own_chain(name)]
    jumps: list[tuple[str, Rule]] = []
    busy = set()
    for chain in saved.chains.keys() - set(ours):
        for line in saved.chains[chain]:
            rule = read_rule(line)
            leads_here = rule and isinstance(rule.target, Jump) and rule.target.chain in ours
            if rule and leads_here and chain in _BUILT_IN:
                jumps.append((chain, rule))
            elif leads_here or not rule:
                busy |= {name for name in ours if f" {name} " in f" {line} "}
    return TableWrite(
        table,
        removed=[name for name in ours if name not in busy],
        emptied=[name for name in ours if name in busy],
        withdrawn=sorted(jumps, key=lambda jump: (jump[0], jump[1].text())),
    )
