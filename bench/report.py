"""Run the benchmarks and write docs/benchmarks.md: the table, the machine, the date, the commands."""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from kubenet.kernel.run import run

HERE = Path(__file__).parent
REPORT = HERE.parent / "docs" / "benchmarks.md"
NO_BENCHMARKS = {"__init__", "common", "report"}
TIMEOUT_S = 1800.0

HEAD = """# Benchmarks

Figures are medians; ours and the peer run in turn in the same run, and the ratio (ours / peer) is taken pair
by pair. Absolute times depend on the machine, ratios less so. `./dev bench --report` writes this file.

"""

HEADINGS = "| figure | ours | peer | ratio | target | met | rounds, spread of ours |\n"


def main() -> None:
    """Run the benchmarks that are named, or all, and write the report."""
    names = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in NO_BENCHMARKS)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    chosen = parser.parse_args().names or names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(names)}")
    sections = [_section(name) for name in chosen]
    REPORT.write_text(HEAD + _machine() + "".join(sections))


def _machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    cores = os.cpu_count()
    day = datetime.now(UTC).date()
    versions = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"Taken on {day}: {cores} cores ({cpu}), {versions}.\n"


def _section(name: str) -> str:
    print(f"bench {name}", file=sys.stderr)
    done = run([sys.executable, "-m", f"bench.{name}"], timeout_s=TIMEOUT_S, check=False)
    figures = [json.loads(line) for line in done.stdout.decode().splitlines()]
    rows = "".join(_row(figure) for figure in figures)
    last = (done.stderr.decode().strip().splitlines() or ["no reason given"])[-1]
    failed = f"\nThe run ended early: {last}\n" if done.returncode else ""
    head = HEADINGS + "|---" * 7 + "|\n"
    return f"\n## {name}: `./dev bench {name}`\n\n{head}{rows}{failed}"


def _row(figure: dict[str, object]) -> str:
    if "skipped" in figure:
        return f"| {figure['figure']} | not taken: {figure['skipped']} |" + " |" * 5 + "\n"
    unit = figure["unit"]
    peer = f"{figure['peer']} {unit} ({figure['peer_name']})" if figure["peer"] is not None else ""
    ratio = figure["ratio"] if figure["ratio"] is not None else ""
    spread = figure["spread"]
    assert isinstance(spread, list)
    met = "yes" if figure["met"] else "**no**"
    ours = f"{figure['ours']} {unit}"
    return (
        f"| {figure['figure']} | {ours} | {peer} | {ratio} | {figure['target']} | {met} |"
        f" {figure['rounds']}, {spread[0]} to {spread[1]} |\n"
    )


if __name__ == "__main__":
    main()
