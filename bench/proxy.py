"""The service proxy beside kube-proxy's layouts, loaded by kube-proxy's tools.

The peers' rules are generated: for nftables a chain, an anonymous map and two elements a service, for
iptables a rule a service in one list, as kube-proxy 1.36 lays them out. No kube-proxy runs.
Everything happens in network namespaces of its own.

Loads are processes of their own: interpreter, imports, deciding, encoding and the kernel's work count, and
only the making of the input does not (the peer reads its input from a file made before). The figures named
proxy-daemon are of the whole daemon, with decoding of the API's answers and the cache of objects. A change is
measured there, too: from the event's bytes to the transaction's answer.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

from bench.common import Figure, Target, asked, children_cpu_ms, in_turn, report, report_all
from bench.proxying.tables import NETWORK, kube_proxy_nft, serving

NFT_PEER = "nft -f of kube-proxy's layout"
CHANGES = 400

LOAD_10K = Figure("proxy-load-10k-cpu", "ms CPU", Target("<=", 1 / 20), NFT_PEER)
LOAD_30K = Figure("proxy-load-30k-cpu", "ms CPU", Target("<=", 1500))
RSS_30K = Figure("proxy-rss-30k", "MB", Target("<=", 120))
DAEMON_CPU_30K = Figure("proxy-daemon-load-30k-cpu", "ms CPU", Target("<=", 1500))
DAEMON_RSS_30K = Figure("proxy-daemon-rss-30k", "MB", Target("<=", 120))
CHANGE_P50 = Figure("proxy-change-p50", "ms", Target("<=", 1))
CHANGE_P99 = Figure("proxy-change-p99", "ms", Target("<=", 5))
GROWTH = Figure("proxy-change-growth-30k", "ms", Target("<=", 1.5), "1,000 services")
BURST = Figure("proxy-burst-1000", "ms", Target("<=", 150))
FIRST_NFT = Figure(
    "proxy-first-packet-nft-30k", "us", Target("<=", 1.15), "the same way without a Service, tracked"
)
FIRST_IPTABLES = Figure(
    "proxy-first-packet-iptables-30k", "us", Target("<=", 1 / 20), "kube-proxy's list of 30,000 rules, legacy"
)
CHURN = Figure("proxy-churn-failures", "of 20,000 connections", Target("<=", 0))
CHURN_RATE = Figure("proxy-churn-updates", "updates/s", Target(">=", 1000))
STALE = Figure("proxy-stale-udp", "ms", Target("<=", 50))
FLUSH = Figure("proxy-flush-repair", "ms", Target("<=", 500))
FIGURES = (
    LOAD_10K,
    LOAD_30K,
    RSS_30K,
    DAEMON_CPU_30K,
    DAEMON_RSS_30K,
    CHANGE_P50,
    CHANGE_P99,
    GROWTH,
    BURST,
    FIRST_NFT,
    FIRST_IPTABLES,
    CHURN,
    CHURN_RATE,
    STALE,
    FLUSH,
)


def in_child(what: str, count: int) -> Mapping[str, float]:
    """Return what loading ``count`` services costs a process that does nothing else."""
    argv = [sys.executable, "-m", "bench.proxy", what, str(count)]
    told = subprocess.run(argv, capture_output=True, check=True, text=True)
    measured: dict[str, float] = json.loads(told.stdout)
    return measured


def load_table(count: int) -> Mapping[str, float]:
    """Load in this process; return what it cost: CPU without the making of the input, and peak memory."""
    from kubenet.kernel.netns import NetNs
    from kubenet.kernel.nft import Nftables
    from proxy.apply_nft import NftBackend
    from proxy.nft_names import TABLE

    start = time.process_time()
    wanted = serving(count)
    made_ms = (time.process_time() - start) * 1000
    with NetNs.unnamed() as netns:
        backend = NftBackend(Nftables(netns, 4, TABLE), NETWORK)
        backend.apply(wanted)
        used_ms = time.process_time() * 1000 - made_ms
        peak_mb = _peak_mb()
        backend.close()
    return {"cpu_ms": used_ms, "peak_mb": peak_mb}


def _peak_mb() -> float:
    """Return the most memory that this program held; ru_maxrss would count who started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def load_daemon(count: int) -> Mapping[str, float]:
    """Load a whole daemon in this process."""
    from bench.proxying.daemon import loaded

    return asyncio.run(loaded(count))


