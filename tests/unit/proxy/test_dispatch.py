"""Many services, few rules a packet passes."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubenet.model.iptables import CHAIN_NAME_LENGTH, Jump, Table
from kubenet.model.protocol import Protocol
from proxy.compile_iptables import compile_iptables, is_service_chain
from proxy.dispatch import MANY
from proxy.policy import Locality, serve
from proxy.ports import Endpoint, Family, NodeNetwork, ServicePort, ServicePortName
from proxy.service_rules import chain_name
from proxy.simulate import Arrives, Course, Packet, Stopped, courses

NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))
HERE = Locality("here")
POD = ip_address("10.244.9.9")


def numbered(number: int, offset: int | None = None, *, served: bool = True) -> ServicePort:
    ip = IPv4Address("10.96.0.0") + (number if offset is None else offset)
    backend = Endpoint(IPv4Address("10.244.0.0") + number, 8080)
    return ServicePort(
        ServicePortName("demo", f"s{number:05}", "http"), ip, 80, endpoints=(backend,) if served else ()
    )


def nat_of(*ports: ServicePort) -> Table:
    return compile_iptables(serve(ports, HERE), NETWORK)[0]


def walk(tables: tuple[Table, Table], port: ServicePort) -> Course:
    (course,) = courses(tables, Packet(POD, port.cluster_ip, port.protocol, port.port))
    return course


def test_A7_row70_a_packet_passes_few_rules_whatever_the_number_of_services() -> None:
    ports = [numbered(number) for number in range(1, 1201)]
    tables = compile_iptables(serve(ports, HERE), NETWORK)
    for port in (ports[0], ports[600], ports[-1]):
        course = walk(tables, port)
        assert course.outcome == Arrives(port.endpoints[0].ip, 8080, translated=True)
        # A list would have it pass 1,200; beside the dispatch stand the hooks and the service's own chains.
        assert course.passed < 100


def test_a_packet_to_nobody_passes_few_rules_too() -> None:
    tables = compile_iptables(serve([numbered(number) for number in range(1, 1201)], HERE), NETWORK)
    for strange in ("10.96.255.255", "8.8.8.8"):
        (course,) = courses(tables, Packet(POD, ip_address(strange), Protocol.TCP, 443))
        assert course.outcome == Arrives(ip_address(strange), 443)
        assert course.passed < 60


def test_row28_refusals_are_spread_too() -> None:
    ports = [numbered(number, served=False) for number in range(1, 601)]
    tables = compile_iptables(serve(ports, HERE), NETWORK)
    course = walk(tables, ports[-1])
    assert course.outcome is Stopped.REJECTED
    assert course.passed < 100


def test_few_services_stay_in_one_list() -> None:
    chains = nat_of(*(numbered(number) for number in range(1, MANY + 1))).chains
    assert len(chains["KUBE-SERVICES"]) == MANY + 1  # and the node ports
    assert not any(name.startswith("KUBE-IP-") for name in chains)


def test_A7_row75_the_names_of_the_services_own_chains_do_not_change_with_the_number() -> None:
    few = nat_of(numbered(1)).chains
    many = nat_of(*(numbered(number) for number in range(1, 1001))).chains
    assert few.keys() <= many.keys()
    assert chain_name("SVC", numbered(1)) in many
    assert many["KUBE-SERVICES"][-1].target == Jump("KUBE-NODEPORTS")  # still the last
    spread = [name for name in many if name.startswith("KUBE-IP-")]
    assert spread
    assert all(is_service_chain(name) and len(name) <= CHAIN_NAME_LENGTH for name in spread)


def test_A7_row70_a_service_that_comes_changes_the_one_chain_it_is_in() -> None:
    ports = [numbered(number, 16 * number) for number in range(1, 500)]
    new = numbered(5000, 16 * 300 + 3)
    before, after = nat_of(*ports).chains, nat_of(*ports, new).chains
    touched = {name for name in after if before.get(name) != after[name]}
    own = {chain_name("SVC", new), chain_name("SEP", new, new.endpoints[0])}
    assert own <= touched
    assert len(touched - own) == 1
    assert before.keys() <= after.keys()


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=150, unique=True),
    st.sampled_from([4, 6]),
    st.integers(0, 12),
)
def test_every_service_is_found_at_its_address_and_nobody_else_is(
    offsets: list[int], family: Family, shift: int
) -> None:
    first, low = ("10.96.0.0", 0) if family == 4 else ("fd00:96::", shift)
    backend = ip_address("10.244.1.2" if family == 4 else "fd00:244::2")
    ports = [
        replace(
            numbered(number),
            cluster_ip=ip_address(first) + (offset << low),
            endpoints=(Endpoint(backend, number + 1),),
        )
        for number, offset in enumerate(offsets)
    ]
    tables = compile_iptables(serve(ports, HERE), NodeNetwork(family))
    source = POD if family == 4 else ip_address("fd00:244::9")
    assert isinstance(backend, IPv4Address | IPv6Address)
    for number, port in enumerate(ports):
        (course,) = courses(tables, Packet(source, port.cluster_ip, Protocol.TCP, 80))
        assert course.outcome == Arrives(backend, number + 1, translated=True)
        (course,) = courses(tables, Packet(source, port.cluster_ip, Protocol.TCP, 81))
        assert course.outcome == Arrives(port.cluster_ip, 81)


def test_many_ports_of_one_address_stay_together() -> None:
    ports = [
        replace(numbered(number, 7), port=number, name=ServicePortName("demo", "wide", f"p{number}"))
        for number in range(1, 101)
    ]
    tables = compile_iptables(serve([*ports, numbered(500, 9)], HERE), NETWORK)
    assert walk(tables, ports[-1]).outcome == Arrives(ports[-1].endpoints[0].ip, 8080, translated=True)


@pytest.mark.parametrize("family", [4, 6])
def test_the_same_services_in_another_order_give_the_same_rules(family: Family) -> None:
    ports = [numbered(number) for number in range(1, 200)]
    if family == 6:
        ports = [replace(p, cluster_ip=ip_address("fd00::") + int(p.cluster_ip)) for p in ports]
    network = NodeNetwork(family)
    forward = compile_iptables(serve(ports, HERE), network)[0].chains
    backward = compile_iptables(serve(ports[::-1], HERE), network)[0].chains
    assert {n: set(r) for n, r in forward.items()} == {n: set(r) for n, r in backward.items()}
