"""Messages on a stream: two octets of length before each. *Pure.*

Source: RFC 1035 section 4.2.2, RFC 7766 section 8.
"""

from collections.abc import Iterator


def framed(message: bytes) -> bytes:
    """Return ``message`` as it travels on a stream."""
    return len(message).to_bytes(2, "big") + message


class FrameReader:
    """Takes a stream in pieces as they come and gives whole messages.

    Never holds more than what was fed and not taken: at most one message of 64 KiB and a bit, if all complete
    messages are taken between two pieces.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the stream."""
        self._buffer = self._buffer[self._at :] + piece
        self._at = 0

    def messages(self) -> Iterator[bytes]:
        """Give the complete messages, oldest first; those not taken are given again."""
        buffer = self._buffer
        while len(buffer) >= (start := self._at + 2):
            end = start + (buffer[start - 2] << 8 | buffer[start - 1])
            if len(buffer) < end:
                return
            self._at = end
            yield buffer[start:end]

    @property
    def _end(self) -> int:
        """Where the next message ends, as far as is known."""
        start = self._at + 2
        known = len(self._buffer) >= start
        return start + int.from_bytes(self._buffer[self._at : start], "big") if known else start

    @property
    def ready(self) -> bool:
        """Whether a complete message waits to be taken."""
        return len(self._buffer) >= self._end

    @property
    def partial(self) -> bool:
        """Whether a message has begun that is not complete; ask after taking the complete ones."""
        return len(self._buffer) > self._at
