"""Write and read iptables tables whole, through ``iptables-restore`` and ``iptables-save``.

One restore is one transaction a table: all of it or nothing. Both flavours (nft and legacy) take the same
text.

Source: iptables-restore(8), iptables-save(8), xtables-nft(8).
"""

import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

from kubenet.errors import ProgramFailed, ProgramMissing
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import ENVIRONMENT, Completed, describe_status, find, run
from kubenet.model.flavour import Flavour

# The legacy flavour has one lock for the whole machine; somebody's long restore is waited for this long.
LOCK_WAIT_S = 10
# iptables-nft takes two minutes for the rules of 10,000 services, and who kills it then gets nowhere ever.
RESTORE_PATIENCE_S = 900.0

_FAILED_LINE = re.compile(r"line:? (\d+)")

Family = Literal[4, 6]


_LOCK_VARIABLE = "XTABLES_LOCKFILE"


def lock_path() -> Path:
    """Return the file that everybody locks who writes to the legacy interface, whatever the namespace."""
    return Path(os.environ.get(_LOCK_VARIABLE, "/run/xtables.lock"))


def restore(
    netns: NetNs | None,
    text: str | bytes,
    *,
    family: Family = 4,
    noflush: bool = True,
    flavour: Flavour | None = None,
) -> None:
    """Load ``text``; with ``noflush``, chains that it does not declare stay.

    Raises ProgramFailed, naming the line that was refused; the tables are then as they were.
    """
    program = _program(family, "restore", flavour)
    argv = [program, "--wait", str(LOCK_WAIT_S)] + (["--noflush"] if noflush else [])
    loaded = text.encode() if isinstance(text, str) else text
    result = _run(argv, netns, loaded, LOCK_WAIT_S + RESTORE_PATIENCE_S, check=False)
    if result.returncode != 0:
        reason = _reason(result.stderr.decode(errors="replace"), loaded.decode(errors="replace"))
        raise ProgramFailed(f"{program}: {describe_status(result.returncode)}: {reason}")


def save(netns: NetNs | None, table: str, *, family: Family = 4, flavour: Flavour | None = None) -> str:
    """Return one table as text that ``restore`` takes."""
    return _run([_program(family, "save", flavour), "--table", table], netns).stdout.decode()


def save_all(netns: NetNs | None, family: Family, flavour: Flavour) -> str:
    """Return all tables that are there, one after the other; nothing if the programs are not installed.

    Reading a table of the legacy interface would make it, so that is asked only for what it has.
    """
    if flavour is Flavour.LEGACY and not legacy_tables(netns, family):
        return ""
    try:
        return _run([_program(family, "save", flavour)], netns).stdout.decode()
    except ProgramMissing:
        return ""


def legacy_tables(netns: NetNs | None, family: Family) -> frozenset[str]:
    """Return the names of the tables that the legacy interface has."""
    # The file shows the namespace of the thread that opens it.
    path = Path(f"/proc/thread-self/net/{'ip' if family == 4 else 'ip6'}_tables_names")
    with netns.entered() if netns else nullcontext():
        try:
            return frozenset(path.read_text().split())
        except OSError:
            return frozenset()  # the kernel has none of it


def packets_of_first_rule(
    netns: NetNs | None, table: str, chain: str, *, family: Family = 4, flavour: Flavour | None = None
) -> int:
    """Return how many packets the first rule of a chain has taken; 0 if there is none."""
    words = ["--table", table, "--list", chain, "1", "--verbose", "--exact", "--numeric"]
    program = _program(family, "save", flavour).removesuffix("-save")
    said = _run([program, "--wait", str(LOCK_WAIT_S), *words], netns, check=False).stdout.split()
    return int(said[0]) if said and said[0].isdigit() else 0


def _run(
    argv: list[str], netns: NetNs | None, stdin: bytes = b"", timeout_s: float = 30.0, *, check: bool = True
) -> Completed:
    env = {**ENVIRONMENT, _LOCK_VARIABLE: str(lock_path())}
    return run(argv, netns=netns, stdin=stdin, timeout_s=timeout_s, check=check, env=env)


def installed_flavour() -> Flavour:
    """Return what the installed ``iptables`` programs; versions before 1.8 know the legacy interface only."""
    version = _run(["iptables", "--version"], None).stdout.decode()
    return Flavour.NFT if Flavour.NFT.value in version else Flavour.LEGACY


def _program(family: Family, verb: str, flavour: Flavour | None = None) -> str:
    """Return the name of a program; before 1.8, iptables had no names for its flavour, and only one."""
    plain = "iptables" if family == 4 else "ip6tables"
    if flavour is not None:
        try:
            find(f"{plain}{flavour.infix}-{verb}")
        except ProgramMissing:
            if installed_flavour() is not flavour:
                raise
        else:
            return f"{plain}{flavour.infix}-{verb}"
    return f"{plain}-{verb}"


def _reason(stderr: str, text: str) -> str:
    """Return the refusal in one line, with the line of ours that it speaks of."""
    said = [line for line in stderr.splitlines() if line.strip() and not line.startswith("Try ")]
    reason = "; ".join(line.strip() for line in said) or "no reason given"
    number = _FAILED_LINE.search(reason)
    lines = text.splitlines()
    if number and 0 < int(number[1]) <= len(lines):
        return f"{reason}: {lines[int(number[1]) - 1].strip()!r}"
    return reason
