"""Connections through a router that balances: how long the first packet takes, and whether any fails.

client 10.244.2.10 --- router --- server 10.128.0.0/11, each address of it somebody
"""

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from statistics import median

from bench.proxying.addresses import pod, vip
from bench.proxying.tables import HERE, NETWORK, kube_proxy_iptables, service_port, serving
from kubenet.kernel import iptables
from kubenet.kernel.conntrack import Conntrack
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import Nftables
from kubenet.kernel.run import run
from kubenet.model.flavour import Flavour
from kubenet.model.protocol import Protocol
from proxy.apply_iptables import IptablesBackend, KernelIptables
from proxy.apply_nft import NftBackend
from proxy.apply_stale import FlowKeeper, KernelFlows
from proxy.nft_names import TABLE
from proxy.policy import ServingPort, serve_port
from proxy.ports import ServicePort, ServicePortName
from proxy.view import PortChange

PORT = 8080
PODS = "10.128.0.0/11"  # the client is a pod, too, and lives outside of it
_TRACKING = b"""table ip t {
  chain c {
    type filter hook forward priority 0; policy accept;
    ct state invalid drop
  }
}
"""
_NO_LINGER = bytes([1, 0, 0, 0, 0, 0, 0, 0])  # struct linger: close by a reset, and leave nothing to wait for


class Router:
    """Three namespaces. ``pods`` are reached by every address of the cluster's network."""

    def __init__(self, undo: ExitStack) -> None:
        self.client, self.node, self.server = (undo.enter_context(NetNs.unnamed()) for _ in range(3))
        for other, ip, peer, route in (
            (self.client, "10.244.2.10/24", "10.244.2.1/24", "default via 10.244.2.1"),
            (self.server, "10.244.1.10/24", "10.244.1.1/24", "default via 10.244.1.1"),
        ):
            name = "near" if other is self.client else "far"
            _ip(self.node, f"link add {name} type veth peer name eth0 netns {_path(other)}")
            _ip(self.node, f"address add {peer} dev {name}")
            _ip(self.node, f"link set {name} up")
            _ip(other, f"address add {ip} dev eth0")
            _ip(other, "link set eth0 up")
            _ip(other, "link set lo up")
            _ip(other, f"route add {route}")
        _ip(self.node, f"route add {PODS} via 10.244.1.10")
        _ip(self.node, "link set lo up")
        _ip(self.server, f"route add local {PODS} dev lo")
        run(["sysctl", "-qw", "net.ipv4.ip_forward=1"], netns=self.node)
        self._listener = undo.enter_context(self.server.socket(socket.AF_INET, socket.SOCK_STREAM))
        self._listener.bind(("0.0.0.0", PORT))
        self._listener.listen(4096)
        self._listener.settimeout(5)

    def connect_us(self, ip: IPv4Address, port: int) -> float:
        """Return how long connect(2) took, and close. Raises OSError as it does."""
        with self.client.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            made.settimeout(5)
            start = time.perf_counter()
            made.connect((str(ip), port))
            took_us = (time.perf_counter() - start) * 1e6
            self._listener.accept()[0].close()
        return took_us

    def median_us(self, ip: IPv4Address, port: int, connections: int = 300) -> float:
        """Return the median of so many connections, one after another."""
        return median(self.connect_us(ip, port) for _ in range(connections))


def _ip(netns: NetNs, words: str) -> None:
    run(["ip", *words.split()], netns=netns)


def _path(netns: NetNs) -> str:
    return f"/proc/{os.getpid()}/fd/{netns.fileno()}"


@contextmanager
def first_packets_nft(count: int) -> Iterator[tuple[Router, Router]]:
    """Yield a router with our table of ``count`` Services, and one that only tracks connections."""
    with ExitStack() as undo:
        ours, plain = Router(undo), Router(undo)
        backend = NftBackend(Nftables(ours.node, 4, TABLE), NETWORK)
        undo.callback(backend.close)
        backend.apply(serving(count))
        run(["nft", "-f", "-"], stdin=_TRACKING, netns=plain.node)
        yield ours, plain


@contextmanager
def first_packets_iptables(count: int) -> Iterator[tuple[Router, Router]]:
    """Yield a router with our legacy iptables rules for ``count`` Services, and one with kube-proxy's."""
    with ExitStack() as undo:
        ours, peer = Router(undo), Router(undo)
        backend = IptablesBackend(KernelIptables(ours.node, 4, Flavour.LEGACY), NETWORK)
        undo.callback(backend.close)
        backend.apply(serving(count))
        last = [pod(2 * count - 2), pod(2 * count - 1)]
        iptables.restore(peer.node, kube_proxy_iptables(count, last), flavour=Flavour.LEGACY)
        yield ours, peer


