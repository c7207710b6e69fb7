"""A node with its agent in the test's own process, and a runtime that executes the installed plugin."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni.agent import AgentConfig, NodeAgent
from cni.install import ShimKind, install_conflist, install_plugin
from cni.overlay import NodeNet
from ipam.record import AllocationRecord
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import ENVIRONMENT, run
from kubenet.model.links import (
    Address,
    Link,
    LinkKind,
    LinkState,
    VethPeer,
    diff_state,
    state_of,
)

CLUSTER_CIDR = ip_network("10.244.0.0/16")
SERVICE_CIDR = ip_network("10.96.0.0/16")


def add_links(netns: NetNs, *entries: Link | Address, namespaces: dict[str, NetNs] | None = None) -> None:
    """Put links and addresses into a namespace."""
    with Rtnl(netns) as rtnl:
        rtnl.apply(diff_state(LinkState(), state_of(*entries)), namespaces or {})


def observe(netns: NetNs) -> LinkState:
    """Return what a namespace holds."""
    with Rtnl(netns) as rtnl:
        return rtnl.observe()


@dataclass(frozen=True)
class Answer:
    """What the plugin left behind."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        decoded = json.loads(self.stdout)
        assert isinstance(decoded, dict)
        return decoded

    @property
    def error(self) -> int:
        """The code in the error on stdout."""
        assert self.code == 1, (self.code, self.stdout, self.stderr)
        assert {"cniVersion", "code", "msg", "details"} <= self.json.keys()
        return int(self.json["code"])

    @property
    def address(self) -> str:
        """The first address of an ADD's result."""
        assert self.code == 0, (self.stdout, self.stderr)
        return str(self.json["ips"][0]["address"]).partition("/")[0]


@dataclass(frozen=True)
class Runtime:
    """Executes the plugin as a container runtime does."""

    plugin: Path
    netns: NetNs
    version: str = "1.1.0"
    conf: dict[str, Any] = field(default_factory=dict)

    def call(
        self, command: str, container_id: str = "", netns: Path | str = "", ifname: str = "eth0", **more: Any
    ) -> Answer:
        """Execute one verb; ``more`` goes into the configuration."""
        environment = {"CNI_COMMAND": command, "CNI_PATH": str(self.plugin.parent)}
        if container_id:
            environment |= {"CNI_CONTAINERID": container_id, "CNI_IFNAME": ifname, "CNI_NETNS": str(netns)}
        conf = {"cniVersion": self.version, "name": "kubenet", "type": "kubenet", **self.conf, **more}
        return self.execute(environment, json.dumps(conf).encode())

    def execute(self, environment: dict[str, str], stdin: bytes) -> Answer:
        """Execute the plugin with exactly this."""
        env = {**ENVIRONMENT, **environment}
        done = run([self.plugin], netns=self.netns, stdin=stdin, env=env, timeout_s=20, check=False)
        return Answer(done.returncode, done.stdout, done.stderr)

    def add(self, container_id: str, netns: Path | str, ifname: str = "eth0", **more: Any) -> Answer:
        return self.call("ADD", container_id, netns, ifname, **more)

    def delete(self, container_id: str, netns: Path | str = "", ifname: str = "eth0", **more: Any) -> Answer:
        return self.call("DEL", container_id, netns, ifname, **more)


