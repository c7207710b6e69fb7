"""Bytes as they come, lines as they are meant. *Pure.*

asyncio's own ``readline`` refuses lines of more than 64 KiB; one EndpointSlice or ConfigMap may weigh 1 MiB.
"""

from collections.abc import Iterable


class LineSplitter:
    """Cuts a stream into lines; keeps the unfinished rest for the next chunk."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # joined only when its line ends: a long line costs no quadratic copying

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """Return the lines that ``chunk`` completes, without their ends; empty lines are dropped."""
        head, newline, tail = chunk.partition(b"\n")
        self._rest.append(head)
        if not newline:
            return ()
        first = b"".join(self._rest)
        *middle, last = tail.split(b"\n")
        self._rest = [last]
        return [line for line in (first, *middle) if line.strip()]

    @property
    def half_line(self) -> bytes:
        """What has come of a line that has not ended."""
        return b"".join(self._rest)
