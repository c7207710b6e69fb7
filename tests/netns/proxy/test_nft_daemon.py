"""The daemon in nftables mode against a real API server and a real kernel."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network

import pytest

from kubenet.client.transport import ApiClient
from kubenet.kernel.nft import Nftables
from kubenet.kernel.run import run
from kubenet.model.resources import ENDPOINTSLICES, SERVICES
from proxy import backends
from proxy.backend import ProxyMode
from proxy.daemon import run_proxy
from proxy.nft_names import TABLE
from proxy.node_config import ProxyConfig
from tests.netns.proxy.test_daemon import VIP, api_server, eventually, reached, service_body, slice_body
from tests.netns.proxy.world import World, backend_ip

pytestmark = pytest.mark.netns


@asynccontextmanager
async def running_proxy(world: World, client: ApiClient) -> AsyncIterator[None]:
    ready = asyncio.Event()
    config = ProxyConfig("here", world.node, ip_network("10.244.0.0/16"), min_sync_s=0.01, ready=ready)
    task = asyncio.create_task(run_proxy(replace(config, mode=ProxyMode.NFTABLES), client))
    try:
        await asyncio.wait_for(ready.wait(), 10)
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


def listed(world: World) -> str:
    return run(["nft", "list", "ruleset"], netns=world.node).stdout.decode()


def test_objects_become_connections(world: World) -> None:
    async def story() -> None:
        async with api_server(world) as client:
            await client.create(SERVICES, "demo", service_body(balance="round-robin"))
            await client.create(ENDPOINTSLICES, "demo", slice_body(2, 3, 4))
            async with running_proxy(world, client):
                order = await asyncio.to_thread(reached, world, 6)
                assert set(order[:3]) == set(order[3:]) == {backend_ip(last) for last in (2, 3, 4)}

                await client.patch(ENDPOINTSLICES, "demo", "web-1", slice_body(5))
                await eventually(lambda: f"{backend_ip(4)} . 8080" not in listed(world))
                assert set(await asyncio.to_thread(reached, world, 3)) == {backend_ip(5)}

                await client.delete(SERVICES, "demo", "web")
                await eventually(lambda: VIP not in listed(world))

    asyncio.run(story())


def test_A7_row78_the_table_stays_when_the_proxy_ends_and_the_next_one_takes_it_over(world: World) -> None:
    async def story() -> None:
        async with api_server(world) as client:
            await client.create(SERVICES, "demo", service_body())
            await client.create(ENDPOINTSLICES, "demo", slice_body(2))
            async with running_proxy(world, client):
                pass
            assert await asyncio.to_thread(reached, world, 1) == [backend_ip(2)]
            async with running_proxy(world, client):
                await client.patch(ENDPOINTSLICES, "demo", "web-1", slice_body(3))
                await eventually(lambda: reached(world, 1) == [backend_ip(3)])

    asyncio.run(story())


def test_A7_row74_P2_a_flush_of_a_table_that_is_not_owned_is_mended_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the daemon would look by itself (30 s)."""
    monkeypatch.setattr(
        backends, "Nftables", lambda netns, family, table: Nftables(netns, family, table, owned=False)
    )

    async def story() -> None:
        async with api_server(world) as client:
            await client.create(SERVICES, "demo", service_body())
            await client.create(ENDPOINTSLICES, "demo", slice_body(2))
            async with running_proxy(world, client):
                for _ in range(2):
                    await asyncio.to_thread(run, ["nft", "flush", "ruleset"], netns=world.node)
                    await eventually(lambda: TABLE in listed(world))
                    assert await asyncio.to_thread(reached, world, 1) == [backend_ip(2)]

    asyncio.run(story())
