"""Writing element operations and no more, whatever the kernel held before."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.errors import KubenetError
from proxy import nft_names as n
from proxy.apply_nft import NftBackend
from proxy.backend import Applied
from proxy.compile_nft import compile_nft
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Balance, Endpoint, NodeNetwork, ServicePort, ServicePortName, TrafficPolicy
from proxy.simulate import Packet
from proxy.simulate_nft import nft_chances
from tests.unit.proxy.fake_nft import FakeNft
from tests.unit.proxy.strategies import clusters
from tests.unit.proxy.test_simulate import HOST, POD

NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))


def web(*lasts: int, name: str = "web", ip: str = "10.96.0.1") -> ServicePort:
    endpoints = tuple(Endpoint(ip_address(f"10.244.1.{last}"), 8080) for last in lasts)
    return ServicePort(ServicePortName("demo", name), ip_address(ip), 80, endpoints=endpoints)


def others(count: int) -> list[ServicePort]:
    return [
        web(number % 250 + 1, name=f"other-{number}", ip=f"10.97.{number // 250}.{number % 250}")
        for number in range(count)
    ]


def serving(*ports: ServicePort) -> Sequence[ServingPort]:
    return serve(ports, Locality("here"))


@pytest.fixture
def kernel() -> FakeNft:
    return FakeNft()


@pytest.fixture
def backend(kernel: FakeNft) -> NftBackend:
    return NftBackend(kernel, NETWORK)


def test_A7_row70_an_unchanged_state_writes_nothing(kernel: FakeNft, backend: NftBackend) -> None:
    backend.apply(serving(web(2, 3)))
    assert backend.apply(serving(web(2, 3))) == Applied()
    assert len(kernel.changes) == 1
    assert kernel.reads == 1


PLAIN = web(2, 3, 4)
EXTERNAL = replace(PLAIN, node_port=30080, external_ips=(ip_address("192.0.2.1"), ip_address("192.0.2.2")))


@pytest.mark.parametrize("services", [0, 10, 400], ids=lambda count: f"{count} other services")
@pytest.mark.parametrize(
    "port",
    [
        pytest.param(PLAIN, id="cluster address"),
        pytest.param(EXTERNAL, id="node port and external addresses"),
        pytest.param(replace(PLAIN, affinity_s=60), id="affinity"),
    ],
)
@pytest.mark.parametrize(
    "after",
    [
        pytest.param((2, 3, 9), id="one replaced"),
        pytest.param((2, 3, 4, 9), id="one more"),
        pytest.param((3, 4), id="one less"),
    ],
)
def test_A7_row70_an_endpoint_is_six_element_operations_at_most_whatever_else_there_is(
    kernel: FakeNft, backend: NftBackend, services: int, port: ServicePort, after: tuple[int, ...]
) -> None:
    crowd = others(services)
    changed = replace(port, endpoints=web(*after).endpoints)
    backend.apply(serving(port, *crowd))
    backend.apply(serving(changed, *crowd))  # the first time a chain for that many endpoints may be made
    backend.apply(serving(port, *crowd))
    kernel.changes.clear()
    backend.apply(serving(changed, *crowd))
    (change,) = kernel.changes
    limit = 6 if port is not EXTERNAL else 10  # each address and the node port have a way of their own
    assert 0 < change.element_operations <= limit
    assert (change.chains, change.sets, change.chains_gone, change.sets_gone) == ({}, {}, (), ())


def test_A7_row72_a_thousand_changes_are_one_transaction(kernel: FakeNft, backend: NftBackend) -> None:
    crowd = others(1000)
    backend.apply(serving(*crowd))
    kernel.changes.clear()
    moved = [replace(port, endpoints=web(251 + number % 4).endpoints) for number, port in enumerate(crowd)]
    backend.apply(serving(*moved))
    assert len(kernel.changes) == 1


def test_C_turns_of_a_service_in_turn_go_on_when_another_changes(
    kernel: FakeNft, backend: NftBackend
) -> None:
    turns = replace(web(2, 3), balance=Balance.ROUND_ROBIN)
    backend.apply(serving(turns, web(4, name="other", ip="10.96.0.2")))
    kernel.changes.clear()
    backend.apply(serving(turns, web(5, 6, name="other", ip="10.96.0.2")))
    assert not any(name.startswith("turns") for change in kernel.changes for name in change.chains)
    backend.apply(serving(web(5, 6, name="other", ip="10.96.0.2")))
    assert kernel.table is not None
    assert not any("turns" in name for name in kernel.table.chains)  # row 73: it takes its chains along


def test_A7_row78_a_restart_finds_everything_in_place(kernel: FakeNft, backend: NftBackend) -> None:
    ports = [web(2, 3, 4), replace(web(5, 6, name="turns", ip="10.96.0.2"), balance=Balance.ROUND_ROBIN)]
    backend.apply(serving(*ports))
    backend.apply(serving(replace(ports[0], endpoints=web(9, 3, 4).endpoints), ports[1]))
    now = replace(ports[0], endpoints=web(3, 4, 9).endpoints)
    assert NftBackend(kernel, NETWORK).apply(serving(now, ports[1])) == Applied(observed=True)


def test_A7_row69_after_a_refusal_the_kernel_is_read_and_all_is_compared(
    kernel: FakeNft, backend: NftBackend
) -> None:
    backend.apply(serving(web(2, 3)))
    kernel.broken = True
    assert backend.apply(serving(web(2, 4))).observed
    assert kernel.table == compile_nft(serving(web(2, 4)), NETWORK, kernel.table)


def test_A7_row69_a_first_sync_that_fails_is_done_in_full_the_next_time(
    kernel: FakeNft, backend: NftBackend
) -> None:
    kernel.broken = True
    with pytest.raises(KubenetError):
        backend.apply(serving(web(2)))
    assert backend.apply(serving(web(2))).observed
    assert kernel.table == compile_nft(serving(web(2)), NETWORK)


def test_A7_row74_what_others_did_is_mended_and_named(kernel: FakeNft, backend: NftBackend) -> None:
    backend.apply(serving(web(2, 3)))
    whole = kernel.table
    assert whole is not None
    kernel.table = replace(whole, elements={**whole.elements, n.ENDPOINTS: {}})
    assert list(backend.drifted()) == []  # nobody has told
    kernel.disturbed = True
    assert backend.drifted() == ["nftables endpoints"]
    backend.apply(serving(web(2, 3)))
    assert kernel.table == whole
    kernel.table, kernel.disturbed = None, True
    backend.apply(serving(web(2, 3)))
    assert kernel.table == whole


def test_A7_row76_the_longest_names_do_not_stop_anybody(kernel: FakeNft, backend: NftBackend) -> None:
    name = ServicePortName("n" * 63, "s" * 253, "p" * 63)
    longest = replace(
        web(2, 3),
        name=name,
        balance=Balance.ROUND_ROBIN,
        node_port=30080,
        external_policy=TrafficPolicy.LOCAL,
    )
    backend.apply(serving(longest, web(4, name="other", ip="10.96.0.2")))
    assert kernel.table is not None
    assert max(map(len, kernel.table.chains)) <= 255


@settings(max_examples=20, deadline=None)
@given(st.lists(clusters(), min_size=2, max_size=4))
def test_whatever_was_there_before_packets_go_where_they_would_from_scratch(
    history: list[tuple[ServicePort, ...]],
) -> None:
    kernel = FakeNft()
    backend = NftBackend(kernel, NETWORK)
    for cluster in history:
        backend.apply(serving(*cluster))
    want = compile_nft(serving(*history[-1]), NETWORK)
    assert kernel.table is not None
    for name, elements in want.elements.items():
        if name == n.WAYS:
            assert elements.items() <= kernel.table.contents(name).items()  # shared chains stay
        elif not n.is_seats(name):
            assert elements == kernel.table.contents(name)
    for port in history[-1]:
        packet = Packet(POD, port.cluster_ip, port.protocol, port.port)
        assert nft_chances(kernel.table, packet, HOST) == nft_chances(want, packet, HOST)
    assert NftBackend(kernel, NETWORK).apply(serving(*history[-1])).written == 0
