"""iptables in memory: what the two programs do to the tables, as far as our text asks for it."""

import copy
import re

from kubenet.errors import ProgramFailed

_BUILT_IN = {
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
}
_TARGET = re.compile(r"-j (\S+)")
_OF_THE_KERNEL = re.compile(r"[A-Z]+")  # ACCEPT, DNAT, MARK ...

Chains = dict[str, list[str]]


class FakeIptables:
    """A namespace's tables.

    ``started`` counts programs; ``broken`` makes the next restore fail; ``foreign`` tables cannot be shown;
    ``disturbed`` says that somebody else wrote.
    """

    def __init__(self) -> None:
        self.tables: dict[str, Chains] = {
            table: {chain: [] for chain in chains} for table, chains in _BUILT_IN.items()
        }
        self.started = 0
        self.broken = False
        self.foreign = False
        self.disturbed = False

    def save(self, table: str) -> str:
        self.started += 1
        if self.foreign:
            return f"# Table `{table}' is incompatible, use 'nft' tool.\n"
        chains = self.tables[table]
        lines = [f":{name} {'ACCEPT' if name in _BUILT_IN[table] else '-'} [0:0]" for name in chains]
        lines += [f"-A {name} {rule}" for name, rules in chains.items() for rule in rules]
        return "\n".join(["# Generated", f"*{table}", *lines, "COMMIT", "# Completed", ""])

    def packets(self, table: str, chain: str) -> int:
        return 0

    def heard(self) -> bool:
        said, self.disturbed = self.disturbed, False
        return said

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        return

    def restore(self, text: str) -> None:
        self.started += 1
        if self.broken:
            self.broken = False
            raise ProgramFailed("iptables-restore: exit status 4: resource temporarily unavailable")
        after = copy.deepcopy(self.tables)
        for block in re.findall(r"^\*(\w+)\n(.*?)^COMMIT$", text, re.MULTILINE | re.DOTALL):
            table, lines = block
            for line in lines.splitlines():
                _obey(after[table], line)
            _check_jumps(after[table])
        self.tables = after


def _obey(chains: Chains, line: str) -> None:
    if line.startswith(":"):
        chains[line[1:].split(" ", maxsplit=1)[0]] = []
        return
    verb, chain, *rest = line.split(" ", 2)
    rule = "".join(rest)
    match verb:
        case "-A":
            chains[chain].append(rule)
        case "-I":
            chains[chain].insert(0, rule.removeprefix("1 "))
        case "-D":
            if rule not in chains[chain]:
                raise ProgramFailed(f"iptables-restore: no such rule: {line}")
            chains[chain].remove(rule)
        case "-X":
            if chains[chain]:
                raise ProgramFailed(f"iptables-restore: chain not empty: {chain}")
            del chains[chain]
        case _:
            raise ProgramFailed(f"iptables-restore: {line}")


def _check_jumps(chains: Chains) -> None:
    for rules in chains.values():
        for target in (target for rule in rules for target in _TARGET.findall(rule)):
            if target not in chains and not _OF_THE_KERNEL.fullmatch(target):
                raise ProgramFailed(f"iptables-restore: chain {target} is jumped to and does not exist")
