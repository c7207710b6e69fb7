"""How captured packets are printed and written."""

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from kubenet.errors import InvalidInput

if TYPE_CHECKING:
    from kubenet.observe.capturing import Capture
    from kubenet.observe.pcapng import Captured


def packets(taken: "Capture", seconds: float | None, count: int | None) -> Iterator["Captured"]:
    """Yield packets until one of the limits, or Ctrl-C."""
    deadline = time.monotonic() + (seconds if seconds is not None else float("inf"))
    number = 0
    with suppress(KeyboardInterrupt):
        while (left_s := deadline - time.monotonic()) > 0:
            for packet in taken.take(min(1.0, left_s)):
                yield packet
                number += 1
                if number == count:
                    return


def print_packets(taken: "Capture", seconds: float | None, count: int | None) -> None:
    """Print a line a packet."""
    from kubenet.observe.dissect import summary

    for packet in packets(taken, seconds, count):
        moment = datetime.fromtimestamp(packet.time_ns / 1e9).astimezone().strftime("%H:%M:%S.%f")
        arrow = ">" if packet.sent else "<"
        print(f"{moment}  {packet.ifname:<32} {arrow} {summary(packet.frame)}", flush=True)


def write_stream(taken: "Capture", seconds: float | None, count: int | None, path: Path) -> int:
    """Write packets as they come; return how many. Raises InvalidInput."""
    from kubenet.observe.pcapng import pcapng

    number = 0

    def counted() -> Iterator["Captured"]:
        nonlocal number
        for packet in packets(taken, seconds, count):
            number += 1
            yield packet

    if str(path) == "-":
        for block in pcapng(counted()):
            sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
        return number
    try:
        with path.open("wb") as file:
            for block in pcapng(counted()):
                file.write(block)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error
    return number
