"""From objects of the API to packets, on both backends: rows of A1 to A5 that speak of what packets do."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network

import msgspec
import pytest

from kubenet.kernel.nft import Nftables
from kubenet.kernel.run import run
from kubenet.model.objects import (
    EndpointPort,
    EndpointSlice,
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePortSpec,
    ServiceSpec,
    ServiceStatus,
)
from proxy.apply_iptables import IptablesBackend, KernelIptables
from proxy.apply_nft import NftBackend
from proxy.apply_stale import FlowKeeper, KernelFlows
from proxy.backend import Backend, ProxyMode
from proxy.externals import ExternalRules
from proxy.nft_names import TABLE
from proxy.policy import Locality, ServingPort, serve
from proxy.ports import NodeNetwork
from proxy.track import HEADLESS_LABEL, PROXY_NAME_LABEL, TrackRules, track
from tests.netns.proxy.world import NODE, OUTSIDE, SILENCE_S, World, ask, backend_ip
from tests.unit.proxy.keeping import Keeping
from tests.unit.proxy.objects import HTTP, backend, endpoint_slice, service

pytestmark = pytest.mark.netns

VIP = "10.96.0.1"
EXTERNAL = "203.0.113.1"
HERE = Locality("here", "zone-a")
NETWORK = NodeNetwork(4, ip_network("10.244.0.0/16"), node_ip=ip_address(NODE))
RULES = TrackRules(externals=ExternalRules((ip_network("203.0.113.0/24"),)))
Apply = Callable[..., tuple[ServingPort, ...]]


@pytest.fixture(params=list(ProxyMode), ids=lambda mode: str(mode.value))
def made(request: pytest.FixtureRequest, world: World) -> Iterator[Backend]:
    if request.param is ProxyMode.IPTABLES:
        yield IptablesBackend(KernelIptables(world.node, 4), NETWORK)
        return
    nft = NftBackend(Nftables(world.node, 4, TABLE), NETWORK)
    yield nft
    nft.close()


@pytest.fixture
def apply(made: Backend) -> Apply:
    """Program the node with objects as an API server has them."""

    def program(services: Sequence[Service], slices: Sequence[EndpointSlice]) -> tuple[ServingPort, ...]:
        serving = serve(track(services, slices, RULES).service_ports, HERE)
        made.apply(serving)
        return serving

    return program


def reached(world: World, times: int = 12, ip: str = VIP) -> set[int]:
    """Return the last numbers of the backends that answer."""
    return {int(world.connect(world.client, ip).backend.rpartition(".")[2]) for _ in range(times)}


def nobody(world: World, ip: str = VIP) -> bool:
    """Whether no rule leads anywhere: the packet goes to the default route and nobody answers."""
    try:
        world.connect(world.client, ip, patience_s=SILENCE_S)
    except OSError:
        return True
    return False


def labelled(thing: Service, labels: Mapping[str, str]) -> Service:
    return msgspec.structs.replace(
        thing, metadata=msgspec.structs.replace(thing.metadata, labels=dict(labels))
    )


@pytest.mark.parametrize("label", [PROXY_NAME_LABEL, HEADLESS_LABEL])
def test_A1_row1_row2_a_label_takes_a_service_away_and_gives_it_back(
    world: World, apply: Apply, label: str
) -> None:
    piece = endpoint_slice(backend_ip(2))
    apply([service()], [piece])
    assert reached(world, 1) == {2}
    apply([labelled(service(), {label: ""})], [piece])
    assert nobody(world)
    apply([service()], [piece])
    assert reached(world, 1) == {2}


def test_A1_row3_row4_a_change_of_type_adds_and_removes_the_rules(world: World, apply: Apply) -> None:
    piece = endpoint_slice(backend_ip(2))
    apply([service()], [piece])
    assert reached(world, 1) == {2}
    external = ServiceSpec(type="ExternalName", cluster_ip=VIP, cluster_ips=(VIP,), ports=(HTTP,))
    apply([service(spec=external)], [piece])
    assert nobody(world)
    apply([service(cluster_ip="None")], [piece])
    assert nobody(world)
    node_port = ServicePortSpec(name="http", port=80, target_port=8080, node_port=30080)
    spec = ServiceSpec(type="NodePort", cluster_ip=VIP, cluster_ips=(VIP,), ports=(node_port,))
    apply([service(spec=spec)], [piece])
    assert world.connect(world.outside, NODE, 30080).backend == backend_ip(2)


def test_A1_row7_row8_row9_row12_conditions_and_duplicates(world: World, apply: Apply) -> None:
    first = endpoint_slice(
        backend(backend_ip(2)),
        backend(backend_ip(3), ready=False),
        backend(backend_ip(4), ready=False, serving=True, terminating=True),
        backend(backend_ip(5), ready=False, serving=True, terminating=True),
        name="web-1",
    )
    second = endpoint_slice(backend(backend_ip(5), ready=True), name="web-2")  # the same, and it stays
    apply([service()], [first, second])
    assert reached(world, 30) == {2, 5}


def test_A1_row10_row11_one_named_port_leads_to_different_ports(world: World, apply: Apply) -> None:
    with world.pods.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((backend_ip(3), 9090))
        listener.listen(64)
        listener.setblocking(False)
        nine = endpoint_slice(backend_ip(3), name="web-2", ports=[EndpointPort(name="http", port=9090)])
        serving = apply([service()], [endpoint_slice(backend_ip(2)), nine])
        assert [each.socket[1] for each in serving[0].cluster] == [8080, 9090]
        for _ in range(40):
            with world.client.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                client.settimeout(5)
                client.connect((VIP, 80))
        arrived = 0
        with suppress(BlockingIOError):
            while True:
                listener.accept()[0].close()
                arrived += 1
        assert 0 < arrived < 40


def test_A2_row20_row21_external_and_balanced_addresses(world: World, apply: Apply) -> None:
    ingress = (
        LoadBalancerIngress(ip="203.0.113.2"),
        LoadBalancerIngress(ip="203.0.113.3", ip_mode="Proxy"),
        LoadBalancerIngress(ip="2001:db8::1"),
    )
    spec = ServiceSpec(
        type="LoadBalancer", cluster_ip=VIP, cluster_ips=(VIP,), ports=(HTTP,), external_ips=(EXTERNAL,)
    )
    status = ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress))
    web = msgspec.structs.replace(service(spec=spec), status=status)
    apply([web], [endpoint_slice(backend_ip(2))])
    assert world.connect(world.outside, EXTERNAL, 80).backend == backend_ip(2)
    assert world.connect(world.outside, "203.0.113.2", 80).backend == backend_ip(2)
    assert nobody(world, "203.0.113.3")  # the balancer wants to see the packets itself


def test_A3_row34_endpoints_that_end_serve_when_there_are_no_others(world: World, apply: Apply) -> None:
    ending = backend(backend_ip(3), ready=False, serving=True, terminating=True, node="here")
    local = ServiceSpec(
        type="NodePort",
        cluster_ip=VIP,
        cluster_ips=(VIP,),
        external_traffic_policy="Local",
        ports=(ServicePortSpec(name="http", port=80, target_port=8080, node_port=30080),),
    )
    apply([service(spec=local)], [endpoint_slice(backend(backend_ip(2), node="far"), ending)])
    assert reached(world) == {2}  # the cluster has a ready one
    assert world.connect(world.outside, NODE, 30080).backend == backend_ip(3)  # this node has not
    apply([service(spec=local)], [endpoint_slice(ending)])
    assert reached(world) == {3}


def test_A3_row35_row36_row37_hints_keep_traffic_near(world: World, apply: Apply) -> None:
    near = backend(backend_ip(2), zones=["zone-a"])
    far = backend(backend_ip(3), zones=["zone-b"])
    apply([service()], [endpoint_slice(near, far)])
    assert reached(world) == {2}
    apply([service()], [endpoint_slice(near, backend(backend_ip(3)))])  # one without: no hints
    assert reached(world, 30) == {2, 3}
    on_node = backend(backend_ip(4), zones=["zone-b"], nodes=["here"])
    other = backend(backend_ip(2), zones=["zone-a"], nodes=["there"])
    apply([service()], [endpoint_slice(on_node, other)])
    assert reached(world) == {4}  # the node beats the zone


def test_A5_row49_row52_flows_are_left_alone_by_policy_termination_and_a_restart(
    world: World, apply: Apply
) -> None:
    servers = world.udp_servers()
    dns = service(ports=[ServicePortSpec(name="dns", port=53, protocol="UDP")])
    ports = [EndpointPort(name="dns", port=8080, protocol="UDP")]

    def say(*endpoints: object, spec: ServiceSpec | None = None) -> tuple[ServingPort, ...]:
        piece = endpoint_slice(*endpoints, ports=ports)  # type: ignore[arg-type]
        changed = msgspec.structs.replace(dns, spec=spec) if spec else dns
        return apply([changed], [piece])

    keeper = Keeping(FlowKeeper(KernelFlows(world.node, 4)))
    keeper.forget(say(backend(backend_ip(2), node="far")))
    client = world.udp_client(world.client, VIP, 53)
    assert ask(client, servers) == backend_ip(2)
    ending = backend(backend_ip(2), ready=False, serving=True, terminating=True, node="far")
    assert keeper.forget(say(ending, backend(backend_ip(3), node="here"))) == 0
    assert ask(client, servers) == backend_ip(2)
    local = msgspec.structs.replace(dns.spec, internal_traffic_policy="Local")
    serving = say(ending, backend(backend_ip(3), node="here"), spec=local)
    assert keeper.forget(serving) == 0
    assert Keeping(FlowKeeper(KernelFlows(world.node, 4))).forget(serving) == 0  # a proxy that starts anew
    assert ask(client, servers) == backend_ip(2)


def test_A4_row45_row46_marked_traffic_passes_a_firewall_that_forwards_nothing(world: World) -> None:
    """Only iptables has a verdict that ends the matter: nftables cannot overrule another table's drop."""
    node_port = ServicePortSpec(name="http", port=80, target_port=8080, node_port=30080)
    spec = ServiceSpec(type="NodePort", cluster_ip=VIP, cluster_ips=(VIP,), ports=(node_port,))
    found = track([service(spec=spec)], [endpoint_slice(backend_ip(2))], RULES)
    for bit in (14, 20):
        network = replace(NETWORK, masquerade_mark=1 << bit)
        IptablesBackend(KernelIptables(world.node, 4), network).apply(serve(found.service_ports, HERE))
        run(["iptables", "-P", "FORWARD", "DROP"], netns=world.node)
        done = world.connect(world.outside, NODE, 30080)
        assert done.source not in (OUTSIDE, "")  # masqueraded
        run(["iptables", "-P", "FORWARD", "ACCEPT"], netns=world.node)
        saved = KernelIptables(world.node, 4).save("nat")
        assert f"-A KUBE-MARK-MASQ -j MARK --set-xmark {1 << bit:#x}/{1 << bit:#x}" in saved
        assert f"-A KUBE-POSTROUTING -j MARK --set-xmark {1 << bit:#x}/0x0" in saved  # flipped off again
        assert "-j MASQUERADE --random-fully" in saved


def test_A7_row75_chains_of_nftables_can_be_read(world: World) -> None:
    web = labelled(service("web"), {})
    turns = msgspec.structs.replace(
        web,
        metadata=msgspec.structs.replace(
            web.metadata, name="n" * 63, annotations={"kubenet.dev/balance": "round-robin"}
        ),
        spec=msgspec.structs.replace(web.spec, cluster_ip="10.96.0.2", cluster_ips=("10.96.0.2",)),
    )
    nft = NftBackend(Nftables(world.node, 4, TABLE), NETWORK)
    pieces = [endpoint_slice(backend_ip(2)), endpoint_slice(backend_ip(3), name="n-1", of="n" * 63)]
    nft.apply(serve(track([web, turns], pieces, RULES).service_ports, HERE))
    listed = run(["nft", "list", "chains", "ip"], netns=world.node).stdout.decode()
    nft.close()
    names = [line.split()[1] for line in listed.splitlines() if line.strip().startswith("chain ")]
    assert "pick-vip-cluster-1" in names  # what it does, for all services that want the same
    assert any(name.startswith("turns-") and f"demo/{'n' * 63}/tcp/http" in name for name in names)
    assert max(map(len, names)) <= 255
