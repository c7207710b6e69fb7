"""A namespace that is looked at, open."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from kubenet.errors import NotFound
from kubenet.kernel.netns import NetNs
from kubenet.observe.events import PlaceKind, PlaceName
from kubenet.observe.names import Cluster


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace with its name."""

    name: PlaceName
    netns: NetNs


@dataclass(slots=True)
class Site:
    """All the places of a lab, or of one real node, and what the API server says of the cluster."""

    places: tuple[Place, ...]
    cluster: Cluster
    label: str = ""  # the lab's name; empty: this machine
    resolvers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by pod: nameservers it was given
    records: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by node: what its IPAM audit says
    _undo: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        for place in self.places:
            self._undo.callback(place.netns.close)

    @property
    def in_lab(self) -> bool:
        return bool(self.label)

    def place(self, name: str) -> Place:
        """Return a place by its name; a pod may go without its namespace if no other has its name.

        Raises NotFound.
        """
        exact = [place for place in self.places if place.name.name == name]
        short = [place for place in self.places if place.name.name.rpartition("/")[2] == name]
        found = exact or short
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(place.name.name for place in found)
            raise NotFound(f"{name}: which of {names}?", "say NAMESPACE/POD")
        raise NotFound(f"{name}: no such pod or node here", _near(name, self.places))

    def of_kind(self, *kinds: PlaceKind) -> list[Place]:
        """Return the places of these kinds."""
        return [place for place in self.places if place.name.kind in kinds]

    def close(self) -> None:
        """Let go of all namespaces."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _near(name: str, places: Iterable[Place]) -> str:
    import difflib

    names = [place.name.name for place in places]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names[:8])}"
