"""The server that a Corefile describes: against a real API server, while its configuration changes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dns import daemon
from dns.daemon import CorefileServer, ServeConfig
from dns.wire import RType
from kubenet.client import informer
from kubenet.client.informer import Informer
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.reflector import Put, Remove
from kubenet.client.transport import ApiClient
from kubenet.errors import InvalidInput
from kubenet.model.objects import Service
from kubenet.model.resources import NAMESPACES, SERVICES
from tests.netns.dns.test_server import api_server
from tests.netns.dns.test_upstream import THERE, plainly
from tests.netns.dns.world import (
    CLIENT,
    OTHER,
    PATIENCE_S,
    SERVER,
    SERVER6,
    WEB,
    ZONE,
    Upstream,
    World,
    ask,
    exchange,
    on,
    udp_socket,
)
from tests.unit.dns.world import query, seen, service

pytestmark = pytest.mark.netns

COREFILE = f""".:53 {{
    bind {SERVER}
    errors
    health {{
        lameduck 200ms
    }}
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        endpoint http://{CLIENT}:6443
        fallthrough in-addr.arpa ip6.arpa
    }}
    prometheus {SERVER}:9153
    forward . {THERE[0]}:{THERE[1]}
    cache 30
    loop
    reload 2s 1s
}}
"""


@asynccontextmanager
async def serving(world: World, corefile: Path, text: str = COREFILE) -> AsyncIterator[CorefileServer]:
    corefile.write_text(text)
    server = CorefileServer(ServeConfig(corefile, netns=world.server))
    try:
        await server.start()
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def cluster(world: World) -> AsyncIterator[ApiClient]:
    """An API server that knows one Service."""
    async with api_server(world):
        config = ClusterConfig(server=f"http://{CLIENT}:6443")
        async with ApiClient(config, socket_factory=world.server.socket) as client:
            await client.create(NAMESPACES, "", {"metadata": {"name": "demo"}})
            await client.create(
                SERVICES,
                "demo",
                {
                    "metadata": {"name": "web", "namespace": "demo"},
                    "spec": {"clusterIP": "10.96.1.1", "ports": [{"name": "http", "port": 80}]},
                },
            )
            yield client


async def page(world: World, port: int, path: str) -> tuple[int, str]:
    with world.client.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, (SERVER, port))
        await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        whole = b""
        while piece := await loop.sock_recv(connection, 65536):
            whole += piece
    head, _, body = whole.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


async def until_ready(world: World) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await page(world, 8181, "/ready"))[0] != 200:
            await asyncio.sleep(0.01)


def test_P2_P3_P4_a_corefile_serves_the_cluster_the_world_and_the_pages(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        with Upstream(world, plainly) as upstream:
            async with serving(world, tmp_path / "Corefile"):
                assert await page(world, 8181, "/ready") == (503, "kubernetes")
                assert await page(world, 8080, "/health") == (200, "OK")
                assert (await ask(world, f"missing.demo.svc.{ZONE}")).status == "SERVFAIL"
                async with cluster(world):
                    await until_ready(world)
                    assert (await ask(world)).rdata == ["10.96.1.1"]
                    assert (await ask(world, f"missing.demo.svc.{ZONE}")).status == "NXDOMAIN"
                    for _ in range(3):
                        assert (await ask(world, "www.example.com")).rdata == ["192.0.2.1"]
                    _, metrics = await page(world, 9153, "/metrics")
            names = [message[12:].lower() for message, _ in upstream.asked]
            assert sum(name.startswith(b"\x03www\x07example") for name in names) == 1
        assert 'coredns_cache_hits_total{server="dns://:53",zones=".",view="",type="success"} 2' in metrics
        assert 'proto="udp",family="1",type="A"} 6' in metrics

    on(case)


def test_D7_a_broken_corefile_keeps_the_old_one_serving(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        corefile = tmp_path / "Corefile"
        async with cluster(world), serving(world, corefile) as server:
            await until_ready(world)
            for broken in (
                COREFILE + "broken {\n",
                COREFILE.replace("errors", "nonsense"),
                "import Corefile\n",
            ):
                corefile.write_text(broken)
                assert not await server.reload()
                assert (await ask(world)).rdata == ["10.96.1.1"]
            taken = world.server.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with taken:
                taken.bind((SERVER, 5454))
                corefile.write_text(COREFILE + f"a.org:5454 {{\n bind {SERVER}\n}}\n")
                assert not await server.reload()
            assert (await ask(world)).rdata == ["10.96.1.1"]
            assert server.reload_failed == 4
            assert await page(world, 8181, "/ready") == (200, "OK")
        assert f"{corefile}:3: unknown plugin 'nonsense'" in caplog.text

    on(case)


def test_D7_a_broken_corefile_at_the_start_is_an_error(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        with pytest.raises(InvalidInput, match=r"Corefile:2: unknown plugin 'x'"):
            async with serving(world, tmp_path / "Corefile", ".\nx"):
                pass

    on(case)


def test_P9_D6_a_reload_loses_no_query_and_changes_all_it_should(world: World, tmp_path: Path) -> None:
    """Queries go on through ten reloads, each of which changes an answer."""

    async def case() -> None:
        corefile = tmp_path / "Corefile"
        async with cluster(world), serving(world, corefile) as server:
            await until_ready(world)
            stop = asyncio.Event()
            asking = asyncio.create_task(_ask_until(world, stop))
            for turn in range(10):
                hosts = f"hosts {{\n 192.0.2.{turn} turn.example\n fallthrough\n }}"
                corefile.write_text(COREFILE.replace("errors", hosts))
                assert await server.reload()
                assert (await ask(world, "turn.example")).rdata == [f"192.0.2.{turn}"]
            stop.set()
            asked, answered = await asking
            assert asked == answered
            assert asked >= 10

    on(case)


async def _ask_until(world: World, stop: asyncio.Event) -> tuple[int, int]:
    asked = answered = 0
    with udp_socket(world) as opened:
        while not stop.is_set():
            reply = await exchange(opened, query(WEB))
            asked += 1
            answered += reply is not None and seen(reply).rdata == ["10.96.1.1"]
    return asked, answered


def test_P9_a_reload_opens_and_closes_ports(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        corefile = tmp_path / "Corefile"
        hosts = f"a.org:5454 {{\n bind {SERVER}\n hosts {{\n 192.0.2.5 a.org\n }}\n}}\n"
        async with cluster(world), serving(world, corefile) as server:
            await until_ready(world)
            corefile.write_text(COREFILE + hosts)
            assert await server.reload()
            with world.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.setblocking(False)
                opened.connect((SERVER, 5454))
                reply = await exchange(opened, query("a.org"))
                assert reply is not None
                assert seen(reply).rdata == ["192.0.2.5"]
                corefile.write_text(COREFILE)
                assert await server.reload()
                with pytest.raises(ConnectionRefusedError):
                    await exchange(opened, query("a.org"))

    on(case)


def test_P2_before_its_end_it_answers_but_is_not_ready(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        async with cluster(world), serving(world, tmp_path / "Corefile") as server:
            await until_ready(world)
            stop = asyncio.Event()
            running = asyncio.create_task(server.run(stop))
            await asyncio.sleep(0)
            stop.set()
            async with asyncio.timeout(PATIENCE_S):
                while await page(world, 8181, "/ready") != (503, "lameduck"):
                    await asyncio.sleep(0)
            assert (await ask(world)).rdata == ["10.96.1.1"]
            assert not running.done()
            await asyncio.wait_for(running, PATIENCE_S)

    on(case)


def test_C7_D5_what_a_watch_did_not_tell_is_found_and_said(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One Service is lost from the cache, another stays in it, as if events had never come."""
    monkeypatch.setattr(informer, "COMPARE_GRACE_S", 0.01)

    async def case() -> None:
        async with cluster(world), serving(world, tmp_path / "Corefile") as server:
            await until_ready(world)
            (names,) = server._clusters.values()
            following: Informer[Service] = names._informers[0]  # type: ignore[assignment]  # the first one
            web = following.cache.get("demo/web")
            assert web is not None
            following._apply(Put(service("demo/ghost", "10.96.1.1")))
            following._apply(Remove(web))
            async with asyncio.timeout(PATIENCE_S):
                while (await ask(world)).status != "NXDOMAIN":
                    await asyncio.sleep(0.01)
            assert (await ask(world, f"ghost.demo.svc.{ZONE}")).rdata == ["10.96.1.1"]
            await names.compare()
            async with asyncio.timeout(PATIENCE_S):
                while (await ask(world)).rdata != ["10.96.1.1"]:
                    await asyncio.sleep(0.01)
            assert (await ask(world, f"ghost.demo.svc.{ZONE}")).status == "NXDOMAIN"
            _, metrics = await page(world, 9153, "/metrics")
            assert "kubenet_dns_missed_changes_total 2" in metrics
            assert "kubenet_dns_staleness_seconds 0." in metrics
            await names.compare()
            assert names.missed == 2
            monkeypatch.setattr(daemon, "SILENT_S", 0.0)
            assert (await page(world, 8181, "/ready"))[1].startswith("OK, but nothing heard")
        assert "services: the watch did not tell 2 changes; repaired" in caplog.text

    on(case)


