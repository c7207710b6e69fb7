"""The servers of the DNS benchmark, each with the same names, and dnsperf, which asks them.

All of it is on loopback. A server's cost is its processor time (schedstat, all threads and children) over
the queries that dnsperf says were answered; wall time would measure dnsperf as much as the server.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

from bench.worlds.dns_api import DOMAIN, NAMESPACES, Api
from kubenet.errors import ProgramMissing
from kubenet.kernel import run

PORTS = {"kubenet": 5301, "dnsmasq": 5302, "unbound": 5303, "coredns": 5304, "upstream": 5305}
API_PORT = 5380
READY, METRICS = 20, 30  # above a server's port
START_S = 120.0

COREFILE = """.:{port} {{
    bind 127.0.0.1
    errors
    ready 127.0.0.1:{ready}
    kubernetes {domain} in-addr.arpa ip6.arpa {{
        {api}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }}
    prometheus 127.0.0.1:{metrics}
    forward . 127.0.0.1:{upstream}
    cache 30
    loadbalance
}}
"""

Names = Sequence[str]  # lines of dnsperf: name and type


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    name: str
    port: int
    pid: int

    def cpu_ns(self) -> int:
        """Return the processor time that it has used."""
        return sum(_cpu_ns(pid) for pid in _tree(self.pid))

    def rss_mb(self) -> float:
        """Return what it holds in memory, shared pages of its workers counted for each."""
        texts = (Path(f"/proc/{pid}/status").read_text() for pid in _tree(self.pid))
        found = [re.search(r"VmRSS:\s+(\d+)", text) for text in texts]
        return sum(int(each[1]) for each in found if each) / 1024


def _tree(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [pid, *(each for child in text.split() for each in _tree(int(child)))]


def _cpu_ns(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def name_of(n: int) -> str:
    """Return the name of the nth Service."""
    return f"svc-{n}.ns-{n % NAMESPACES}.svc.{DOMAIN}"


@dataclass(frozen=True, slots=True)
class Load:
    """What dnsperf does."""

    lines: Names
    seconds: float = 1.0
    tcp: bool = False
    edns: bool = False


def cost_us(server: Server, load: Load) -> float:
    """Return the server's processor time for each answered query, in microseconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".dnsperf") as queries:
        queries.write("\n".join(load.lines) + "\n")
        queries.flush()
        argv = [
            "dnsperf",
            "-s",
            "127.0.0.1",
            "-p",
            str(server.port),
            "-d",
            queries.name,
            "-l",
            f"{load.seconds:g}",
        ]
        argv += ["-c", "10" if load.tcp else "4", "-q", "100", "-T", "1"]
        argv += ["-m", "tcp"] * load.tcp + ["-e"] * load.edns
        before = server.cpu_ns()
        done = run.run(argv, timeout_s=load.seconds + 60)
        used_ns = server.cpu_ns() - before
    completed = re.search(r"Queries completed:\s+(\d+)", done.stdout.decode())
    if not completed or not int(completed[1]):
        raise SystemExit(f"{server.name}: dnsperf got no answers:\n{done.stdout.decode()}")
    return used_ns / 1000 / int(completed[1])


@contextmanager
def kubenet(services: int) -> Iterator[Server]:
    """Serve a cluster of so many Services with the command of this checkout, metrics and cache on."""
    with kubenet_and_its_cluster(services) as (server, _):
        yield server


@contextmanager
def kubenet_and_its_cluster(services: int) -> Iterator[tuple[Server, Callable[[str], None]]]:
    """The same, with what moves the endpoint of the Service ``moving``."""
    with (
        cluster(services) as move,
        tempfile.TemporaryDirectory() as directory,
        _running("kubenet", _command(directory), _is_ready) as server,
    ):
        yield server, move


@contextmanager
def restarting(services: int) -> Iterator[tuple[int, Callable[[int], None]]]:
    """Give a port, and what reloads (even numbers) or restarts (odd ones) the server that answers there."""
    with cluster(services) as _, tempfile.TemporaryDirectory() as directory, ExitStack() as undo:
        argv = [*_command(directory), "--handover", str(Path(directory, "handover"))]
        current = undo.enter_context(_running("kubenet", argv, _is_ready))

        def disturb(number: int) -> None:
            nonlocal current
            if number % 2:
                before, current = current, undo.enter_context(_running("kubenet", argv, lambda _: True))
                while Path(f"/proc/{before.pid}/stat").exists() and _state(before.pid) != "Z":
                    time.sleep(0.05)
            else:
                with Path(directory, "Corefile").open("a") as corefile:
                    corefile.write(f"# {time.time_ns()}\n")
                os.kill(current.pid, signal.SIGUSR1)
                time.sleep(0.5)

        yield PORTS["kubenet"], disturb


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _command(directory: str) -> list[str | Path]:
    corefile = Path(directory, "Corefile")
    corefile.write_text(_corefile("kubenet", f"endpoint http://127.0.0.1:{API_PORT}"))
    return [Path(sys.executable).with_name("kubenet"), "dns", "--conf", str(corefile)]


