"""What a query costs the DNS server, beside dnsmasq, unbound and, when given, a real CoreDNS.

    ./dev bench dns [FIGURE...] [--peer coredns=PATH]

Everything runs on loopback. The command of this checkout serves, with a Corefile like kubeadm's (metrics,
cache, forward); it follows an API that holds the cluster. dnsperf asks.
"""

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles

from bench.common import Figure, Target, asked, in_turn, report, report_all, skip
from bench.worlds import dns_servers as servers
from bench.worlds.dns_api import DOMAIN, NAMESPACES
from bench.worlds.dns_servers import Load, Server, cost_us, name_of
from dns import names
from dns.wire import RD, RType

THOUSAND, HUNDRED_THOUSAND = 1000, 100_000
SAMPLE = 200_000  # names of a flood
EVENTS = 300
LOST_RATE, LOST_S = 5000, 6.0
UNIT = "us CPU/query"
PEERS = ("dnsmasq", "unbound", "coredns")

OWN = Figure("dns-own-1k", UNIT, Target("<=", 5.0))
OWN_BESIDE = {
    "dnsmasq": Figure("dns-own-1k-dnsmasq", UNIT, Target("<=", 1.3), "dnsmasq"),
    "unbound": Figure("dns-own-1k-unbound", UNIT, Target("<=", 1.6), "unbound, local data"),
    "coredns": Figure("dns-own-1k-coredns", UNIT, Target("<=", 0.2), "coredns"),
}
MIXED = Figure("dns-own-mixed-case", UNIT, Target("<=", 1.15), "the same in lower case")
OWN_100K = Figure("dns-own-100k", UNIT, Target("<=", 7.0))
RSS_100K = Figure("dns-rss-100k", "MB", Target("<=", 120))
FLOOD = Figure("dns-nxdomain-flood", UNIT, Target("<=", 7.0))
FLOOD_RSS = Figure("dns-nxdomain-flood-rss", "MB", Target("<=", 1.05), "before the flood")
HEADLESS = Figure("dns-headless-1000", UNIT, Target("<=", 12.0))
TCP = Figure("dns-tcp-pipelined", UNIT, Target("<=", 5.0))
MISS = Figure("dns-forward-miss", UNIT, Target("<=", 15.0))
MISS_BESIDE = Figure("dns-forward-miss-dnsmasq", UNIT, Target("<=", 1.0), "dnsmasq")
EVENT_P50 = Figure("dns-event-p50", "ms", Target("<=", 5.0))
EVENT_P99 = Figure("dns-event-p99", "ms", Target("<=", 50.0))
LOST = Figure("dns-reload-lost", "queries", Target("<=", 0.0))
FIGURES = (
    OWN,
    *OWN_BESIDE.values(),
    MIXED,
    OWN_100K,
    RSS_100K,
    FLOOD,
    FLOOD_RSS,
    HEADLESS,
    TCP,
    MISS,
    MISS_BESIDE,
    EVENT_P50,
    EVENT_P99,
    LOST,
)


def main() -> None:
    wanted = asked(FIGURES)
    if why := servers.missing("dnsperf"):
        for figure in FIGURES:
            skip(figure, why)
        return
    rounds, figures = wanted.rounds, wanted.figures
    if figures & {each.name for each in (OWN, MIXED, FLOOD, FLOOD_RSS, HEADLESS, TCP, *OWN_BESIDE.values())}:
        of_a_thousand(figures, rounds, wanted.peers.get("coredns"))
    if figures & {MISS.name, MISS_BESIDE.name}:
        forward_misses(rounds)
    if figures & {OWN_100K.name, RSS_100K.name}:
        of_a_hundred_thousand(rounds)
    if figures & {EVENT_P50.name, EVENT_P99.name}:
        events(rounds)
    if LOST.name in figures:
        lost(rounds)


def own(count: int, *, mixed: bool = False) -> list[str]:
    """Return lines of dnsperf that ask for the addresses of so many Services."""
    dice = random.Random(1)
    found = [name_of(n) for n in range(count)]
    dice.shuffle(found)
    if mixed:
        found = ["".join(c.upper() if dice.random() < 0.5 else c for c in each) for each in found]
    return [f"{each} A" for each in found]


def flood() -> list[str]:
    return [f"x{n}.ns-{n % NAMESPACES}.svc.{DOMAIN} A" for n in range(SAMPLE)]


def of_a_thousand(figures: frozenset[str], rounds: int, coredns: Path | None) -> None:
    """Own names, and all that is asked of the same server."""
    loads = {
        OWN.name: Load(own(THOUSAND)),
        MIXED.name: Load(own(THOUSAND, mixed=True)),
        FLOOD.name: Load(flood()),
        HEADLESS.name: Load([f"many.ns-0.svc.{DOMAIN} A"], edns=True),
        TCP.name: Load(own(THOUSAND), tcp=True),
    }
    loads = {name: load for name, load in loads.items() if name in figures or name == OWN.name}
    with ExitStack() as stack:
        server = stack.enter_context(servers.kubenet(THOUSAND))
        peers = dict(_peers(stack, figures, coredns))

        def ours() -> Mapping[str, float]:
            found = {name: cost_us(server, load) for name, load in loads.items()}
            return found | {OWN_BESIDE[peer].name: found[OWN.name] for peer in peers}

        def theirs() -> Mapping[str, float]:
            found = {OWN_BESIDE[name].name: cost_us(peer, loads[OWN.name]) for name, peer in peers.items()}
            return found | ({MIXED.name: cost_us(server, loads[OWN.name])} if MIXED.name in loads else {})

        report_all(FIGURES, *in_turn(ours, theirs, rounds))
        if FLOOD_RSS.name in figures:
            flooded(server, rounds)


