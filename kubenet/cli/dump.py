"""``kubenet dump``: all that a check looks at, as one file."""

from pathlib import Path

import click

from kubenet.cli.sites import open_site, site_options


@click.command()
@site_options
@click.argument("path", type=Path, default=Path("kubenet-dump.tgz"))
def dump(lab: str | None, path: Path, node: bool, kubeconfig: Path | None) -> None:
    """Write the state of all nodes and pods, rules included, and what probes found, to PATH.

    Secrets are left out: no environment, commands or annotations of pods are in it. Judge it anywhere,
    without root: kubenet check --from PATH
    """
    from kubenet.observe.bundle import write_bundle
    from kubenet.observe.survey import survey

    with open_site(lab, node, kubeconfig) as site:
        size_bytes = write_bundle(path, survey(site))
    print(f"{path}: {size_bytes / 1024:.0f} KiB; kubenet check --from {path}")
