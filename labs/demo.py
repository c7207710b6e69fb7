"""The demonstration: boot a cluster, carry traffic from a pod to a Service name, break a pod, tear everything
down.

Each step says what it showed, with figures, and a step that does not hold ends the demonstration with its
name. Nothing of a demo stays, however it ends.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from kubenet.client.manifest import parse
from kubenet.client.sync import SyncClient
from kubenet.errors import KubenetError, TimedOut
from kubenet.kernel.counters import link_counters
from kubenet.model.objects import SERVICE_NAME_LABEL, EndpointSlice, Pod, Service
from kubenet.model.resources import ENDPOINTSLICES, PODS, SERVICES
from labs import control, inside, witness
from labs.apply import apply_manifests
from labs.images.catalogue import LOAD
from labs.topology import LabSpec

MANIFEST = Path(__file__).parent / "manifests" / "demo.yaml"
NAMESPACE = "demo"
SERVICE = "web"
HEADLESS = "web-pods"
CLIENT = "client"
REPLICAS = 4
REQUESTS = 60
BALANCE_ANNOTATION = "kubenet.dev/balance"
OVERLAY_IFNAME = "kubenet.1"
WAIT_S = 30.0


class DemoFailed(KubenetError):
    """A step did not show what it has to show."""


class Load(msgspec.Struct, frozen=True):
    """What the load program in the client pod printed."""

    addresses: tuple[str, ...]
    order: tuple[str, ...]  # the pod that answered, request by request
    pods: dict[str, int]
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Demo:
    """The steps, in the order in which they run."""

    spec: LabSpec
    client: SyncClient
    say: Callable[[str], None]

    def run(self) -> None:
        """Run every step. Raises DemoFailed, naming the step."""
        with self._step("apply the manifest"):
            self._apply()
        with self._step("wait for pods and endpoints"):
            self._wait_ready()
        with self._step("resolve names in the client pod"):
            self._resolve()
        for balance in ("random", "round-robin"):
            with self._step(f"send {REQUESTS} requests, balance {balance}"):
                self._balance(balance)
        with self._step("delete a pod under load"):
            self._delete_one()

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except KubenetError as error:
            raise DemoFailed(f"step '{name}' failed: {error.message}", error.next_step) from error
        self.say(f"ok    {name:<45} {time.monotonic() - began:6.2f} s")

    def _apply(self) -> None:
        manifests = parse(MANIFEST.read_text(), MANIFEST.name)
        for manifest, outcome in apply_manifests(self.client, manifests):
            self.say(f"        {manifest} {outcome}")

    def _wait_ready(self) -> None:
        try:
            wait_for(f"{REPLICAS + 1} pods ready", lambda: len(self._ready()) == REPLICAS + 1)
        except TimedOut as error:
            raise DemoFailed(f"{error.message}; {self._why_not_ready()}") from error
        wait_for(f"{REPLICAS} endpoints", lambda: len(self._endpoints(SERVICE)) == REPLICAS)
        for pod in self._ready().values():
            self.say(f"        {pod.metadata.name:<22} {pod.status.pod_ip:<14} {pod.spec.node_name}")
        nodes = {pod.spec.node_name for pod in self._web().values()}
        here = self._ready()[CLIENT].spec.node_name
        _require(here in nodes and len(nodes) > 1, f"web pods run on {sorted(nodes)}, the client on {here}")

    def _resolve(self) -> None:
        service = self.client.get(SERVICES, NAMESPACE, SERVICE, Service)
        name = f"{SERVICE}.{NAMESPACE}.svc.{self.spec.cluster_domain}"
        wanted = {
            name: {service.spec.cluster_ip},
            SERVICE: {service.spec.cluster_ip},  # through the search path of resolv.conf
            HEADLESS: {pod.status.pod_ip for pod in self._web().values()},
        }
        for asked, addresses in wanted.items():
            wait_for(f"{asked} resolves", partial(self._resolves, asked, addresses))
            self.say(f"        {asked:<32} {' '.join(sorted(addresses))}")

    def _resolves(self, name: str, addresses: set[str]) -> bool:
        return set(self._load(name, 80, 0).addresses) == addresses

    def _balance(self, balance: str) -> None:
        self.client.merge(
            SERVICES, NAMESPACE, SERVICE, {"metadata": {"annotations": {BALANCE_ANNOTATION: balance}}}
        )
        wait_for(f"the proxies balance {balance}", lambda: self._looks_like(balance))
        before = self._overlay_packets()
        load = self._load(f"{SERVICE}.{NAMESPACE}.svc.{self.spec.cluster_domain}", 80, REQUESTS)
        crossed = self._overlay_packets() - before
        _require(
            not load.failures, f"{len(load.failures)} of {REQUESTS} requests failed: {load.failures[:1]}"
        )
        _require(len(load.pods) == REPLICAS, f"only {sorted(load.pods)} answered")
        _require(crossed > 0, f"no packet crossed {OVERLAY_IFNAME}")
        if balance == "round-robin":
            _require(is_round_robin(load.order), f"not round robin: {Counter(load.pods)}")
        here = self._ready()[CLIENT].spec.node_name
        for pod, count in sorted(load.pods.items()):
            node = self._web()[pod].spec.node_name
            where = "same node" if node == here else f"over {OVERLAY_IFNAME}"
            self.say(f"        {pod:<22} {node:<8} {where:<16} {count:3d}  {'#' * count}")
        self.say(f"        packets received by {OVERLAY_IFNAME} on all nodes: {crossed}")

    def _looks_like(self, balance: str) -> bool:
        """Whether a short run is already (or no longer) an exact rotation; by chance random is one in 1 of
        10,000.
        """
        load = self._load(SERVICE, 80, 3 * REPLICAS)
        return not load.failures and is_round_robin(load.order) == (balance == "round-robin")

    def _delete_one(self) -> None:
        here, before = self._ready()[CLIENT].spec.node_name, self._web()
        victim = next(pod for pod in before.values() if pod.spec.node_name != here)
        argv = self._load_argv(SERVICE, 80, 300, pause_s=0.01)
        with inside.started(self.spec.name, f"{NAMESPACE}/{CLIENT}", argv) as running:
            self.client.delete(PODS, NAMESPACE, victim.metadata.name)
            wait_for("the endpoint is gone", lambda: victim.status.pod_ip not in self._endpoints(SERVICE))
            load = msgspec.json.decode(running.finish(WAIT_S), type=Load)
        _require(not load.failures, f"{len(load.failures)} requests failed: {load.failures[:1]}")
        _require(victim.metadata.name not in load.order[-REQUESTS:], f"{victim.metadata.name} still answers")
        wait_for(
            "a replacement",
            lambda: len(self._web()) == REPLICAS and len(self._endpoints(SERVICE)) == REPLICAS,
        )
        new = set(self._web()) - set(before)
        self.say(f"        {victim.metadata.name} deleted: {len(load.order)} requests meanwhile, none failed")
        self.say(f"        replaced by {' '.join(sorted(new))}")

    def _ready(self) -> dict[str, Pod]:
        pods = self.client.list(PODS, Pod, NAMESPACE)
        return {p.metadata.name: p for p in pods if p.ready and p.metadata.deletion_timestamp is None}

    def _why_not_ready(self) -> str:
        pods = [pod for pod in self.client.list(PODS, Pod, NAMESPACE) if not pod.ready]
        return (
            "; ".join(f"{pod.metadata.name}: {problem_of(pod)}" for pod in pods) or "there are too few pods"
        )

    def _web(self) -> dict[str, Pod]:
        return {name: pod for name, pod in self._ready().items() if name != CLIENT}

    def _endpoints(self, service: str) -> set[str]:
        found = self.client.list(
            ENDPOINTSLICES, EndpointSlice, NAMESPACE, labelSelector=f"{SERVICE_NAME_LABEL}={service}"
        )
        endpoints = [endpoint for each in found for endpoint in each.endpoints or ()]
        return {e.addresses[0] for e in endpoints if e.conditions.ready is not False}

    def _overlay_packets(self) -> int:
        total = 0
        for node in control.status(self.spec.name).ledger.nodes:
            with control.node_netns(self.spec.name, node) as netns:
                total += link_counters(netns)[OVERLAY_IFNAME].rx_packets
        return total

    def _load(self, host: str, port: int, count: int) -> Load:
        printed = inside.run(self.spec.name, f"{NAMESPACE}/{CLIENT}", self._load_argv(host, port, count))
        return msgspec.json.decode(printed, type=Load)

    def _load_argv(self, host: str, port: int, count: int, pause_s: float = 0.0) -> list[str]:
        return [*LOAD, host, str(port), "--count", str(count), "--pause", str(pause_s)]


def demonstrate(spec: LabSpec, say: Callable[[str], None]) -> None:
    """Run the whole demonstration. Raises KubenetError; the lab is gone in any case."""
    before = witness.observe()
    began = time.monotonic()
    server = control.up(spec)
    say(f"ok    {f'boot {spec.nodes} nodes':<45} {time.monotonic() - began:6.2f} s")
    try:
        Demo(spec, SyncClient(server), say).run()
    finally:
        began = time.monotonic()
        control.down(spec.name)
    say(f"ok    {'tear down':<45} {time.monotonic() - began:6.2f} s")
    if changed := witness.differences(before, witness.observe()):
        raise DemoFailed(f"step 'leave the machine alone' failed: {'; '.join(changed)}")
    say("ok    links, rules and settings of this machine are as they were")


def is_round_robin(order: tuple[str, ...], backends: int = REPLICAS) -> bool:
    """Whether every window of ``backends`` answers holds each backend once."""
    windows = (set(order[i : i + backends]) for i in range(len(order) - backends + 1))
    return len(order) >= backends and all(len(window) == backends for window in windows)


def problem_of(pod: Pod) -> str:
    """Return in a few words why a pod is not ready, as its status tells."""
    for status in pod.status.container_statuses:
        for state in (status.last_state, status.state):
            if state.terminated and state.terminated.message:
                return state.terminated.message
            if state.waiting and state.waiting.message:
                return state.waiting.message
    unmet = [condition for condition in pod.status.conditions if condition.status == "False"]
    return next((c.message or c.reason for c in unmet if c.message or c.reason), pod.status.phase)


def wait_for(what: str, holds: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Return as soon as ``holds`` does. Raises TimedOut."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimedOut(f"not after {timeout_s:g} s: {what}")
        time.sleep(0.05)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemoFailed(otherwise)