@dataclass
class LabNode:
    """One node: its namespace, its agent, its runtime."""

    net: NodeNet
    config: AgentConfig
    directory: Path
    agent: NodeAgent | None = None
    runtime: Runtime = field(init=False)

    def __post_init__(self) -> None:
        self.runtime = Runtime(self.config.bin_dir / "kubenet", self.config.netns)

    @property
    def netns(self) -> NetNs:
        return self.config.netns

    def start(self, *peers: NodeNet) -> NodeAgent:
        """Start an agent, as one that was told of its Node object."""
        self.agent = NodeAgent(self.config)
        self.agent.start()
        self.agent.sync(self.net, peers)
        return self.agent

    def stop(self) -> None:
        agent, self.agent = self.agent, None
        if agent is not None:
            agent.stop()

    def links(self) -> set[str]:
        """The host's ends of pods."""
        return {name for name in observe(self.netns).links if name.startswith("k") and name != "kubenet.1"}

    def records(self) -> set[str]:
        """The files in the agent's store."""
        return {path.name for path in (self.config.state_dir / "attachments").iterdir()} - {"boot_id"}

    def settle(self) -> None:
        """Wait until deleted links are gone."""
        assert self.agent is not None
        self.agent.attachments.reaper.wait_idle(5)

    def attached(self) -> list[AllocationRecord]:
        """The attachments that the agent knows."""
        assert self.agent is not None
        return self.agent.attachments.records

    def moved(self, pod_cidr: str) -> NodeNet:
        """This node with another range."""
        return replace(self.net, pod_cidrs=(ip_network(pod_cidr),))

    def nothing_left(self) -> bool:
        """Whether no pod has left anything: no link, no record, no address."""
        self.settle()
        assert self.agent is not None
        routes = [
            r
            for r in observe(self.netns).routes.values()
            if r.ifname.startswith("k") and r.ifname != "kubenet.1"
        ]
        return not (self.links() or self.records() or routes or self.agent.attachments.records)


Pin = Callable[[str], Path]


@pytest.fixture
def pin(tmp_path: Path) -> Iterator[Pin]:
    """Make pinned namespaces; they are gone afterwards."""
    with ExitStack() as undo:

        def make(name: str) -> Path:
            path = tmp_path / "netns" / name
            undo.callback(unpin, path)
            NetNs.create(path).close()
            return path

        yield make


@pytest.fixture
def wire() -> Iterator[NetNs]:
    """The world outside the nodes: a namespace with a bridge that they are ports of, at 172.30.255.254."""
    with NetNs.unnamed() as netns:
        add_links(
            netns,
            Link("lo", LinkKind.LOOPBACK),
            Link("wire", LinkKind.BRIDGE),
            Address("wire", IPv4Interface("172.30.255.254/16")),
        )
        yield netns


NodeMaker = Callable[..., LabNode]


@pytest.fixture(scope="session")
def shim_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the plugin is compiled to, once for all tests."""
    return tmp_path_factory.mktemp("shim")


@pytest.fixture
def make_node(wire: NetNs, tmp_path: Path, shim_cache: Path) -> Iterator[NodeMaker]:
    """Make nodes, number 1 onwards, each with an underlay address on the wire."""
    with ExitStack() as undo:

        def make(
            number: int = 1, pod_cidr: str = "", kind: ShimKind | None = None, **settings: Any
        ) -> LabNode:
            netns = undo.enter_context(NetNs.unnamed())
            ip = ip_address(f"172.30.0.{number}")
            add_links(
                wire,
                Link(f"node{number}", LinkKind.VETH, master="wire", peer=VethPeer("eth0", "node")),
                namespaces={"node": netns},
            )
            with Rtnl(netns) as rtnl:
                have = state_of(
                    Link("lo", LinkKind.LOOPBACK, up=False), Link("eth0", LinkKind.VETH, up=False)
                )
                want = state_of(
                    Link("lo", LinkKind.LOOPBACK),
                    Link("eth0", LinkKind.VETH),
                    Address("eth0", IPv4Interface(f"{ip}/16")),
                )
                rtnl.apply(diff_state(have, want))
            directory = tmp_path / f"node{number}"
            config = AgentConfig(
                node_name=f"node{number}",
                netns=netns,
                socket_path=directory / "run" / "cni.sock",
                state_dir=directory / "state",
                bin_dir=directory / "bin",
                conf_dir=directory / "net.d",
                cluster_cidrs=(CLUSTER_CIDR,),
                service_cidrs=(SERVICE_CIDR,),
                cache_dir=shim_cache,
            )
            config = replace(config, **settings)
            install_plugin(config.bin_dir, config.socket_path, cache=shim_cache, kind=kind)
            install_conflist(config.conf_dir)
            net = NodeNet(f"node{number}", ip, (ip_network(pod_cidr or f"10.244.{number}.0/24"),))
            node = LabNode(net, config, directory)
            undo.callback(node.stop)
            return node

        yield make


@pytest.fixture
def node(make_node: NodeMaker) -> LabNode:
    """One node whose agent runs."""
    made = make_node()
    made.start()
    return made
