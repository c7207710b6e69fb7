"""``kubenet dns``: ask a DNS server."""

import click


@click.group()
def dns() -> None:
    """Ask a DNS server."""
