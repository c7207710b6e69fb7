"""A small HTTP server, as a pod: every answer says who gave it and who asked.

Runs with ``python -I``, so it imports nothing of kubenet. Told to stop, it goes on answering for a moment:
the proxies of all nodes hear of its end at the same time as it does, and until the slowest has acted new
connections still arrive here.
"""

import json
import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DRAIN_S = 1.0
BYTES_PATH = "/bytes/"
MAX_BYTES = 1 << 20


class Handler(BaseHTTPRequestHandler):
    """Answers every GET with the names of the server and of the client; /bytes/N with N bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith(BYTES_PATH):
            self._answer("application/octet-stream", b"x" * self._asked_bytes())
            return
        answer = {
            "pod": socket.gethostname(),
            "address": self.connection.getsockname()[0],
            "client": self.client_address[0],
            "path": self.path,
        }
        self._answer("application/json", json.dumps(answer).encode() + b"\n")

    def _asked_bytes(self) -> int:
        digits = self.path.removeprefix(BYTES_PATH)
        return min(int(digits), MAX_BYTES) if digits.isdecimal() else 0

    def _answer(self, content_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write to stdout, where a container's log is read from."""
        print(f"{self.client_address[0]} {format % args}", flush=True)


class Server(ThreadingHTTPServer):
    """Listens with room for a burst, and waits for requests in flight when it stops."""

    request_queue_size = 512
    daemon_threads = False
    address_family = socket.AF_INET


def main() -> int:
    """Serve on the port given as the first argument or as PORT (default 8080)."""
    port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PORT", "8080"))
    server = Server(("", port), Handler)

    def stop(_signal: int, _frame: object) -> None:
        threading.Timer(DRAIN_S, server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"listening on port {port}", flush=True)
    server.serve_forever(poll_interval=0.05)
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
