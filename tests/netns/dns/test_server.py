"""The daemon against a real API server: from an event to an answer, and what it says before it knows."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from dns.server import DnsConfig, run_dns
from dns.wire import RType
from dns.zone import PodsMode
from kubenet.apiserver.http import ApiServer
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.errors import InvalidInput
from kubenet.model.objects import Json
from kubenet.model.resources import ENDPOINTSLICES, NAMESPACES, SERVICES
from kubenet.store.memory import MemoryStore
from tests.netns.dns.world import CLIENT, PATIENCE_S, SERVER, WEB, ZONE, World, ask, on, stream
from tests.unit.dns.world import Seen

pytestmark = pytest.mark.netns


@asynccontextmanager
async def api_client(world: World) -> AsyncIterator[ApiClient]:
    """A client in the server's namespace, of an API server that may not run yet."""
    config = ClusterConfig(server=f"http://{CLIENT}:6443")
    async with ApiClient(config, socket_factory=world.server.socket) as client:
        yield client


@asynccontextmanager
async def api_server(world: World) -> AsyncIterator[None]:
    listener = world.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((CLIENT, 6443))
    listener.listen()
    server = ApiServer(MemoryStore())
    await server.start([listener])
    try:
        yield
    finally:
        await server.stop()


@asynccontextmanager
async def running_dns(
    world: World, client: ApiClient, pods: PodsMode = PodsMode.INSECURE
) -> AsyncIterator[asyncio.Event]:
    ready = asyncio.Event()
    config = DnsConfig((ip_address(SERVER),), netns=world.server, pods=pods, ready=ready)
    task = asyncio.create_task(run_dns(config, client))
    try:
        await listening(world)
        yield ready
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


async def listening(world: World) -> None:
    """Return once the server takes connections."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                async with stream(world):
                    return
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


async def becomes(world: World, name: str, holds: Callable[[Seen], bool], qtype: int = RType.A) -> None:
    """Return once an answer ``holds``."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds(await ask(world, name, qtype)):
            await asyncio.sleep(0.01)


def service_body(name: str, **spec: str) -> Json:
    port: Json = {"name": "http", "port": 80}
    return {"metadata": {"name": name}, "spec": {"ports": [port], **spec}}


def slice_body(*addresses: str) -> Json:
    return {
        "metadata": {"name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def test_an_event_changes_the_answer(world: World) -> None:
    async def case() -> None:
        async with api_server(world), api_client(world) as client, running_dns(world, client) as ready:
            await asyncio.wait_for(ready.wait(), PATIENCE_S)
            assert (await ask(world)).status == "NXDOMAIN"
            await client.create(NAMESPACES, "", {"metadata": {"name": "demo"}})
            await becomes(world, f"demo.svc.{ZONE}", lambda reply: reply.status == "NOERROR")
            await client.create(SERVICES, "demo", service_body("web", clusterIP="10.96.1.1"))
            await becomes(world, WEB, lambda reply: reply.rdata == ["10.96.1.1"])
            await client.create(SERVICES, "demo", service_body("db", clusterIP="None"))
            await client.create(ENDPOINTSLICES, "demo", slice_body("10.244.1.2"))
            await becomes(world, f"db.demo.svc.{ZONE}", lambda reply: reply.rdata == ["10.244.1.2"])
            await client.replace(ENDPOINTSLICES, "demo", "db-1", slice_body("10.244.1.3"))
            await becomes(world, f"db.demo.svc.{ZONE}", lambda reply: reply.rdata == ["10.244.1.3"])
            await becomes(world, "3.1.244.10.in-addr.arpa", lambda reply: bool(reply.rdata), RType.PTR)
            await client.delete(SERVICES, "demo", "web")
            await becomes(world, WEB, lambda reply: reply.status == "NXDOMAIN")

    on(case)


def test_A15_before_the_api_server_answers_nothing_is_denied(world: World) -> None:
    async def case() -> None:
        async with api_client(world) as client, running_dns(world, client) as ready:
            await becomes(world, WEB, lambda reply: reply.status == "SERVFAIL")
            assert not ready.is_set()
            async with api_server(world):
                await asyncio.wait_for(ready.wait(), PATIENCE_S)
                assert (await ask(world)).status == "NXDOMAIN"

    on(case)


def test_D5_when_the_api_server_goes_the_last_answers_stay(world: World) -> None:
    async def case() -> None:
        async with api_client(world) as client, running_dns(world, client) as ready:
            async with api_server(world):
                await asyncio.wait_for(ready.wait(), PATIENCE_S)
                await client.create(NAMESPACES, "", {"metadata": {"name": "demo"}})
                await client.create(SERVICES, "demo", service_body("web", clusterIP="10.96.1.1"))
                await becomes(world, WEB, lambda reply: reply.rdata == ["10.96.1.1"])
            await asyncio.sleep(0.1)
            assert (await ask(world)).rdata == ["10.96.1.1"]

    on(case)


def test_A14_verified_pods_need_the_pods(world: World) -> None:
    async def case() -> None:
        async with (
            api_server(world),
            api_client(world) as client,
            running_dns(world, client, pods=PodsMode.VERIFIED) as ready,
        ):
            await asyncio.wait_for(ready.wait(), PATIENCE_S)
            assert (await ask(world, f"10-1-2-3.default.pod.{ZONE}")).status == "NXDOMAIN"

    on(case)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"addresses": ()}, "no address", id="no address"),
        pytest.param({"upstreams": ((ip_address(SERVER), 53),)}, "is this server", id="itself upstream"),
        pytest.param({"cluster_domain": "a..b"}, "label", id="a domain that is no name"),
        pytest.param({"cluster_domain": "."}, "root", id="the root as its domain"),
        pytest.param({"ttl_s": 3601}, "3600", id="a ttl too long"),
    ],
)
def test_a_wrong_configuration_is_told_at_once(world: World, changes: dict[str, object], words: str) -> None:
    async def case() -> None:
        async with api_client(world) as client:
            config = replace(DnsConfig((ip_address(SERVER),), netns=world.server), **changes)  # type: ignore[arg-type]
            with pytest.raises(InvalidInput, match=words):
                await run_dns(config, client)

    on(case)
