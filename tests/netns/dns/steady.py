"""A client that asks so many queries a second, evenly, and tells what became of them.

    python -m tests.netns.dns.steady SERVER RATE SECONDS NAME ADDRESS

prints {"asked": ..., "answered": ..., "wrong": ...} at its end; "go" as soon as the first answer came.
"""

import json
import socket
import sys
import time

from dns.transports import SO_RCVBUFFORCE
from tests.unit.dns.world import query

LAST_S = 3.0  # for the answers to the last queries


def main() -> None:
    server, rate, seconds, name, address = sys.argv[1:]
    packed = socket.inet_aton(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)  # what waits here is not lost
        opened.connect((server, 53))
        opened.settimeout(LAST_S)
        opened.send(query(name, ident=65535))
        opened.recv(4096)
        print("go", flush=True)
        opened.setblocking(False)
        print(json.dumps(steadily(opened, float(rate), float(seconds), query(name)[2:], packed)), flush=True)


def steadily(
    opened: socket.socket, rate: float, seconds: float, rest: bytes, packed: bytes
) -> dict[str, int]:
    """Ask and listen in turn; an id is used once in 65,536 queries, so an answer counts once."""
    waiting: dict[int, None] = {}
    asked = answered = wrong = 0
    began = time.monotonic()
    while True:
        elapsed = time.monotonic() - began
        due = int(min(elapsed, seconds) * rate)
        while asked < due:
            ident = asked & 0xFFFF
            waiting[ident] = None
            opened.send(ident.to_bytes(2, "big") + rest)
            asked += 1
        try:
            while True:
                reply = opened.recv(4096)
                known = waiting.pop(int.from_bytes(reply[:2], "big"), 0) is None
                answered += known
                wrong += known and not reply.endswith(packed)
        except BlockingIOError:
            time.sleep(0.0005)
        if elapsed > seconds and (not waiting or elapsed > seconds + LAST_S):
            return {"asked": asked, "answered": answered, "wrong": wrong}


if __name__ == "__main__":
    main()
