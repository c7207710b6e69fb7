"""``kubenet ipam``: who holds which address on this node."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ipam.store import RecordStore

_state_dir = click.option(
    "--state-dir", type=Path, default=Path("/run/kubenet"), show_default=True, help="As the agent has it."
)


_socket = click.option(
    "--socket", "socket_path", type=Path, default=Path("/run/kubenet/cni.sock"), show_default=True
)


@click.group()
def ipam() -> None:
    """Who holds which address on this node."""


@ipam.command("list")
@_state_dir
def list_(state_dir: Path) -> None:
    """Print every attachment with its addresses and ports of the node."""
    from ipam.audit import addresses

    stored, _ = _store(state_dir).load()
    for entry in stored:
        record = entry.record
        ports = " ".join(f"{port}->{port.container_port}" for port in record.host_ports)
        words = (addresses(record), record.host_ifname, entry.phase.value, record.label, ports)
        print("  ".join(word for word in words if word))


@ipam.command()
@_state_dir
@click.option("--netns", type=Path, help="The node's network namespace; default: the one of this process.")
def audit(state_dir: Path, netns: Path | None) -> None:
    """Compare the records with the kernel, and print what does not fit; the exit code is then 1."""
    import sys
    from contextlib import ExitStack

    from ipam.audit import findings
    from kubenet.kernel.netns import NetNs
    from kubenet.kernel.rtnl import Rtnl

    with ExitStack() as stack:
        node = stack.enter_context(NetNs.open(netns)) if netns else None
        rtnl = stack.enter_context(Rtnl(node))
        stored, unreadable = _store(state_dir).load()
        found = list(findings(stored, unreadable, rtnl.observe()))
    for line in found:
        print(line)
    print(f"{len(stored)} attachments, {len(found)} findings")
    if found:
        sys.exit(1)


@ipam.command()
@click.option("--dry-run", is_flag=True, help="Only print what would be let go.")
@_socket
def gc(dry_run: bool, socket_path: Path) -> None:
    """Let go of addresses whose pods are provably gone, and print them.

    The agent does so by itself every half minute. A pod that began less than a minute ago is never touched.
    """
    from cni.order import order
    from cni.verbs import ORDER

    freed = order(socket_path, {ORDER: "gc-dry-run" if dry_run else "gc"})
    print(freed, end="")
    count = len(freed.splitlines())
    print(f"{count} {'would be let go' if dry_run else 'let go'}")


@ipam.command()
@click.argument("pod", metavar="NAMESPACE/NAME")
@_socket
def release(pod: str, socket_path: Path) -> None:
    """Keep the addresses of a pod no longer that had the annotation kubenet.dev/sticky-address."""
    from cni.order import order
    from cni.verbs import ORDER, POD

    order(socket_path, {ORDER: "release", POD: pod})
    print(f"{pod}: its addresses are anybody's")


def _store(state_dir: Path) -> "RecordStore":
    from ipam.store import RecordStore
    from kubenet.errors import NotFound

    directory = state_dir / "attachments"
    if not directory.is_dir():
        raise NotFound(f"{directory}: no agent has kept records there", "name its --state-dir")
    return RecordStore(directory)
