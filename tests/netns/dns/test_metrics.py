"""What dashboards made for CoreDNS ask for is there, under its names and with its labels."""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kubenet.model.objects import Json
from kubenet.model.resources import ENDPOINTSLICES, SERVICES
from tests.netns.dns.test_daemon import cluster, page, serving, until_ready
from tests.netns.dns.test_upstream import THERE, plainly
from tests.netns.dns.world import PATIENCE_S, ZONE, Upstream, World, ask, on
from tests.unit.dns.world import PLAIN_OPT

pytestmark = pytest.mark.netns

# Names and labels as CoreDNS 1.13 shows them.
WANTED: Mapping[str, set[str]] = {
    "coredns_build_info": {"version", "revision", "goversion"},
    "coredns_cache_entries": {"server", "type", "view", "zones"},
    "coredns_cache_hits_total": {"server", "type", "view", "zones"},
    "coredns_cache_misses_total": {"server", "view", "zones"},
    "coredns_cache_requests_total": {"server", "view", "zones"},
    "coredns_dns_do_requests_total": {"server", "view", "zone"},
    "coredns_dns_request_duration_seconds_bucket": {"le", "server", "view", "zone"},
    "coredns_dns_request_duration_seconds_count": {"server", "view", "zone"},
    "coredns_dns_request_size_bytes_bucket": {"le", "proto", "server", "view", "zone"},
    "coredns_dns_requests_total": {"family", "proto", "server", "type", "view", "zone"},
    "coredns_dns_response_size_bytes_sum": {"proto", "server", "view", "zone"},
    "coredns_dns_responses_total": {"plugin", "rcode", "server", "view", "zone"},
    "coredns_forward_healthcheck_broken_total": set(),
    "coredns_forward_max_concurrent_rejects_total": set(),
    "coredns_kubernetes_dns_programming_duration_seconds_count": {"service_kind"},
    "coredns_panics_total": set(),
    "coredns_plugin_enabled": {"name", "server", "view", "zone"},
    "coredns_proxy_healthcheck_failures_total": {"proxy_name", "to"},
    "coredns_proxy_request_duration_seconds_bucket": {"le", "proxy_name", "rcode", "to"},
    "coredns_reload_failed_total": set(),
    "coredns_reload_version_info": {"hash", "value"},
    "process_resident_memory_bytes": set(),
}
SAMPLE = re.compile(r"^([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? ([0-9.e+-]+|NaN)$")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the samples of a page; every line must be one, or a comment of its family before it."""
    found = {}
    typed: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in typed, f"{name} is told twice"
            typed.add(name)
        elif not line.startswith("#"):
            match = SAMPLE.match(line)
            assert match, line
            base = re.sub(r"_(bucket|sum|count)$", "", match[1])
            assert {base, match[1]} & typed, line
            found[match[1], frozenset(LABEL.findall(match[2] or ""))] = float(match[3])
    return found


def test_P5_every_name_and_label_is_coredns(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        with Upstream(world, plainly):
            async with cluster(world) as client, serving(world, tmp_path / "Corefile"):
                await until_ready(world)
                spec: Json = {"clusterIP": "None", "ports": [{"port": 80}]}
                await client.create(SERVICES, "demo", {"metadata": {"name": "db"}, "spec": spec})
                for _ in range(2):
                    assert (await ask(world, opt=PLAIN_OPT[:7] + b"\x80" + PLAIN_OPT[8:])).rdata
                    assert (await ask(world, "www.example.com")).rdata == ["192.0.2.1"]
                assert (await ask(world, f"none.demo.svc.{ZONE}", 28)).status == "NXDOMAIN"
                trigger: Json = {
                    "endpoints.kubernetes.io/last-change-trigger-time": datetime.now(UTC).isoformat()
                }
                body: Json = {
                    "metadata": {
                        "name": "db-1",
                        "labels": {"kubernetes.io/service-name": "db"},
                        "annotations": trigger,
                    },
                    "addressType": "IPv4",
                    "endpoints": [{"addresses": ["10.244.0.1"]}],
                }
                await client.create(ENDPOINTSLICES, "demo", body)
                async with asyncio.timeout(PATIENCE_S):
                    while (await ask(world, f"db.demo.svc.{ZONE}")).rdata != ["10.244.0.1"]:
                        await asyncio.sleep(0.01)
                status, text = await page(world, 9153, "/metrics")
        assert status == 200
        found = samples(text)
        labels = {name: {label for label, _ in pairs} for name, pairs in found}
        assert {name: labels.get(name) for name in WANTED} == WANTED

        def value(name: str, **wanted: str) -> float:
            return sum(
                count
                for (each, pairs), count in found.items()
                if each == name and wanted.items() <= dict(pairs).items()
            )

        assert value("coredns_dns_requests_total", type="AAAA", proto="udp", family="1", zone=".") == 1
        assert value("coredns_dns_responses_total", rcode="NOERROR", plugin="cache") == 1
        assert value("coredns_dns_responses_total", rcode="NOERROR", plugin="forward") == 1
        assert value("coredns_dns_responses_total", rcode="NXDOMAIN", plugin="kubernetes") >= 1
        assert value("coredns_dns_do_requests_total") == 2
        asked = value("coredns_dns_requests_total")
        assert value("coredns_dns_request_duration_seconds_count") == asked
        assert value("coredns_dns_request_size_bytes_count") == asked
        assert value("coredns_dns_response_size_bytes_bucket", le="+Inf") == asked
        assert value("coredns_proxy_request_duration_seconds_count", to=f"{THERE[0]}:{THERE[1]}") >= 1
        assert value("coredns_kubernetes_dns_programming_duration_seconds_count") == 1

    on(case)
