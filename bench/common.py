"""What every benchmark needs: rounds of ours and the peer in turn, and one JSON object a figure.

Machines are shared and noisy. So ours and the peer run in turn in the same run, the ratio is taken pair by
pair, and what counts is the median of the ratios. Nothing but figures goes to stdout.
"""

import argparse
import json
import operator
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROUNDS = 7
LEAST_ROUNDS = 5

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure shall be: its ratio to the peer; where there is none, or with a unit, its value."""

    comparison: str  # "<=" or ">="
    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.comparison} {self.value:g} {self.unit}".rstrip()

    def met(self, value: float) -> bool:
        return _COMPARE[self.comparison](value, self.value)


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that is measured. For a rate ``unit`` ends in ``/s``."""

    name: str
    unit: str
    target: Target
    peer_name: str = ""


Samples = Mapping[str, Sequence[float]]  # by figure, one a round


def in_turn(
    ours: Callable[[], Mapping[str, float]],
    peer: Callable[[], Mapping[str, float]] | None,
    rounds: int = ROUNDS,
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Run ours and the peer ``rounds`` times in turn, after one run of each that does not count.

    A run returns one value for each figure that it takes.
    """
    ours_all: dict[str, list[float]] = {}
    peer_all: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for run, samples in ((ours, ours_all), (peer, peer_all)):
            for name, value in run().items() if run else ():
                if number:
                    samples.setdefault(name, []).append(value)
    return ours_all, peer_all


def report(figure: Figure, ours: Sequence[float], peer: Sequence[float] = ()) -> None:
    """Print the figure."""
    if len(ours) < LEAST_ROUNDS:
        raise ValueError(f"{figure.name}: {len(ours)} rounds, {LEAST_ROUNDS} are the least")
    ratio = median(a / b for a, b in zip(ours, peer, strict=True)) if peer else None
    judged = median(ours) if ratio is None or figure.target.unit else ratio
    _print(
        {
            "figure": figure.name,
            "ours": _short(median(ours)),
            "peer": _short(median(peer)) if peer else None,
            "peer_name": figure.peer_name or None,
            "unit": figure.unit,
            "ratio": None if ratio is None else _short(ratio),
            "target": str(figure.target),
            "met": figure.target.met(judged),
            "rounds": len(ours),
            "spread": [_short(min(ours)), _short(max(ours))],
        }
    )


def report_all(figures: Sequence[Figure], ours: Samples, peer: Samples) -> None:
    """Print every figure that was taken."""
    for figure in figures:
        if figure.name in ours:
            report(figure, ours[figure.name], peer.get(figure.name, ()))


def skip(figure: Figure, why: str) -> None:
    """Say that a figure could not be taken, and why."""
    _print({"figure": figure.name, "skipped": why})


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    figures: frozenset[str]
    peers: Mapping[str, Path]  # real binaries of peers that Debian does not have
    rounds: int


def asked(figures: Sequence[Figure]) -> Asked:
    """Return what the command line asks for; all figures if it names none."""
    names = [figure.name for figure in figures]
    parser = argparse.ArgumentParser(description="Measure; prints one JSON object a figure.")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(names))
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help="a peer's binary")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"at least {LEAST_ROUNDS}")
    given = parser.parse_args()
    if unknown := set(given.figures) - set(names):
        parser.error(f"unknown figure {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if given.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds {given.rounds}: {LEAST_ROUNDS} are the least")
    pairs = [pair.partition("=") for pair in given.peer]
    if broken := [name for name, equals, _ in pairs if not equals]:
        parser.error(f"--peer {broken[0]}: not NAME=PATH")
    peers = {name: Path(path) for name, _, path in pairs}
    return Asked(frozenset(given.figures or names), peers, given.rounds)


def timed(work: Callable[[], object]) -> float:
    """Return how long ``work`` takes, in milliseconds."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def children_cpu_ms() -> float:
    """Return the processor time of all children that have ended, user and system, in milliseconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1000


def process_cpu_ms(pid: int) -> float:
    """Return the processor time of a running process, user and system, in milliseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime and stime, proc_pid_stat(5)
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


def _short(value: float) -> float:
    """Return the value with three significant digits: more would pretend."""
    return float(f"{value:.3g}")


def _print(fields: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()
