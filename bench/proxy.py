"""The service proxy's nftables backend beside rules in kube-proxy's layout, loaded by ``nft -f``.

The peer's rules are generated: a chain, an anonymous map and two elements a service, as kube-proxy 1.36 lays
them out; it is not a run of the kube-proxy binary. Everything happens in network namespaces of its own.

Ours is a process of its own for the loads: interpreter, imports, deciding, encoding and the kernel's work
count, and only the making of the input does not (the peer reads its input from a file made before).
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from statistics import median, quantiles

from bench.common import Figure, Target, asked, children_cpu_ms, in_turn, report, report_all, timed
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import Nftables
from kubenet.model.objects import (
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    ObjectMeta,
    Service,
    ServicePortSpec,
    ServiceSpec,
    SliceEndpoint,
)
from proxy.apply_nft import NftBackend
from proxy.nft_names import TABLE
from proxy.policy import Locality, ServingPort, serve, serve_port
from proxy.ports import Endpoint, NodeNetwork, ServicePort, ServicePortName
from proxy.track import ServiceObjects, TrackRules, together
from proxy.view import PortChange

NETWORK = NodeNetwork(4, ip_network("10.128.0.0/9"), service_cidrs=(ip_network("10.96.0.0/12"),))
PEER = "nft -f of kube-proxy's layout"
CHANGES = 400

LOAD_10K = Figure("proxy-load-10k-cpu", "ms CPU", Target("<=", 1 / 20), PEER)
LOAD_30K = Figure("proxy-load-30k-cpu", "ms CPU", Target("<=", 1500))
RSS_30K = Figure("proxy-rss-30k", "MB", Target("<=", 120))
CHANGE_P50 = Figure("proxy-change-p50", "ms", Target("<=", 1))
CHANGE_P99 = Figure("proxy-change-p99", "ms", Target("<=", 5))
APPLY_P50 = Figure("proxy-change-apply-p50", "ms", Target("<=", 1))
APPLY_P99 = Figure("proxy-change-apply-p99", "ms", Target("<=", 5))
GROWTH = Figure("proxy-change-growth-30k", "ms", Target("<=", 1.5), "1,000 services")
APPLY_GROWTH = Figure("proxy-change-apply-growth-30k", "ms", Target("<=", 1.5), "1,000 services")
BURST = Figure("proxy-burst-1000", "ms", Target("<=", 150))
FIGURES = (
    LOAD_10K,
    LOAD_30K,
    RSS_30K,
    CHANGE_P50,
    CHANGE_P99,
    APPLY_P50,
    APPLY_P99,
    GROWTH,
    APPLY_GROWTH,
    BURST,
)


def vip(number: int) -> IPv4Address:
    return IPv4Address(int(IPv4Address("10.96.1.0")) + number)


def pod(number: int) -> IPv4Address:
    return IPv4Address(int(IPv4Address("10.128.1.0")) + number)


def service_port(number: int) -> ServicePort:
    endpoints = tuple(Endpoint(pod(2 * number + one), 8080, node_name="n1") for one in (0, 1))
    name = ServicePortName(f"ns{number % 50}", f"svc-{number}", "http")
    return ServicePort(name, vip(number), 80, endpoints=endpoints)


def serving(count: int) -> Sequence[ServingPort]:
    return serve([service_port(number) for number in range(count)], Locality("here"))


def moved(port: ServicePort, turn: int) -> ServicePort:
    """Return ``port`` with its second endpoint replaced by another."""
    return replace(port, endpoints=(port.endpoints[0], replace(port.endpoints[1], ip=pod(200_000 + turn))))


def kube_proxy_rules(count: int) -> Iterator[str]:
    """Yield lines for ``nft -f`` that lay a table out as kube-proxy does."""
    yield """table ip kube-proxy {
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  set cluster-ips { type ipv4_addr; }
  chain services {
    ip daddr @cluster-ips ip saddr != 10.128.0.0/9 meta mark set meta mark or 0x4000
    ip daddr . meta l4proto . th dport vmap @service-ips
  }
  chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat;
    meta mark and 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random
  }
}"""
    chains = [f"service-{number:08x}-ns{number % 50}/svc-{number}/tcp/http" for number in range(count)]
    yield from (f"add chain ip kube-proxy {chain}" for chain in chains)
    for number, chain in enumerate(chains):
        pods = ", ".join(f"{one} : {pod(2 * number + one)} . 8080" for one in (0, 1))
        choose = f"numgen random mod 2 map {{ {pods} }}"
        yield f"add rule ip kube-proxy {chain} meta l4proto tcp dnat ip to {choose}"
    for number, chain in enumerate(chains):
        yield f"add element ip kube-proxy cluster-ips {{ {vip(number)} }}"
        yield f"add element ip kube-proxy service-ips {{ {vip(number)} . tcp . 80 : goto {chain} }}"


def load_in_child(count: int) -> Mapping[str, float]:
    """Return what loading ``count`` services costs a process that does nothing else."""
    argv = [sys.executable, "-m", "bench.proxy", "--load", str(count)]
    told = subprocess.run(argv, capture_output=True, check=True, text=True)
    measured: dict[str, float] = json.loads(told.stdout)
    return measured


def load_here(count: int) -> None:
    """Load in this process and print what it cost: CPU without the making of the input, and peak memory."""
    start = time.process_time()
    wanted = serving(count)
    made_ms = (time.process_time() - start) * 1000
    with NetNs.unnamed() as netns:
        backend = NftBackend(Nftables(netns, 4, TABLE), NETWORK)
        backend.apply(wanted)
        used_ms = time.process_time() * 1000 - made_ms
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        now_mb = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)
        backend.close()
    sys.stdout.write(json.dumps({"cpu_ms": used_ms, "rss_mb": now_mb, "peak_mb": peak_mb}))


def loads(figures: frozenset[str], rounds: int) -> None:
    if LOAD_10K.name in figures:
        with tempfile.NamedTemporaryFile("w", suffix=".nft") as rules:
            rules.write("\n".join(kube_proxy_rules(10_000)))
            rules.flush()

            def peer() -> Mapping[str, float]:
                before = children_cpu_ms()
                subprocess.run(["unshare", "-n", "nft", "-f", rules.name], check=True)
                return {LOAD_10K.name: children_cpu_ms() - before}

            def ours() -> Mapping[str, float]:
                return {LOAD_10K.name: load_in_child(10_000)["cpu_ms"]}

            report_all([LOAD_10K], *in_turn(ours, peer, rounds))
    if figures & {LOAD_30K.name, RSS_30K.name}:

        def ours_30k() -> Mapping[str, float]:
            measured = load_in_child(30_000)
            return {LOAD_30K.name: measured["cpu_ms"], RSS_30K.name: measured["peak_mb"]}

        report_all([LOAD_30K, RSS_30K], *in_turn(ours_30k, None, rounds))


class Applied:
    """A loaded table, and changes of one service as the backend sees them."""

    def __init__(self, count: int) -> None:
        self._netns = NetNs.unnamed()
        self.backend = NftBackend(Nftables(self._netns, 4, TABLE), NETWORK)
        self.ports = list(serving(count))
        self.backend.apply(self.ports)
        self._turn = 0

    def change_ms(self) -> float:
        self._turn += 1
        at = self._turn * 7919 % len(self.ports)
        port = moved(self.ports[at].port, self._turn)
        start = time.perf_counter()
        now = serve_port(port, Locality("here"))
        self.backend.apply_changed({port.name: now})
        took_ms = (time.perf_counter() - start) * 1000
        self.ports[at] = now
        return took_ms

    def burst_ms(self) -> float:
        self._turn += 1
        changed = [moved(each.port, self._turn * 1000 + at) for at, each in enumerate(self.ports[:1000])]
        start = time.perf_counter()
        now = {port.name: serve_port(port, Locality("here")) for port in changed}
        self.backend.apply_changed(now)
        took_ms = (time.perf_counter() - start) * 1000
        self.ports[:1000] = now.values()
        return took_ms

    def close(self) -> None:
        self.backend.close()
        self._netns.close()


class NoFlows:
    """A node without UDP flows."""

    def forget(self, changes: Iterable[PortChange]) -> int:  # noqa: ARG002
        return 0


class Whole:
    """The whole way of a sync, as the daemon goes it: all objects in, what changed out."""

    def __init__(self, count: int) -> None:
        from proxy.family import FamilySync, Seen  # the loads do without

        self._netns = NetNs.unnamed()
        self._backend = NftBackend(Nftables(self._netns, 4, TABLE), NETWORK)
        self._family = FamilySync(TrackRules(), Locality("here"), self._backend, NoFlows())
        self._services = [_service(number) for number in range(count)]
        self._slices = [_slice(number, pod(2 * number + 1)) for number in range(count)]
        self._turn = 0
        self._seen = Seen
        self._family.sync(Seen(list(together(self._services, self._slices)), everything=True))

    def change_ms(self) -> float:
        self._turn += 1
        at = self._turn * 7919 % len(self._slices)
        self._slices[at] = _slice(at, pod(200_000 + self._turn))
        changed = ServiceObjects(self._services[at].metadata.key, self._services[at], (self._slices[at],))
        return timed(lambda: self._family.sync(self._seen([changed])))

    def close(self) -> None:
        self._backend.close()
        self._netns.close()


def _service(number: int) -> Service:
    ip = str(vip(number))
    spec = ServiceSpec(
        cluster_ip=ip, cluster_ips=(ip,), ports=(ServicePortSpec(name="http", port=80, target_port=8080),)
    )
    return Service(metadata=ObjectMeta(name=f"svc-{number}", namespace=f"ns{number % 50}"), spec=spec)


def _slice(number: int, second: IPv4Address) -> EndpointSlice:
    labels = {"kubernetes.io/service-name": f"svc-{number}"}
    ready = EndpointConditions(ready=True, serving=True, terminating=False)
    return EndpointSlice(
        metadata=ObjectMeta(name=f"svc-{number}-1", namespace=f"ns{number % 50}", labels=labels),
        address_type="IPv4",
        endpoints=tuple(
            SliceEndpoint(addresses=(str(ip),), conditions=ready, node_name="n1")
            for ip in (pod(2 * number), second)
        ),
        ports=(EndpointPort(name="http", port=8080),),
    )


def changes(figures: frozenset[str], rounds: int) -> None:
    for kind, p50, p99, growth in (
        (Applied, APPLY_P50, APPLY_P99, APPLY_GROWTH),
        (Whole, CHANGE_P50, CHANGE_P99, GROWTH),
    ):
        if not figures & {p50.name, p99.name, growth.name}:
            continue
        each = CHANGES // rounds if kind is Applied else 20
        if figures & {p50.name, p99.name}:
            took = _took(kind, 10_000, rounds, each)
            report(p50, [median(one) for one in took])
            report(p99, [quantiles(one, n=100)[98] for one in took])
        if growth.name in figures:
            few, many = _took(kind, 1_000, rounds, each), _took(kind, 30_000, rounds, each)
            report(growth, [median(one) for one in many], [median(one) for one in few])


def _took(kind: type[Applied] | type[Whole], count: int, rounds: int, each: int) -> list[list[float]]:
    world = kind(count)
    try:
        for _ in range(20):
            world.change_ms()
        return [[world.change_ms() for _ in range(each)] for _ in range(rounds)]
    finally:
        world.close()


def burst(rounds: int) -> None:
    world = Applied(10_000)
    try:
        world.burst_ms()
        report(BURST, [world.burst_ms() for _ in range(rounds)])
    finally:
        world.close()


def main() -> None:
    if sys.argv[1:2] == ["--load"]:
        load_here(int(sys.argv[2]))
        return
    wanted = asked(FIGURES)
    changes(wanted.figures, wanted.rounds)
    if BURST.name in wanted.figures:
        burst(wanted.rounds)
    loads(wanted.figures, wanted.rounds)


if __name__ == "__main__":
    main()
