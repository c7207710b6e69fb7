"""Does the machine look as it did before?

Labs promise to leave its links, rules and settings alone; this is how they prove it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubenet.errors import ProgramFailed, ProgramMissing
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import run
from kubenet.model.links import LinkState

_SETTINGS = Path("/proc/sys/net")

# These report what the kernel counts; they are no settings.
_COUNTERS = frozenset({"nf_conntrack_count"})

# Each prints the whole of one rule set. Programs that are not installed have no rules to show that we could
# have made.
_RULE_PRINTERS = (("nft", "list", "ruleset"), ("iptables-save",), ("ip6tables-save",))


@dataclass(frozen=True, slots=True)
class Witness:
    """The state of the namespace we were started in."""

    links: LinkState
    rules: Mapping[str, str]  # by the program that printed them
    settings: Mapping[str, str]


def observe() -> Witness:
    """Return how the machine looks now."""
    with NetNs.current() as netns, Rtnl(netns) as rtnl:
        links = rtnl.observe()
    return Witness(links, _rules(), _settings())


def differences(before: Witness, after: Witness) -> list[str]:
    """Return what has changed, a line each.

    A setting that did not exist before was brought by a kernel module, not by us.
    """
    changed = [
        f"{table}: {sorted(map(str, old.items() ^ new.items()))}"
        for table, old, new in (
            ("links", before.links.links, after.links.links),
            ("addresses", before.links.addresses, after.links.addresses),
            ("routes", before.links.routes, after.links.routes),
        )
        if old != new
    ]
    changed += [
        f"rules: {name} prints something else"
        for name in before.rules
        if _text(before, name) != _text(after, name)
    ]
    changed += [
        f"setting {name}: {value!r} became {after.settings.get(name)!r}"
        for name, value in before.settings.items()
        if after.settings.get(name) != value
    ]
    return changed


def _text(witness: Witness, program: str) -> str:
    lines = witness.rules.get(program, "").splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))  # iptables-save dates its output


def _rules() -> dict[str, str]:
    printed = {}
    for argv in _RULE_PRINTERS:
        try:
            printed[argv[0]] = run(argv).stdout.decode(errors="replace")
        except (ProgramMissing, ProgramFailed):
            continue
    return printed


def _settings() -> dict[str, str]:
    found = {}
    for folder, _, names in os.walk(_SETTINGS):
        for name in names:
            path = Path(folder, name)
            if name not in _COUNTERS and (value := _value(path)) is not None:
                found[str(path.relative_to(_SETTINGS))] = value
    return found


def _value(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None  # write-only, or gone