def churn(services: int, connections: int, rate: int) -> Mapping[str, float]:
    """Return how many of ``connections`` failed while endpoints changed, and how often a second they did."""
    with ExitStack() as undo:
        router = Router(undo)
        backend = NftBackend(Nftables(router.node, 4, TABLE), NETWORK)
        undo.callback(backend.close)
        backend.apply(serving(services))
        done = threading.Event()
        updates = [0]

        def flip() -> None:
            due_s = time.monotonic()
            while not done.is_set():
                turn = updates[0] = updates[0] + 1
                number = 0 if turn % 2 else turn % services  # every other change is of the one that is used
                ips = [pod(number * 3 + each) for each in range(2 + turn // 2 % 2)]
                port = service_port(number, *ips)
                backend.apply_changed({port.name: serve_port(port, HERE)})
                due_s += 1 / rate
                time.sleep(max(0.0, due_s - time.monotonic()))

        failed = 0
        began_s = time.monotonic()
        changing = threading.Thread(target=flip)
        changing.start()
        try:
            for _ in range(connections):
                try:
                    router.connect_us(vip(0), 80)
                except OSError:
                    failed += 1
        finally:
            done.set()
            changing.join()
        return {"failed": failed, "rate": updates[0] / (time.monotonic() - began_s)}


class StaleUdp:
    """A UDP Service with many flows, whose endpoints come and go. Use it in a ``with``."""

    def __init__(self, undo: ExitStack, services: int, flows: int) -> None:
        self._router = Router(undo)
        self._backend = NftBackend(Nftables(self._router.node, 4, TABLE), NETWORK)
        undo.callback(self._backend.close)
        self._keeper = FlowKeeper(KernelFlows(self._router.node, 4))
        self._now = self._served(pod(0), pod(1))
        self._backend.apply([*serving(services)[1:], self._now])
        self._keeper.forget([PortChange(None, self._now)])
        self._flows = flows

    def _served(self, *ips: IPv4Address) -> ServingPort:
        plain: ServicePort = service_port(0, pod(0), *ips)
        name = ServicePortName("ns0", "svc-0", "dns", Protocol.UDP)
        return serve_port(replace(plain, name=name, endpoints=plain.endpoints[1:]), HERE)

    def gone_ms(self, *ips: IPv4Address) -> float:
        """Make flows, let only ``ips`` serve, and return how long it took until no flow led elsewhere."""
        self._send()
        after = self._served(*ips)
        start = time.perf_counter()
        self._backend.apply_changed({after.port.name: after})
        self._keeper.forget([PortChange(self._now, after)])
        took_ms = (time.perf_counter() - start) * 1000
        self._now = after
        alive = {ip.packed for ip in ips}
        with Conntrack(self._router.node) as table:
            left = [kind for kind in table.udp(4) if kind.destination != kind.answering]
        if any(kind.answering not in alive for kind in left):
            raise AssertionError("a stale flow is left")
        return took_ms

    def _send(self) -> None:
        for first in range(0, self._flows, 500):
            with ExitStack() as undo:
                for _ in range(min(500, self._flows - first)):
                    made = undo.enter_context(self._router.client.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    made.sendto(b"?", (str(vip(0)), 80))


@contextmanager
def stale_udp(services: int, flows: int) -> Iterator[StaleUdp]:
    """Yield a node of ``services`` Services and ``flows`` UDP flows to one of them."""
    with ExitStack() as undo:
        yield StaleUdp(undo, services, flows)


class Flushed:
    """A table that is not ours alone, as on a kernel without owned tables, and somebody who flushes it."""

    def __init__(self, undo: ExitStack, count: int) -> None:
        self._node = undo.enter_context(NetNs.unnamed())
        self._backend = NftBackend(Nftables(self._node, 4, TABLE, owned=False), NETWORK)
        undo.callback(self._backend.close)
        self._serving = serving(count)
        self._backend.apply(self._serving)

    def repaired_ms(self) -> float:
        """Flush everything, and return how long it takes until the table is whole again."""
        run(["nft", "flush", "ruleset"], netns=self._node)
        start = time.perf_counter()
        applied = self._backend.apply(self._serving)
        took_ms = (time.perf_counter() - start) * 1000
        if not applied.observed or not applied.written:
            raise AssertionError("nothing was mended")
        return took_ms
