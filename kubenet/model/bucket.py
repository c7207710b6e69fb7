"""How much a link may send, as a value. *Pure.*"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: at most this many bytes a second, and so many at once."""

    bytes_per_s: int
    burst_bytes: int
    queue_bytes: int  # more than this does not wait, and is dropped
