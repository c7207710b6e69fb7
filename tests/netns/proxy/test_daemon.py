"""The daemon against a real API server and a real kernel."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network

import pytest
from aiohttp import web

from kubenet.apiserver.http import ApiServer
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.kernel import iptables
from kubenet.model.objects import Json, JsonValue
from kubenet.model.resources import ENDPOINTSLICES, EVENTS, NAMESPACES, SERVICES
from kubenet.store.memory import MemoryStore
from proxy.backend import ProxyMode
from proxy.daemon import run_proxy
from proxy.node_config import ProxyConfig
from tests.netns.proxy.world import OUTSIDE, PORT, SILENCE_S, World, backend_ip

pytestmark = pytest.mark.netns

VIP = "10.96.7.7"


@asynccontextmanager
async def api_server(world: World) -> AsyncIterator[ApiClient]:
    """Serve the API outside the node and yield a client that calls from the node."""
    listener = world.outside.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((OUTSIDE, 6443))
    listener.listen()
    server = ApiServer(MemoryStore())
    await server.start([listener])
    try:
        config = ClusterConfig(server=f"http://{OUTSIDE}:6443")
        async with ApiClient(config, socket_factory=world.node.socket) as client:
            await client.create(NAMESPACES, "", {"metadata": {"name": "demo"}})
            yield client
    finally:
        await server.stop()


@asynccontextmanager
async def running_proxy(world: World, client: ApiClient) -> AsyncIterator[None]:
    ready = asyncio.Event()
    config = ProxyConfig(
        "here", world.node, ip_network("10.244.0.0/16"), min_sync_s=0.01, check_s=3600, ready=ready
    )
    task = asyncio.create_task(run_proxy(config, client))
    try:
        await asyncio.wait_for(ready.wait(), 10)
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


def service_body(**annotations: str) -> Json:
    keys: dict[str, JsonValue] = {f"kubenet.dev/{name}": value for name, value in annotations.items()}
    return {
        "metadata": {"name": "web", "annotations": keys},
        "spec": {"clusterIP": VIP, "ports": [{"name": "http", "port": 80, "targetPort": PORT}]},
    }


def slice_body(*lasts: int) -> Json:
    return {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [backend_ip(last)], "conditions": {"ready": True}} for last in lasts],
        "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
    }


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once ``holds``; fails after ten seconds."""
    async with asyncio.timeout(10):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.01)


def reached(world: World, times: int) -> list[str]:
    return [world.connect(world.client, VIP).backend for _ in range(times)]


def test_objects_become_connections(world: World) -> None:
    async def story() -> None:
        async with api_server(world) as client:
            await client.create(SERVICES, "demo", service_body(balance="round-robin"))
            await client.create(ENDPOINTSLICES, "demo", slice_body(2, 3, 4))
            async with running_proxy(world, client):
                order = await asyncio.to_thread(reached, world, 6)
                assert set(order[:3]) == set(order[3:]) == {backend_ip(last) for last in (2, 3, 4)}

                await client.patch(ENDPOINTSLICES, "demo", "web-1", slice_body(5))
                await eventually(lambda: "10.244.1.4:8080" not in rules(world))
                assert set(await asyncio.to_thread(reached, world, 3)) == {backend_ip(5)}

                await client.delete(SERVICES, "demo", "web")
                await eventually(lambda: VIP not in rules(world))

    asyncio.run(story())


def test_S7_what_is_left_out_becomes_an_event_of_its_object(world: World) -> None:
    async def story() -> None:
        async with api_server(world) as client:
            body = service_body()
            spec = body["spec"]
            assert isinstance(spec, dict)
            spec["externalIPs"] = [OUTSIDE]
            await client.create(SERVICES, "demo", body)
            await client.create(ENDPOINTSLICES, "demo", slice_body(2))
            async with running_proxy(world, client):
                (event,) = await until_events(client)
            about = event["involvedObject"] if "involvedObject" in event else event["regarding"]
            assert isinstance(about, dict)
            assert (about["kind"], about["name"]) == ("Service", "web")
            assert about["uid"]
            assert (event["reason"], event["type"]) == ("NotProxied", "Warning")
            assert f"external address {OUTSIDE}: not in a network" in str(event.get("message", event))
            assert OUTSIDE not in rules(world)

    asyncio.run(story())


async def until_events(client: ApiClient) -> list[Json]:
    """Return the events of the proxy, once there are any."""
    async with asyncio.timeout(10):
        while True:
            found = json.loads(await client.request("GET", EVENTS.path("demo")))["items"]
            if ours := [each for each in found if each["reason"] == "NotProxied"]:
                return ours
            await asyncio.sleep(0.02)


