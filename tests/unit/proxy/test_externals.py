"""Addresses beside the cluster's own: rows 20 to 22 of the proxy's table, and guard S7."""

from ipaddress import ip_network

import pytest

from kubenet.model.objects import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePortSpec,
    ServiceSpec,
    ServiceStatus,
)
from proxy.clashes import without_clashes
from proxy.externals import ExternalRules
from proxy.ports import IPNetwork, ServicePort
from proxy.track import Tracked, TrackRules, track
from tests.unit.proxy.objects import service

HTTP = ServicePortSpec(name="http", port=80, node_port=30080)
NO_RULES = ExternalRules()
PUBLIC = "203.0.113.0/24"


def net(*texts: str) -> tuple[IPNetwork, ...]:

    return tuple(ip_network(text) for text in texts)


def balanced(
    *ingress: LoadBalancerIngress | str,
    ranges: tuple[str, ...] = (),
    external: tuple[str, ...] = (),
    name: str = "web",
    cluster_ip: str = "10.96.0.1",
    policy: str = "Cluster",
    kind: str = "LoadBalancer",
) -> Service:
    spec = ServiceSpec(
        type=kind,
        cluster_ip=cluster_ip,
        cluster_ips=(cluster_ip,),
        ports=(HTTP if name == "web" else ServicePortSpec(name="http", port=80),),
        external_ips=external,
        load_balancer_source_ranges=ranges,
        external_traffic_policy=policy,
        health_check_node_port=32000,
    )
    entries = tuple(LoadBalancerIngress(ip=each) if isinstance(each, str) else each for each in ingress)
    made = service(name, spec=spec)
    return Service(metadata=made.metadata, spec=spec, status=ServiceStatus(LoadBalancerStatus(entries)))


def tracked(*services: Service, rules: ExternalRules = NO_RULES, family: int = 4) -> Tracked:
    return track(services, [], TrackRules(6 if family == 6 else 4, externals=rules))


def only(found: Tracked) -> ServicePort:
    (port,) = found.service_ports
    return port


def reasons(found: Tracked) -> str:
    return " | ".join(each.reason for each in found.refused)


def texts(addresses: object) -> list[str]:
    assert isinstance(addresses, tuple)
    return [str(each) for each in addresses]


@pytest.mark.parametrize(
    ("allowed", "external", "served", "said"),
    [
        pytest.param((), ("203.0.113.7",), [], "was told to allow", id="off by default"),
        pytest.param((PUBLIC,), ("203.0.113.7",), ["203.0.113.7"], "", id="in an allowed network"),
        pytest.param((PUBLIC,), ("198.51.100.1",), [], "was told to allow", id="in another network"),
        pytest.param((PUBLIC,), ("203.0.113.007",), ["203.0.113.7"], "", id="row 27: leading zeros"),
        pytest.param((PUBLIC,), ("no address",), [], "is not an address", id="no address"),
        pytest.param((PUBLIC,), ("2001:db8::1",), [], "", id="row 25: of the other family"),
        pytest.param(("0.0.0.0/0",), ("127.0.0.1",), [], "loopback", id="S7: loopback"),
        pytest.param(("0.0.0.0/0",), ("169.254.1.1",), [], "link-local", id="S7: link-local"),
        pytest.param(("0.0.0.0/0",), ("224.0.0.1",), [], "multicast", id="S7: multicast"),
        pytest.param(("0.0.0.0/0",), ("0.0.0.0",), [], "no address of a host", id="S7: unspecified"),
        pytest.param(
            ("0.0.0.0/0",), ("10.96.0.10",), [], "uses for itself", id="S7: another Service's address"
        ),
        pytest.param(("0.0.0.0/0",), ("10.244.1.2",), [], "uses for itself", id="S7: a pod's address"),
    ],
)
def test_A2_row20_S7_external_addresses(
    allowed: tuple[str, ...], external: tuple[str, ...], served: list[str], said: str
) -> None:
    rules = ExternalRules(net(*allowed), reserved=net("10.96.0.0/16", "10.244.0.0/16"))
    found = tracked(balanced(external=external, kind="ClusterIP"), rules=rules)
    assert texts(only(found).external_ips) == served
    assert said in reasons(found)
    assert bool(said) == bool(found.refused)


@pytest.mark.parametrize(
    ("ingress", "family", "served"),
    [
        pytest.param(LoadBalancerIngress(ip="203.0.113.7"), 4, ["203.0.113.7"], id="ipMode absent is VIP"),
        pytest.param(LoadBalancerIngress(ip="203.0.113.7", ip_mode="VIP"), 4, ["203.0.113.7"], id="VIP"),
        pytest.param(LoadBalancerIngress(ip="203.0.113.7", ip_mode="Proxy"), 4, [], id="ipMode Proxy"),
        pytest.param(LoadBalancerIngress(hostname="lb.example.com"), 4, [], id="a host name"),
        pytest.param(LoadBalancerIngress(ip="2001:db8::7"), 4, [], id="of the other family"),
    ],
)
def test_A2_row21_load_balancer_addresses(
    ingress: LoadBalancerIngress, family: int, served: list[str]
) -> None:
    found = tracked(balanced(ingress), family=family)
    assert texts(only(found).load_balancer_ips) == served
    assert not found.refused


