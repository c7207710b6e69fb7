"""Traffic from outside with the nftables backend: the same packets, and the same answers."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from kubenet.kernel.nft import Nftables
from proxy.apply_nft import NftBackend
from proxy.nft_names import TABLE
from proxy.policy import Locality, serve
from proxy.ports import NodeNetwork, ServicePort
from tests.netns.proxy.test_external import (  # noqa: F401 - the same tests, with the backend below
    NETWORK,
    WEB,
    Apply,
    test_A2_row18_node_ports_listen_where_they_are_told_to,
    test_A2_row22_source_ranges_shut_out_by_silence_and_at_the_balancer_only,
    test_A2_row23_one_number_serves_tcp_and_udp,
    test_A2_row24_sctp_has_the_same_rules,
    test_A3_row28_without_endpoints_every_door_refuses_at_once,
    test_A3_row30_row33_without_a_local_endpoint_only_strangers_are_shut_out,
    test_A3_row31_row32_masqueraded_by_policy_cluster_and_kept_by_policy_local,
)
from tests.netns.proxy.world import World

pytestmark = pytest.mark.netns


@pytest.fixture
def apply(world: World) -> Iterator[Apply]:
    backend = NftBackend(Nftables(world.node, 4, TABLE), NETWORK)

    def program(*ports: ServicePort, network: NodeNetwork = NETWORK) -> None:
        backend.move(network)
        backend.apply(serve(ports, Locality("here")))

    yield program
    backend.close()


def test_A2_row17_localhost_never(world: World, apply: Apply) -> None:
    for network in (NETWORK, replace(NETWORK, localhost_node_ports=True)):
        apply(WEB, network=network)
        with pytest.raises(ConnectionRefusedError):
            world.connect(world.node, "127.0.0.1", 30080)
