"""The command as a process that can be killed, and traffic that must not notice."""

import json
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kubenet.kernel.iptables import lock_path
from kubenet.kernel.run import ENVIRONMENT, Child, spawn
from tests.netns.proxy.test_command import command
from tests.netns.proxy.test_status import write
from tests.netns.proxy.world import World, backend_ip

VIP = "10.96.0.1"
NETWORK = "10.244.0.0/16"


def manifest(endpoints: Sequence[int], others: int = 0, extra: Sequence[object] = ()) -> str:
    """Return a List of the Service at ``VIP`` with these endpoints, and so many others."""
    items = [*_service("web", VIP, endpoints)]
    for number in range(others):
        items += _service(f"other-{number}", f"10.96.{1 + number // 250}.{number % 250 + 1}", (2, 3))
    return json.dumps({"kind": "List", "apiVersion": "v1", "items": [*items, *extra]})


def _service(name: str, ip: str, endpoints: Sequence[int]) -> list[object]:
    meta = {"name": name, "namespace": "demo"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80}]},
    }
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [backend_ip(last)]} for last in endpoints],
    }
    return [service, piece]


@dataclass
class Proxy:
    """The command over a file of manifests."""

    world: World
    path: Path
    words: Sequence[str]
    log: Path
    child: Child | None = field(default=None)

    def start(self) -> Child:
        with self.log.open("ab") as sink:
            self.child = spawn(
                command("--source-file", str(self.path), "--cluster-cidr", NETWORK, *self.words),
                netns=self.world.node,
                stderr=sink.fileno(),
                env={**ENVIRONMENT, "XTABLES_LOCKFILE": str(lock_path())},
            )
        return self.child

    def end(self, number: int) -> None:
        assert self.child
        self.child.signal(number)
        self.child.wait(20)

    def say(self, text: str) -> None:
        write(self.path, text)


@contextmanager
def proxy(world: World, directory: Path, mode: str, text: str, *words: str) -> Iterator[Proxy]:
    path = directory / "cluster.json"
    path.write_text(text)
    said = ("--proxy-mode", mode, "--healthz-bind-address", "", "--metrics-bind-address", "", *words)
    made = Proxy(world, path, said, directory / "proxy.log")
    made.log.touch()
    try:
        yield made
    finally:
        if made.child:
            made.child.terminate(1)
    assert "Traceback" not in made.log.read_text()


class Traffic:
    """Connections to ``VIP`` from a pod, one after the other, in a thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.count = 0
        self.failures: list[str] = []
        self._recent: deque[str] = deque(maxlen=20)

    def settled_on(self, last: int) -> bool:
        """Whether one backend has answered for a while, and no other."""
        return len(self._recent) == 20 and set(self._recent) == {backend_ip(last)}

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._recent.append(self._world.connect(self._world.client, VIP, patience_s=2.0).backend)
            except OSError as error:
                self.failures.append(repr(error))
            self.count += 1

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with suppress(RuntimeError):
            self._thread.join()
