"""Make the wire of a lab as bad as its impairments say, and remember them in the lab's directory."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import run
from labs import ledger
from labs.impairments import Impairment, checked, filter_text, mtus, rates
from labs.ledger import LabDirectory
from labs.topology import UNDERLAY_MTU, WIRE

BURST = ("burst", "32kb", "latency", "100ms")


def impairments(name: str, root: Path = ledger.LABS) -> tuple[Impairment, ...]:
    """Return what is wrong with the wire of a lab. Raises NotFound."""
    directory = LabDirectory(name, root)
    ledger.read(directory)
    try:
        return msgspec.json.decode(_path(directory).read_bytes(), type=tuple[Impairment, ...])
    except FileNotFoundError:
        return ()


def impair(name: str, wanted: Sequence[Impairment], root: Path = ledger.LABS) -> None:
    """Make the wire of a lab so that exactly ``wanted`` is wrong with it. Raises NotFound, InvalidInput."""
    directory = LabDirectory(name, root)
    nodes = ledger.read(directory).nodes
    valid = checked(wanted, nodes)
    with NetNs.open(directory.netns(WIRE)) as netns:
        apply(netns, valid, nodes)
    fresh = _path(directory).with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(valid))
    fresh.rename(_path(directory))


def apply(netns: NetNs, wanted: Sequence[Impairment], nodes: Sequence[str]) -> None:
    """Write the impairments into the namespace of a wire."""
    run(("nft", "-f", "-"), netns=netns, stdin=filter_text(wanted).encode())
    for node, mtu in mtus(wanted, nodes, UNDERLAY_MTU).items():
        run(("ip", "link", "set", "dev", node, "mtu", str(mtu)), netns=netns)
    for node, rate in rates(wanted, nodes).items():
        run(("tc", "qdisc", "del", "dev", node, "root"), netns=netns, check=False)
        if rate:
            run(("tc", "qdisc", "add", "dev", node, "root", "tbf", "rate", rate, *BURST), netns=netns)


def _path(directory: LabDirectory) -> Path:
    return directory.path / "impairments.json"
