"""Labs: how long until every pod reaches every other, and until nothing of it is left.

The datapath is what ``labs.datapath`` builds: nodes, wire, overlay and pods. The peer builds the same with
iproute2, one ``ip -batch`` a namespace, which is the fastest that a script of commands gets. Each lab that
was built is proved by a connection from its first to its last pod, across the overlay; that is not part of
the time. A lab is down when the kernel says that all its namespaces are gone.
"""

import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.common import Asked, Figure, Target, asked, in_turn, report_all, skip
from kubenet.errors import KubenetError
from kubenet.kernel import sysctl
from kubenet.kernel.mounts import pinned_namespaces
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import find, run
from kubenet.kernel.vanish import Vanishing
from labs import ledger
from labs.build import Underlay
from labs.datapath import NODE_MASK, TUNNEL, build_datapath, node_nets, pods_of
from labs.ledger import LabDirectory, Ledger
from labs.topology import UNDERLAY, LabSpec

PEER = "ip -batch"
PORT = 7
# The kernel takes devices apart after it has said that a namespace is gone; the next lab shall not pay for
# that.
SETTLE_S = 0.5

UP_3X10 = Figure("lab-3x10-up", "s", Target("<=", 0.3))
DOWN_3X10 = Figure("lab-3x10-down", "s", Target("<=", 0.2))
UP_10X20 = Figure("lab-10x20-up", "s", Target("<=", 1.5))
UP_50X10 = Figure("lab-50x10-up", "s", Target("<=", 3))
PEER_3X10 = Figure("lab-3x10-up-vs-ip-batch", "s", Target("<=", 0.6), PEER)
PEER_10X20 = Figure("lab-10x20-up-vs-ip-batch", "s", Target("<=", 0.5), PEER)
CHECKED_3X10 = Figure("lab-3-nodes-ready", "s", Target("<=", 1.5))
FIGURES = (UP_3X10, DOWN_3X10, UP_10X20, UP_50X10, PEER_3X10, PEER_10X20, CHECKED_3X10)


def main() -> None:
    """Take the figures that the command line asks for."""
    given = asked(FIGURES)
    with tempfile.TemporaryDirectory(prefix="kubenet-bench-", dir="/run") as scratch:
        root = Path(scratch)
        for figure, nodes, pods in ((UP_3X10, 3, 10), (UP_10X20, 10, 20), (UP_50X10, 50, 10)):
            if given.figures & {figure.name, *([DOWN_3X10.name] if figure is UP_3X10 else [])}:
                _datapath(given, root, figure, nodes, pods)
        for figure, nodes, pods in ((PEER_3X10, 3, 10), (PEER_10X20, 10, 20)):
            if figure.name in given.figures:
                _beside_peer(given, root, figure, nodes, pods)
        if CHECKED_3X10.name in given.figures:
            report_all((CHECKED_3X10,), *in_turn(partial(_whole_lab, root), None, given.rounds))


def _datapath(given: Asked, root: Path, figure: Figure, nodes: int, pods: int) -> None:
    def ours() -> Mapping[str, float]:
        up_s, down_s = _up_and_down(root, nodes, pods)
        return {figure.name: up_s} | ({DOWN_3X10.name: down_s} if figure is UP_3X10 else {})

    wanted = [each for each in (figure, DOWN_3X10) if each.name in given.figures]
    report_all(wanted, *in_turn(ours, None, given.rounds))


def _beside_peer(given: Asked, root: Path, figure: Figure, nodes: int, pods: int) -> None:
    try:
        find("ip")
        find("bridge")
    except KubenetError as error:
        skip(figure, f"{error}; {error.next_step}")
        return
    ours = lambda: {figure.name: _up_and_down(root, nodes, pods)[0]}  # noqa: E731 - one of two alike
    peer = lambda: {figure.name: _with_iproute2(nodes, pods)}  # noqa: E731
    report_all((figure,), *in_turn(ours, peer, given.rounds))


def _up_and_down(root: Path, nodes: int, pods: int) -> tuple[float, float]:
    """Build, prove and remove a datapath; return the seconds up and down."""
    time.sleep(SETTLE_S)
    spec, directory = LabSpec("bench", nodes), LabDirectory("bench", root / "labs")
    ledger.claim(directory, Ledger(spec.name, ()))
    start = time.perf_counter()
    try:
        underlay = build_datapath(spec, pods, directory)
        up_s = time.perf_counter() - start
        _prove(spec, pods, lambda pod: NetNs.open(directory.netns(pod)))
        return up_s, _down(directory, underlay)
    finally:
        if directory.path.exists():
            ledger.take_down(directory)


def _down(directory: LabDirectory, underlay: Underlay) -> float:
    with ExitStack() as opened:
        pods = [opened.enter_context(NetNs.open(path)) for path in pinned_namespaces(directory.path)]
        watcher = opened.enter_context(Vanishing(pods))
        for netns in pods:
            netns.close()
        with underlay:
            pass
        start = time.perf_counter()
        ledger.take_down(directory)
        watcher.wait(60.0)
        return time.perf_counter() - start


