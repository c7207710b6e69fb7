"""Send HTTP requests to a name, one new connection each, and say as JSON who answered.

Runs with ``python -I`` inside a pod: the name goes through the pod's resolv.conf and the C library, as in any
program.
"""

import argparse
import http.client
import json
import socket
import sys
import time
from collections import Counter

TIMEOUT_S = 3.0


def ask(host: str, port: int) -> tuple[str, str]:
    """Return the pod that answered, or an empty string and what went wrong."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            return "", f"HTTP status {response.status}"
        return str(json.loads(body)["pod"]), ""
    except (OSError, http.client.HTTPException, ValueError) as error:
        return "", f"{type(error).__name__}: {error}"
    finally:
        connection.close()


def main() -> int:
    """Print what came back; the exit status is 1 if any request failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two requests")
    options = parser.parse_args()
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        addresses = sorted({str(entry[4][0]) for entry in found})
    except OSError as error:
        print(
            json.dumps({"addresses": [], "order": [], "pods": {}, "failures": [f"{options.host}: {error}"]})
        )
        return 1
    order, failures = [], []
    for _ in range(options.count):
        pod, failure = ask(options.host, options.port)
        if failure:
            failures.append(failure)
        else:
            order.append(pod)
        time.sleep(options.pause)
    print(json.dumps({"addresses": addresses, "order": order, "pods": Counter(order), "failures": failures}))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