def _peers(stack: ExitStack, figures: frozenset[str], coredns: Path | None) -> Iterator[tuple[str, Server]]:
    for name, figure in OWN_BESIDE.items():
        if figure.name not in figures:
            continue
        if name == "coredns" and coredns:
            yield name, stack.enter_context(servers.coredns(coredns))
        elif name == "coredns":
            skip(figure, "Debian has none; give a real one: --peer coredns=PATH")
        elif why := servers.missing(name):
            skip(figure, why)
        else:
            serve = {"dnsmasq": servers.dnsmasq, "unbound": servers.unbound}[name]
            yield name, stack.enter_context(serve(THOUSAND))


def flooded(server: Server, rounds: int) -> None:
    """Report what floods of new names leave in memory."""
    before, after = [], []
    for number in range(rounds):
        before.append(server.rss_mb())
        names = [f"r{number}x{n}.ns-{n % NAMESPACES}.svc.{DOMAIN} A" for n in range(SAMPLE)]
        cost_us(server, Load(names, seconds=2.0))
        after.append(server.rss_mb())
    report(FLOOD_RSS, after, before)


def forward_misses(rounds: int) -> None:
    """Names that are never asked twice, so that no cache helps."""
    turn = iter(range(1 << 30))

    def fresh() -> Load:
        number = next(turn)
        return Load([f"n{number}x{n}.example.com A" for n in range(60_000)])

    with servers.upstream() as port, servers.kubenet(THOUSAND) as server:
        if servers.missing("dnsmasq"):
            skip(MISS_BESIDE, servers.missing("dnsmasq"))
            return
        with servers.dnsmasq(1, upstream=port) as peer:

            def ours() -> Mapping[str, float]:
                cost = cost_us(server, fresh())
                return {MISS.name: cost, MISS_BESIDE.name: cost}

            def theirs() -> Mapping[str, float]:
                return {MISS_BESIDE.name: cost_us(peer, fresh())}

            report_all(FIGURES, *in_turn(ours, theirs, rounds))


def of_a_hundred_thousand(rounds: int) -> None:
    """The same names as for 1,000, and what they take in memory."""
    load = Load(own(HUNDRED_THOUSAND))
    with servers.kubenet(HUNDRED_THOUSAND) as server:
        cost_us(server, Load(load.lines, seconds=10.0))  # each name is rendered when it is first asked for

        def ours() -> Mapping[str, float]:
            return {OWN_100K.name: cost_us(server, load), RSS_100K.name: server.rss_mb()}

        report_all(FIGURES, *in_turn(ours, None, rounds))


def events(rounds: int) -> None:
    """From the API's word that an endpoint moved to the first answer that says so."""
    p50, p99 = [], []
    with servers.kubenet_and_its_cluster(THOUSAND) as (server, move):
        for _ in range(rounds):
            times = [_until_told(server, move, number % 250 + 1) for number in range(EVENTS)]
            p50.append(median(times))
            p99.append(quantiles(times, n=100)[98])
    report(EVENT_P50, p50)
    report(EVENT_P99, p99)


def _until_told(server: Server, move: Callable[[str], None], last: int) -> float:
    """Return how many milliseconds it takes until the new address is told."""
    message = query(f"moving.ns-0.svc.{DOMAIN}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", server.port))
        client.settimeout(5)
        began = time.perf_counter()
        move(f"10.1.0.{last}")
        while True:
            client.send(message)
            if client.recv(4096)[-4:] == bytes((10, 1, 0, last)):
                return (time.perf_counter() - began) * 1000
            time.sleep(0.0002)


def lost(rounds: int) -> None:
    """Queries without an answer at 5,000 a second, over reloads and restarts."""
    counts: list[float] = []
    with servers.restarting(THOUSAND) as (port, disturb):
        for _ in range(rounds):
            with steady(port) as found:
                for number in range(4):
                    disturb(number)
            counts.append(found[0] - found[1])
    report(LOST, counts)


@contextmanager
def steady(port: int) -> Iterator[list[int]]:
    """Ask evenly all the time; the list holds how many were asked and answered at the end."""
    counts: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", port))
            client.setblocking(False)
            counts.extend(_ask_steadily(client, stop))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()


def _ask_steadily(client: socket.socket, stop: threading.Event) -> tuple[int, int]:
    rest = query(name_of(1))[2:]
    asked_ids: set[int] = set()
    sent = answered = 0
    began = stopped = time.monotonic()
    while not stop.is_set() or (asked_ids and time.monotonic() < stopped + 3):
        if not stop.is_set():
            stopped = time.monotonic()
            while sent < (stopped - began) * LOST_RATE:
                asked_ids.add(sent & 0xFFFF)
                client.send((sent & 0xFFFF).to_bytes(2, "big") + rest)
                sent += 1
        try:
            while True:
                ident = int.from_bytes(client.recv(4096)[:2], "big")
                answered += ident in asked_ids
                asked_ids.discard(ident)
        except BlockingIOError:
            time.sleep(0.0005)
    return sent, answered


def query(name: str, rtype: int = RType.A) -> bytes:
    return struct.pack("!6H", 7, RD, 1, 0, 0, 0) + names.from_text(name) + struct.pack("!HH", rtype, 1)


if __name__ == "__main__":
    main()