def loads(figures: frozenset[str], rounds: int) -> None:
    if LOAD_10K.name in figures:
        with tempfile.NamedTemporaryFile("w", suffix=".nft") as rules:
            rules.write("\n".join(kube_proxy_nft(10_000)))
            rules.flush()

            def peer() -> Mapping[str, float]:
                before = children_cpu_ms()
                subprocess.run(["unshare", "-n", "nft", "-f", rules.name], check=True)
                return {LOAD_10K.name: children_cpu_ms() - before}

            def ours() -> Mapping[str, float]:
                return {LOAD_10K.name: in_child("--table", 10_000)["cpu_ms"]}

            report_all([LOAD_10K], *in_turn(ours, peer, rounds))
    for cpu, rss, what, memory in (
        (LOAD_30K, RSS_30K, "--table", "peak_mb"),
        (DAEMON_CPU_30K, DAEMON_RSS_30K, "--daemon", "rss_mb"),
    ):
        if not figures & {cpu.name, rss.name}:
            continue

        def ours_30k() -> Mapping[str, float]:
            measured = in_child(what, 30_000)  # noqa: B023 - called before the next turn
            return {cpu.name: measured["cpu_ms"], rss.name: measured[memory]}  # noqa: B023

        taken, _ = in_turn(ours_30k, None, rounds)
        report_all([each for each in (cpu, rss) if each.name in figures], taken, {})


def changes(figures: frozenset[str], rounds: int) -> None:
    each = CHANGES // rounds
    if figures & {CHANGE_P50.name, CHANGE_P99.name, BURST.name}:
        took, bursts = asyncio.run(_changed(10_000, rounds, each))
        if CHANGE_P50.name in figures:
            report(CHANGE_P50, [median(one) for one in took])
        if CHANGE_P99.name in figures:
            report(CHANGE_P99, [quantiles(one, n=100)[98] for one in took])
        if BURST.name in figures:
            report(BURST, bursts)
    if GROWTH.name in figures:
        many, few = asyncio.run(_both(30_000, 1_000, rounds, each))
        report(GROWTH, many, few)


async def _changed(count: int, rounds: int, each: int) -> tuple[Sequence[Sequence[float]], Sequence[float]]:
    from bench.proxying.daemon import Daemon

    async with Daemon(count) as daemon:
        took = [[await daemon.change_ms() for _ in range(each)] for _ in range(rounds)]
        await daemon.burst_ms(1000)
        return took, [await daemon.burst_ms(1000) for _ in range(rounds)]


async def _both(many: int, few: int, rounds: int, each: int) -> tuple[Sequence[float], Sequence[float]]:
    """Return the medians with many services and with few, taken in turn."""
    from bench.proxying.daemon import Daemon

    async with Daemon(many) as large, Daemon(few) as small:
        medians: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for daemon, into in zip((large, small), medians, strict=True):
                into.append(median([await daemon.change_ms() for _ in range(each)]))
        return medians


def first_packets(figures: frozenset[str], rounds: int) -> None:
    from bench.proxying import packets
    from bench.proxying.addresses import pod, vip

    last = vip(29_999)
    if FIRST_NFT.name in figures:
        with packets.first_packets_nft(30_000) as (router, plain):
            report_all(
                [FIRST_NFT],
                *in_turn(
                    lambda: {FIRST_NFT.name: router.median_us(last, 80)},
                    lambda: {FIRST_NFT.name: plain.median_us(pod(0), packets.PORT)},
                    rounds,
                ),
            )
    if FIRST_IPTABLES.name in figures:
        with packets.first_packets_iptables(30_000) as (router, peer):
            report_all(
                [FIRST_IPTABLES],
                *in_turn(
                    lambda: {FIRST_IPTABLES.name: router.median_us(last, 80)},
                    lambda: {FIRST_IPTABLES.name: peer.median_us(last, 80)},
                    rounds,
                ),
            )


def under_change(figures: frozenset[str], rounds: int) -> None:
    from bench.proxying import packets
    from bench.proxying.addresses import pod

    if figures & {CHURN.name, CHURN_RATE.name}:
        runs = [packets.churn(1_000, 20_000, 1_100) for _ in range(rounds)]
        report(CHURN, [run["failed"] for run in runs])
        report(CHURN_RATE, [run["rate"] for run in runs])
    if STALE.name in figures:
        with packets.stale_udp(10_000, 2_000) as node:
            # Another endpoint, none at all, and the first one again.
            gone = [[node.gone_ms(pod(turn)), node.gone_ms(), node.gone_ms(pod(9))] for turn in range(rounds)]
            report(STALE, [max(each) for each in gone])
    if FLUSH.name in figures:
        with ExitStack() as undo:
            table = packets.Flushed(undo, 10_000)
            report(FLUSH, [table.repaired_ms() for _ in range(rounds)])


def main() -> None:
    measured = {"--table": load_table, "--daemon": load_daemon}
    if sys.argv[1:] and (load := measured.get(sys.argv[1])):
        sys.stdout.write(json.dumps(load(int(sys.argv[2]))))
        return
    wanted = asked(FIGURES)
    changes(wanted.figures, wanted.rounds)
    under_change(wanted.figures, wanted.rounds)
    loads(wanted.figures, wanted.rounds)
    first_packets(wanted.figures, wanted.rounds)


if __name__ == "__main__":
    main()
