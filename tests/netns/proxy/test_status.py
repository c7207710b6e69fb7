"""Health, metrics and health check node ports of a running proxy, asked over the node's network."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from kubenet.kernel.netns import NetNs
from proxy.daemon import run_from
from proxy.node_config import ProxyConfig
from proxy.source import FileSource
from tests.netns.proxy.test_daemon import eventually
from tests.netns.proxy.world import NODE, World, backend_ip

pytestmark = pytest.mark.netns

EVERYWHERE = ip_address("0.0.0.0")

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  type: LoadBalancer
  clusterIP: 10.96.7.7
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  ports: [{name: http, port: 80, nodePort: 30080}]
"""

SLICE = """
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: demo, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
"""

NODE_OBJECT = """
---
apiVersion: v1
kind: Node
metadata: {name: here, labels: {topology.kubernetes.io/zone: ZONE}}
"""


def endpoint(last: int, node: str = "here", more: str = "") -> str:
    return f"- {{addresses: [{backend_ip(last)}], nodeName: {node}{more}}}\n"


def get(where: NetNs, ip: str, port: int, path: str) -> tuple[int, dict[str, str], bytes]:
    with where.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect((ip, port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {ip}\r\n\r\n".encode())
        reply = b""
        while piece := client.recv(65536):
            reply += piece
    head, _, body = reply.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


@asynccontextmanager
async def running(world: World, path: Path, **more: object) -> AsyncIterator[None]:
    ready = asyncio.Event()
    config = ProxyConfig(
        "here",
        world.node,
        ip_network("10.244.0.0/16"),
        min_sync_s=0.01,
        ready=ready,
        healthz=(EVERYWHERE, 10256),
        metrics=(ip_address("127.0.0.1"), 10249),
    )
    config = replace(config, **more)  # type: ignore[arg-type]  # any field
    task = asyncio.create_task(run_from(config, FileSource(path, "here")))
    try:
        done, _ = await asyncio.wait(
            {task, waiting := asyncio.create_task(ready.wait())}, timeout=10, return_when="FIRST_COMPLETED"
        )
        assert waiting in done, task.exception()
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def write(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.rename(path)


def story(world: World, path: Path, tell: Callable[[], None], **more: object) -> None:
    async def run() -> None:
        async with running(world, path, **more):
            await asyncio.to_thread(tell)

    asyncio.run(run())


def test_A6_row59_to_row62_healthz_livez_metrics_and_mode(world: World, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(SERVICE + SLICE + endpoint(2))

    def tell() -> None:
        for name in ("/healthz", "/livez"):
            status, _, body = get(world.outside, NODE, 10256, name)
            assert (status, json.loads(body)["healthy"]) == (200, True)
        assert get(world.outside, NODE, 10256, "/secret")[0] == 404
        assert get(world.node, "127.0.0.1", 10249, "/proxyMode")[2] == b"iptables"
        page = get(world.node, "127.0.0.1", 10249, "/metrics")[2].decode()
        assert 'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1\n' in page
        assert 'kubeproxy_proxy_healthz_total{code="200"} 1\n' in page
        with pytest.raises(ConnectionRefusedError):
            get(world.outside, NODE, 10249, "/metrics")

    story(world, path, tell)
    with pytest.raises(ConnectionRefusedError):  # and closed when it has ended
        get(world.outside, NODE, 10256, "/healthz")


def test_A6_row59_row60_a_node_that_leaves_gets_no_new_traffic(world: World, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    taint = "spec: {taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}\n"
    path.write_text(SERVICE + SLICE + endpoint(2) + NODE_OBJECT + taint)

    def tell() -> None:
        status, _, body = get(world.outside, NODE, 10256, "/healthz")
        assert (status, json.loads(body)["nodeEligible"]) == (503, False)
        assert get(world.outside, NODE, 10256, "/livez")[0] == 200

    story(world, path, tell)


def test_A6_row56_row57_health_check_node_ports(world: World, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(SERVICE + SLICE + endpoint(2) + endpoint(3, "far"))

    def health() -> int:
        return get(world.outside, NODE, 32000, "/")[0]

    async def run() -> None:
        async with running(world, path):
            status, headers, body = await asyncio.to_thread(get, world.outside, NODE, 32000, "/")
            assert status == 200
            assert headers["x-load-balancing-endpoint-weight"] == "1"
            assert json.loads(body) == {
                "service": {"namespace": "demo", "name": "web"},
                "localEndpoints": 1,
                "serviceProxyHealthy": True,
            }
            ending = ", conditions: {ready: false, serving: true, terminating: true}"
            write(path, SERVICE + SLICE + endpoint(2, more=ending))
            await eventually(lambda: health() == 503)
            # Traffic is served on all the same: the load balancer is to look elsewhere in time.
            assert (await asyncio.to_thread(world.connect, world.outside, NODE, 30080)).backend == backend_ip(
                2
            )
            write(path, SERVICE.replace("Local", "Cluster") + SLICE + endpoint(2))
            await eventually(lambda: not listens(world, 32000))

    asyncio.run(run())


def listens(world: World, port: int) -> bool:
    with world.outside.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        return client.connect_ex((NODE, port)) == 0


def test_A6_row58_a_port_that_is_taken_is_said_and_tried_again(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(SERVICE + SLICE + endpoint(2))
    holder = world.node.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.bind(("0.0.0.0", 32000))
    holder.listen()

    async def run() -> None:
        async with running(world, path):
            told = (
                "FailedToStartServiceHealthcheck: node here failed to start healthcheck 'demo/web' on port 32"
            )
            assert any(told in message for message in caplog.messages)
            assert (await asyncio.to_thread(world.connect, world.outside, NODE, 30080)).backend == backend_ip(
                2
            )
            holder.close()
            write(path, SERVICE + SLICE + endpoint(2) + endpoint(3))  # the next sync
            await eventually(lambda: get_status(world) == 200)

    asyncio.run(run())


def get_status(world: World) -> int:
    try:
        return get(world.outside, NODE, 32000, "/")[0]
    except ConnectionError:
        return 0


def test_A3_row35_row36_the_zone_follows_the_nodes_label(world: World, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    hinted = "".join(
        endpoint(last, "far", f", hints: {{forZones: [{{name: {zone}}}]}}")
        for last, zone in ((2, "a"), (3, "b"))
    )
    cluster = SERVICE.replace("Local", "Cluster") + SLICE + hinted

    def backends() -> set[str]:
        return {world.connect(world.client, "10.96.7.7").backend for _ in range(12)}

    async def run() -> None:
        async with running(world, path):
            for zone, backend in (("a", 2), ("b", 3)):
                write(path, cluster + NODE_OBJECT.replace("ZONE", zone))
                await eventually(lambda backend=backend: backends() == {backend_ip(backend)})  # type: ignore[misc]
            write(path, cluster + NODE_OBJECT.replace("ZONE", "c"))  # nobody there: all serve
            await eventually(lambda: backends() == {backend_ip(2), backend_ip(3)})

    write(path, cluster + NODE_OBJECT.replace("ZONE", "a"))
    asyncio.run(run())


def test_a_source_file_is_read_again_and_a_broken_one_changes_nothing(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(SERVICE + SLICE + endpoint(2))

    async def run() -> None:
        async with running(world, path):
            write(path, "kind: [")
            await eventually(lambda: any("not YAML" in message for message in caplog.messages))
            assert (await asyncio.to_thread(world.connect, world.client, "10.96.7.7")).backend == backend_ip(
                2
            )
            write(path, SERVICE + SLICE + endpoint(3))
            await eventually(lambda: world.connect(world.client, "10.96.7.7").backend == backend_ip(3))

    asyncio.run(run())
