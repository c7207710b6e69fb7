"""The overlay of a large cluster: first write, comparison when nothing changed, and what a tunnel costs.

The peer of the first write is what a shell script would do: iproute2's own batches, ``bridge -batch`` for the
forwarding entries and ``ip -batch`` for neighbours and routes, on a device that is there. Ours is everything
from Node objects as parsed to the last acknowledgement, the device included.
"""

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Interface, ip_address, ip_network
from statistics import median

from bench.common import Figure, Target, asked, in_turn, report_all, timed
from cni.network import NetworkConfig, NodeNetwork
from cni.overlay import NodeNet
from cni.plan import Wiring
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import run
from kubenet.model.links import Address, Link, LinkKind, LinkState, VethPeer, diff_state, state_of

PEER = "bridge -batch + ip -batch"
SIZES = (1000, 5000)
SYNC_TARGETS_MS = {1000: 100, 5000: 700}
SYNC = {n: Figure(f"overlay-sync-{n}", "ms", Target("<=", SYNC_TARGETS_MS[n], "ms"), PEER) for n in SIZES}
RESYNC_TARGETS_MS = {1000: 10, 5000: 30}
RESYNC = {n: Figure(f"overlay-resync-{n}", "ms", Target("<=", RESYNC_TARGETS_MS[n])) for n in SIZES}
DIRECT = "direct route, same MTU"
TCP = Figure("overlay-tcp-vs-direct", "MB/s", Target(">=", 0.9), DIRECT)
TCP_CPU = Figure("overlay-tcp-cpu-vs-direct", "MB a second of processor", Target(">=", 0.9), DIRECT)
CARRY = (TCP, TCP_CPU)
FIGURES = (*SYNC.values(), *RESYNC.values(), *CARRY)

FIRST = int(ip_address("10.0.0.0"))
UNDERLAY = int(ip_address("172.16.0.0"))
TUNNEL = "kubenet.1"
MTU = 1450
TCP_S = 0.2
TCP_TURNS = 3  # of a round, of which the median counts: neighbours come and go
CHUNK_BYTES = 1 << 17


def node(number: int) -> NodeNet:
    """The node of a number, with the range of that number."""
    cidr = ip_network((FIRST + 256 * number, 24))
    return NodeNet(f"node-{number}", ip_address(UNDERLAY + number), (cidr,))


@contextmanager
def host(number: int = 1) -> Iterator[NetNs]:
    """A namespace with an underlay that leads nowhere."""
    with NetNs.unnamed() as netns, Rtnl(netns) as rtnl:
        underlay = (Link("eth0", LinkKind.BRIDGE, mtu=1500), Address("eth0", _address(number)))
        rtnl.apply(diff_state(LinkState(), state_of(*underlay)))
        yield netns


def _address(number: int) -> IPv4Interface:
    return IPv4Interface((UNDERLAY + number, 12))


def _network(netns: NetNs) -> NodeNetwork:
    cidrs = (ip_network("10.0.0.0/8"),)
    return NodeNetwork(NetworkConfig(netns, "eth0", 1, 8472, cidrs, (), Wiring.ROUTED))


def our_round(size: int) -> Mapping[str, float]:
    """Write the overlay of ``size`` peers, then compare once more."""
    peers = [node(number) for number in range(2, size + 2)]
    with host() as netns:
        network = _network(netns)
        network.sync(node(1), ())  # the packet filter, which costs programs, is none of this
        first_ms = timed(lambda: network.sync(node(1), peers))
        network.sync(node(1), peers)
        again_ms = timed(lambda: network.sync(node(1), peers))
        network.close()
    return {SYNC[size].name: first_ms, RESYNC[size].name: again_ms}


def script_round(size: int) -> Mapping[str, float]:
    """Write the same three entries a peer by iproute2."""
    peers = [node(number) for number in range(2, size + 2)]
    fdb = "".join(f"fdb append {p.vtep_mac} dev {TUNNEL} dst {p.node_ip}\n" for p in peers)
    ways = "".join(_ways(peer) for peer in peers)
    with host() as netns:
        device = f"link add {TUNNEL} type vxlan id 1 dev eth0 local {node(1).node_ip} dstport 8472 nolearning"
        run(["ip", *device.split()], netns=netns)
        run(["ip", "link", "set", TUNNEL, "up"], netns=netns)

        def write() -> None:
            run(["bridge", "-batch", "-"], netns=netns, stdin=fdb.encode())
            run(["ip", "-batch", "-"], netns=netns, stdin=ways.encode())

        return {SYNC[size].name: timed(write)}


