"""One sync: all families, the look for drift, one line in the log; and how a cancelled one ends."""

import asyncio
import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import IPv6Network

import pytest

from kubenet.errors import ProgramFailed
from kubenet.model.objects import EndpointSlice, Service
from proxy.apply_iptables import IptablesBackend
from proxy.backend import Applied, Backend
from proxy.family import FamilySync
from proxy.node_config import ProxyConfig
from proxy.policy import Locality, ServingPort
from proxy.ports import NodeNetwork, ServicePortName
from proxy.status import Status, StatusConfig
from proxy.sync import ProxySync
from proxy.track import ServiceObjects, TrackRules, together
from proxy.view import PortChange
from tests.unit.proxy.fakes import FakeIptables
from tests.unit.proxy.objects import endpoint_slice, service


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.monotonic_s = 1000.0

    def monotonic(self) -> float:
        return self.monotonic_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.monotonic_s, UTC)

    async def sleep(self, delay_s: float) -> None:
        self.monotonic_s += delay_s


class NoFlows:
    """A kernel without UDP flows."""

    def forget(self, changes: Iterable[PortChange]) -> int:
        return 0


class SlowBackend:
    """A kernel that takes its time: ``begun`` says that it has been asked, ``go`` lets it finish."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.finished = False
        self.disturbed = False

    def apply(self, serving: Sequence[ServingPort]) -> Applied:
        self.begun.set()
        assert self.go.wait(10)
        self.finished = True
        return Applied()

    def apply_changed(self, changed: Mapping[ServicePortName, ServingPort | None]) -> Applied:
        return self.apply(())

    def move(self, network: NodeNetwork) -> None:
        return

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        return

    def drifted(self) -> Sequence[str]:
        return ()

    def invalid_dropped(self) -> int:
        return 0

    def connections(self) -> Mapping[tuple[ServicePortName, str], int]:
        return {}


class Cluster:
    """The objects that the caches hold."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.slices: dict[str, EndpointSlice] = {}

    def put(self, *things: Service | EndpointSlice) -> None:
        for thing in things:
            if isinstance(thing, Service):
                self.services[thing.metadata.key] = thing
            else:
                self.slices[thing.metadata.key] = thing

    def look(self, keys: Collection[str] | None = None) -> Sequence[ServiceObjects]:
        there = {each.key: each for each in together(self.services.values(), self.slices.values())}
        return [there.get(key, ServiceObjects(key, None)) for key in (there if keys is None else keys)]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def kernel() -> FakeIptables:
    return FakeIptables()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def proxy_sync(backend: Backend, cluster: Cluster, clock: HandClock) -> ProxySync:
    family = FamilySync(TrackRules(), Locality("here"), backend, NoFlows())
    return ProxySync([family], cluster.look, check_s=30.0, clock=clock)


@pytest.fixture
def syncer(kernel: FakeIptables, cluster: Cluster, clock: HandClock) -> ProxySync:
    return proxy_sync(IptablesBackend(kernel, NodeNetwork()), cluster, clock)


def test_a_sync_says_what_it_did_and_an_idle_one_says_nothing(
    syncer: ProxySync, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cluster.put(service(), endpoint_slice("10.244.1.2", "10.244.1.3"))
    asyncio.run(syncer.sync())
    (line,) = caplog.messages
    assert line.startswith("proxy: synced 1 services, 2 endpoints in ")
    caplog.clear()
    asyncio.run(syncer.sync())
    assert caplog.messages == []


def test_A7_row74_drift_is_looked_for_only_when_it_is_due(
    syncer: ProxySync,
    cluster: Cluster,
    kernel: FakeIptables,
    clock: HandClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster.put(service(), endpoint_slice("10.244.1.2"))
    asyncio.run(syncer.sync())
    kernel.tables["nat"]["KUBE-SERVICES"] = []
    started = kernel.started
    asyncio.run(syncer.sync())
    assert kernel.started == started  # not due: no program is started
    clock.monotonic_s += 30
    asyncio.run(syncer.sync())
    assert kernel.tables["nat"]["KUBE-SERVICES"]
    assert any("somebody changed nat KUBE-SERVICES" in message for message in caplog.messages)


def test_A7_row74_drift_is_looked_for_at_once_when_there_is_doubt(
    syncer: ProxySync, cluster: Cluster, kernel: FakeIptables
) -> None:
    cluster.put(service(), endpoint_slice("10.244.1.2"))
    asyncio.run(syncer.sync())
    kernel.tables["nat"]["KUBE-SERVICES"] = []
    syncer.doubt()
    asyncio.run(syncer.sync())
    assert kernel.tables["nat"]["KUBE-SERVICES"]
    started = kernel.started
    asyncio.run(syncer.sync())
    assert kernel.started == started


def test_S7_what_is_refused_is_said_once(
    syncer: ProxySync, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.put(service(), endpoint_slice("127.0.0.1"))
    asyncio.run(syncer.sync())
    asyncio.run(syncer.sync())
    assert [m for m in caplog.messages if "loopback" in m] == [
        "proxy: EndpointSlice demo/web-1 endpoint 0: 127.0.0.1: a loopback address"
    ]


def test_a_failed_sync_raises_so_that_it_is_tried_again(
    syncer: ProxySync, cluster: Cluster, kernel: FakeIptables
) -> None:
    cluster.put(service(), endpoint_slice("10.244.1.2"))
    kernel.broken = True
    with pytest.raises(ProgramFailed):
        asyncio.run(syncer.sync())
    asyncio.run(syncer.sync())
    assert kernel.tables["nat"]["KUBE-SERVICES"]


def test_a_cancelled_sync_ends_only_when_the_kernel_is_done(cluster: Cluster, clock: HandClock) -> None:
    backend = SlowBackend()

    async def cancel_midway() -> bool:
        task = asyncio.create_task(proxy_sync(backend, cluster, clock).sync())
        await asyncio.to_thread(backend.begun.wait, 10)
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        waited = not task.done()
        backend.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return waited and backend.finished

    assert asyncio.run(cancel_midway())


def test_A2_row25_ipv6_is_served_when_its_pod_network_is_known() -> None:
    assert [network.family for network in ProxyConfig("here").networks] == [4]
    six = IPv6Network("fd00:244::/48")
    assert [n.family for n in ProxyConfig("here", cluster_cidr_v6=six).networks] == [4, 6]


def test_A6_row59_a_change_during_the_first_familys_sync_waits_on_in_the_second(
    cluster: Cluster, clock: HandClock
) -> None:
    status = Status([4, 6], StatusConfig(patience_s=60), clock)

    class Changing(SlowBackend):
        """A kernel in whose time something changes."""

        def apply(self, serving: Sequence[ServingPort]) -> Applied:
            clock.monotonic_s += 1
            status.changed(None)
            clock.monotonic_s += 1
            return Applied()

    four = FamilySync(TrackRules(4), Locality("here"), Changing(), NoFlows())
    six = FamilySync(
        TrackRules(6), Locality("here"), IptablesBackend(FakeIptables(), NodeNetwork(6)), NoFlows()
    )
    syncer = ProxySync([four, six], cluster.look, 30.0, clock=clock, status=status)
    asyncio.run(syncer.sync())
    assert status.vitals.healthz(clock.monotonic(), clock.now())[0] == 200
    clock.monotonic_s += 60
    assert status.vitals.well(clock.monotonic()) == {4: False, 6: False}