def test_A2_row21_only_a_service_of_the_type_load_balancer_has_them() -> None:
    port = only(tracked(balanced("203.0.113.7", ranges=("10.0.0.0/8",), kind="NodePort")))
    assert (port.load_balancer_ips, port.source_ranges, port.health_check_node_port) == ((), (), 0)


def test_S7_load_balancer_addresses_can_be_confined() -> None:
    rules = ExternalRules(load_balancer_ips=net(PUBLIC), reserved=net("10.96.0.0/16"))
    found = tracked(balanced("203.0.113.7", "198.51.100.1"), rules=rules)
    assert texts(only(found).load_balancer_ips) == ["203.0.113.7"]
    assert "198.51.100.1: not in a network" in reasons(found)
    unconfined = ExternalRules(reserved=net("10.96.0.0/16"))
    assert only(tracked(balanced("10.96.0.10"), rules=unconfined)).load_balancer_ips == ()


@pytest.mark.parametrize(
    ("ranges", "kept"),
    [
        pytest.param((), [], id="everybody"),
        pytest.param((" 203.0.113.0/24 ", "\t198.51.100.7/32"), ["198.51.100.7/32", PUBLIC], id="spaces"),
        pytest.param((PUBLIC, "0.0.0.0/0"), [], id="a network of everybody is no filter"),
        pytest.param((PUBLIC, "2001:db8::/32"), [PUBLIC], id="of the other family"),
        pytest.param(("203.0.113.9/24",), [PUBLIC], id="with host bits"),
    ],
)
def test_A2_row22_source_ranges(ranges: tuple[str, ...], kept: list[str]) -> None:
    port = only(tracked(balanced("203.0.113.7", ranges=ranges)))
    assert texts(port.source_ranges) == kept
    assert texts(port.load_balancer_ips) == ["203.0.113.7"]


def test_A2_row22_a_range_that_cannot_be_read_lets_nobody_in() -> None:
    found = tracked(balanced("203.0.113.7", ranges=(PUBLIC, "office")))
    assert only(found).load_balancer_ips == ()
    assert only(found).node_port == 30080  # the rest is served
    assert "'office' is not a network" in reasons(found)


@pytest.mark.parametrize(("policy", "port"), [("Local", 32000), ("Cluster", 0)])
def test_A6_row56_a_health_check_port_needs_the_policy_local(policy: str, port: int) -> None:
    assert only(tracked(balanced("203.0.113.7", policy=policy))).health_check_node_port == port


def test_S7_the_first_by_name_keeps_an_external_address_and_the_other_keeps_the_rest() -> None:
    found = tracked(
        balanced("203.0.113.7", name="b", cluster_ip="10.96.0.2"), balanced("203.0.113.7", name="a")
    )
    first, second = found.service_ports
    assert texts(first.load_balancer_ips) == ["203.0.113.7"]
    assert second.load_balancer_ips == ()
    assert "203.0.113.7: demo/a:http answers there already" in reasons(found)


def test_S7_no_external_address_covers_a_cluster_address_whatever_the_names() -> None:
    rules = ExternalRules(net("0.0.0.0/0"))  # and which networks are the cluster's is not known
    thief = balanced(external=("10.96.0.2",), name="aaa", kind="ClusterIP")
    found = tracked(thief, balanced(name="zzz", cluster_ip="10.96.0.2", kind="ClusterIP"), rules=rules)
    first, second = found.service_ports
    assert first.external_ips == ()
    assert texts((second.cluster_ip,)) == ["10.96.0.2"]
    own = tracked(balanced(external=("10.96.0.1",), kind="ClusterIP"), rules=rules)
    assert only(own).external_ips == ()


def test_an_address_given_in_both_ways_is_served_once_under_the_stricter() -> None:
    rules = ExternalRules(net(PUBLIC))
    open_ = only(tracked(balanced("203.0.113.7", external=("203.0.113.7",)), rules=rules))
    assert (texts(open_.external_ips), open_.load_balancer_ips) == (["203.0.113.7"], ())
    shut = only(tracked(balanced("203.0.113.7", external=("203.0.113.7",), ranges=(PUBLIC,)), rules=rules))
    assert (shut.external_ips, texts(shut.load_balancer_ips)) == ((), ["203.0.113.7"])


def test_A2_row23_one_number_serves_two_protocols() -> None:
    spec = ServiceSpec(
        type="NodePort",
        cluster_ip="10.96.0.1",
        ports=tuple(
            ServicePortSpec(name=protocol.lower(), port=53, node_port=30053, protocol=protocol)
            for protocol in ("TCP", "UDP", "SCTP")
        ),
    )
    found = tracked(service(spec=spec))
    assert [(p.port, p.node_port, p.protocol.value) for p in found.service_ports] == [
        (53, 30053, "SCTP"),
        (53, 30053, "TCP"),
        (53, 30053, "UDP"),
    ]
    assert not found.refused


def test_nothing_clashes_where_nothing_is_shared() -> None:
    ports = tracked(balanced("203.0.113.7"), balanced("203.0.113.8", name="b", cluster_ip="10.96.0.9"))
    assert without_clashes(ports.service_ports) == (ports.service_ports, ())
