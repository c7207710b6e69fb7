"""What a query costs the DNS server: its own processor time, over real sockets on loopback.

The server runs in a child; this process asks, a window of queries at a time, and reads the child's processor
time before and after. Wall time would measure the client as much as the server.
"""

import asyncio
import os
import random
import signal
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

from bench.common import Figure, Target, asked, in_turn, report_all
from dns import names
from dns.framing import FrameReader, framed
from dns.server import DnsConfig, DnsServer
from dns.wire import RD, RType
from kubenet.model.objects import (
    SERVICE_NAME_LABEL,
    EndpointPort,
    EndpointSlice,
    Namespace,
    ObjectMeta,
    Service,
    ServicePortSpec,
    ServiceSpec,
    SliceEndpoint,
)

PORT = 5301
SERVICES = 1000
QUERIES = 20_000  # a round of a figure
WINDOW = 64  # queries under way
OPT = b"\0" + struct.pack("!HHIH", RType.OPT, 1232, 0, 0)

# The targets are those of the project for the whole server, sockets included.
FIGURES = (
    Figure("dns-own-1k", "us CPU/query", Target("<=", 5.0)),
    Figure("dns-own-mixed-case", "us CPU/query", Target("<=", 1.15), "the same in lower case"),
    Figure("dns-nodata", "us CPU/query", Target("<=", 5.0)),
    Figure("dns-nxdomain-flood", "us CPU/query", Target("<=", 6.0)),
    Figure("dns-headless-1000", "us CPU/query", Target("<=", 10.0)),
    Figure("dns-tcp-pipelined", "us CPU/query", Target("<=", 4.0)),
)


def main() -> None:
    wanted = asked(FIGURES)
    messages = {name: make() for name, make in QUERIES_OF.items() if name in wanted.figures}
    lower = messages.get("dns-own-1k") or one_thousand()
    with serving() as pid:

        def ours() -> Mapping[str, float]:
            return {name: _cost_us(pid, name, sent) for name, sent in messages.items()}

        def peer() -> Mapping[str, float]:
            if "dns-own-mixed-case" not in messages:
                return {}
            return {"dns-own-mixed-case": _cost_us(pid, "dns-own-1k", lower)}

        report_all(FIGURES, *in_turn(ours, peer, wanted.rounds))


def one_thousand() -> list[bytes]:
    return [query(f"svc-{n}.ns-{n % 50}.svc.cluster.local") for n in range(SERVICES)]


def mixed_case() -> list[bytes]:
    dice = random.Random(1)
    return [
        message[:12]
        + bytes(
            octet ^ 0x20 if chr(octet).isalpha() and dice.random() < 0.5 else octet
            for octet in message[12:-4]
        )
        + message[-4:]
        for message in one_thousand()
    ]


def nodata() -> list[bytes]:
    return [query(f"svc-{n}.ns-{n % 50}.svc.cluster.local", RType.AAAA) for n in range(SERVICES)]


def never_the_same() -> list[bytes]:
    return [query(f"x{n}.ns-{n % 50}.svc.cluster.local") for n in range(QUERIES)]


def headless() -> list[bytes]:
    return [query("many.ns-0.svc.cluster.local", opt=OPT)]


QUERIES_OF: Mapping[str, Callable[[], list[bytes]]] = {
    "dns-own-1k": one_thousand,
    "dns-own-mixed-case": mixed_case,
    "dns-nodata": nodata,
    "dns-nxdomain-flood": never_the_same,
    "dns-headless-1000": headless,
    "dns-tcp-pipelined": one_thousand,
}


def query(name: str, rtype: int = RType.A, *, opt: bytes = b"") -> bytes:
    header = struct.pack("!6H", 7, RD, 1, 0, 0, bool(opt))
    return header + names.from_text(name) + struct.pack("!HH", rtype, 1) + opt


def _cost_us(pid: int, figure: str, messages: Sequence[bytes]) -> float:
    """Return the server's processor time for each query, in microseconds."""
    ask = ask_tcp if figure == "dns-tcp-pipelined" else ask_udp
    before = _cpu_ns(pid)
    answered = ask([messages[n % len(messages)] for n in range(QUERIES)])
    return (_cpu_ns(pid) - before) / 1000 / answered


def _cpu_ns(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def ask_udp(messages: Sequence[bytes]) -> int:
    """Ask, and return how many answers came."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", PORT))
        client.settimeout(2)
        for start in range(0, len(messages), WINDOW):
            window = messages[start : start + WINDOW]
            for message in window:
                client.send(message)
            for _ in window:
                client.recv(2048)
    return len(messages)


def ask_tcp(messages: Sequence[bytes]) -> int:
    """Ask on one connection, and return how many answers came."""
    answered = 0
    with socket.create_connection(("127.0.0.1", PORT), timeout=5) as client:
        for start in range(0, len(messages), WINDOW):
            window = messages[start : start + WINDOW]
            client.sendall(b"".join(map(framed, window)))
            frames = FrameReader()
            left = len(window)
            while left:
                frames.feed(client.recv(65536))
                left -= sum(1 for _ in frames.messages())
            answered += len(window)
    return answered


@contextmanager
def serving() -> Iterator[int]:
    """Serve 1,000 Services and one of 1,000 endpoints from a child; give its pid."""
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            asyncio.run(_serve(tell))
        finally:
            os._exit(1)
    os.close(tell)
    try:
        if os.read(ready, 1) != b"y":
            raise SystemExit(f"the server did not start; is port {PORT} of loopback taken?")
        yield pid
    finally:
        os.close(ready)
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


async def _serve(tell: int) -> None:
    server = DnsServer(DnsConfig((ip_address("127.0.0.1"),), port=PORT))
    await server.listen()
    for n in range(50):
        server.feed.namespace(f"ns-{n}", Namespace(metadata=ObjectMeta(name=f"ns-{n}")))
    for n in range(SERVICES):
        server.feed.service(f"ns-{n % 50}/svc-{n}", _service(f"10.96.{n >> 8}.{n & 255}", n))
    server.feed.service("ns-0/many", _service("None", 0, name="many"))
    server.feed.endpoint_slice("ns-0/many-1", _thousand_endpoints())
    server.feed.complete()
    server.poke()
    await server.synced.wait()
    os.write(tell, b"y")
    await asyncio.sleep(600)


def _service(ip: str, number: int, name: str = "") -> Service:
    return Service(
        metadata=ObjectMeta(name=name or f"svc-{number}", namespace=f"ns-{number % 50}"),
        spec=ServiceSpec(
            cluster_ip=ip,
            cluster_ips=(ip,),
            ports=(ServicePortSpec(name="http", port=80),),
        ),
    )


def _thousand_endpoints() -> EndpointSlice:
    return EndpointSlice(
        metadata=ObjectMeta(name="many-1", namespace="ns-0", labels={SERVICE_NAME_LABEL: "many"}),
        endpoints=tuple(SliceEndpoint(addresses=(f"10.244.{n >> 8}.{n & 255}",)) for n in range(1000)),
        ports=(EndpointPort(name="http", port=8080),),
    )


if __name__ == "__main__":
    main()
