"""Faults of packet filters, conntrack, objects of the cluster, files and daemons. *Pure.*"""

import re

import msgspec

from labs.faults.steps import Cause, Fault, File, Request, Run, Step, Switch, Tree


class Filter(Fault, tag="filter", frozen=True):
    """A table of packet filters is in the way. ``rules`` are statements of nft, in its own canonical words,
    so that they can be found again.
    """

    at: str
    table: str
    hook: str
    rules: tuple[str, ...]
    family: str = "ip"
    type: str = "filter"
    priority: int = -10
    policy: str = "accept"

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        head = f"type {self.type} hook {self.hook} priority {self.priority}; policy {self.policy};"
        body = "\n".join(self.rules)
        text = f"table {self.family} {self.table} {{\nchain {self.hook} {{\n{head}\n{body}\n}}\n}}\n"
        return [Run(self.at, ("nft", "-f", "-"), text)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [Run(self.at, ("nft", "delete", "table", self.family, self.table), may_fail=True)]

    def cause(self) -> Cause:
        ask = Run(self.at, ("nft", "list", "table", self.family, self.table), may_fail=True)
        if self.policy == "drop":
            return Cause(ask, "policy drop")
        return Cause(ask, re.escape(self.rules[-1]))


class ObjectChanged(Fault, tag="object-changed", frozen=True):
    """An object of the cluster says something wrong."""

    path: str
    patch: Tree
    wrong: str  # regular expression over the object as JSON

    def before(self) -> tuple[Step, ...]:
        return (Request("GET", self.path),)

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [Request("PATCH", self.path, self.patch)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        was = msgspec.json.decode(saved[0], type=Tree)
        return [Request("PATCH", self.path, {key: was[key] for key in self.patch})]

    def cause(self) -> Cause:
        return Cause(Request("GET", self.path), self.wrong)


class ObjectAdded(Fault, tag="object-added", frozen=True):
    """An object is there that should not be. A ``harmless`` one only shows what else is broken."""

    collection: str
    name: str
    body: Tree
    harmless: bool = False

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [Request("POST", self.collection, self.body)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [Request("DELETE", f"{self.collection}/{self.name}")]

    def cause(self) -> Cause | None:
        return None if self.harmless else Cause(Request("GET", f"{self.collection}/{self.name}"), r"\S")


class FileChanged(Fault, tag="file-changed", frozen=True):
    """A file says something wrong. ``path`` names it as ``File`` does."""

    path: str
    text: str
    wrong: str  # regular expression over its content

    def before(self) -> tuple[Step, ...]:
        return (File(self.path),)

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [File(self.path, self.text, write=True)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [File(self.path, saved[0] or None, write=True)]

    def cause(self) -> Cause:
        return Cause(File(self.path), self.wrong)


class RulesFlushed(Fault, tag="rules-flushed", frozen=True):
    """A chain of iptables is empty."""

    at: str
    table: str
    chain: str
    needed: str  # regular expression over what "iptables -S" prints of a chain that is whole

    def before(self) -> tuple[Step, ...]:
        return (self._listed(),)

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [Run(self.at, ("iptables", "-t", self.table, "-F", self.chain))]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        rules = [line for line in saved[0].splitlines() if line.startswith("-A ")]
        text = "\n".join([f"*{self.table}", f"-F {self.chain}", *rules, "COMMIT", ""])
        return [Run(self.at, ("iptables-restore", "--noflush"), text)]

    def cause(self) -> Cause:
        return Cause(self._listed(), self.needed, unless=True)

    def _listed(self) -> Run:
        return Run(self.at, ("iptables", "-t", self.table, "-S", self.chain), may_fail=True)


class DaemonStopped(Fault, tag="daemon-stopped", frozen=True):
    """A daemon does not run."""

    daemon: str

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [Switch("stop", self.daemon)]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [Switch("start", self.daemon)]

    def cause(self) -> Cause:
        return Cause(Switch("list", self.daemon), "stopped")


class ConntrackEntry(Fault, tag="conntrack", frozen=True):
    """The kernel remembers a translation that leads to nobody."""

    at: str
    entry: str  # as conntrack -I takes it
    stale: str  # regular expression over what conntrack -L prints

    def do(self, saved: tuple[str, ...]) -> list[Step]:
        return [self._forget(), Run(self.at, ("conntrack", "-I", *self.entry.split()))]

    def undo(self, saved: tuple[str, ...]) -> list[Step]:
        return [self._forget()]

    def cause(self) -> Cause:
        return Cause(Run(self.at, ("conntrack", "-L", "-p", "udp"), may_fail=True), self.stale)

    def _forget(self) -> Run:
        words = self.entry.split()
        keys = dict(zip(words[::2], words[1::2], strict=False))
        wanted = [word for key in ("-p", "-s", "-d", "--sport", "--dport") for word in (key, keys[key])]
        return Run(self.at, ("conntrack", "-D", *wanted), may_fail=True)
