"""``kubenet check``: is the pod network as it should be?"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubenet.cli.sites import open_site, site_options

if TYPE_CHECKING:
    from kubenet.observe.checks.base import Verdict
    from kubenet.observe.place import Site

SETTLE_S = 0.5  # for proxies and agents to follow a change of objects

PARTS = ("all", "pods", "underlay", "cni", "ipam", "overlay", "proxy", "dns", "matrix")


def _look(opened: Callable[[], "Site"], wanted: set[str]) -> "tuple[Verdict, ...]":
    """Return the verdicts on what runs; a finding counts only if it is there a moment later too.

    Objects are read before the kernel: what changed in between looks wrong, and is not.
    """
    from kubenet.observe.judge import judge
    from kubenet.observe.survey import survey

    verdicts: tuple[Verdict, ...] = ()
    for wait_s in (0.0, SETTLE_S):
        time.sleep(wait_s)
        with opened() as site:
            verdicts = judge(survey(site, wanted), wanted)
        if not any(verdict.findings for verdict in verdicts):
            break
    return verdicts


@click.command()
@site_options
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--from", "bundle", type=Path, help="Judge a bundle of 'kubenet dump', not what runs here.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "junit"]), default="text", show_default=True
)
def check(
    lab: str | None,
    parts: tuple[str, ...],
    bundle: Path | None,
    node: bool,
    kubeconfig: Path | None,
    output: str,
) -> None:
    """Compare kernel, allocation records, rules and DNS of every node with the API server, and probe who
    reaches whom.

    PARTS: pods, underlay, cni, ipam, overlay, proxy, dns, matrix; default all. The exit code is 0 if all is
    well, 1 if there is a finding, 4 if this machine lacks something, 5 if there was nothing to check.
    """
    from kubenet.cli.output import print_json
    from kubenet.observe.judge import CHECKS, exit_code, judge, verdicts_json, verdicts_junit, verdicts_text

    wanted = set(CHECKS) if not parts or "all" in parts else set(parts)
    began = time.monotonic()
    if bundle is not None:
        from kubenet.observe.bundle import read_bundle

        verdicts = judge(read_bundle(bundle), wanted)
    else:
        verdicts = _look(lambda: open_site(lab, node, kubeconfig), wanted)
    took_s = time.monotonic() - began
    if output == "json":
        print_json("CheckReport", verdicts_json(verdicts))
    elif output == "junit":
        print(verdicts_junit(verdicts, took_s))
    else:
        print(verdicts_text(verdicts, took_s))
    sys.exit(exit_code(verdicts))
