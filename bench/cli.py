"""How long a command takes that does nothing: what the command line feels like."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bench.common import Figure, Target, asked, in_turn, report_all, timed
from kubenet.kernel.run import run

HELP = Figure("help", "ms", Target("<=", 80))
VERSION = Figure("version", "ms", Target("<=", 80))
LAB_STATUS = Figure("lab-status", "ms", Target("<=", 120))
COMMANDS: Mapping[Figure, tuple[str, ...]] = {
    HELP: ("--help",),
    VERSION: ("--version",),
    LAB_STATUS: ("lab", "list"),  # with no lab: the imports and the look at the ledger
}

PROGRAM = Path(sys.executable).with_name("kubenet")


def main() -> None:
    """Take the figures that the command line asks for."""
    given = asked(tuple(COMMANDS))
    wanted = {figure: words for figure, words in COMMANDS.items() if figure.name in given.figures}

    def once() -> Mapping[str, float]:
        return {figure.name: timed(partial(run, [PROGRAM, *words])) for figure, words in wanted.items()}

    report_all(tuple(wanted), *in_turn(once, None, given.rounds))


if __name__ == "__main__":
    main()
