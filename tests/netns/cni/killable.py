"""A node whose agents can be killed, and the truth about what they have left."""

import errno
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cni.hostports import TABLE, chains_of
from cni.plan import host_ifname
from cni.publish import FAMILIES
from kubenet.kernel.netns import NetNs
from kubenet.kernel.nft import Nftables
from kubenet.kernel.run import ENVIRONMENT, Child, spawn
from tests.netns.cni.conftest import Answer, LabNode, observe
from tests.netns.steps import Supervisor

RANGES = ("10.244.1.0/24", "fd00:10:244:1::/64")
READY_WITHIN_S = 20.0
GONE_WITHIN_S = 5.0
PORTS: Mapping[str, Any] = {
    "runtimeConfig": {
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
        ]
    }
}


@dataclass
class Killable:
    """One node with at most one agent, which is a process of its own."""

    node: LabNode
    server: Child
    told: socket.socket
    agents: list[Supervisor] = field(default_factory=list)

    @property
    def agent(self) -> Supervisor:
        return self.agents[-1]

    def start(self, kill_at: int = 0, fail_at: int = 0, code: int = errno.EIO) -> bool:
        """Start an agent, in the place of one that is dead; return whether it lived to be ready."""
        self.told.send(b"+")
        agent = Supervisor.accept(self.told)
        agent.expect(kill_at=kill_at, fail_at=fail_at, code=code)
        self.agents.append(agent)
        ready, _, _ = select.select([self.told.fileno(), agent.pidfd], [], [], READY_WITHIN_S)
        if self.told.fileno() not in ready:
            assert kill_at or fail_at, "the agent died"
            agent.wait_dead()
            return False
        assert self.told.recv(16) == b"ready"
        agent.expect()
        return True

    def restart(self) -> None:
        """Kill the agent, if that has not been done, and start the next one."""
        self.agent.kill()
        self.agent.wait_dead()
        self.start()

    def add(self, container_id: str, path: Path, ifname: str = "eth0", **conf: Any) -> Answer:
        return self.node.runtime.add(container_id, path, ifname, **{**PORTS, **conf})

    def delete(self, container_id: str) -> Answer:
        return self.node.runtime.delete(container_id)

    def collect(self, *valid: tuple[str, str]) -> Answer:
        """Tell the plugin that these attachments, and no others, are valid."""
        listed = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in valid]
        conf: dict[str, Any] = {"cni.dev/valid-attachments": listed}
        return self.node.runtime.call("GC", **conf)

    def agent_has(self, container_id: str, ifname: str = "eth0") -> bool:
        """Whether there is a finished record of the attachment."""
        name = host_ifname(container_id, ifname)
        return (self.node.config.state_dir / "attachments" / f"{name}.attached").exists()

    def truth(self) -> dict[str, object]:
        """Return all that pods can leave behind: in the kernel, and in the agent's directories."""
        state = observe(self.node.netns)
        links = {name: link for name, link in state.links.items() if name != "eth0"}
        return {
            "links": links,
            "routes": state.routes,
            "neighbors": state.neighbors,
            "ports": {family: self._elements(family) for family in FAMILIES},
            "files": sorted(_files(self.node.directory / "state") + _files(self.node.directory / "run")),
        }

    def _elements(self, family: Any) -> dict[str, dict[bytes, bytes]]:
        table = Nftables(self.node.netns, family, TABLE)
        try:
            have = table.read(lambda: chains_of(family))
        finally:
            table.close()
        return {name: dict(held) for name, held in have.elements.items() if held} if have else {}

    def settled(self, want: Mapping[str, object], within_s: float = GONE_WITHIN_S) -> None:
        """Return once the truth is ``want``; links go a moment after their DEL was answered."""
        until(lambda: self.truth() == want, within_s, lambda: different(self.truth(), want))


def different(have: Mapping[str, object], want: Mapping[str, object]) -> str:
    """Return, in words, where two truths differ."""
    return "; ".join(f"{key}: {have[key]} instead of {want[key]}" for key in want if have[key] != want[key])


def _files(directory: Path) -> list[str]:
    """Return the files below, but for the socket's."""
    paths = (path for path in directory.rglob("*") if path.is_file())
    return [str(path.relative_to(directory)) for path in paths]


def until(holds: Callable[[], bool], within_s: float, why: Callable[[], str]) -> None:
    """Wait for what happens by itself."""
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up, why()
        time.sleep(0.005)


@contextmanager
def killable(node: LabNode) -> Iterator[Killable]:
    """A node without an agent yet; whatever runs at the end is killed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    argv = [sys.executable, "-m", "tests.netns.cni.serve", str(node.directory), str(theirs.fileno()), *RANGES]
    env = {**ENVIRONMENT, "PYTHONPATH": str(Path.cwd())}
    server = spawn(argv, netns=node.netns, env=env, stderr=2, pass_fds=[theirs.fileno()])
    theirs.close()
    made = Killable(node, server, ours)
    try:
        yield made
    finally:
        server.terminate(grace_s=0)  # and all that it has become
        ours.close()
        for agent in made.agents:
            agent.close()


def links_in(netns_path: Path) -> set[str]:
    """Return the names of the links in a pod."""
    with NetNs.open(netns_path) as netns:
        return set(observe(netns).links)
