"""What the rules do to real connections."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from kubenet.kernel.run import run
from kubenet.model.protocol import Protocol
from proxy.apply_iptables import IptablesBackend, KernelIptables
from proxy.apply_stale import FlowKeeper, KernelFlows
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Balance, NodeNetwork, ServicePort, ServicePortName, TrafficPolicy
from tests.netns.proxy.world import (
    BACKENDS,
    CLIENT,
    NODE,
    NODE_SEEN_BY_PODS,
    OUTSIDE,
    SILENCE_S,
    World,
    ask,
    backend_ip,
    endpoints,
)
from tests.unit.proxy.keeping import Keeping

pytestmark = pytest.mark.netns

VIP = "10.96.0.1"
OTHER_VIP = "10.96.0.2"
NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))
LOCAL = TrafficPolicy.LOCAL
ALL = {backend_ip(last) for last in BACKENDS}

# The chi-square value that one run in a million exceeds by chance, with 4 degrees of freedom.
CHI_SQUARE_LIMIT = 33.4

Apply = Callable[..., None]


def web(*lasts: int, ip: str = VIP, name: str = "web", node: str = "far") -> ServicePort:
    return ServicePort(
        ServicePortName("demo", name, "http"), ip_address(ip), 80, endpoints=endpoints(*lasts, node=node)
    )


def serving(*ports: ServicePort) -> Sequence[ServingPort]:
    return serve(ports, Locality("here"))


@pytest.fixture
def backend(world: World) -> IptablesBackend:
    return IptablesBackend(KernelIptables(world.node, 4), NETWORK)


@pytest.fixture
def apply(backend: IptablesBackend) -> Apply:
    """Program the node with the given service ports."""

    def program(*ports: ServicePort) -> None:
        backend.apply(serving(*ports))

    return program


def test_A2_row14_row15_a_pod_reaches_a_backend_with_its_own_address(world: World, apply: Apply) -> None:
    apply(web(2))
    reached = world.connect(world.client, VIP)
    assert (reached.backend, reached.source) == (backend_ip(2), CLIENT)


def test_A2_row14_the_node_itself_reaches_a_backend(world: World, apply: Apply) -> None:
    apply(web(2))
    assert world.connect(world.node, VIP).backend == backend_ip(2)


def test_A2_row16_a_backend_that_reaches_itself_sees_the_node(world: World, apply: Apply) -> None:
    apply(web(2))
    reached = world.connect(world.pods, VIP, source=backend_ip(2))
    assert (reached.backend, reached.source) == (backend_ip(2), NODE_SEEN_BY_PODS)


def test_A4_row44_a_source_that_is_no_pod_is_masqueraded(world: World, apply: Apply) -> None:
    apply(web(2))
    assert world.connect(world.outside, VIP).source == NODE_SEEN_BY_PODS


def test_A4_row39_random_spreads_evenly(world: World, apply: Apply) -> None:
    apply(web(*BACKENDS))
    counts = Counter(world.connect(world.client, VIP).backend for _ in range(500))
    assert set(counts) == ALL
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < CHI_SQUARE_LIMIT


def test_C_random_is_not_in_turn(world: World, apply: Apply) -> None:
    apply(web(*BACKENDS))
    order = [world.connect(world.client, VIP).backend for _ in range(100)]
    windows = [order[at : at + 5] for at in range(0, 100, 5)]
    assert not all(set(window) == ALL for window in windows)  # 20 such windows by chance: 0.038 to the 20th


def test_C_round_robin_shows_every_backend_once_in_each_window(world: World, apply: Apply) -> None:
    apply(replace(web(*BACKENDS), balance=Balance.ROUND_ROBIN))
    order = [world.connect(world.client, VIP).backend for _ in range(50)]
    for at in range(len(order) - 5):
        assert set(order[at : at + 5]) == ALL


@pytest.mark.parametrize("affinity_s", [0, 60])
def test_C_weights_are_exact_in_turn_and_followed_by_chance(
    world: World, apply: Apply, affinity_s: int
) -> None:
    weights = {2: 1, 3: 3}
    weighed = tuple(replace(each, weight=weights[int(each.ip) & 255]) for each in endpoints(2, 3))
    in_turn = replace(web(), balance=Balance.ROUND_ROBIN, endpoints=weighed)
    apply(in_turn)
    counts = Counter(world.connect(world.client, VIP).backend for _ in range(40))
    assert counts == {backend_ip(2): 10, backend_ip(3): 30}
    apply(replace(in_turn, balance=Balance.RANDOM, affinity_s=affinity_s))
    counts = Counter(world.connect(world.client, VIP).backend for _ in range(40 if affinity_s else 1000))
    if affinity_s:
        assert len(counts) == 1
    else:
        assert 200 < counts[backend_ip(2)] < 300  # 250, and 3.6 times its standard deviation


def test_C_round_robin_counts_all_clients_together(world: World, apply: Apply) -> None:
    apply(replace(web(*BACKENDS), balance=Balance.ROUND_ROBIN))
    sources = [world.client, world.outside, world.node, world.client, world.outside] * 4
    counts = Counter(world.connect(source, VIP).backend for source in sources)
    assert counts == dict.fromkeys(ALL, 4)


def test_C_a_change_of_another_service_does_not_restart_the_turn(world: World, apply: Apply) -> None:
    turns = replace(web(*BACKENDS), balance=Balance.ROUND_ROBIN)
    other = web(2, ip=OTHER_VIP, name="other")
    apply(turns, other)
    order = [world.connect(world.client, VIP).backend for _ in range(3)]
    apply(turns, replace(other, endpoints=endpoints(3, 4)))  # a pool changes
    order += [world.connect(world.client, VIP).backend for _ in range(4)]
    apply(turns)  # the dispatch changes
    order += [world.connect(world.client, VIP).backend for _ in range(5)]
    for at in range(len(order) - 5):
        assert set(order[at : at + 5]) == ALL


def test_A3_row28_without_endpoints_a_client_is_refused_at_once(world: World, apply: Apply) -> None:
    apply(web())
    for source in (world.client, world.outside, world.node):
        with pytest.raises(ConnectionRefusedError):
            world.connect(source, VIP)


def test_A3_row28_without_endpoints_a_node_port_refuses_too(world: World, apply: Apply) -> None:
    apply(replace(web(), node_port=30080))
    with pytest.raises(ConnectionRefusedError):
        world.connect(world.outside, NODE, 30080)


def test_A3_row29_internal_policy_local_without_a_local_endpoint_is_silent(
    world: World, apply: Apply
) -> None:
    apply(replace(web(2), internal_policy=LOCAL))
    with pytest.raises(TimeoutError):
        world.connect(world.client, VIP, patience_s=SILENCE_S)


def test_internal_policy_local_takes_the_local_endpoint(world: World, apply: Apply) -> None:
    port = web(2, 3)
    apply(replace(port, endpoints=(*port.endpoints, *endpoints(4, node="here")), internal_policy=LOCAL))
    assert {world.connect(world.client, VIP).backend for _ in range(10)} == {backend_ip(4)}


def test_A2_row17_A3_row31_a_node_port_is_open_on_every_address_and_masquerades(
    world: World, apply: Apply
) -> None:
    apply(replace(web(2), node_port=30080))
    assert world.connect(world.outside, NODE, 30080).source == NODE_SEEN_BY_PODS
    assert world.connect(world.client, "10.244.2.1", 30080).source == NODE_SEEN_BY_PODS
    assert world.connect(world.node, NODE, 30080).backend == backend_ip(2)
    with pytest.raises(ConnectionRefusedError):  # row 19: nothing is opened on loopback
        world.connect(world.node, "127.0.0.1", 30080)


def test_A3_row30_external_policy_local_shuts_out_strangers_only(world: World, apply: Apply) -> None:
    apply(replace(web(2), node_port=30080, external_policy=LOCAL))
    with pytest.raises(TimeoutError):
        world.connect(world.outside, NODE, 30080, patience_s=SILENCE_S)
    assert world.connect(world.client, NODE, 30080).backend == backend_ip(2)
    assert world.connect(world.node, NODE, 30080).backend == backend_ip(2)


def test_A3_row32_external_policy_local_keeps_the_source(world: World, apply: Apply) -> None:
    apply(replace(web(2, node="here"), node_port=30080, external_policy=LOCAL))
    assert world.connect(world.outside, NODE, 30080).source == OUTSIDE
    assert world.connect(world.client, NODE, 30080).source == CLIENT
    assert world.connect(world.node, NODE, 30080).source == NODE_SEEN_BY_PODS


def test_A4_row41_affinity_keeps_a_client_with_its_backend(world: World, apply: Apply) -> None:
    apply(replace(web(*BACKENDS), affinity_s=60))
    assert len({world.connect(world.client, VIP).backend for _ in range(20)}) == 1


def test_A4_row42_affinity_never_chooses_a_backend_that_is_gone(world: World, apply: Apply) -> None:
    apply(replace(web(*BACKENDS), affinity_s=60))
    first = world.connect(world.client, VIP).backend
    rest = [last for last in BACKENDS if backend_ip(last) != first]
    apply(replace(web(*rest), affinity_s=60))
    second = {world.connect(world.client, VIP).backend for _ in range(10)}
    assert len(second) == 1
    assert first not in second
    apply(web(*rest))  # and off again, without making the service anew
    assert len({world.connect(world.client, VIP).backend for _ in range(60)}) > 1


def dns(*lasts: int) -> ServicePort:
    name = ServicePortName("kube-system", "kube-dns", "dns", Protocol.UDP)
    return ServicePort(name, ip_address("10.96.0.10"), 53, endpoints=endpoints(*lasts))


def test_udp_goes_to_a_backend_and_comes_back(world: World, apply: Apply) -> None:
    apply(dns(2, 3))
    servers = world.udp_servers()
    reached = {ask(world.udp_client(world.client, "10.96.0.10", 53), servers) for _ in range(30)}
    assert reached == {backend_ip(2), backend_ip(3)}


def test_A3_row28_udp_without_endpoints_is_refused(world: World, apply: Apply) -> None:
    apply(dns())
    client = world.udp_client(world.client, "10.96.0.10", 53)
    client.send(b"who?")
    with pytest.raises(ConnectionRefusedError):
        client.recv(64)


def test_A5_row48_a_client_that_keeps_its_socket_follows_the_endpoints(world: World, apply: Apply) -> None:
    servers = world.udp_servers()
    client = world.udp_client(world.client, "10.96.0.10", 53)
    keeper = Keeping(FlowKeeper(KernelFlows(world.node, 4)))

    def change(*lasts: int) -> int:
        apply(dns(*lasts))
        return keeper.forget(serving(dns(*lasts)))

    change(2)
    assert ask(client, servers) == backend_ip(2)
    assert change(2, 3) == 0  # row 52: a flow that is well is left alone
    assert ask(client, servers) == backend_ip(2)
    assert change(3) == 1
    assert ask(client, servers) == backend_ip(3)
    assert change() == 1  # row 50: also when nobody is left
    assert ask(client, servers, SILENCE_S) == ""


def test_A5_row51_a_flow_begun_before_anybody_served_is_forgotten(world: World, apply: Apply) -> None:
    servers = world.udp_servers()
    keeper = Keeping(FlowKeeper(KernelFlows(world.node, 4)))
    apply()  # the service is not known yet, so its packets leave as they came
    client = world.udp_client(world.client, "10.96.0.10", 53)
    assert ask(client, servers, SILENCE_S) == ""
    apply(dns(2))
    assert keeper.forget(serving(dns(2))) == 1
    assert ask(client, servers) == backend_ip(2)


def test_A5_row50_flows_of_a_deleted_service_and_by_node_port_are_forgotten(
    world: World, apply: Apply
) -> None:
    servers = world.udp_servers()
    keeper = Keeping(FlowKeeper(KernelFlows(world.node, 4)))
    port = replace(dns(2), node_port=30053)
    apply(port)
    keeper.forget(serving(port))
    by_address = world.udp_client(world.client, "10.96.0.10", 53)
    by_node_port = world.udp_client(world.outside, NODE, 30053)
    assert [ask(by_address, servers), ask(by_node_port, servers)] == [backend_ip(2)] * 2
    apply(replace(port, endpoints=endpoints(3)))
    assert keeper.forget(serving(replace(port, endpoints=endpoints(3)))) == 2
    assert [ask(by_address, servers), ask(by_node_port, servers)] == [backend_ip(3)] * 2
    apply()
    assert keeper.forget(()) == 2
    assert ask(by_address, servers, SILENCE_S) == ""
    by_node_port.send(b"who?")
    with pytest.raises(ConnectionRefusedError):
        by_node_port.recv(64)


def test_A5_row54_tcp_is_never_cut(world: World, apply: Apply) -> None:
    apply(web(2))
    keeper = Keeping(FlowKeeper(KernelFlows(world.node, 4)))
    keeper.forget(serving(web(2), dns(2)))
    with world.node.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.connect((VIP, 80))
        before = run(["conntrack", "-L", "-p", "tcp"], netns=world.node).stdout
        apply(web(3))
        keeper.forget(serving(web(3), dns(3)))
        assert run(["conntrack", "-L", "-p", "tcp"], netns=world.node).stdout.count(b"tcp") == before.count(
            b"tcp"
        )


def test_A7_row72_no_connection_fails_while_endpoints_change(
    world: World, apply: Apply, backend: IptablesBackend
) -> None:
    apply(web(2, 3, 4))
    done = threading.Event()

    def flip() -> None:
        for turn in range(60):
            backend.apply(serving(web(2, 3, *([4] if turn % 2 else [5, 6]))))
        done.set()

    churn = threading.Thread(target=flip)
    churn.start()
    try:
        while not done.is_set():
            world.connect(world.client, VIP)
    finally:
        churn.join()
