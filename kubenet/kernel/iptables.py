"""Write and read iptables tables whole, through ``iptables-restore`` and ``iptables-save``.

One restore is one transaction a table: all of it or nothing. Both flavours (nft and legacy) take the same
text.

Source: iptables-restore(8), iptables-save(8), xtables-nft(8).
"""

import re
from enum import Enum
from typing import Literal

from kubenet.errors import ProgramFailed
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import describe_status, run

# The legacy flavour has one lock for the whole machine; somebody's long restore is waited for this long.
LOCK_WAIT_S = 10

_FAILED_LINE = re.compile(r"line:? (\d+)")

Family = Literal[4, 6]


class Flavour(Enum):
    """Which kernel interface the installed iptables programs."""

    NFT = "nf_tables"
    LEGACY = "legacy"


def restore(netns: NetNs | None, text: str | bytes, *, family: Family = 4, noflush: bool = True) -> None:
    """Load ``text``; with ``noflush``, chains that it does not declare stay.

    Raises ProgramFailed, naming the line that was refused; the tables are then as they were.
    """
    program = _program(family, "restore")
    argv = [program, "--wait", str(LOCK_WAIT_S)] + (["--noflush"] if noflush else [])
    loaded = text.encode() if isinstance(text, str) else text
    result = run(argv, netns=netns, stdin=loaded, timeout_s=LOCK_WAIT_S + 30.0, check=False)
    if result.returncode != 0:
        reason = _reason(result.stderr.decode(errors="replace"), loaded.decode(errors="replace"))
        raise ProgramFailed(f"{program}: {describe_status(result.returncode)}: {reason}")


def save(netns: NetNs | None, table: str, *, family: Family = 4) -> str:
    """Return one table as text that ``restore`` takes."""
    return run([_program(family, "save"), "--table", table], netns=netns).stdout.decode()


def flavour() -> Flavour:
    """Return what the installed ``iptables`` programs; versions before 1.8 know the legacy interface only."""
    version = run(["iptables", "--version"]).stdout.decode()
    return Flavour.NFT if Flavour.NFT.value in version else Flavour.LEGACY


def _program(family: Family, verb: str) -> str:
    return f"iptables-{verb}" if family == 4 else f"ip6tables-{verb}"


def _reason(stderr: str, text: str) -> str:
    """Return the refusal in one line, with the line of ours that it speaks of."""
    said = [line for line in stderr.splitlines() if line.strip() and not line.startswith("Try ")]
    reason = "; ".join(line.strip() for line in said) or "no reason given"
    number = _FAILED_LINE.search(reason)
    lines = text.splitlines()
    if number and 0 < int(number[1]) <= len(lines):
        return f"{reason}: {lines[int(number[1]) - 1].strip()!r}"
    return reason
