"""What the nftables rules do to real connections: all that the iptables rules do, and where they differ."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from kubenet.kernel.nft import Nftables
from kubenet.kernel.run import run
from proxy.apply_nft import NftBackend
from proxy.nft_names import TABLE
from proxy.policy import Locality, serve
from proxy.ports import Balance, ServicePort
from tests.netns.proxy import test_traffic as both
from tests.netns.proxy.test_traffic import (  # noqa: F401  (the same stories, with this module's backend)
    NETWORK,
    VIP,
    Apply,
    test_A2_row14_row15_a_pod_reaches_a_backend_with_its_own_address,
    test_A2_row14_the_node_itself_reaches_a_backend,
    test_A2_row16_a_backend_that_reaches_itself_sees_the_node,
    test_A2_row17_A3_row31_a_node_port_is_open_on_every_address_and_masquerades,
    test_A3_row28_udp_without_endpoints_is_refused,
    test_A3_row28_without_endpoints_a_client_is_refused_at_once,
    test_A3_row28_without_endpoints_a_node_port_refuses_too,
    test_A3_row29_internal_policy_local_without_a_local_endpoint_is_silent,
    test_A3_row30_external_policy_local_shuts_out_strangers_only,
    test_A3_row32_external_policy_local_keeps_the_source,
    test_A4_row41_affinity_keeps_a_client_with_its_backend,
    test_A4_row42_affinity_never_chooses_a_backend_that_is_gone,
    test_A4_row44_a_source_that_is_no_pod_is_masqueraded,
    test_A5_row48_a_client_that_keeps_its_socket_follows_the_endpoints,
    test_A7_row72_no_connection_fails_while_endpoints_change,
    test_C_a_change_of_another_service_does_not_restart_the_turn,
    test_C_random_is_not_in_turn,
    test_C_round_robin_counts_all_clients_together,
    test_C_round_robin_shows_every_backend_once_in_each_window,
    test_C_weights_are_exact_in_turn_and_followed_by_chance,
    test_internal_policy_local_takes_the_local_endpoint,
    test_udp_goes_to_a_backend_and_comes_back,
)
from tests.netns.proxy.test_traffic import (
    test_A4_row39_random_spreads_evenly as test_A4_row40_random_spreads_evenly,  # noqa: F401
)
from tests.netns.proxy.world import BACKENDS, NODE, SILENCE_S, World, backend_ip

pytestmark = pytest.mark.netns

SERVICE_CIDR = ip_network("10.96.0.0/16")


@pytest.fixture
def backend(world: World) -> Iterator[NftBackend]:
    made = NftBackend(Nftables(world.node, 4, TABLE), replace(NETWORK, service_cidrs=(SERVICE_CIDR,)))
    yield made
    made.close()


@pytest.fixture
def apply(backend: NftBackend) -> Apply:
    """Program the node with the given service ports."""

    def program(*ports: ServicePort) -> None:
        backend.apply(both.serving(*ports))

    return program


def web(*lasts: int) -> ServicePort:
    return both.web(*lasts)


def test_C_consistent_hashing_keeps_a_client_with_its_backend_and_moves_few(
    world: World, apply: Apply
) -> None:
    sources = [f"10.244.2.{last}" for last in range(20, 60)]
    for source in sources:
        run(["ip", "address", "add", f"{source}/24", "dev", "eth0"], netns=world.client)

    def where() -> dict[str, str]:
        return {source: world.connect(world.client, VIP, source=source).backend for source in sources}

    apply(replace(web(*BACKENDS), balance=Balance.CONSISTENT_HASH))
    first = where()
    assert len(set(first.values())) == len(BACKENDS)
    assert where() == first
    apply(replace(web(2, 3, 4, 5), balance=Balance.CONSISTENT_HASH))
    second = where()
    moved = [source for source in sources if first[source] != second[source]]
    orphans = [source for source in sources if first[source] == backend_ip(6)]
    assert set(orphans) <= set(moved)
    assert len(moved) - len(orphans) <= len(sources) // 4


def test_A2_row26_another_port_of_a_cluster_address_is_refused_and_an_unknown_one_silent(
    world: World, apply: Apply
) -> None:
    apply(web(2))
    for source in (world.client, world.node):
        with pytest.raises(ConnectionRefusedError):
            world.connect(source, VIP, 81)
        with pytest.raises(TimeoutError):
            world.connect(source, "10.96.99.99", patience_s=SILENCE_S)


def test_A2_row18_node_ports_listen_on_the_nodes_own_address_only(world: World) -> None:
    network = replace(NETWORK, node_ip=ip_address(NODE))
    backend = NftBackend(Nftables(world.node, 4, TABLE), network)
    backend.apply(serve([replace(web(2), node_port=30080)], Locality("here")))
    assert world.connect(world.outside, NODE, 30080).backend == backend_ip(2)
    with pytest.raises(ConnectionRefusedError):
        world.connect(world.client, "10.244.2.1", 30080)
    everywhere = NftBackend(
        Nftables(world.node, 4, TABLE + "-2"),
        replace(network, node_port_networks=(ip_network("10.244.0.0/16"),)),
    )
    everywhere.apply(serve([replace(web(2), node_port=30081)], Locality("here")))
    assert world.connect(world.client, "10.244.2.1", 30081).backend == backend_ip(2)
    backend.close()
    everywhere.close()


def test_A4_row41_affinity_holds_over_every_address_of_the_service(world: World, apply: Apply) -> None:
    port = replace(web(*BACKENDS), affinity_s=60, node_port=30080, external_ips=(ip_address("192.0.2.1"),))
    apply(port)
    first = world.connect(world.client, VIP).backend
    for ip, number in ((VIP, 80), ("192.0.2.1", 80), (NODE, 30080)):
        assert {world.connect(world.client, ip, number).backend for _ in range(8)} == {first}


def test_A4_row41_affinity_in_turn(world: World, apply: Apply) -> None:
    apply(replace(web(*BACKENDS), affinity_s=60, balance=Balance.ROUND_ROBIN))
    assert len({world.connect(world.client, VIP).backend for _ in range(12)}) == 1
    assert world.connect(world.outside, VIP).backend != world.connect(world.client, VIP).backend


def test_A4_row41_affinity_ends_with_its_time(world: World, apply: Apply) -> None:
    apply(replace(web(*BACKENDS), affinity_s=1))
    world.connect(world.client, VIP)
    learned = run(["nft", "list", "map", "ip", TABLE, "affinity"], netns=world.node).stdout.decode()
    assert "elements" in learned
    run(["sleep", "1.2"])
    learned = run(["nft", "list", "map", "ip", TABLE, "affinity"], netns=world.node).stdout.decode()
    assert "elements" not in learned


def test_A4_row43_more_clients_are_remembered_than_iptables_would(world: World, apply: Apply) -> None:
    """A list of xt_recent holds 100 addresses; who is the 101st throws the first out."""
    apply(replace(web(*BACKENDS), affinity_s=60))
    sources = [f"10.244.2.{last}" for last in range(20, 180)]
    for source in sources:
        run(["ip", "address", "add", f"{source}/32", "dev", "eth0"], netns=world.client)
    first = {source: world.connect(world.client, VIP, source=source).backend for source in sources}
    assert {source: world.connect(world.client, VIP, source=source).backend for source in sources} == first
