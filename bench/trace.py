"""Seeing: how long until a trace listens, what watching drops costs, how long a whole check takes, and how
much of the truth is told.

The first and third are taken in a whole lab of 3 nodes and 30 pods. Connections per second go from pod to pod
on two nodes, with the drop watch and without it in turn, in the same run. How much of the truth is told is
what the tests of known networks and injected faults say (``tests/netns/observe``): the share that pass.
"""

import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from bench.common import Figure, Target, asked, in_turn, report_all
from kubenet.client.manifest import parse
from kubenet.kernel.bpf_programs import EventKind
from kubenet.kernel.netns import NetNs
from kubenet.kernel.packet_watch import PacketWatch
from kubenet.kernel.run import run
from kubenet.model.packet import TCP
from kubenet.observe.judge import judge
from kubenet.observe.names import names_of
from kubenet.observe.place import Site
from kubenet.observe.probe import Probe
from kubenet.observe.probe import Target as Destination
from kubenet.observe.survey import survey
from kubenet.observe.trace import trace, traced_of
from kubenet.observe.tracer import Tracer
from labs import control, ledger
from labs.apply import apply_manifests
from labs.datapath import LabPod, build_datapath, node_nets, pods_of
from labs.ledger import LabDirectory, Ledger
from labs.site import site_of
from labs.topology import LabSpec

SETUP = Figure("trace-set-up", "ms", Target("<=", 150))
WHOLE = Figure("trace-whole", "ms", Target("<=", 500))
CHECK = Figure("check-all-3x10", "s", Target("<=", 1.0))
WATCHED = Figure("drop-watch-connections", "1/s", Target(">=", 0.97), "the same, not watched")
PATHS = Figure("trace-paths-complete", "%", Target(">=", 100))
FAULTS = Figure("faults-located", "%", Target(">=", 95))
FIGURES = (SETUP, WHOLE, CHECK, WATCHED, PATHS, FAULTS)

LAB = "bench-trace"
PODS = 30
PORT = 7
CONNECTIONS = 1500
READY_WITHIN_S = 120.0
TESTS = Path(__file__).parent.parent / "tests" / "netns" / "observe"

MANIFEST = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: default}}
spec:
  replicas: {PODS}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers: [{{name: httpd, image: kubenet.dev/httpd, ports: [{{containerPort: 8080}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"""


def main() -> None:
    """Take the figures that the command line asks for."""
    given = asked(FIGURES)
    with tempfile.TemporaryDirectory(prefix="kubenet-bench-", dir="/run") as scratch:
        root = Path(scratch)
        if given.figures & {SETUP.name, WHOLE.name, CHECK.name}:
            with whole_lab(root / "labs") as site:
                report_all((SETUP, WHOLE, CHECK), *in_turn(lambda: in_lab(site), None, given.rounds))
        if WATCHED.name in given.figures:
            with two_pods(root / "pods") as ends:
                report_all(
                    (WATCHED,), *in_turn(lambda: watched(*ends), lambda: not_watched(*ends), given.rounds)
                )
    for figure, name in ((PATHS, "test_ground_truth.py"), (FAULTS, "test_faults.py")):
        if figure.name in given.figures:
            share = passed(TESTS / name)
            report_all((figure,), {figure.name: [share] * given.rounds}, {})  # one run: it is no timing


@contextmanager
def whole_lab(root: Path) -> Iterator[Site]:
    """A lab of 3 nodes with all daemons and 30 ready pods."""
    control.up(LabSpec(LAB, 3), root)
    try:
        client = control.client_of(LAB, root)
        for _ in apply_manifests(client, parse(MANIFEST, "bench")):
            pass
        deadline = time.monotonic() + READY_WITHIN_S
        while sum(pod.ready for pod in control.status(LAB, root).pods) < PODS:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{PODS} pods not ready within {READY_WITHIN_S:g} s")
            time.sleep(0.5)
        while True:  # until proxies and DNS servers have followed, too
            with site_of(LAB, root) as site:
                if not any(verdict.findings for verdict in judge(survey(site))):
                    yield site
                    return
            if time.monotonic() > deadline:
                raise TimeoutError(f"the lab has findings after {READY_WITHIN_S:g} s")
            time.sleep(0.5)
    finally:
        control.down(LAB, root)


def in_lab(site: Site) -> Mapping[str, float]:
    """Open a tracer; trace one flow from start to end; check everything."""
    (service,) = [s for s in site.cluster.services if s.metadata.name == "web"]
    source = next(p for p in site.cluster.pods if p.metadata.name.startswith("web")).metadata.key
    to = Destination(TCP, IPv4Address(service.spec.cluster_ip), 80)
    names = names_of(site.cluster)
    with Probe(site.place(source).netns, to) as probe:
        start = time.perf_counter()
        tracer = Tracer(site, probe.flow, traced_of(probe.flow, names))
        set_up_ms = (time.perf_counter() - start) * 1000
        tracer.close()
    start = time.perf_counter()
    story = trace(site, source, to).story
    whole_ms = (time.perf_counter() - start) * 1000
    assert story.well, story.finding
    start = time.perf_counter()
    verdicts = judge(survey(site))
    check_s = time.perf_counter() - start
    assert not any(verdict.findings for verdict in verdicts), verdicts
    return {SETUP.name: set_up_ms, WHOLE.name: whole_ms, CHECK.name: check_s}


Ends = tuple[NetNs, NetNs, LabPod]


@contextmanager
def two_pods(root: Path) -> Iterator[Ends]:
    """A pod on each of two nodes."""
    spec, directory = LabSpec(LAB, 2), LabDirectory(LAB, root)
    ledger.claim(directory, Ledger(spec.name, ()))
    try:
        with build_datapath(spec, 1, directory):
            one, other = (pods_of(net, 1)[0] for net in node_nets(spec))
            with (
                NetNs.open(directory.netns(one.name)) as near,
                NetNs.open(directory.netns(other.name)) as far,
            ):
                yield near, far, other
    finally:
        ledger.take_down(directory)


def not_watched(near: NetNs, far: NetNs, pod: LabPod) -> Mapping[str, float]:
    """Return how many connections a second there are."""
    with far.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(pod.address), PORT))
        listener.listen(64)
        start = time.perf_counter()
        for _ in range(CONNECTIONS):
            with near.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                client.connect((str(pod.address), PORT))
                taken, _ = listener.accept()
                taken.close()
        return {WATCHED.name: CONNECTIONS / (time.perf_counter() - start)}


def watched(near: NetNs, far: NetNs, pod: LabPod) -> Mapping[str, float]:
    """Return the same with the drop watch on, and read out at the end as a watcher does."""
    with PacketWatch([near.inode, far.inode], (EventKind.DROPPED,)) as watch:
        rate = not_watched(near, far, pod)
        watch.read()
    return rate


def passed(path: Path) -> float:
    """Return how many of a hundred tests in a file pass."""
    done = run([sys.executable, "-m", "pytest", "-q", str(path)], timeout_s=600.0, check=False)
    counts = {
        word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", done.stdout.decode())
    }
    total = sum(counts.values())
    return 100.0 * counts.get("passed", 0) / total if total else 0.0


if __name__ == "__main__":
    main()
