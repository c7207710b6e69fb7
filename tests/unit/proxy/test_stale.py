"""UDP flows to forget: rows 48 to 52 of the proxy's table."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from kubenet.errors import KubenetError
from kubenet.model.protocol import Protocol
from proxy.apply_stale import FlowKeeper
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import Endpoint, IPAddress, ServicePort, ServicePortName, TrafficPolicy
from proxy.stale import Flow, UdpFrontends, stale_flows, udp_frontends
from tests.unit.proxy.keeping import Keeping

VIP = ip_address("10.96.0.10")
NODE = ip_address("172.30.0.1")
PUBLIC = ip_address("203.0.113.7")
A, B = ip_address("10.244.1.2"), ip_address("10.244.1.3")


def dns(
    *endpoints: Endpoint, protocol: Protocol = Protocol.UDP, node_port: int = 0, external: bool = False
) -> Sequence[ServingPort]:
    name = ServicePortName("kube-system", "kube-dns", "dns", protocol)
    policy = TrafficPolicy.LOCAL if node_port else TrafficPolicy.CLUSTER
    port = ServicePort(name, VIP, 53, node_port, policy, endpoints=endpoints)
    if external:
        port = replace(port, external_ips=(PUBLIC,))
    return serve([port], Locality("here"))


TO_A = Flow(VIP, 53, A, 5300)
UNTRANSLATED = Flow(VIP, 53, VIP, 53)


@pytest.mark.parametrize(
    ("flow", "serving", "stale"),
    [
        pytest.param(TO_A, dns(Endpoint(A, 5300)), False, id="row 52: its endpoint serves on"),
        pytest.param(TO_A, dns(Endpoint(B, 5300)), True, id="row 48: its endpoint is gone"),
        pytest.param(TO_A, dns(Endpoint(A, 5301)), True, id="row 48: its endpoint has another port now"),
        pytest.param(
            TO_A, dns(Endpoint(A, 5300, ready=False, serving=False)), True, id="row 48: it no longer serves"
        ),
        pytest.param(
            TO_A,
            dns(Endpoint(A, 5300, ready=False, terminating=True)),
            False,
            id="row 49: serves, terminating",
        ),
        pytest.param(
            TO_A,
            dns(Endpoint(A, 5300, node_name="far"), node_port=30053),
            False,
            id="row 49: not local, policy Local",
        ),
        pytest.param(TO_A, dns(), True, id="row 50: nobody serves any more"),
        pytest.param(UNTRANSLATED, dns(Endpoint(A, 5300)), True, id="row 51: begun before anybody served"),
        pytest.param(UNTRANSLATED, dns(), False, id="row 51: still nobody serves"),
        pytest.param(TO_A, dns(Endpoint(B, 5300), protocol=Protocol.TCP), False, id="row 54: a TCP service"),
        pytest.param(Flow(VIP, 54, A, 5300), dns(Endpoint(B, 5300)), False, id="another port"),
        pytest.param(Flow(B, 53, B, 53), dns(Endpoint(A, 5300)), False, id="no service at all"),
        pytest.param(
            Flow(NODE, 30053, A, 5300),
            dns(Endpoint(B, 5300), node_port=30053),
            True,
            id="row 48: by node port",
        ),
        pytest.param(
            Flow(NODE, 30053, NODE, 30053),
            dns(Endpoint(A, 5300), node_port=30053),
            True,
            id="row 51: by node port",
        ),
        pytest.param(
            Flow(B, 30053, B, 30053),
            dns(Endpoint(A, 5300), node_port=30053),
            False,
            id="that port of another host",
        ),
    ],
)
def test_A5_row48_to_row54_which_flows_are_stale(
    flow: Flow, serving: Sequence[ServingPort], stale: bool
) -> None:
    assert stale_flows([flow], udp_frontends(serving), node_ips=[NODE]) == ({flow} if stale else frozenset())


@pytest.mark.parametrize(
    ("flow", "stale"),
    [
        pytest.param(TO_A, True, id="by its cluster address"),
        pytest.param(Flow(NODE, 30053, A, 5300), True, id="by its node port"),
        pytest.param(Flow(PUBLIC, 53, A, 5300), True, id="by its external address"),
        pytest.param(UNTRANSLATED, False, id="that goes where it was sent"),
        pytest.param(Flow(B, 30053, A, 5300), False, id="by that port of another host"),
    ],
)
def test_A5_row50_a_flow_to_a_service_that_is_gone_altogether(flow: Flow, stale: bool) -> None:
    before = udp_frontends(dns(Endpoint(A, 5300), node_port=30053, external=True))
    assert stale_flows([flow], UdpFrontends(), before, [NODE]) == ({flow} if stale else frozenset())
    assert stale_flows([flow], UdpFrontends(), UdpFrontends(), [NODE]) == frozenset()


def test_A5_row48_flows_by_an_external_address_follow_too() -> None:
    flow = Flow(PUBLIC, 53, A, 5300)
    assert stale_flows([flow], udp_frontends(dns(Endpoint(B, 5300), external=True))) == {flow}
    assert stale_flows([flow], udp_frontends(dns(Endpoint(A, 5300), external=True))) == frozenset()


class FakeFlows:
    """A table of flows that counts how often it is read."""

    def __init__(self, *flows: Flow) -> None:
        self.flows = {flow: [repr(flow).encode()] for flow in flows}
        self.read = 0
        self.broken = False

    def udp(self) -> Mapping[Flow, Sequence[bytes]]:
        self.read += 1
        return dict(self.flows)

    def forget(self, entries: Sequence[bytes]) -> None:
        if self.broken:
            raise KubenetError("the kernel said no")
        self.flows = {flow: held for flow, held in self.flows.items() if held[0] not in entries}

    def node_ips(self) -> Collection[IPAddress]:
        return [NODE]


def test_A5_row49_flows_are_looked_for_only_when_who_serves_has_changed() -> None:
    table = FakeFlows(TO_A)
    keeper = Keeping(FlowKeeper(table))
    assert keeper.forget(dns(Endpoint(A, 5300))) == 0  # row 52: a start looks, and cuts nothing
    assert keeper.forget(dns(Endpoint(A, 5300, terminating=True))) == 0
    assert keeper.forget(dns(Endpoint(A, 5300), node_port=0)) == 0
    assert table.read == 1
    assert keeper.forget(dns(Endpoint(B, 5300))) == 1
    assert table.flows == {}
    keeper.forget(dns(Endpoint(B, 5300), protocol=Protocol.TCP))
    assert table.read == 3  # what was UDP has gone
    keeper.forget(dns(Endpoint(B, 5300), protocol=Protocol.TCP))
    assert table.read == 3


def test_A5_row48_one_more_endpoint_is_no_reason_to_read_the_table() -> None:
    """That would be a hundred thousand flows for each pod that a roll-out starts."""
    table = FakeFlows(TO_A)
    keeper = Keeping(FlowKeeper(table))
    keeper.forget(dns(Endpoint(A, 5300)))
    keeper.forget(dns(Endpoint(A, 5300), Endpoint(B, 5300)))
    assert table.read == 1
    keeper.forget(dns())
    keeper.forget(dns(Endpoint(A, 5300)))  # row 51: the first one is
    assert table.read == 3


def test_A5_row50_a_deleted_service_takes_its_flows_along() -> None:
    other = Flow(ip_address("10.96.0.99"), 53, B, 5300)
    table = FakeFlows(TO_A, Flow(NODE, 30053, A, 5300), other)
    gone: list[int] = []
    keeper = Keeping(FlowKeeper(table, lambda entries, _: gone.append(entries)))
    keeper.forget(dns(Endpoint(A, 5300), node_port=30053))
    assert keeper.forget(()) == 2
    assert list(table.flows) == [other]
    assert gone == [0, 2]


def test_a_kernel_that_refuses_is_asked_again() -> None:
    table = FakeFlows(TO_A)
    table.broken = True
    keeper = Keeping(FlowKeeper(table))
    with pytest.raises(KubenetError):
        keeper.forget(dns(Endpoint(B, 5300)))
    table.broken = False
    assert keeper.forget(dns(Endpoint(B, 5300))) == 1
    keeper.forget(dns(Endpoint(B, 5300)))
    assert table.read == 2