def _ways(peer: NodeNet) -> str:
    (cidr,) = peer.pod_cidrs
    end = cidr.network_address
    return (
        f"neigh add {end} lladdr {peer.vtep_mac} dev {TUNNEL} nud permanent\n"
        f"route add {cidr} via {end} dev {TUNNEL} onlink\n"
    )


# Two nodes on a wire; the same two namespaces, by the tunnel and by a direct route.


@contextmanager
def two_nodes() -> Iterator[tuple[NetNs, NetNs]]:
    """Two nodes with their overlay; each also has an address of its own range to send from."""
    with ExitStack() as stack:
        one, two = (stack.enter_context(NetNs.unnamed()) for _ in range(2))
        with Rtnl(one) as rtnl:
            link = Link("eth0", LinkKind.VETH, mtu=1500, peer=VethPeer("eth0", "two"))
            rtnl.apply(diff_state(LinkState(), state_of(link)), {"two": two})
        for number, netns in ((1, one), (2, two)):
            with Rtnl(netns) as rtnl:
                have = state_of(Link("eth0", LinkKind.VETH, up=number == 1))
                want = state_of(Link("eth0", LinkKind.VETH), Address("eth0", _address(number)))
                rtnl.apply(diff_state(have, want))
            network = _network(netns)
            network.sync(node(number), [node(3 - number)])
            network.close()
        yield one, two


def carry_round(client: NetNs, server: NetNs, address: str) -> Mapping[str, float]:
    """Transfer a few times; the processor's time is all of this process, which is both ends and the way."""
    rates: list[float] = []
    cpu_rates: list[float] = []
    for _ in range(TCP_TURNS):
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        rates.append(transfer(client, server, address))
        carried = rates[-1] * (time.perf_counter() - start_s)
        cpu_rates.append(carried / (time.process_time() - start_cpu_s))
    return {TCP.name: median(rates), TCP_CPU.name: median(cpu_rates)}


def transfer(client: NetNs, server: NetNs, address: str) -> float:
    """Return how many megabytes a second one TCP connection carries."""
    kind = (socket.AF_INET, socket.SOCK_STREAM)
    with server.socket(*kind) as listening, client.socket(*kind) as calling:
        calling.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MTU - 40)  # the same on both ways
        listening.bind((address, 0))
        listening.listen()
        calling.connect(listening.getsockname())
        answering, _ = listening.accept()
        with answering:
            sending = threading.Thread(target=_send, args=(calling,))
            sending.start()
            start, got, buffer = time.perf_counter(), 0, bytearray(CHUNK_BYTES)
            while size := answering.recv_into(buffer):
                got += size
            taken_s = time.perf_counter() - start
            sending.join()
    return got / taken_s / 1e6


def _send(calling: socket.socket) -> None:
    chunk, stop_at = bytes(CHUNK_BYTES), time.perf_counter() + TCP_S
    while time.perf_counter() < stop_at:
        calling.sendall(chunk)
    calling.shutdown(socket.SHUT_WR)


def main(figures: Sequence[Figure] = FIGURES) -> None:
    """Measure what was asked for."""
    wanted = asked(figures)
    for size in SIZES:
        if {SYNC[size].name, RESYNC[size].name} & wanted.figures:
            ours, peer = in_turn(lambda n=size: our_round(n), lambda n=size: script_round(n), wanted.rounds)  # type: ignore[misc]
            report_all([f for f in FIGURES if f.name in wanted.figures], ours, peer)
    if {figure.name for figure in CARRY} & wanted.figures:
        with two_nodes() as (one, two):
            tunnel_end, direct = str(node(2).pod_cidrs[0].network_address), str(node(2).node_ip)
            ours, peer = in_turn(
                lambda: carry_round(one, two, tunnel_end),
                lambda: carry_round(one, two, direct),
                wanted.rounds,
            )
        report_all([figure for figure in CARRY if figure.name in wanted.figures], ours, peer)


if __name__ == "__main__":
    main()
