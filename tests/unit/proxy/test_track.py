"""Objects to service ports: rows 1 to 13 of the proxy's table, and what is refused."""

import random
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import msgspec
import pytest

from kubenet.model.objects import (
    ClientIPConfig,
    EndpointPort,
    EndpointSlice,
    Service,
    ServicePortSpec,
    ServiceSpec,
    SessionAffinityConfig,
    SliceEndpoint,
)
from kubenet.model.protocol import Protocol
from proxy.ports import Balance, Refused, ServicePort, TrafficPolicy
from proxy.track import Tracked, TrackRules, track
from tests.unit.proxy.objects import HTTP, backend, endpoint_slice, service


def only(tracked: Tracked) -> ServicePort:
    """Return the one service port there is."""
    (port,) = tracked.service_ports
    return port


def sockets(port: ServicePort) -> list[str]:
    return [str(endpoint) for endpoint in port.endpoints]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param({"service.kubernetes.io/service-proxy-name": "other"}, id="row 1: another proxy's"),
        pytest.param({"service.kubernetes.io/service-proxy-name": ""}, id="row 1: with an empty value"),
        pytest.param({"service.kubernetes.io/headless": ""}, id="row 2: headless by label"),
    ],
)
def test_A1_row1_row2_labelled_objects_are_left_alone(labels: Mapping[str, str]) -> None:
    assert track([service(labels=labels)], [endpoint_slice("10.244.1.2")]) == Tracked()
    assert only(track([service()], [endpoint_slice("10.244.1.2", labels=labels)])).endpoints == ()


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(ServiceSpec(cluster_ip="None", cluster_ips=("None",), ports=(HTTP,)), id="row 3: None"),
        pytest.param(ServiceSpec(cluster_ip="None", ports=(HTTP,)), id="row 3: None in the old field only"),
        pytest.param(ServiceSpec(ports=(HTTP,)), id="row 3: empty"),
        pytest.param(
            ServiceSpec(type="ExternalName", external_name="a.b", cluster_ip="10.96.0.1", ports=(HTTP,)),
            id="row 4: ExternalName with a cluster address",
        ),
    ],
)
def test_A1_row3_row4_services_without_a_virtual_address_are_skipped(spec: ServiceSpec) -> None:
    assert track([service(spec=spec)], [endpoint_slice("10.244.1.2")]) == Tracked()


def test_A1_row5_a_slice_belongs_by_label() -> None:
    slices = [
        endpoint_slice("10.244.1.2"),
        endpoint_slice("10.244.1.3", name="web-astray", of=""),
        endpoint_slice("10.244.1.4", name="other-1", of="other"),
        endpoint_slice("10.244.1.5", namespace="elsewhere"),
    ]
    tracked = track([service()], slices)
    assert sockets(only(tracked)) == ["10.244.1.2:8080"]
    (refused,) = tracked.refused
    assert refused.subject == "EndpointSlice demo/web-astray"
    assert "kubernetes.io/service-name" in refused.reason


def test_A1_row7_only_the_first_address_counts() -> None:
    entry = SliceEndpoint(addresses=("10.244.1.2", "10.244.1.3"))
    assert sockets(only(track([service()], [endpoint_slice(entry)]))) == ["10.244.1.2:8080"]


@pytest.mark.parametrize(
    "port",
    [
        pytest.param(EndpointPort(name=None, port=8080), id="no name"),
        pytest.param(EndpointPort(name="http", port=None), id="no port"),
        pytest.param(EndpointPort(name="http", port=0), id="port 0"),
        pytest.param(EndpointPort(name="http", port=65536), id="port too large"),
        pytest.param(EndpointPort(name="http", port=8080, protocol="ICMP"), id="unknown protocol"),
        pytest.param(EndpointPort(name="http", port=8080, protocol="UDP"), id="another protocol"),
        pytest.param(EndpointPort(name="https", port=8080), id="another name"),
    ],
)
def test_A1_row7_a_slice_port_that_is_none_of_ours_gives_no_endpoint(port: EndpointPort) -> None:
    assert only(track([service()], [endpoint_slice("10.244.1.2", ports=[port])])).endpoints == ()


@pytest.mark.parametrize(
    ("entry", "ready", "serving", "terminating"),
    [
        pytest.param(backend("10.244.1.2"), True, True, False, id="unset"),
        pytest.param(backend("10.244.1.2", ready=False), False, True, False, id="not ready"),
        pytest.param(
            backend("10.244.1.2", ready=False, serving=True, terminating=True),
            False,
            True,
            True,
            id="serves while it terminates",
        ),
        pytest.param(backend("10.244.1.2", serving=False), True, False, False, id="not serving"),
    ],
)
def test_A1_row8_conditions_that_are_unset(
    entry: SliceEndpoint, ready: bool, serving: bool, terminating: bool
) -> None:
    (endpoint,) = only(track([service()], [endpoint_slice(entry)])).endpoints
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == (ready, serving, terminating)


