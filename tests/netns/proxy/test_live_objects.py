"""Services that change while they are there, from objects to packets, the short way, in both modes."""

import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import run
from kubenet.model.objects import (
    ClientIPConfig,
    EndpointPort,
    Service,
    ServicePortSpec,
    ServiceSpec,
    SessionAffinityConfig,
)
from proxy.apply_stale import FlowKeeper, KernelFlows
from proxy.backend import ProxyMode
from proxy.backends import open_backend
from proxy.family import FamilySync, Seen
from proxy.policy import Locality
from proxy.ports import Family, NodeNetwork
from proxy.track import TrackRules
from tests.netns.proxy.world import (
    BACKENDS,
    CLIENT,
    NODE,
    OUTSIDE,
    PATIENCE_S,
    SILENCE_S,
    World,
    ask,
    backend_ip,
)
from tests.unit.proxy.cluster import Cluster
from tests.unit.proxy.objects import backend, endpoint_slice, service

pytestmark = pytest.mark.netns

VIP = "10.96.0.1"
HTTP = ServicePortSpec(name="http", port=80, target_port=8080)


class Proxy(Cluster):
    """A cluster's objects, and the node's rules in step with them; the first sync is whole, as a daemon's."""

    def __init__(self, family: FamilySync) -> None:
        super().__init__()
        self._family = family
        self._begun = False

    def sync(self) -> int:
        """Bring the node up to date; return how many elements, chains and hooks were written."""
        result = self._family.sync(Seen(self.look(), everything=not self._begun))
        assert result.applied.observed is not self._begun, "a change went the long way"
        self._begun = True
        return result.applied.written


@pytest.fixture(params=[pytest.param(mode, id=mode.value) for mode in ProxyMode])
def start(world: World, request: pytest.FixtureRequest) -> Iterator[Callable[[NodeNetwork], Proxy]]:
    """Return what starts a proxy on the node, in one family."""
    families = []

    def begin(network: NodeNetwork) -> Proxy:
        made = open_backend(request.param, world.node, network)
        flows = FlowKeeper(KernelFlows(world.node, network.family))
        families.append(FamilySync(TrackRules(network.family), Locality("here"), made, flows))
        return Proxy(families[-1])

    yield begin
    for family in families:
        family.backend.close()


@pytest.fixture
def proxy(start: Callable[[NodeNetwork], Proxy]) -> Proxy:
    return start(NodeNetwork(4, ip_network("10.244.0.0/16")))


def web(kind: str = "ClusterIP", node_port: int = 0, **more: object) -> Service:
    ports = (ServicePortSpec(name="http", port=80, target_port=8080, node_port=node_port),)
    given = {"type": kind, "cluster_ip": VIP, "cluster_ips": (VIP,), "ports": ports, **more}
    return service(spec=ServiceSpec(**given))  # type: ignore[arg-type]  # fields by name


def refused(world: World, where: NetNs, ip: str, port: int = 80) -> bool:
    try:
        world.connect(where, ip, port, patience_s=SILENCE_S)
    except ConnectionRefusedError:
        return True
    return False


def unanswered(world: World, where: NetNs, ip: str, port: int = 80) -> bool:
    try:
        world.connect(where, ip, port, patience_s=SILENCE_S)
    except OSError:
        return True
    return False


def test_A1_row4_a_service_changes_its_type_while_it_is_there(world: World, proxy: Proxy) -> None:
    proxy.put(endpoint_slice(backend_ip(2)))
    proxy.put(web())
    proxy.sync()
    assert world.connect(world.client, VIP).backend == backend_ip(2)
    assert refused(world, world.outside, NODE, 30080)

    proxy.put(web("NodePort", 30080))
    proxy.sync()
    assert world.connect(world.outside, NODE, 30080).backend == backend_ip(2)
    proxy.put(web("NodePort", 30081))  # another number
    proxy.sync()
    assert refused(world, world.outside, NODE, 30080)
    assert world.connect(world.outside, NODE, 30081).backend == backend_ip(2)

    proxy.put(service(spec=ServiceSpec(type="ExternalName", external_name="example.org", ports=(HTTP,))))
    proxy.sync()
    assert refused(world, world.outside, NODE, 30081)
    assert unanswered(world, world.client, VIP)

    proxy.put(web())
    proxy.sync()
    assert world.connect(world.client, VIP).backend == backend_ip(2)
    assert proxy.sync() == 0


