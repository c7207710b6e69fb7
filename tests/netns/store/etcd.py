"""etcd servers for tests: of one member or of three, on loopback, with their files in memory."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_S = 20.0
needs_etcd = pytest.mark.skipif(
    shutil.which("etcd") is None, reason="there is no etcd on PATH; next: apt-get install etcd-server"
)


@dataclass
class Member:
    """One etcd process."""

    name: str
    directory: Path
    client_port: int
    peer_port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    def start(self, members: "list[Member]", fresh: bool = True) -> None:
        cluster = ",".join(f"{one.name}={one.peer_url}" for one in members)
        command = ["etcd", "--name", self.name, "--data-dir", str(self.directory / self.name)]
        command += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        command += ["--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url]
        command += ["--initial-cluster", cluster, "--initial-cluster-state", "new" if fresh else "existing"]
        command += ["--logger", "zap", "--log-outputs", str(self.directory / f"{self.name}.log")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Cluster:
    """All members."""

    members: list[Member] = field(default_factory=list)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.url for member in self.members)

    def wait(self) -> None:
        """Return once every running member takes connections."""
        until = time.monotonic() + START_S
        for member in self.members:
            while member.process is not None:
                assert time.monotonic() < until, f"etcd {member.name} does not come up"
                try:
                    socket.create_connection(("127.0.0.1", member.client_port), 1).close()
                    break
                except OSError:
                    time.sleep(0.02)


@contextmanager
def etcd(members: int = 1) -> Iterator[Cluster]:
    """Run a cluster."""
    memory = Path("/dev/shm")
    with ExitStack() as stack:
        parent = memory if memory.is_dir() else None
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubenet-etcd-", dir=parent)))
        ports = iter(_free_ports(2 * members))
        cluster = Cluster(
            [Member(f"m{index}", directory, next(ports), next(ports)) for index in range(members)]
        )
        for member in cluster.members:
            stack.callback(member.kill)
            member.start(cluster.members)
        cluster.wait()
        yield cluster


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]