def test_A1_row9_of_the_same_address_the_one_that_stays_wins() -> None:
    going = endpoint_slice(backend("10.244.1.2", ready=False, terminating=True, node="a"), name="web-1")
    staying = endpoint_slice(backend("10.244.1.2", node="b"), name="web-2")
    for slices in ([going, staying], [staying, going]):
        (endpoint,) = only(track([service()], slices)).endpoints
        assert not endpoint.terminating
        assert endpoint.node_name == "b"


def test_A1_row10_endpoints_of_several_slices_are_one_set() -> None:
    slices = [
        endpoint_slice("10.244.1.2", "10.244.1.3", name="web-1"),
        endpoint_slice("10.244.1.4", "10.244.1.3", name="web-2"),
    ]
    assert sockets(only(track([service()], slices))) == [
        "10.244.1.2:8080",
        "10.244.1.3:8080",
        "10.244.1.4:8080",
    ]


def test_A1_row11_a_named_port_may_differ_from_endpoint_to_endpoint() -> None:
    slices = [
        endpoint_slice("10.244.1.2", name="web-1", ports=[EndpointPort(name="http", port=80)]),
        endpoint_slice("10.244.1.3", name="web-2", ports=[EndpointPort(name="http", port=8080)]),
    ]
    assert sockets(only(track([service()], slices))) == ["10.244.1.2:80", "10.244.1.3:8080"]


def test_A1_row12_published_though_not_ready_is_what_the_controller_says() -> None:
    (endpoint,) = only(track([service()], [endpoint_slice(backend("10.244.1.2", ready=True))])).endpoints
    assert endpoint.ready


def test_A1_row13_endpoints_are_sorted_as_text() -> None:
    slices = [endpoint_slice("10.244.1.9", "10.244.1.10", "10.244.1.2")]
    assert sockets(only(track([service()], slices))) == [
        "10.244.1.10:8080",
        "10.244.1.2:8080",
        "10.244.1.9:8080",
    ]


def test_A1_row13_the_order_of_events_never_shows() -> None:
    services = [service(f"s{n}", f"10.96.0.{n}", ports=[HTTP]) for n in range(1, 6)]
    entries = [backend(f"10.244.1.{n}", node="a" if n % 2 else "b", ready=n % 3 > 0) for n in range(2, 9)]
    slices = [
        endpoint_slice(*entries[k : k + 3], name=f"s{n}-{k}", of=f"s{n}")
        for n in range(1, 6)
        for k in range(4)
    ]
    expected = track(services, slices)
    assert len(expected.service_ports) == 5
    shuffle = random.Random(7).shuffle
    for _ in range(20):
        shuffle(services)
        shuffle(slices)
        turned = [_with_endpoints_shuffled(piece, shuffle) for piece in slices]
        assert track(services, turned) == expected


def _with_endpoints_shuffled(piece: EndpointSlice, shuffle: object) -> EndpointSlice:
    endpoints = list(piece.endpoints or ())
    assert callable(shuffle)
    shuffle(endpoints)
    return msgspec.structs.replace(piece, endpoints=tuple(endpoints))


def test_A2_row23_one_port_for_two_protocols_is_two_service_ports() -> None:
    dns = [ServicePortSpec(name="dns", port=53, protocol=protocol) for protocol in ("UDP", "TCP")]
    targets = [EndpointPort(name="dns", port=5300, protocol="UDP"), EndpointPort(name="dns", port=5301)]
    tracked = track([service(ports=dns)], [endpoint_slice("10.244.1.2", ports=targets)])
    assert [(port.protocol, sockets(port)) for port in tracked.service_ports] == [
        (Protocol.TCP, ["10.244.1.2:5301"]),
        (Protocol.UDP, ["10.244.1.2:5300"]),
    ]


def test_A2_row25_each_family_sees_its_own_addresses() -> None:
    spec = ServiceSpec(cluster_ip="10.96.0.1", cluster_ips=("10.96.0.1", "fd00:96::1"), ports=(HTTP,))
    slices = [
        endpoint_slice("10.244.1.2"),
        endpoint_slice("fd00:244::2", name="web-6", address_type="IPv6"),
        endpoint_slice("fd00:244::3", name="web-lies", address_type="IPv4"),
    ]
    four = only(track([service(spec=spec)], slices))
    six = only(track([service(spec=spec)], slices, TrackRules(family=6)))
    assert (str(four.cluster_ip), sockets(four)) == ("10.96.0.1", ["10.244.1.2:8080"])
    assert (str(six.cluster_ip), sockets(six)) == ("fd00:96::1", ["[fd00:244::2]:8080"])


def test_A2_row25_a_service_of_the_other_family_is_skipped_without_a_word() -> None:
    assert track([service(cluster_ip="fd00:96::1")], []) == Tracked()


