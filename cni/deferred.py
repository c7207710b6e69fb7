"""DELs that came while no agent ran: files that the shims have left beside the socket.

A file holds the shim's message as it would have been sent. Its name begins with the time, so the names are
in the order in which the requests came.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cni.server import parse_variables

log = logging.getLogger(__name__)

DIRECTORY = "del.d"
_LARGEST_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Deferred:
    """One request that waits."""

    path: Path
    environment: Mapping[str, str]
    written_ns: int  # wall clock

    def done(self) -> None:
        """Forget the request."""
        self.path.unlink(missing_ok=True)


def directory_for(socket_path: Path) -> Path:
    """Return where the shims of a socket put their requests."""
    return socket_path.parent / DIRECTORY


def deferred(directory: Path) -> list[Deferred]:
    """Return the requests that wait, oldest first; the directory is made if it is missing."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    waiting: list[Deferred] = []
    for path in directory.iterdir():
        if path.suffix != ".tmp" and path.is_file() and path.stat().st_size <= _LARGEST_BYTES:
            environment = parse_variables(path.read_bytes())
            waiting.append(Deferred(path, environment, path.stat().st_mtime_ns))
    return sorted(waiting, key=lambda request: request.written_ns)