@contextmanager
def coredns(binary: Path) -> Iterator[Server]:
    """Serve the cluster of a ``kubenet`` that runs with a real CoreDNS too."""
    with tempfile.TemporaryDirectory() as directory:
        kubeconfig, corefile = Path(directory, "kubeconfig"), Path(directory, "Corefile")
        cluster_of = {"name": "a", "cluster": {"server": f"http://127.0.0.1:{API_PORT}"}}
        context = {"name": "a", "context": {"cluster": "a", "user": ""}}
        config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster_of], "contexts": [context]}
        kubeconfig.write_text(json.dumps({**config, "current-context": "a"}))
        corefile.write_text(_corefile("coredns", f"kubeconfig {kubeconfig} a"))
        with _running("coredns", [binary, "-conf", str(corefile)], _is_ready) as server:
            yield server


def _corefile(server: str, api: str) -> str:
    port = PORTS[server]
    return COREFILE.format(
        port=port,
        ready=port + READY,
        metrics=port + METRICS,
        upstream=PORTS["upstream"],
        domain=DOMAIN,
        api=api,
    )


@contextmanager
def dnsmasq(services: int, *, upstream: int = 0) -> Iterator[Server]:
    """Serve the names of so many Services from a hosts file; others are asked at the port ``upstream``."""
    port = PORTS["dnsmasq"]
    with tempfile.TemporaryDirectory() as directory:
        hosts = Path(directory, "hosts")
        hosts.write_text("".join(f"10.96.{n >> 8 & 255}.{n & 255} {name_of(n)}\n" for n in range(services)))
        Path(directory).chmod(0o755)
        argv = [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
        ]
        argv += [
            f"--port={port}",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--user=root",
            "--cache-size=0",
        ]
        argv += [
            f"--addn-hosts={hosts}",
            "--local-ttl=5",
            "--max-tcp-connections=100",
            "--dns-forward-max=1000",
        ]
        argv += [f"--server=127.0.0.1#{upstream}"] if upstream else [f"--local=/{DOMAIN}/"]
        with _running("dnsmasq", argv, _answers) as server:
            yield server


@contextmanager
def unbound(services: int) -> Iterator[Server]:
    """Serve the names of so many Services as local data."""
    port = PORTS["unbound"]
    with tempfile.TemporaryDirectory() as directory:
        lines = [f'local-data: "{name_of(n)}. 5 A 10.96.{n >> 8 & 255}.{n & 255}"' for n in range(services)]
        config = Path(directory, "unbound.conf")
        config.write_text(
            f'server:\n interface: 127.0.0.1@{port}\n do-daemonize: no\n username: ""\n chroot: ""\n'
            ' pidfile: ""\n use-syslog: no\n verbosity: 0\n num-threads: 1\n incoming-num-tcp: 100\n'
            f' local-zone: "{DOMAIN}." static\n ' + "\n ".join(lines) + "\n"
            "remote-control:\n control-enable: no\n"
        )
        with _running("unbound", ["unbound", "-d", "-c", str(config)], _answers) as server:
            yield server


@contextmanager
def upstream() -> Iterator[int]:
    """Answer every name at a port, which is given."""
    argv = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--pid-file=",
    ]
    argv += [f"--port={PORTS['upstream']}", "--listen-address=127.0.0.1", "--bind-interfaces", "--user=root"]
    argv += ["--address=/#/192.0.2.1", "--cache-size=0", "--local-ttl=60"]
    with _running("upstream", argv, _answers):
        yield PORTS["upstream"]


@contextmanager
def cluster(services: int) -> Iterator[Callable[[str], None]]:
    """Serve the API of a cluster from a thread; gives what moves the endpoint of ``moving``."""
    api, loop = Api(services), asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        runner = asyncio.run_coroutine_threadsafe(api.start(API_PORT), loop).result(60)

        def move(address: str) -> None:
            loop.call_soon_threadsafe(api.move, address)

        yield move
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def _running(name: str, argv: Sequence[str | Path], up: Callable[[int], bool]) -> Iterator[Server]:
    with ExitStack() as undo:
        child = run.spawn(argv, stderr=2, env={**os.environ})
        undo.callback(child.terminate, 5.0)
        deadline = time.monotonic() + START_S
        while not up(PORTS[name]):
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name}: did not start; is port {PORTS[name]} of loopback taken?")
            time.sleep(0.05)
        yield Server(name, PORTS[name], child.pid)


def _is_ready(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port + READY}/ready", timeout=1) as reply:
            return bool(reply.status == 200) and _answers(port)
    except OSError:
        return False


def _answers(port: int) -> bool:
    from bench.dns import query

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        client.connect(("127.0.0.1", port))
        try:
            client.send(query(name_of(0)))
            return bool(client.recv(4096)[3] & 0xF == 0)
        except OSError:
            return False


def missing(program: str) -> str:
    """Return which package to install for ``program``, or nothing if it is there."""
    try:
        run.find(program)
    except ProgramMissing as error:
        return str(error)
    return ""