def test_P8_a_server_that_asks_itself_says_servfail_and_serves_the_cluster(
    world: World, tmp_path: Path
) -> None:
    async def case() -> None:
        text = COREFILE.replace(f"forward . {THERE[0]}:{THERE[1]}", f"forward . {SERVER}:53")
        async with cluster(world), serving(world, tmp_path / "Corefile", text) as server:
            await until_ready(world)
            assert server.live is not None
            async with asyncio.timeout(PATIENCE_S):
                while not server.live.parts[0].part.looping:
                    await asyncio.sleep(0.05)
            assert (await ask(world, "www.example.com", RType.A)).status == "SERVFAIL"
            assert (await ask(world)).rdata == ["10.96.1.1"]

    on(case)


def test_A16_only_some_namespaces_and_services_are_shown(world: World, tmp_path: Path) -> None:
    async def case() -> None:
        other = f"api.other.svc.{ZONE}"
        async with cluster(world) as client:
            await client.create(NAMESPACES, "", {"metadata": {"name": "other"}})
            for name, ip, show in (("api", "10.96.2.1", "yes"), ("hidden", "10.96.2.2", "no")):
                await client.create(
                    SERVICES,
                    "other",
                    {
                        "metadata": {"name": name, "namespace": "other", "labels": {"show": show}},
                        "spec": {"clusterIP": ip, "ports": [{"port": 80}]},
                    },
                )
            text = COREFILE.replace("fallthrough in", "namespaces other\n labels show=yes\n fallthrough in")
            async with serving(world, tmp_path / "Corefile", text):
                await until_ready(world)
                assert (await ask(world, other)).rdata == ["10.96.2.1"]
                assert (await ask(world, f"hidden.other.svc.{ZONE}")).status == "NXDOMAIN"
                assert (await ask(world)).status == "NXDOMAIN"

    on(case)


def test_P_the_corefile_of_kubeadm_runs_unchanged(world: World, tmp_path: Path) -> None:
    """On all addresses, IPv6 too; the API server is where the kubeconfig says."""
    text = (Path(__file__).parents[2] / "golden" / "kubeadm.Corefile").read_text()
    if "nameserver" not in Path("/etc/resolv.conf").read_text():
        pytest.skip("/etc/resolv.conf names no server to forward to")

    async def case() -> None:
        corefile, kubeconfig = tmp_path / "Corefile", tmp_path / "kubeconfig"
        corefile.write_text(text)
        kubeconfig.write_text(
            f"clusters: [{{name: a, cluster: {{server: 'http://{CLIENT}:6443'}}}}]\n"
            "contexts: [{name: a, context: {cluster: a}}]\ncurrent-context: a\n"
        )
        async with cluster(world):
            server = CorefileServer(ServeConfig(corefile, kubeconfig=kubeconfig, netns=world.server))
            try:
                await server.start()
                await until_ready(world)
                for address in (SERVER, OTHER, SERVER6):
                    assert (await ask(world, server=address)).rdata == ["10.96.1.1"]
                assert (await page(world, 8080, "/health"))[0] == 200
            finally:
                await server.close()

    on(case)