def test_A4_row41_row42_affinity_is_switched_on_and_off_at_every_door(world: World, proxy: Proxy) -> None:
    def reached(ip: str, port: int) -> set[str]:
        return {world.connect(world.client, ip, port).backend for _ in range(30)}

    timeout = SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=60))
    proxy.put(endpoint_slice(*map(backend_ip, BACKENDS)))
    for _ in range(2):
        proxy.put(web("NodePort", 30080))
        proxy.sync()
        assert len(reached(VIP, 80)) > 1
        assert len(reached(NODE, 30080)) > 1
        proxy.put(web("NodePort", 30080, session_affinity="ClientIP", session_affinity_config=timeout))
        proxy.sync()
        assert len(reached(VIP, 80)) == 1
        assert len(reached(NODE, 30080)) == 1


def test_A4_row41_udp_clients_stay_too(world: World, proxy: Proxy) -> None:
    spec = ServiceSpec(
        cluster_ip=VIP,
        cluster_ips=(VIP,),
        session_affinity="ClientIP",
        ports=(ServicePortSpec(name="dns", port=53, protocol="UDP"),),
    )
    proxy.put(service(spec=spec))
    ports = [EndpointPort(name="dns", port=8080, protocol="UDP")]
    proxy.put(endpoint_slice(*map(backend_ip, BACKENDS), ports=ports))
    proxy.sync()
    servers = world.udp_servers()
    assert len({ask(world.udp_client(world.client, VIP, 53), servers) for _ in range(12)}) == 1


def test_endpoints_in_the_nodes_own_network(world: World, proxy: Proxy) -> None:
    """The API server: on this node, or on another, reached by pods and by the node itself."""
    proxy.put(web())
    for where, ip in ((world.node, NODE), (world.outside, OUTSIDE)):
        with where.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind((ip, 6443))
            listener.listen()
            proxy.put(endpoint_slice(ip, ports=[EndpointPort(name="http", port=6443)]))
            proxy.sync()
            for source in (world.client, world.node, world.pods):
                with source.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                    client.settimeout(PATIENCE_S)
                    client.connect((VIP, 80))
                    served, seen = listener.accept()
                    with served:
                        assert source is not world.client or seen[0] == CLIENT
                        served.sendall(b"hello")
                        assert client.recv(16) == b"hello"


def test_A3_row30_row32_a_node_port_from_the_node_itself_and_by_policy_local(
    world: World, proxy: Proxy
) -> None:
    proxy.put(web("NodePort", 30080, external_traffic_policy="Local"))
    proxy.put(endpoint_slice(backend(backend_ip(2), node="far"), backend(backend_ip(3), node="here")))
    proxy.sync()
    for _ in range(6):
        reached = world.connect(world.outside, NODE, 30080)
        assert (reached.backend, reached.source) == (backend_ip(3), OUTSIDE)
    for inside in (world.node, world.client):  # the short circuit: all of the cluster
        assert {world.connect(inside, NODE, 30080).backend for _ in range(40)} == {
            backend_ip(2),
            backend_ip(3),
        }


def test_A2_row23_tcp_and_udp_come_and_go_on_one_number(world: World, proxy: Proxy) -> None:
    udp = ServicePortSpec(name="dns-udp", port=53, protocol="UDP")
    tcp = ServicePortSpec(name="dns-tcp", port=53, protocol="TCP")
    targets = [
        EndpointPort(name="dns-udp", port=8080, protocol="UDP"),
        EndpointPort(name="dns-tcp", port=8080, protocol="TCP"),
    ]
    servers = world.udp_servers()
    proxy.put(endpoint_slice(backend_ip(2), ports=targets))
    for ports in ((udp, tcp), (udp,), (tcp, udp), (tcp,)):
        proxy.put(service(cluster_ip=VIP, ports=ports))
        proxy.sync()
        by_udp = world.udp_client(world.client, VIP, 53)
        if udp in ports:
            assert ask(by_udp, servers) == backend_ip(2)
        assert unanswered(world, world.client, VIP, 53) is (tcp not in ports)


def test_A2_row14_many_ports_of_one_service(world: World, proxy: Proxy) -> None:
    specs = [ServicePortSpec(name=f"p{number}", port=7000 + number) for number in range(60)]
    targets = [EndpointPort(name=f"p{number}", port=8080) for number in range(60)]
    proxy.put(service(cluster_ip=VIP, ports=specs))
    proxy.put(endpoint_slice(backend_ip(2), ports=targets))
    proxy.sync()
    for number in (0, 31, 59):
        assert world.connect(world.client, VIP, 7000 + number).backend == backend_ip(2)


WIDE = "10.244.8.0/21"


