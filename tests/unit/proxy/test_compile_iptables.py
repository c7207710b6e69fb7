"""The rules for a node, as kube-proxy lays them out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from kubenet.model.iptables import EveryNth, Jump, OneIn, Table, first_write, render_restore
from kubenet.model.protocol import Protocol
from proxy.compile_iptables import compile_iptables, is_service_chain
from proxy.policy import Locality, serve
from proxy.ports import Balance, Endpoint, NodeNetwork, ServicePort, ServicePortName, TrafficPolicy
from proxy.service_rules import chain_name

NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"))
HERE = Locality("here")


def endpoint(last: int, node: str = "far") -> Endpoint:
    return Endpoint(ip_address(f"10.244.1.{last}"), 8080, node_name=node)


def web(*lasts: int, name: str = "web", ip: str = "10.96.0.1") -> ServicePort:
    return ServicePort(
        ServicePortName("demo", name, "http"), ip_address(ip), 80, endpoints=tuple(map(endpoint, lasts))
    )


def compiled(*ports: ServicePort, network: NodeNetwork = NETWORK) -> tuple[Table, Table]:
    return compile_iptables(serve(ports, HERE), network)


def text(tables: Sequence[Table], network: NodeNetwork = NETWORK) -> str:
    return render_restore([first_write(table) for table in tables], network.family)


def test_ruleset_of_a_small_cluster(golden: Callable[[str, str], None]) -> None:
    local = TrafficPolicy.LOCAL
    dns = ServicePort(
        ServicePortName("kube-system", "kube-dns", "dns", Protocol.UDP),
        ip_address("10.96.0.10"),
        53,
        endpoints=(endpoint(5), endpoint(6)),
    )
    ports = [
        web(2, 3, 4),
        replace(web(2, 3, 4, name="turns", ip="10.96.0.2"), balance=Balance.ROUND_ROBIN),
        replace(web(2, 3, name="sticky", ip="10.96.0.3"), affinity_s=10800),
        web(name="empty", ip="10.96.0.4"),
        replace(web(2, name="elsewhere", ip="10.96.0.5"), internal_policy=local),
        replace(web(2, name="open", ip="10.96.0.6"), node_port=30006),
        replace(web(name="open-empty", ip="10.96.0.7"), node_port=30007),
        replace(web(2, name="open-elsewhere", ip="10.96.0.8"), node_port=30008, external_policy=local),
        replace(
            web(name="open-here", ip="10.96.0.9"),
            node_port=30009,
            external_policy=local,
            endpoints=(endpoint(2), endpoint(7, "here")),
        ),
        dns,
    ]
    golden("proxy_cluster.rules", text(compiled(*ports)))


def test_A2_row25_ruleset_of_ipv6(golden: Callable[[str, str], None]) -> None:
    network = NodeNetwork(6, ip_network("fd00:244::/48"))
    port = ServicePort(
        ServicePortName("demo", "web", "http"),
        ip_address("fd00:96::1"),
        80,
        node_port=30080,
        affinity_s=60,
        endpoints=tuple(Endpoint(ip_address(f"fd00:244::{last}"), 8080) for last in (2, 3)),
    )
    empty = replace(
        port, name=ServicePortName("demo", "empty"), cluster_ip=ip_address("fd00:96::2"), endpoints=()
    )
    golden("proxy_ipv6.rules", text(compiled(port, replace(empty, node_port=0), network=network), network))


@pytest.mark.parametrize(
    ("name", "chain"),
    [
        pytest.param(
            ServicePortName("default", "kubernetes", "https"), "KUBE-SVC-NPX46M4PTMTKRN6Y", id="kubernetes"
        ),
        pytest.param(
            ServicePortName("kube-system", "kube-dns", "dns", Protocol.UDP),
            "KUBE-SVC-TCOU7JCQXEZGVUNU",
            id="cluster DNS over UDP",
        ),
        pytest.param(
            ServicePortName("kube-system", "kube-dns", "dns-tcp"),
            "KUBE-SVC-ERIFXISQEP7F7OF4",
            id="cluster DNS over TCP",
        ),
    ],
)
def test_A7_row75_chains_have_the_names_that_people_know(name: ServicePortName, chain: str) -> None:
    """These three stand in the iptables-save of nearly every cluster."""
    assert chain_name("SVC", ServicePort(name, ip_address("10.96.0.1"), 443)) == chain


def test_A7_row75_every_chain_name_fits_and_is_its_own() -> None:
    long = ServicePortName("n" * 63, "s" * 63, "p" * 15)
    port = replace(web(2, 3), name=long, node_port=30080)
    names = [chain_name(kind, port) for kind in ("SVC", "SVL", "EXT")]
    names += [chain_name("SEP", port, each) for each in port.endpoints]
    assert len(set(names)) == 5
    assert all(len(name) <= 28 and is_service_chain(name) for name in names)


def test_A4_row39_random_shares_count_down_and_the_last_rule_takes_the_rest() -> None:
    nat, _ = compiled(web(2, 3, 4))
    rules = nat.chains[chain_name("SVC", web())][1:]
    assert [[m.share for m in rule.matches if isinstance(m, OneIn)] for rule in rules] == [[3], [2], []]
    assert "0.33333333" in rules[0].text()


def test_C_round_robin_counts_down_too() -> None:
    nat, _ = compiled(replace(web(2, 3, 4), balance=Balance.ROUND_ROBIN))
    rules = nat.chains[chain_name("SVC", web())][1:]
    assert [[m.every for m in rule.matches if isinstance(m, EveryNth)] for rule in rules] == [[3], [2], []]


def test_A7_row70_a_changed_endpoint_touches_its_own_service_only() -> None:
    other = web(5, 6, name="other", ip="10.96.0.2")
    before, _ = compiled(web(2, 3), other)
    after, filter_after = compiled(web(2, 4), other)
    changed = {
        name
        for name in before.chains.keys() | after.chains
        if before.chains.get(name) != after.chains.get(name)
    }
    assert changed == {
        chain_name("SVC", web()),
        chain_name("SEP", web(), endpoint(3)),
        chain_name("SEP", web(), endpoint(4)),
    }
    assert filter_after == compiled(web(2, 3), other)[1]


def test_A2_row17_node_ports_come_last_and_not_on_loopback() -> None:
    nat, _ = compiled(replace(web(2), node_port=30080), web(3, name="other", ip="10.96.0.2"))
    last = nat.chains["KUBE-SERVICES"][-1]
    assert last.target == Jump("KUBE-NODEPORTS")
    assert last.text().startswith("! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL ")


def test_A3_row33_the_external_chain_exists_if_anybody_serves_anywhere() -> None:
    far = replace(web(2), node_port=30080, external_policy=TrafficPolicy.LOCAL)
    external = chain_name("EXT", far)
    assert external in compiled(far)[0].chains
    assert external not in compiled(replace(far, endpoints=()))[0].chains


def test_A4_row44_masquerade_all_asks_for_no_source() -> None:
    nat, _ = compiled(web(2), network=replace(NETWORK, masquerade_all=True))
    first = nat.chains[chain_name("SVC", web())][0]
    assert first.target == Jump("KUBE-MARK-MASQ")
    assert first.text().startswith("-d 10.96.0.1/32 -p tcp ")


def test_A4_row44_without_a_known_pod_network_no_source_is_changed() -> None:
    nat, _ = compiled(web(2), network=NodeNetwork())
    assert Jump("KUBE-MARK-MASQ") not in [rule.target for rule in nat.chains[chain_name("SVC", web())]]


def test_names_of_full_length_stay_inside_their_comments() -> None:
    longest = replace(web(2), name=ServicePortName("n" * 63, "s" * 253, "p" * 63))
    lines = text(compiled(longest)).splitlines()
    assert all(line[0] in "*:-" or line == "COMMIT" for line in lines)
    assert max(line.count('"') for line in lines) == 2


def test_A7_row71_a_large_cluster_gets_the_same_rules_as_a_small_one() -> None:
    """kube-proxy leaves comments out beyond 1,000 endpoints; here a chain is written once."""
    many = tuple(Endpoint(ip_address(f"10.244.{n // 250}.{n % 250 + 1}"), 8080) for n in range(1200))
    port = ServicePort(ServicePortName("demo", "web"), ip_address("10.96.0.1"), 80, endpoints=many)
    nat, _ = compile_iptables(serve([port], Locality("here")), NodeNetwork())
    chains = [name for name in nat.chains if name.startswith("KUBE-SEP-")]
    assert len(chains) == 1200
    assert all("demo/web" in rule.text() for name in chains for rule in nat.chains[name])
