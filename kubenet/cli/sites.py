"""Which site a command looks at: a lab, or this machine."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kubenet.observe.place import Site

LAB = click.option(
    "-n",
    "--name",
    "lab",
    envvar="KUBENET_LAB",
    help="The lab; needed only when several run. [env: KUBENET_LAB]",
)


def open_site(lab: str | None) -> "Site":
    """Return the lab that is meant, open. Raises NotFound, NotPermitted."""
    from kubenet.kernel.privileges import require_root
    from labs import control
    from labs.site import site_of

    require_root("looking into namespaces is root's")
    return site_of(lab or control.only_lab())
