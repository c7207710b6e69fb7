"""What this node's agents have made beside what is on their own links, written down.

A route to a peer by the underlay, or one that refuses what is for no pod, looks like any other with the
protocol number 107: another program may use the number too, and so may an agent of another tunnel. Only what
stands here is ours to change or to take away.

The file lies on a tmpfs: it ends with the routes of which it speaks.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kubenet.errors import KubenetError
from kubenet.model.links import LinkState, Route


class _File(msgspec.Struct, frozen=True):
    links: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()  # destination, link


@dataclass(frozen=True, slots=True)
class Made:
    """Names of links, and the routes that are on no such link: destination and link, which may be none."""

    links: frozenset[str] = frozenset()
    routes: frozenset[tuple[str, str]] = frozenset()

    def __or__(self, other: "Made") -> "Made":
        return Made(self.links | other.links, self.routes | other.routes)

    def has(self, route: Route) -> bool:
        """Whether ``route`` is one of these."""
        return (str(route.destination), route.ifname) in self.routes


def made_of(want: LinkState, ours: Collection[str]) -> Made:
    """Return what has to be written down of what is wanted."""
    elsewhere = (route for route in want.routes.values() if route.ifname not in ours)
    return Made(
        frozenset(name for name in want.links if name in ours),
        frozenset((str(route.destination), route.ifname) for route in elsewhere),
    )


class Book:
    """The file, read once. Without a path it is kept in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._made: Made | None = None

    def made(self) -> Made:
        """Return what is written down; a file that cannot be read says nothing. Raises KubenetError."""
        if self._made is None:
            self._made = self._read()
        return self._made

    def write(self, made: Made) -> None:
        """Write down that this was made. Raises KubenetError."""
        if made == self.made():
            return
        if self._path is not None:
            file = _File(tuple(sorted(made.links)), tuple(sorted(made.routes)))
            draft = self._path.with_suffix(".tmp")
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                draft.write_bytes(msgspec.json.encode(file))
                draft.rename(self._path)
            except OSError as error:
                raise KubenetError(f"{self._path}: cannot be written: {error.strerror}") from error
        self._made = made

    def forget(self) -> None:
        """Nothing is left of what was made."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._made = Made()

    def _read(self) -> Made:
        try:
            file = msgspec.json.decode(self._path.read_bytes(), type=_File) if self._path else _File()
        except (FileNotFoundError, msgspec.MsgspecError):
            return Made()
        except OSError as error:
            raise KubenetError(f"{self._path}: cannot be read: {error.strerror}") from error
        return Made(frozenset(file.links), frozenset(file.routes))