def test_A7_row68_a_burst_is_few_syncs(world: World) -> None:
    async def story() -> None:
        async with api_server(world) as client:
            await client.create(ENDPOINTSLICES, "demo", slice_body(2))
            ready = asyncio.Event()
            config = ProxyConfig(
                "here",
                world.node,
                ip_network("10.244.0.0/16"),
                min_sync_s=0.2,
                mode=ProxyMode.IPTABLES,
                metrics=(ip_address("127.0.0.1"), 10249),
                ready=ready,
            )
            task = asyncio.create_task(run_proxy(config, client))
            await asyncio.wait_for(ready.wait(), 10)
            await client.create(SERVICES, "demo", service_body())
            await eventually(lambda: f"{backend_ip(2)}:8080" in rules(world))
            before = await asyncio.to_thread(syncs, world)
            for number in range(60):
                await client.patch(SERVICES, "demo", "web", {"metadata": {"labels": {"n": str(number)}}})
            await client.patch(ENDPOINTSLICES, "demo", "web-1", slice_body(5))
            await eventually(lambda: f"{backend_ip(5)}:8080" in rules(world))
            async with asyncio.timeout(10):  # it is counted once the kernel has it
                while (after := await asyncio.to_thread(syncs, world)) == before:
                    await asyncio.sleep(0.02)
            assert after - before <= 10  # of 61 changes
            task.cancel()
            await asyncio.wait({task})

    asyncio.run(story())


def syncs(world: World) -> int:
    """Return how many syncs there were."""
    with world.node.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.connect(("127.0.0.1", 10249))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        page = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    found = re.search(r'sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} (\d+)', page)
    assert found
    return int(found[1])


class HalfAnApi:
    """An API that lists Services, and EndpointSlices only once ``gate`` is open. Watches stay silent."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.services_watched = asyncio.Event()

    async def reply(self, request: web.Request) -> web.StreamResponse:
        kind = request.path.rsplit("/", 1)[1]
        if "watch" in request.query:
            if kind == "services":
                self.services_watched.set()
            await asyncio.Event().wait()
        if kind == "endpointslices":
            await self.gate.wait()
        items = [service_body()] if kind == "services" else [slice_body(2)]
        for item in items:
            metadata = item["metadata"]
            assert isinstance(metadata, dict)
            metadata |= {"namespace": "demo", "uid": kind, "resourceVersion": "1"}
        return web.json_response({"metadata": {"resourceVersion": "1"}, "items": items})


def test_A1_row6_nothing_is_touched_before_both_kinds_are_known(world: World) -> None:
    async def story() -> None:
        api = HalfAnApi()
        app = web.Application()
        app.router.add_get("/{path:.*}", api.reply)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
        await runner.setup()
        listener = world.outside.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((OUTSIDE, 6443))
        await web.SockSite(runner, listener).start()
        config = ClusterConfig(server=f"http://{OUTSIDE}:6443")
        try:
            async with ApiClient(config, socket_factory=world.node.socket) as client:
                ready = asyncio.Event()
                proxy = asyncio.create_task(run_proxy(ProxyConfig("here", world.node, ready=ready), client))
                await api.services_watched.wait()  # so they have been listed
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ready.wait(), SILENCE_S)
                assert "KUBE" not in rules(world)
                api.gate.set()
                await asyncio.wait_for(ready.wait(), 10)
                assert "10.244.1.2:8080" in rules(world)
                proxy.cancel()
                await asyncio.wait({proxy})
        finally:
            await runner.cleanup()

    asyncio.run(story())


def test_A7_row78_rules_stay_when_the_proxy_ends_and_the_next_one_changes_nothing(world: World) -> None:
    async def story() -> None:
        async with api_server(world) as client:
            await client.create(SERVICES, "demo", service_body())
            await client.create(ENDPOINTSLICES, "demo", slice_body(2))
            async with running_proxy(world, client):
                pass
            left = rules(world)
            assert VIP in left
            async with running_proxy(world, client):
                assert rules(world) == left

    asyncio.run(story())


def test_A7_row74_P2_a_flush_by_others_is_mended_at_once(world: World) -> None:
    """Long before the daemon would look by itself."""

    async def story() -> None:
        async with api_server(world) as client:
            await client.create(SERVICES, "demo", service_body())
            await client.create(ENDPOINTSLICES, "demo", slice_body(2))
            async with running_proxy(world, client):
                whole = rules(world)
                iptables.restore(world.node, "*nat\nCOMMIT\n", noflush=False)
                assert rules(world) != whole
                await eventually(lambda: rules(world) == whole)

    asyncio.run(story())


def rules(world: World) -> str:
    """Return the nat table without the lines that carry the time."""
    return "\n".join(line for line in iptables.save(world.node, "nat").splitlines() if line[0] != "#")