def _prove(spec: LabSpec, pods: int, opened: Callable[[str], NetNs]) -> None:
    """Connect from the first pod of the first node to the last pod of the last."""
    nets = node_nets(spec)
    first, last = pods_of(nets[0], pods)[0], pods_of(nets[-1], pods)[-1]
    kind = (socket.AF_INET, socket.SOCK_STREAM)
    with (
        opened(last.name) as there,
        opened(first.name) as here,
        there.socket(*kind) as listener,
        here.socket(*kind) as client,
    ):
        listener.bind((str(last.address), PORT))
        listener.listen()
        client.settimeout(5.0)
        client.connect((str(last.address), PORT))


def _with_iproute2(nodes: int, pods: int) -> float:
    """Build and prove the same with iproute2; return the seconds up."""
    spec = LabSpec("bench", nodes)
    names = ["kubenet-bench-wire", *_peer_names(spec, pods)]
    existed = Path("/run/netns").exists()
    time.sleep(SETTLE_S)
    try:
        start = time.perf_counter()
        _ip_batch([f"netns add {name}" for name in names])
        for name, program, lines in _peer_batches(spec, pods):
            run([program, "-n", name, "-batch", "-"], stdin=("\n".join(lines) + "\n").encode())
        up_s = time.perf_counter() - start
        for net in node_nets(spec):  # iproute2 sets no sysctl; not counted
            with NetNs.open(Path("/run/netns", f"kubenet-bench-{net.name}")) as netns:
                sysctl.write(netns, "net.ipv4.ip_forward", 1)
        _prove(spec, pods, lambda pod: NetNs.open(Path("/run/netns", f"kubenet-bench-{pod}")))
        return up_s
    finally:
        there = [name for name in names if Path("/run/netns", name).exists()]
        _ip_batch([f"netns del {name}" for name in there])
        if not existed:
            run(["umount", "/run/netns"], check=False)  # iproute2 makes the directory a mount of its own
            Path("/run/netns").rmdir()


def _ip_batch(lines: list[str]) -> None:
    run(["ip", "-batch", "-"], stdin=("\n".join(lines) + "\n").encode())


def _peer_names(spec: LabSpec, pods: int) -> Iterator[str]:
    for net in node_nets(spec):
        yield f"kubenet-bench-{net.name}"
        yield from (f"kubenet-bench-{pod.name}" for pod in pods_of(net, pods))


def _peer_batches(spec: LabSpec, pods: int) -> Iterator[tuple[str, str, list[str]]]:
    """Yield namespace, program and lines, in the order in which they have to run."""
    nets, wire, dev = node_nets(spec), "kubenet-bench-wire", TUNNEL.ifname
    yield wire, "ip", ["link set lo up", "link add br0 type bridge", "link set br0 up"]
    for net in nets:
        node, cidr = f"kubenet-bench-{net.name}", net.pod_cidrs[0]
        lines = [
            "link set lo up",
            f"link add eth0 type veth peer name {net.name} netns {wire}",
            "link set eth0 up",
            f"addr add {net.node_ip}/{UNDERLAY.prefixlen} dev eth0",
            f"link add {dev} address {net.vtep_mac} mtu 1450 type vxlan id {TUNNEL.vni} local {net.node_ip}"
            f" dev eth0 dstport {TUNNEL.port} nolearning",
            f"link set {dev} up",
            f"addr add {cidr[0]}/32 dev {dev}",
        ]
        others = [other for other in nets if other is not net]
        for other in others:
            end = other.pod_cidrs[0][0]
            lines += [
                f"neigh add {end} lladdr {other.vtep_mac} dev {dev} nud permanent",
                f"route add {end}/{NODE_MASK} via {end} dev {dev} onlink",
            ]
        for pod in pods_of(net, pods):
            host, mac = pod.net.host_ifname, pod.net.mac
            lines += [
                f"link add {host} address {pod.net.host_mac} mtu 1450 type veth"
                f" peer name eth0 address {mac} mtu 1450 netns kubenet-bench-{pod.name}",
                f"link set {host} up",
                f"route add {pod.address}/32 dev {host}",
                f"neigh add {pod.address} lladdr {mac} dev {host} nud permanent",
            ]
        yield node, "ip", lines
        yield node, "bridge", [f"fdb append {o.vtep_mac} dev {dev} dst {o.node_ip}" for o in others]
        yield wire, "ip", [f"link set {net.name} master br0 up"]
        for pod in pods_of(net, pods):
            yield (
                f"kubenet-bench-{pod.name}",
                "ip",
                [
                    "link set lo up",
                    "link set eth0 up",
                    f"addr add {pod.address}/32 dev eth0",
                    "route add 169.254.1.1 dev eth0 scope link",
                    "route add default via 169.254.1.1",
                    f"neigh add 169.254.1.1 lladdr {pod.net.host_mac} dev eth0 nud permanent",
                ],
            )


def _whole_lab(root: Path) -> Mapping[str, float]:
    """Boot a lab with all its daemons, until every node is ready; return the seconds."""
    from labs import control

    start = time.perf_counter()
    control.up(LabSpec("bench-ready", 3), root / "ready")
    up_s = time.perf_counter() - start
    control.down("bench-ready", root / "ready")
    return {CHECKED_3X10.name: up_s}


if __name__ == "__main__":
    main()