def test_policies_affinity_and_node_port_are_read() -> None:
    spec = ServiceSpec(
        type="NodePort",
        cluster_ip="10.96.0.1",
        ports=(ServicePortSpec(name="http", port=80, node_port=30080),),
        session_affinity="ClientIP",
        session_affinity_config=SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=60)),
        internal_traffic_policy="Local",
        external_traffic_policy="Local",
    )
    port = only(track([service(spec=spec)], []))
    assert port.node_port == 30080
    assert port.affinity_s == 60
    assert port.internal_policy is port.external_policy is TrafficPolicy.LOCAL


def test_a_node_port_counts_only_for_the_types_that_have_one() -> None:
    spec = ServiceSpec(cluster_ip="10.96.0.1", ports=(ServicePortSpec(port=80, node_port=30080),))
    assert only(track([service(spec=spec)], [])).node_port == 0


@pytest.mark.parametrize(
    ("annotation", "balance", "refusals"),
    [
        pytest.param(None, Balance.RANDOM, 0, id="absent: the default"),
        pytest.param("round-robin", Balance.ROUND_ROBIN, 0, id="in turn"),
        pytest.param("random", Balance.RANDOM, 0, id="by chance"),
        pytest.param("fastest", Balance.RANDOM, 1, id="unknown: the default, and it is said"),
    ],
)
def test_the_balance_annotation(annotation: str | None, balance: Balance, refusals: int) -> None:
    annotations = {} if annotation is None else {"kubenet.dev/balance": annotation}
    tracked = track([service(annotations=annotations)], [])
    assert only(tracked).balance is balance
    assert len(tracked.refused) == refusals


def test_the_default_balance_is_the_clusters() -> None:
    assert (
        only(track([service()], [], TrackRules(default_balance=Balance.ROUND_ROBIN))).balance
        is Balance.ROUND_ROBIN
    )


BAD_SERVICES = [
    pytest.param(service("bad", "not-an-ip"), "'not-an-ip' is not an address", id="no address"),
    pytest.param(service("bad", "127.0.0.1"), "loopback", id="loopback as virtual address"),
    pytest.param(
        service("bad", "172.16.0.1"), "outside the service network", id="outside the service network"
    ),
    pytest.param(
        service("bad", "10.96.0.2", ports=[ServicePortSpec(port=80, protocol="ICMP")]),
        "'ICMP' is not TCP, UDP or SCTP",
        id="unknown protocol",
    ),
    pytest.param(
        service("bad", "10.96.0.2", ports=[ServicePortSpec(port=65536)]),
        "65536 is not a port",
        id="port too large",
    ),
    pytest.param(service("xbad", "10.96.0.1"), "belongs to demo/web:http already", id="another's address"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_SERVICES)
def test_S7_one_bad_service_does_not_stop_the_others(bad: Service, reason: str) -> None:
    rules = TrackRules(service_cidrs=(ip_network("10.96.0.0/16"),))
    tracked = track([bad, service()], [endpoint_slice("10.244.1.2")], rules)
    assert only(tracked).cluster_ip == ip_address("10.96.0.1")
    (refused,) = tracked.refused
    assert "bad" in refused.subject
    assert reason in refused.reason


def test_S7_one_bad_port_does_not_stop_the_others_of_its_service() -> None:
    ports = [ServicePortSpec(name="bad", port=0), HTTP]
    assert only(track([service(ports=ports)], [])).name.port == "http"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        pytest.param(backend("127.0.0.1"), "loopback", id="loopback"),
        pytest.param(backend("::ffff:127.0.0.1"), "loopback", id="loopback in IPv6 clothes"),
        pytest.param(backend("169.254.169.254"), "link-local", id="cloud metadata"),
        pytest.param(backend("10.96.0.9"), "service network", id="a virtual address"),
        pytest.param(backend("fd00::1"), "not an IPv4 address", id="the other family"),
        pytest.param(backend("10.244.1.3; flush"), "is not an address", id="words"),
        pytest.param(SliceEndpoint(), "has no address", id="no address"),
    ],
)
def test_S7_one_bad_endpoint_does_not_stop_the_others(entry: SliceEndpoint, reason: str) -> None:
    rules = TrackRules(service_cidrs=(ip_network("10.96.0.0/16"),))
    tracked = track([service()], [endpoint_slice("10.244.1.2", entry)], rules)
    assert sockets(only(tracked)) == ["10.244.1.2:8080"]
    assert [each.subject for each in tracked.refused] == ["EndpointSlice demo/web-1 endpoint 1"]
    assert reason in tracked.refused[0].reason


def test_two_services_on_one_node_port_leave_it_to_the_first() -> None:
    specs = [
        ServiceSpec(type="NodePort", cluster_ip=ip, ports=(ServicePortSpec(port=80, node_port=30080),))
        for ip in ("10.96.0.1", "10.96.0.2")
    ]
    tracked = track([service("b", spec=specs[0]), service("a", spec=specs[1])], [])
    assert only(tracked).name.service == "a"
    assert tracked.refused == (
        Refused("Service port demo/b", "its address or port belongs to demo/a already"),
    )
