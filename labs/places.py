"""Where things of a lab are: the namespaces of nodes, pods and the wire, the files an exercise may touch."""

from pathlib import Path

from kubenet.errors import InvalidInput
from kubenet.kernel.netns import NetNs
from labs.cast import Facts
from labs.ledger import LabDirectory
from labs.topology import WIRE

POD = "pod/"
_NODE_FILES = {"net.d": ("cni", "net.d")}


class Places:
    """The places of one lab while its pods stay the same."""

    def __init__(self, directory: LabDirectory, facts: Facts) -> None:
        self._directory = directory
        self._facts = facts

    def netns(self, place: str) -> NetNs:
        """Return the open namespace of ``node-1``, ``wire``, ``pod/NAME``. Raises NotFound, InvalidInput."""
        return NetNs.open(self._netns_path(place))

    def file(self, name: str) -> Path:
        """Return the file behind ``pod/NAME:resolv.conf`` or ``NODE:net.d/NAME``. Raises InvalidInput."""
        place, _, path = name.partition(":")
        if place.startswith(POD) and path == "resolv.conf":
            pod = self._facts.pod(place.removeprefix(POD))
            return self._directory.node(pod.node) / "pods" / pod.uid / path
        directory, _, leaf = path.partition("/")
        if directory in _NODE_FILES and leaf and "/" not in leaf:
            return self._directory.node(place).joinpath(*_NODE_FILES[directory], leaf)
        raise InvalidInput(f"{name!r}: no file of a lab")

    def _netns_path(self, place: str) -> Path:
        if not place.startswith(POD):
            return self._directory.netns(place)
        pod = self._facts.pod(place.removeprefix(POD))
        return self._directory.node(pod.node) / "netns" / pod.uid

    def everywhere(self) -> list[str]:
        """Return the places that are not pods."""
        return [WIRE, *(node.name for node in self._facts.nodes)]
