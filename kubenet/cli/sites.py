"""Which site a command looks at: a lab, or this machine as one node of a real cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from kubenet.observe.place import Site

F = TypeVar("F", bound=Callable[..., object])

LAB = click.option(
    "-n",
    "--name",
    "lab",
    envvar="KUBENET_LAB",
    help="The lab; needed only when several run. [env: KUBENET_LAB]",
)


def site_options(command: F) -> F:
    """Give a command the options that say which site it looks at."""
    command = click.option(
        "--kubeconfig", type=Path, envvar="KUBECONFIG", help="With --node: how to reach the API server."
    )(command)
    command = click.option("--node", is_flag=True, help="Not a lab: this machine, as a real node.")(command)
    return LAB(command)


def open_site(lab: str | None, node: bool = False, kubeconfig: Path | None = None) -> "Site":
    """Return what is meant, open. Raises NotFound, NotPermitted."""
    from kubenet.kernel.privileges import require_root

    require_root("looking into namespaces is root's")
    if node:
        from kubenet.observe.machine import machine_site

        return machine_site(kubeconfig)
    from labs import control
    from labs.site import site_of

    return site_of(lab or control.only_lab())