def test_A1_row10_a_thousand_endpoints_in_a_dozen_slices_each_have_their_turn(
    world: World, proxy: Proxy
) -> None:
    """The backends' namespace takes a whole network for its own, so that each address is somebody."""
    run(["ip", "route", "add", "local", WIDE, "dev", "lo"], netns=world.pods)
    run(["ip", "route", "add", WIDE, "via", backend_ip(2)], netns=world.node)
    ips = [str(ip) for ip in list(ip_network(WIDE).hosts())[:1150]]
    proxy.put(service(cluster_ip=VIP, annotations={"kubenet.dev/balance": "round-robin"}))
    target = [EndpointPort(name="http", port=9000)]
    for number in range(0, len(ips), 100):
        proxy.put(endpoint_slice(*ips[number : number + 100], name=f"web-{number}", ports=target))
    proxy.sync()
    with world.pods.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("0.0.0.0", 9000))
        listener.listen(64)

        def taker() -> str:
            with world.client.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
                client.settimeout(PATIENCE_S)
                client.connect((VIP, 80))
                served, _ = listener.accept()
                with served:
                    return str(served.getsockname()[0])

        assert {taker() for _ in ips} == set(ips)
        proxy.put(endpoint_slice(*ips[:50], name="web-0", ports=target))  # half of a slice goes
        proxy.sync()
        left = set(ips) - set(ips[50:100])
        assert {taker() for _ in left} == left


def test_A2_row25_ipv6_beside_ipv4(world: World, start: Callable[[NodeNetwork], Proxy]) -> None:
    for where, words in (
        (world.pods, ("fd00:244:1::2/64", "eth0", "fd00:244:1::1")),
        (world.client, ("fd00:244:2::10/64", "eth0", "fd00:244:2::1")),
        (world.node, ("fd00:244:1::1/64", "pod1", "fd00:244:1::2")),
        (world.node, ("fd00:244:2::1/64", "pod2", "")),
    ):
        address, ifname, gateway = words
        run(["ip", "-6", "address", "add", address, "dev", ifname, "nodad"], netns=where)
        if gateway:
            run(["ip", "-6", "route", "add", "default", "via", gateway], netns=where)
    run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"], netns=world.node)
    families: tuple[Family, ...] = (4, 6)
    pods = {4: ip_network("10.244.0.0/16"), 6: ip_network("fd00:244::/32")}
    both = [start(NodeNetwork(family, pods[family])) for family in families]
    vips = (VIP, "fd00:96::1")
    made = replace_spec(web("NodePort", 30080), vips)
    for proxy in both:
        proxy.put(made)
        proxy.put(endpoint_slice(backend_ip(2)))
        proxy.put(endpoint_slice("fd00:244:1::2", name="web-v6", address_type="IPv6"))
        proxy.sync()
    assert world.connect(world.client, VIP).backend == backend_ip(2)
    with world.pods.socket(socket.AF_INET6, socket.SOCK_STREAM) as listener:
        listener.bind(("fd00:244:1::2", 8080))
        listener.listen()
        ways = [
            (world.client, vips[1], 80, "fd00:244:2::10"),
            (world.client, "fd00:244:2::1", 30080, "fd00:244:1::1"),  # a node port: as the node
            (world.node, vips[1], 80, "fd00:244:1::1"),
        ]
        for source, ip, port, as_whom in ways:
            with source.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
                client.settimeout(PATIENCE_S)
                client.connect((ip, port))
                served, seen = listener.accept()
                served.close()
                assert seen[0] == as_whom
    both[1].put(endpoint_slice(name="web-v6", address_type="IPv6"))
    both[1].sync()
    with world.client.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE_S)
        with pytest.raises(ConnectionRefusedError):
            client.connect((vips[1], 80))
    assert world.connect(world.client, VIP).backend == backend_ip(2)


def replace_spec(made: Service, vips: tuple[str, ...]) -> Service:
    spec = made.spec
    again = ServiceSpec(type=spec.type, cluster_ip=vips[0], cluster_ips=vips, ports=spec.ports)
    return service(spec=again)


def test_A5_row48_row50_row51_udp_follows_every_change_of_who_serves(world: World, proxy: Proxy) -> None:
    """One client, one socket, one flow: from one endpoint to another, to nobody, and to the first again."""
    dns = [EndpointPort(name="dns", port=8080, protocol="UDP")]
    proxy.put(service(ports=[ServicePortSpec(name="dns", port=53, protocol="UDP")]))
    proxy.put(service("other", "10.96.0.2"))
    servers = world.udp_servers()
    client = world.udp_client(world.client, VIP, 53)
    for lasts in ((2,), (3,), (), (2,), (2, 4), (4,)):
        proxy.put(endpoint_slice(*map(backend_ip, lasts), ports=dns))
        proxy.sync()
        if lasts:
            assert ask(client, servers) in map(backend_ip, lasts)
        else:
            client.send(b"who?")
            with pytest.raises(ConnectionRefusedError):
                client.recv(64)
