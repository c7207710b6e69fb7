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


class Handler(BaseHTTPRequestHandler):
    """Answers every GET with the names of the server and of the client."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        answer = {
            "pod": socket.gethostname(),
            "address": self.connection.getsockname()[0],
            "client": self.client_address[0],
            "path": self.path,
        }
        body = json.dumps(answer).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
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
