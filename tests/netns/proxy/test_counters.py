"""Connections by endpoint, as the kernel counts them: kubenet_proxy_*_connections_total."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from kubenet.kernel.nft import Nftables
from proxy.apply_nft import NftBackend
from proxy.backend import ProxyMode
from proxy.nft_names import TABLE
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Balance, NodeNetwork, ServicePort, ServicePortName
from tests.netns.proxy.test_daemon import eventually
from tests.netns.proxy.test_status import EVERYWHERE, SERVICE, SLICE, endpoint, get, running, write
from tests.netns.proxy.world import World, backend_ip, endpoints

pytestmark = pytest.mark.netns

VIP = "10.96.0.1"
NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"), count_connections=True)


def web(*lasts: int, **more: object) -> tuple[ServingPort, ...]:
    port = ServicePort(ServicePortName("demo", "web"), ip_address(VIP), 80, endpoints=endpoints(*lasts))
    return serve([replace(port, **more)], Locality("here"))  # type: ignore[arg-type]  # any field


@pytest.fixture
def kernel(world: World) -> Iterator[Nftables]:
    made = Nftables(world.node, 4, TABLE)
    yield made
    made.close()


@pytest.mark.parametrize("balance", list(Balance))
@pytest.mark.parametrize("affinity_s", [0, 60])
def test_every_connection_is_counted_at_its_endpoint(
    world: World, kernel: Nftables, balance: Balance, affinity_s: int
) -> None:
    backend = NftBackend(kernel, NETWORK)
    backend.apply(web(2, 3, balance=balance, affinity_s=affinity_s))
    seen = [world.connect(world.client, VIP).backend for _ in range(8)]
    expected = {f"{ip}:8080": seen.count(ip) for ip in (backend_ip(2), backend_ip(3))}
    if affinity_s:  # who is remembered is not chosen again: one look-up a client
        expected = {socket: min(count, 1) for socket, count in expected.items()}
    assert {name: count for (_, name), count in backend.connections().items()} == expected


def test_a_restart_and_a_change_go_on_counting(world: World, kernel: Nftables) -> None:
    NftBackend(kernel, NETWORK).apply(web(2))
    world.connect(world.client, VIP)
    again = NftBackend(kernel, NETWORK)
    assert again.apply(web(2)).unchanged
    again.apply(web(2, 3))
    (two, three) = sorted(again.connections().items(), key=str)
    assert (two[1], three[1]) == (1, 0)


def test_without_being_asked_nothing_is_counted_and_a_change_of_mind_makes_the_table_anew(
    world: World, kernel: Nftables
) -> None:
    plain = NftBackend(kernel, replace(NETWORK, count_connections=False))
    plain.apply(web(2))
    assert plain.connections() == {}
    counting = NftBackend(kernel, NETWORK)
    assert not counting.apply(web(2)).unchanged
    world.connect(world.client, VIP)
    assert list(counting.connections().values()) == [1]


def test_the_numbers_are_served_and_go_with_their_endpoints(world: World, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(SERVICE + SLICE + endpoint(2))

    def told() -> dict[str, int]:
        page = get(world.node, "127.0.0.1", 10249, "/metrics")[2].decode()
        return {
            found[1]: int(found[2])
            for found in re.finditer(r"kubenet_proxy_(\w+)_connections_total{.*} (\d+)", page)
        }

    async def story() -> None:
        more = {"mode": ProxyMode.NFTABLES, "count_connections": True, "check_s": 0.1}
        async with running(world, path, metrics=(EVERYWHERE, 10249), **more):
            for _ in range(3):
                await asyncio.to_thread(world.connect, world.client, "10.96.7.7")
            await eventually(lambda: told() == {"endpoint": 3, "service": 3})
            write(path, SERVICE + SLICE + endpoint(3))
            await eventually(lambda: told() == {"endpoint": 0, "service": 3})
            write(path, SERVICE)
            await eventually(lambda: told() == {})

    asyncio.run(story())
