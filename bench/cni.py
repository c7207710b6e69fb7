"""CNI ADD and DEL through the executable: ours beside bridge + host-local of the reference plugins.

A runtime's part is played as cheaply as possible, by posix_spawn and waitpid, and it is the same for both.
Each plugin has a node namespace of its own; the pods' namespaces are made beforehand.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, ip_address, ip_network
from pathlib import Path
from statistics import median

from bench.common import (
    Asked,
    Figure,
    Target,
    asked,
    children_cpu_ms,
    in_turn,
    process_cpu_ms,
    report_all,
    skip,
)
from cni.agent import AgentConfig, NodeAgent
from cni.install import CONFLIST, PLUGIN, ShimKind, install_plugin
from cni.overlay import NodeNet
from ipam.record import AllocationRecord
from ipam.store import RecordStore
from kubenet.errors import TimedOut
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import ENVIRONMENT, Child, spawn
from kubenet.model.links import Address, Link, LinkKind, LinkState, VethPeer, diff_state, state_of

REFERENCE = Path("/usr/lib/cni")
REFERENCE_NAME = "bridge+host-local"
PACKAGE = "containernetworking-plugins"
PODS = 24
RATE_PODS = 96
CALLERS = 16
HELD = 1000
POD_RANGE = "10.244.0.0/20"
READY_WITHIN_S = 30.0

ADD_SERIAL = Figure("cni-add-serial", "ms", Target("<=", 0.25), REFERENCE_NAME)
DEL_SERIAL = Figure("cni-del-serial", "ms", Target("<=", 0.1), REFERENCE_NAME)
POD_CPU = Figure("cni-pod-cpu", "ms", Target("<=", 0.5), REFERENCE_NAME)  # ADD and DEL, all processes
SHIM_CPU = Figure("cni-shim-cpu", "ms", Target("<=", 0.5))
TWIN_CPU = Figure("cni-shim-cpu-python", "ms", Target("<=", 12))
ADD_RATE = Figure("cni-add-rate-c16", "1/s", Target(">=", 6), REFERENCE_NAME)
DEL_RATE = Figure("cni-del-rate-c16", "1/s", Target(">=", 5), REFERENCE_NAME)
ADD_HELD = Figure("cni-add-1000-held", "ms", Target("<=", 1.15), "ours in an empty pool")
HOST_PORT_NAME = "bridge(ipMasq)+host-local+portmap"
ADD_HOST_PORT = Figure("cni-add-hostport", "ms", Target("<=", 1 / 15), HOST_PORT_NAME)
DEL_HOST_PORT = Figure("cni-del-hostport", "ms", Target("<=", 1 / 30), HOST_PORT_NAME)
HOST_PORT = (ADD_HOST_PORT, DEL_HOST_PORT)
HOST_PORT_PODS = 12
SERIAL = (ADD_SERIAL, DEL_SERIAL, POD_CPU, SHIM_CPU)
RATE = (ADD_RATE, DEL_RATE)
FIGURES = (*SERIAL, TWIN_CPU, *RATE, ADD_HELD, *HOST_PORT)


@dataclass(frozen=True)
class Plugin:
    """An installed plugin, and the namespace of the node it works for."""

    binary: Path
    conf: bytes
    netns: NetNs
    agent: Child | None = None  # the process behind it
    chained: tuple[Path, bytes] | None = None  # a second plugin, with its configuration

    def agent_cpu_ms(self) -> float:
        return process_cpu_ms(self.agent.pid) if self.agent else 0.0

    def execute(self, command: str, container_id: str, netns: Path) -> int:
        """Execute one verb in the calling thread's namespace and return the exit status."""
        if self.chained is None:
            return self._execute(self.binary, self.conf, command, container_id, netns, os.devnull)
        binary, conf = self.chained
        kept = str(netns.with_name(f"{netns.name}.result"))  # as a runtime keeps it for the DEL
        if command == "DEL":
            conf = conf[:-1] + b', "prevResult": ' + Path(kept).read_bytes() + b"}"
            status = self._execute(binary, conf, command, container_id, netns, os.devnull)
            return status or self._execute(self.binary, self.conf, command, container_id, netns, os.devnull)
        if status := self._execute(self.binary, self.conf, command, container_id, netns, kept):
            return status
        conf = conf[:-1] + b', "prevResult": ' + Path(kept).read_bytes() + b"}"
        return self._execute(binary, conf, command, container_id, netns, os.devnull)

    def _execute(
        self, binary: Path, conf: bytes, command: str, container_id: str, netns: Path, stdout: str
    ) -> int:
        environment = {
            **ENVIRONMENT,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": str(netns),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.binary.parent),
        }
        reading, writing = os.pipe2(os.O_CLOEXEC)
        os.write(writing, conf)
        os.close(writing)
        streams = [
            (os.POSIX_SPAWN_DUP2, reading, 0),
            (os.POSIX_SPAWN_OPEN, 1, stdout, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        pid = os.posix_spawn(binary, [str(binary)], environment, file_actions=streams)
        os.close(reading)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def must(self, command: str, container_id: str, netns: Path) -> None:
        if status := self.execute(command, container_id, netns):
            raise SystemExit(f"{self.binary.name} {command} {container_id}: exit status {status}")


def each(plugin: Plugin, command: str, pods: Sequence[Path]) -> float:
    """Execute one verb for all pods, one after the other; return the median in milliseconds."""
    taken: list[float] = []
    with plugin.netns.entered():
        for pod in pods:
            start = time.perf_counter()
            plugin.must(command, f"bench-{pod.name}", pod)
            taken.append((time.perf_counter() - start) * 1000)
    return median(taken)


def together(plugin: Plugin, command: str, pods: Sequence[Path]) -> float:
    """Execute one verb for all pods from 16 callers at a time; return how many a second."""
    shares = [pods[number::CALLERS] for number in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as callers:
        start = time.perf_counter()
        for _ in callers.map(lambda mine: each(plugin, command, mine), shares):
            pass
        return len(pods) / (time.perf_counter() - start)


def serial_round(plugin: Plugin, pods: Sequence[Path]) -> Mapping[str, float]:
    """ADD and DEL all pods; the processor time is that of one pod's ADD and DEL together."""
    children, agent = children_cpu_ms(), plugin.agent_cpu_ms()
    add_ms = each(plugin, "ADD", pods)
    del_ms = each(plugin, "DEL", pods)
    children_ms = (children_cpu_ms() - children) / len(pods)
    taken = {ADD_SERIAL.name: add_ms, DEL_SERIAL.name: del_ms}
    taken[POD_CPU.name] = children_ms + (plugin.agent_cpu_ms() - agent) / len(pods)
    if plugin.agent:
        taken[SHIM_CPU.name] = children_ms / 2
    return taken


def rate_round(plugin: Plugin, pods: Sequence[Path]) -> Mapping[str, float]:
    added = together(plugin, "ADD", pods)
    return {ADD_RATE.name: added, DEL_RATE.name: together(plugin, "DEL", pods)}


def held_round(plugin: Plugin, pods: Sequence[Path]) -> Mapping[str, float]:
    add_ms = each(plugin, "ADD", pods)
    each(plugin, "DEL", pods)
    return {ADD_HELD.name: add_ms}


def host_port_round(plugin: Plugin, pods: Sequence[Path]) -> Mapping[str, float]:
    """ADD and DEL pods with one port of the node each; ports are free again when the next pod comes."""
    added: list[float] = []
    deleted: list[float] = []
    for pod in pods:
        added.append(each(plugin, "ADD", [pod]))
        deleted.append(each(plugin, "DEL", [pod]))
    return {ADD_HOST_PORT.name: median(added), DEL_HOST_PORT.name: median(deleted)}


def serve(directory: Path) -> None:
    """Be the agent of the node in ``directory`` until SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    own = NodeNet("bench", ip_address("172.30.0.1"), (ip_network(POD_RANGE),))
    agent = NodeAgent(agent_config(directory, NetNs.open(directory / "node")))
    agent.start()
    agent.sync(own, ())
    agent.install()
    signal.sigwait({signal.SIGTERM})
    agent.stop()


def agent_config(directory: Path, netns: NetNs) -> AgentConfig:
    return AgentConfig(
        node_name="bench",
        netns=netns,
        socket_path=directory / "run" / "cni.sock",
        state_dir=directory / "state",
        bin_dir=directory / "bin",
        conf_dir=directory / "conf",
        cluster_cidrs=(ip_network("10.244.0.0/16"),),
        cache_dir=directory / "cache",
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory in memory, as /run is on a node."""
    directory = Path(tempfile.mkdtemp(prefix="kubenet-bench-", dir="/dev/shm"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@contextmanager
def pinned(path: Path) -> Iterator[NetNs]:
    try:
        with NetNs.create(path) as netns:
            yield netns
    finally:
        unpin(path)


@contextmanager
def our_plugin(directory: Path, held: int = 0) -> Iterator[Plugin]:
    """A node with an agent in a process of its own; ``held`` addresses are in use from the start."""
    store = RecordStore.open(directory / "state" / "attachments")
    for number in range(held):
        address = IPv4Address(int(ip_network(POD_RANGE)[2]) + number)
        record = AllocationRecord(f"k{number:014x}", (address,), container_id=f"held{number}", ifname="eth0")
        store.begin(record)
        store.commit(record.host_ifname)
    with pinned(directory / "node") as netns:
        add_underlay(netns)
        argv = [sys.executable, "-m", "bench.cni", "--serve", str(directory)]
        child = spawn(argv, stderr=2, env={**ENVIRONMENT, "PYTHONPATH": str(Path.cwd())})
        try:
            conflist = directory / "conf" / CONFLIST
            wait_for(conflist)
            conf = {
                **json.loads(conflist.read_bytes())["plugins"][0],
                "cniVersion": "1.0.0",
                "name": "kubenet",
            }
            yield Plugin(directory / "bin" / PLUGIN, json.dumps(conf).encode(), netns, child)
        finally:
            child.terminate(grace_s=5)


@contextmanager
def reference_plugin(directory: Path) -> Iterator[Plugin]:
    conf = {
        "cniVersion": "1.0.0",
        "name": "bench",
        "type": "bridge",
        "bridge": "bench0",
        "isGateway": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_RANGE}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(directory / "host-local"),
        },
    }
    with pinned(directory / "node") as netns:
        yield Plugin(REFERENCE / "bridge", json.dumps(conf).encode(), netns)


def with_host_ports(wanted: Asked, directory: Path) -> None:
    figures = [figure for figure in HOST_PORT if figure.name in wanted.figures]
    if not (REFERENCE / "portmap").exists():
        for figure in figures:
            skip(figure, f"{REFERENCE}/portmap is missing: apt-get install {PACKAGE}")
        return
    if not figures:
        return
    mappings = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    with ExitStack() as undo:
        ours = undo.enter_context(our_plugin(directory / "ours-ports"))
        peer = undo.enter_context(reference_plugin(directory / "reference-ports"))
        ours = replace(ours, conf=json.dumps({**json.loads(ours.conf), "runtimeConfig": mappings}).encode())
        portmap = {"cniVersion": "1.0.0", "name": "bench", "type": "portmap", "runtimeConfig": mappings}
        peer = replace(
            peer,
            conf=json.dumps({**json.loads(peer.conf), "ipMasq": True}).encode(),
            chained=(REFERENCE / "portmap", json.dumps(portmap).encode()),
        )
        our_pods = make_pods(undo, directory / "our-port-pods", HOST_PORT_PODS)
        peer_pods = make_pods(undo, directory / "peer-port-pods", HOST_PORT_PODS)
        taken = in_turn(
            lambda: host_port_round(ours, our_pods), lambda: host_port_round(peer, peer_pods), wanted.rounds
        )
        report_all(figures, *taken)


def add_underlay(netns: NetNs) -> None:
    """Give a node's namespace the link that the overlay stands on."""
    want = state_of(
        Link("lo", LinkKind.LOOPBACK),
        Link("eth0", LinkKind.VETH, peer=VethPeer("wire")),
        Link("wire", LinkKind.VETH),
        Address("eth0", IPv4Interface("172.30.0.1/16")),
    )
    with Rtnl(netns) as rtnl:
        rtnl.apply(diff_state(LinkState(), want))


def wait_for(path: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while not path.exists():
        if time.monotonic() > until:
            raise TimedOut(f"{path}: the agent was not ready within {READY_WITHIN_S:g} s")
        time.sleep(0.02)


def beside_the_reference(
    wanted: Asked, our_pods: Sequence[Path], peer_pods: Sequence[Path], directory: Path
) -> None:
    with ExitStack() as undo:
        ours = undo.enter_context(our_plugin(directory / "ours"))
        peer = undo.enter_context(reference_plugin(directory / "reference"))
        if wanted.figures & {figure.name for figure in SERIAL}:
            taken = in_turn(
                lambda: serial_round(ours, our_pods[:PODS]),
                lambda: serial_round(peer, peer_pods[:PODS]),
                wanted.rounds,
            )
            report_all([figure for figure in SERIAL if figure.name in wanted.figures], *taken)
        if wanted.figures & {figure.name for figure in RATE}:
            taken = in_turn(
                lambda: rate_round(ours, our_pods), lambda: rate_round(peer, peer_pods), wanted.rounds
            )
            report_all([figure for figure in RATE if figure.name in wanted.figures], *taken)


def with_the_twin(wanted: Asked, pods: Sequence[Path], directory: Path) -> None:
    """Take the processor's time of the plugin in Python."""
    with our_plugin(directory / "twin") as ours:
        bin_dir = directory / "twin" / "python"
        install_plugin(bin_dir, directory / "twin" / "run" / "cni.sock", kind=ShimKind.PYTHON)
        twin = replace(ours, binary=bin_dir / PLUGIN)
        taken = in_turn(lambda: {TWIN_CPU.name: serial_round(twin, pods)[SHIM_CPU.name]}, None, wanted.rounds)
        report_all([TWIN_CPU], *taken)


def with_1000_held(
    wanted: Asked, full_pods: Sequence[Path], empty_pods: Sequence[Path], directory: Path
) -> None:
    with ExitStack() as undo:
        full = undo.enter_context(our_plugin(directory / "held", HELD))
        empty = undo.enter_context(our_plugin(directory / "empty"))
        taken = in_turn(
            lambda: held_round(full, full_pods), lambda: held_round(empty, empty_pods), wanted.rounds
        )
        report_all([ADD_HELD], *taken)


def make_pods(undo: ExitStack, directory: Path, count: int) -> list[Path]:
    """Make namespaces. A DEL is answered before the pod's interface is gone, so no two plugins share them."""
    pods = [directory / f"pod{number}" for number in range(count)]
    for pod in pods:
        undo.enter_context(pinned(pod))
    return pods


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]))
        return
    wanted = asked(FIGURES)
    beside = [figure for figure in (*SERIAL, *RATE) if figure.name in wanted.figures]
    with scratch() as directory, ExitStack() as undo:
        if not (REFERENCE / "bridge").exists():
            for figure in beside:
                skip(figure, f"{REFERENCE}/bridge is missing: apt-get install {PACKAGE}")
        elif beside:
            ours = make_pods(undo, directory / "our-pods", RATE_PODS)
            peers = make_pods(undo, directory / "peer-pods", RATE_PODS)
            beside_the_reference(wanted, ours, peers, directory)
        if TWIN_CPU.name in wanted.figures:
            with_the_twin(wanted, make_pods(undo, directory / "twin-pods", PODS), directory)
        with_host_ports(wanted, directory)
        if ADD_HELD.name in wanted.figures:
            full = make_pods(undo, directory / "full-pods", PODS)
            empty = make_pods(undo, directory / "empty-pods", PODS)
            with_1000_held(wanted, full, empty, directory)


if __name__ == "__main__":
    main()
