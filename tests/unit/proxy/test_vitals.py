"""What the proxy tells about itself: rows 56 to 63."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest

from kubenet.model.objects import Node, NodeSpec, ObjectMeta, Taint
from proxy.backend import Applied
from proxy.metrics import Counter, Gauge, Histogram, ProxyMetrics, render, trigger_time
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Endpoint, ServicePort, ServicePortName, TrafficPolicy
from proxy.status import Status, StatusConfig
from proxy.totals import lacks_local
from proxy.vitals import ServiceHealth, Vitals, service_healths
from tests.unit.proxy.objects import endpoint_slice, service
from tests.unit.proxy.test_daemon import HandClock

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
NEAR = Endpoint(ip_address("10.244.1.2"), 8080, node_name="here")
FAR = Endpoint(ip_address("10.244.2.2"), 8080, node_name="far")
OPEN = ServicePort(
    ServicePortName("demo", "web", "http"),
    ip_address("10.96.0.1"),
    80,
    node_port=30080,
    external_policy=TrafficPolicy.LOCAL,
    health_check_node_port=32000,
    endpoints=(NEAR, FAR),
)


def served(*ports: ServicePort) -> tuple[ServingPort, ...]:
    return serve(ports, Locality("here"))


def told(vitals: Vitals, now_s: float, *, live: bool = False) -> tuple[int, dict[str, object]]:
    status, body = (vitals.livez if live else vitals.healthz)(now_s, MOMENT)
    decoded = json.loads(body)
    assert isinstance(decoded, dict)
    return status, decoded


def test_A6_row59_a_change_that_waits_too_long_is_not_healthy() -> None:
    vitals = Vitals([4, 6], patience_s=60)
    assert told(vitals, 0)[0] == 200
    vitals.queued(100)
    vitals.queued(150)  # the oldest counts
    assert told(vitals, 159)[0] == 200
    status, body = told(vitals, 160)
    assert (status, body["healthy"]) == (503, False)
    vitals.updated(4, 155, MOMENT)
    status, body = told(vitals, 161)
    assert status == 503
    assert body["status"] == {
        "IPv4": {"healthy": True, "lastUpdated": "2026-01-01T00:00:00.000000Z"},
        "IPv6": {"healthy": False, "lastUpdated": ""},
    }
    vitals.updated(6, 155, MOMENT)
    assert told(vitals, 1000)[0] == 200


def test_a_sync_that_began_before_the_change_does_not_settle_it() -> None:
    vitals = Vitals([4], patience_s=60)
    vitals.queued(100)
    vitals.updated(4, 99, MOMENT)
    assert told(vitals, 160)[0] == 503


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(
            Node(spec=NodeSpec(taints=(Taint("ToBeDeletedByClusterAutoscaler", "NoSchedule"),))), id="tainted"
        ),
        pytest.param(
            Node(metadata=ObjectMeta(deletion_timestamp="2026-01-01T00:00:00Z")), id="being deleted"
        ),
    ],
)
def test_A6_row59_row60_a_node_that_leaves_is_not_eligible_but_its_proxy_lives(node: Node) -> None:
    vitals = Vitals([4], patience_s=60)
    vitals.node = node
    status, body = told(vitals, 0)
    assert (status, body["nodeEligible"], body["healthy"]) == (503, False, False)
    assert told(vitals, 0, live=True)[0] == 200
    vitals.node = Node(spec=NodeSpec(taints=(Taint("other", "NoSchedule"),)))
    assert told(vitals, 0)[0] == 200


@pytest.mark.parametrize(
    ("endpoints", "count"),
    [
        pytest.param((NEAR, FAR), 1, id="one here"),
        pytest.param((FAR,), 0, id="none here"),
        pytest.param((NEAR, replace(NEAR, port=9090)), 1, id="two ports of one pod"),
        pytest.param(
            (replace(NEAR, ready=False, terminating=True),), 0, id="row 57: it terminates, and serves"
        ),
    ],
)
def test_A6_row56_row57_ready_local_endpoints_are_counted(
    endpoints: tuple[Endpoint, ...], count: int
) -> None:
    healths = service_healths(served(replace(OPEN, endpoints=endpoints)), "here")
    assert healths == {32000: ServiceHealth("demo", "web", count)}


@pytest.mark.parametrize(("count", "well", "status"), [(1, True, 200), (0, True, 503), (2, False, 503)])
def test_A6_row56_the_answer(count: int, well: bool, status: int) -> None:
    got, body = ServiceHealth("demo", "web", count).answer(proxy_well=well)
    assert got == status
    assert json.loads(body) == {
        "service": {"namespace": "demo", "name": "web"},
        "localEndpoints": count,
        "serviceProxyHealthy": well,
    }


def test_two_services_with_one_number_do_not_mix() -> None:
    other = replace(OPEN, name=ServicePortName("demo", "other", "http"), endpoints=(NEAR,) * 1)
    healths = service_healths(served(replace(OPEN, endpoints=(FAR,)), other), "here")
    assert healths[32000] == ServiceHealth("demo", "web", 0)


def test_metrics_are_rendered_as_prometheus_reads_them() -> None:
    counter = Counter("a_total", 'Says "how often".', ("code",))
    counter.add(2, 'x"\n\\')
    gauge = Gauge("b", "Now.")
    gauge.set(0.5)
    histogram = Histogram("c_seconds", "Time.", (), (0.1, 1.0))
    for number in (0.05, 0.1, 0.5, 7):
        histogram.observe(number)
    assert render([counter, gauge, histogram]).splitlines() == [
        '# HELP a_total Says \\"how often\\".',
        "# TYPE a_total counter",
        'a_total{code="x\\"\\n\\\\"} 2',
        "# HELP b Now.",
        "# TYPE b gauge",
        "b 0.5",
        "# HELP c_seconds Time.",
        "# TYPE c_seconds histogram",
        'c_seconds_bucket{le="0.1"} 2',
        'c_seconds_bucket{le="1"} 3',
        'c_seconds_bucket{le="+Inf"} 4',
        "c_seconds_sum 7.65",
        "c_seconds_count 4",
    ]


KNOWN = [
    "sync_proxy_rules_duration_seconds",
    "sync_full_proxy_rules_duration_seconds",
    "sync_partial_proxy_rules_duration_seconds",
    "sync_proxy_rules_last_timestamp_seconds",
    "sync_proxy_rules_last_queued_timestamp_seconds",
    "network_programming_duration_seconds",
    "sync_proxy_rules_endpoint_changes_pending",
    "sync_proxy_rules_endpoint_changes_total",
    "sync_proxy_rules_service_changes_pending",
    "sync_proxy_rules_service_changes_total",
    "sync_proxy_rules_iptables_total",
    "sync_proxy_rules_iptables_last",
    "sync_proxy_rules_iptables_restore_failures_total",
    "sync_proxy_rules_iptables_partial_restore_failures_total",
    "sync_proxy_rules_nftables_sync_failures_total",
    "sync_proxy_rules_nftables_cleanup_failures_total",
    "sync_proxy_rules_no_local_endpoints_total",
    "proxy_healthz_total",
    "proxy_livez_total",
    "conntrack_reconciler_sync_duration_seconds",
    "conntrack_reconciler_deleted_entries_total",
]


def test_A6_row62_metrics_have_kube_proxys_names() -> None:
    page = ProxyMetrics().page()
    names = set(re.findall(r"^# TYPE kubeproxy_(\S+) ", page, re.MULTILINE))
    assert set(KNOWN) <= names


def test_A6_row63_programming_latency_counts_from_what_happened_to_the_rules() -> None:
    clock = HandClock()
    status = Status([4], clock=clock)
    early = clock.now() - timedelta(seconds=1)  # before this proxy was there
    trigger = clock.now() + timedelta(seconds=2)
    for moment in (early, trigger):
        piece = endpoint_slice("10.244.1.2")
        piece.metadata.annotations["endpoints.kubernetes.io/last-change-trigger-time"] = moment.isoformat()
        status.changed(piece)
    clock.monotonic_s += 7.0
    with pytest.raises(OSError, match="refused"), status.syncing():
        raise OSError("refused")
    assert status.metrics.programming_s.count("IPv4") == 0
    with status.syncing():
        pass
    assert status.metrics.programming_s.count("IPv4") == 1
    assert status.metrics.programming_s.value("IPv4") == pytest.approx(5.0)
    with status.syncing():
        pass
    assert status.metrics.programming_s.count("IPv4") == 1


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z"])
def test_a_trigger_time_that_cannot_be_read_is_none(text: str) -> None:
    assert trigger_time({"endpoints.kubernetes.io/last-change-trigger-time": text}) is None


def test_A6_row62_changes_are_counted_and_pending_until_the_sync() -> None:
    metrics = (status := Status([4, 6])).metrics
    status.changed(service())
    status.changed(endpoint_slice("10.244.1.2"))
    status.changed(endpoint_slice("10.244.1.3"))
    status.changed(None)
    assert (metrics.service_changes.value("IPv6"), metrics.endpoint_changes.value("IPv4")) == (1, 2)
    assert metrics.endpoint_changes_pending.value("IPv4") == 2
    with status.syncing():
        pass
    assert metrics.endpoint_changes_pending.value("IPv4") == 0
    assert metrics.endpoint_changes.value("IPv4") == 2


def test_A6_row62_syncs_and_refusals_are_counted_by_kind() -> None:
    metrics = (status := Status([4])).metrics
    status.synced(4, 0.0, 0.01, Applied(observed=True, rules={"nat": 12}, rules_written={"nat": 12}))
    status.synced(4, 0.0, 0.01, Applied(written=1, rules={"nat": 13}, rules_written={"nat": 2}))
    assert metrics.sync_s.count("IPv4") == 2
    assert (metrics.full_sync_s.count("IPv4"), metrics.partial_sync_s.count("IPv4")) == (1, 1)
    assert (metrics.iptables_total.value("nat", "IPv4"), metrics.iptables_last.value("nat", "IPv4")) == (
        13,
        2,
    )
    status.failed(4, full=True)
    status.failed(4, full=False)
    assert metrics.restore_failures.value("IPv4") == 2
    assert metrics.partial_restore_failures.value("IPv4") == 1
    other = Status([4], StatusConfig("nftables"))
    other.failed(4, full=True)
    assert other.metrics.nftables_failures.value("IPv4") == 1


def test_A6_row62_service_ports_without_a_local_endpoint_are_counted() -> None:
    lonely = replace(OPEN, endpoints=(FAR,))
    inner = replace(lonely, internal_policy=TrafficPolicy.LOCAL, external_policy=TrafficPolicy.CLUSTER)
    ports = served(OPEN, lonely, inner, replace(lonely, endpoints=()))
    assert [sum(each) for each in zip(*map(lacks_local, ports), strict=True)] == [1, 1]


def test_P11_a_wall_clock_that_jumps_makes_nobody_ill() -> None:
    class Jumping:
        wall = datetime(2026, 1, 1, tzinfo=UTC)

        def monotonic(self) -> float:
            return 5.0

        def now(self) -> datetime:
            return self.wall

        async def sleep(self, delay_s: float) -> None:
            raise AssertionError("nobody sleeps here")

    clock = Jumping()
    status = Status([4], StatusConfig(patience_s=60.0), clock)
    for days in (1, -2, 400):
        status.changed(None)
        clock.wall += timedelta(days=days)
        assert status.vitals.healthz(clock.monotonic(), clock.now())[0] == 200
        with status.syncing():
            status.synced(4, clock.monotonic(), 0.1, Applied())
        assert status.vitals.healthz(clock.monotonic(), clock.now())[0] == 200
