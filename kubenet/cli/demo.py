"""``kubenet demo``: everything at once, with real traffic."""

import click


@click.command()
@click.option("-n", "--name", default="demo", show_default=True, help="The name of the demo's lab.")
@click.option(
    "--nodes", default=3, show_default=True, help="How many nodes (at least 2, to cross the overlay)."
)
def demo(name: str, nodes: int) -> None:
    """Boot a cluster, carry real traffic through it, tear it down.

    Shows names resolving in a pod, requests spreading over backends on the same and on other nodes, and a pod
    being replaced without a failed request. Takes a few seconds and leaves nothing behind.
    """
    from kubenet.errors import InvalidInput
    from labs.demo import demonstrate
    from labs.topology import LabSpec

    if not 2 <= nodes <= 4:
        raise InvalidInput(f"{nodes} nodes: the demo's four web pods fill 2 to 4", "kubenet demo --nodes 3")
    demonstrate(LabSpec(name, nodes), lambda line: print(line, flush=True))
