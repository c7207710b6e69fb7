"""What the conformance suite's [sig-network] cases ask of Services, on nodes as an installation makes them.

One node's proxy writes iptables rules, the other's nftables rules; most questions are asked from both nodes
and from a pod on each. Each test is named after the case of the suite that it plays.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from kubenet.kernel.netns import NetNs
from labs.topology import API_SERVER
from tests.e2e.netexec import Place, Seen, told
from tests.e2e.real_nodes import CLUSTER_IP, NAMESPACE, Cluster, Node, Pod, running_cluster, until

pytestmark = pytest.mark.e2e

HTTP = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 80}
UDP = {"name": "udp", "port": 90, "protocol": "UDP", "targetPort": 81}
SLICE = (("http", "TCP", 80), ("udp", "UDP", 81))
AFFINITY_S = 1
SOON_S = 0.5  # a question that came before the rules is asked anew
_numbers = count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(("iptables", "nftables")) as made:
        for number, node in enumerate(made.nodes, 1):
            made.add_pod(f"netserver-{number}", node)
            made.add_pod(f"client-{number}", node)
        yield made


@pytest.fixture
def servers(cluster: Cluster) -> list[Pod]:
    return [cluster.pods["netserver-1"], cluster.pods["netserver-2"]]


@pytest.fixture
def clients(cluster: Cluster) -> list[Place]:
    """A pod on each node, and each node itself as a pod of the host's network is."""
    return [cluster.pods["client-1"], cluster.pods["client-2"], *cluster.nodes]


@pytest.fixture
def name() -> str:
    return f"test-{next(_numbers)}"


def serves(client: Place, address: str, port: int, want: set[str], protocol: str = "TCP") -> None:
    """Wait until just these servers answer, each of them."""
    got: list[object] = []

    def as_wanted() -> bool:
        seen: set[str] = set()
        for _ in range(60):
            seen.add(client.ask(address, port, protocol, within_s=SOON_S).name)
            if seen == want and len(want) > 1:
                break
            if not seen <= want or (len(want) == 1 and _ > 8):
                break
        got[:] = [seen]
        return seen == want

    until(as_wanted, lambda: (client.name, address, port, protocol, got, want))


def test_granular_checks_intra_pod_and_node_pod_communication(clients: list[Place], cluster: Cluster) -> None:
    for client in clients:
        for server in ("netserver-1", "netserver-2", "client-1"):
            to = cluster.pods[server]
            for protocol, port in (("TCP", 80), ("UDP", 81)):
                seen = client.ask(to.ip, port, protocol)
                assert seen.name == server
                if isinstance(client, Pod):
                    assert seen.client == client.ip


def test_should_serve_a_basic_endpoint_from_pods(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    address = cluster.service(name, HTTP)["clusterIP"]
    until(lambda: all(client.refused(address, 80) for client in clients))
    for pods in (servers[:1], servers, servers[1:]):
        cluster.endpoints(name, pods, ("http", "TCP", 80))
        for client in clients:
            serves(client, address, 80, {pod.name for pod in pods})
    cluster.endpoints(name, [], ("http", "TCP", 80))
    until(lambda: all(client.refused(address, 80) for client in clients))


def test_should_serve_multiport_endpoints_and_the_same_port_of_different_protocols(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    first = {"name": "tcp-port", "port": 3333, "protocol": "TCP", "targetPort": 80}
    second = {"name": "udp-port", "port": 3333, "protocol": "UDP", "targetPort": 81}
    other = {"name": "other", "port": 3334, "protocol": "TCP", "targetPort": 81}
    address = cluster.service(name, first, second, other)["clusterIP"]
    ports = (("tcp-port", "TCP", 80), ("other", "TCP", 81))
    cluster.endpoints(name, servers[:1], *ports)
    cluster.endpoints(name, servers[1:], ("udp-port", "UDP", 81), slice_name=f"{name}-b")
    for client in clients:
        serves(client, address, 3333, {"netserver-1"})
        serves(client, address, 3334, {"netserver-1"})
        serves(client, address, 3333, {"netserver-2"}, "UDP")
    cluster.change(name, ports=[first])
    for client in clients:
        until(lambda: not client.answered(address, 3333, "UDP"))  # noqa: B023
        assert client.answered(address, 3333)
    cluster.change(name, ports=[second])
    for client in clients:
        until(lambda: not client.answered(address, 3333))  # noqa: B023
        serves(client, address, 3333, {"netserver-2"}, "UDP")


def test_granular_checks_services_cluster_ip_and_node_port(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    spec = cluster.service(name, HTTP, UDP, type="NodePort")
    cluster.endpoints(name, servers, *SLICE)
    both = {pod.name for pod in servers}
    for number, protocol in enumerate(("TCP", "UDP")):
        port = spec["ports"][number]
        for client in [*clients, *servers]:  # the servers too: endpoint-service, and hairpin
            serves(client, spec["clusterIP"], port["port"], both, protocol)
            for node in cluster.nodes:
                serves(client, node.ip, port["nodePort"], both, protocol)


def test_should_change_the_type_of_a_live_service(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    url = f"/api/v1/namespaces/{NAMESPACE}/services/{name}"
    cluster.service(name, type="ExternalName", externalName="example.com")
    address = cluster.change(name, type="ClusterIP", externalName=None, ports=[HTTP])["clusterIP"]
    cluster.endpoints(name, servers, *SLICE)
    for client in clients:
        serves(client, address, 80, {"netserver-1", "netserver-2"})
    node_port = cluster.change(name, type="NodePort", ports=[HTTP])["ports"][0]["nodePort"]
    for client in clients:
        for node in cluster.nodes:
            serves(client, node.ip, node_port, {"netserver-1", "netserver-2"})
    udp = {"name": "udp", "port": 80, "protocol": "UDP", "targetPort": 81}
    node_ports = cluster.change(name, ports=[HTTP, udp])["ports"]
    serves(clients[0], cluster.nodes[1].ip, node_ports[1]["nodePort"], {"netserver-1", "netserver-2"}, "UDP")
    gone = {"type": "ExternalName", "externalName": "example.com", "clusterIP": "", "clusterIPs": None}
    cluster.change(name, **gone)
    for node in cluster.nodes:
        until(lambda: clients[1].refused(node.ip, node_ports[0]["nodePort"]))  # noqa: B023
    cluster.api.delete(url)


AFFINITY: dict[str, Any] = {
    "sessionAffinity": "ClientIP",
    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": AFFINITY_S}},
}
NO_AFFINITY: dict[str, Any] = {"sessionAffinity": "None", "sessionAffinityConfig": None}


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_should_have_session_affinity_and_switch_it(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str, kind: str
) -> None:
    long: dict[str, Any] = {**AFFINITY, "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    spec = cluster.service(name, HTTP, type=kind, **long)
    cluster.endpoints(name, servers, *SLICE)
    both = {"netserver-1", "netserver-2"}
    port = spec["ports"][0].get("nodePort", 80)
    addresses = [spec["clusterIP"]] if kind == "ClusterIP" else [node.ip for node in cluster.nodes]
    for client in clients:
        for address in addresses:
            until(lambda: len(client.names(address, port)) == 1)  # noqa: B023
            assert len(client.names(address, port)) == 1
    cluster.change(name, **NO_AFFINITY)
    for client in clients:
        for address in addresses:
            serves(client, address, port, both)
    cluster.change(name, **long)
    for client in clients:
        for address in addresses:
            until(lambda: len(client.names(address, port)) == 1)  # noqa: B023


def test_should_have_a_session_affinity_timeout(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    address = cluster.service(name, HTTP, **AFFINITY)["clusterIP"]
    cluster.endpoints(name, servers, *SLICE)
    for client in clients[:2]:
        until(lambda: len(client.names(address, 80)) == 1)  # noqa: B023
    first = {client.name: client.names(address, 80) for client in clients[:2]}
    changed: set[str] = set()
    for _ in range(6):
        time.sleep(AFFINITY_S + 0.2)
        changed |= {
            client.name for client in clients[:2] if client.names(address, 80, times=1) != first[client.name]
        }
        if len(changed) == 2:
            return
    pytest.fail(f"only {changed} got another server")


def test_should_hairpin_and_preserve_the_source_address(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    address = cluster.service(name, HTTP, UDP)["clusterIP"]
    for server in servers:
        cluster.endpoints(name, [server], *SLICE)
        for client in [*clients[:2], *servers]:
            for port, protocol in ((80, "TCP"), (90, "UDP")):
                serves(client, address, port, {server.name}, protocol)
                seen = client.ask(address, port, protocol)
                assert client is server or seen.client == client.ip, (client.name, seen)


def test_should_be_rejected_when_no_endpoints_exist(
    cluster: Cluster, clients: list[Place], name: str
) -> None:
    spec = cluster.service(name, HTTP, UDP, type="NodePort")
    for port, protocol in ((0, "TCP"), (1, "UDP")):
        for client in clients:
            until(lambda: client.refused(spec["clusterIP"], spec["ports"][port]["port"], protocol))  # noqa: B023
            for node in cluster.nodes:
                began = time.monotonic()
                until(lambda: client.refused(node.ip, spec["ports"][port]["nodePort"], protocol))  # noqa: B023
                assert time.monotonic() - began < 3  # the suite's clients wait as long


def test_should_serve_slices_made_by_hand_with_multiple_ports_and_ips(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    ports = [{"name": f"port{n}", "port": 80 + n, "protocol": "TCP"} for n in range(2)]
    address = cluster.service(name, *ports)["clusterIP"]
    cluster.endpoints(name, servers, ("port0", "TCP", 80), ("port1", "TCP", 81))
    for client in clients:
        serves(client, address, 80, {"netserver-1", "netserver-2"})
        serves(client, address, 81, {"netserver-1", "netserver-2"})
    cluster.endpoints(name, servers[:1], ("port0", "TCP", 80))
    cluster.endpoints(name, servers[1:], ("port1", "TCP", 81), slice_name=f"{name}-2")
    cluster.endpoints(name, servers[1:], ("port0", "TCP", 81), slice_name=f"{name}-3")
    for client in clients:
        serves(client, address, 80, {"netserver-1", "netserver-2"})
        serves(client, address, 81, {"netserver-2"})


@pytest.mark.parametrize(
    "label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"]
)
def test_should_implement_labels_that_say_hands_off(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str, label: str
) -> None:
    url = f"/api/v1/namespaces/{NAMESPACE}/services/{name}"
    if label.endswith("headless"):  # the label is copied to slices by the controller
        spec = cluster.service(name, HTTP, labels={label: ""})
    else:
        spec = cluster.service(name, HTTP, labels={label: "foo-bar"})
    cluster.endpoints(name, servers, *SLICE)
    cluster.service(f"{name}-up", HTTP)
    cluster.endpoints(f"{name}-up", servers, *SLICE)
    up = cluster.api.request("GET", f"{url}-up")["spec"]["clusterIP"]
    for client in clients:
        serves(client, up, 80, {"netserver-1", "netserver-2"})  # the proxies know all by now
        assert not client.answered(spec["clusterIP"], 80)
    if label.endswith("name"):
        cluster.api.merge(url, {"metadata": {"labels": {label: None}}})
        serves(clients[0], spec["clusterIP"], 80, {"netserver-1", "netserver-2"})
        cluster.api.merge(url, {"metadata": {"labels": {label: "foo-bar"}}})
        until(lambda: not clients[0].answered(spec["clusterIP"], 80))


def test_HostPort_no_conflict_between_host_ips_and_protocols(cluster: Cluster, clients: list[Place]) -> None:
    node = cluster.nodes[1]
    asked = {"h1": ("127.0.0.1", "TCP"), "h2": (node.ip, "TCP"), "h3": (node.ip, "UDP")}
    for each, (host_ip, protocol) in asked.items():
        container_port = 80 if protocol == "TCP" else 81
        mapping = {
            "hostPort": 54323,
            "containerPort": container_port,
            "protocol": protocol.lower(),
            "hostIP": host_ip,
        }
        cluster.add_pod(each, node, portMappings=[mapping])
    assert node.ask("127.0.0.1", 54323).name == "h1"
    for client in clients:
        assert client.ask(node.ip, 54323).name == "h2"
        assert client.ask(node.ip, 54323, "UDP").name == "h3"
    assert cluster.pods["h2"].ask(node.ip, 54323).name == "h2"
    for each in asked:
        cluster.remove_pod(each)
    assert not node.answered("127.0.0.1", 54323)
    assert not node.answered(node.ip, 54323, "UDP")


def test_should_fall_back_to_terminating_endpoints_and_respect_local_policies(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    spec = cluster.service(
        name, HTTP, type="NodePort", externalTrafficPolicy="Local", internalTrafficPolicy="Local"
    )
    address, port = spec["clusterIP"], spec["ports"][0]["nodePort"]
    cluster.endpoints(name, servers[:1], *SLICE)
    first, second = cluster.nodes
    for client in (clients[0], first):
        serves(client, address, 80, {"netserver-1"})
        serves(client, first.ip, port, {"netserver-1"})
    for client in (clients[1], second):
        until(lambda: not client.answered(address, 80))  # noqa: B023
        serves(client, first.ip, port, {"netserver-1"})
    seen = second.ask(first.ip, port)
    assert seen == Seen("netserver-1", second.ip)  # from outside, the address is kept
    cluster.change(name, externalTrafficPolicy="Cluster", internalTrafficPolicy="Cluster")
    cluster.endpoints(name, servers[:1], *SLICE, ready=False, terminating=True)
    for client in clients:
        serves(client, address, 80, {"netserver-1"})
        for node in cluster.nodes:
            serves(client, node.ip, port, {"netserver-1"})


def test_should_create_endpoints_for_unready_pods_and_update_after_ports_change(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    address = cluster.service(name, HTTP, publishNotReadyAddresses=True)["clusterIP"]
    cluster.endpoints(name, servers[:1], *SLICE, serving=False)  # the controller calls them ready
    serves(clients[0], address, 80, {"netserver-1"})
    cluster.change(name, ports=[{**HTTP, "port": 8080}])
    for client in clients:
        serves(client, address, 8080, {"netserver-1"})
        until(lambda: not client.answered(address, 80))  # noqa: B023
    cluster.api.delete(f"/api/v1/namespaces/{NAMESPACE}/services/{name}")
    for client in clients:
        until(lambda: not client.answered(address, 8080))  # noqa: B023
    cluster.service(name, HTTP, clusterIP=address)  # recreated
    serves(clients[1], address, 80, {"netserver-1"})


def test_endpoints_of_the_hosts_network(cluster: Cluster, clients: list[Place], name: str) -> None:
    """Pods with hostNetwork serve too, to pods and nodes, their own and others."""
    spec = cluster.service(name, {**HTTP, "targetPort": 8085}, UDP, type="NodePort")
    opened = [
        cluster.servers.start(node.netns, node.name, (("TCP", 8085), ("UDP", 81))) for node in cluster.nodes
    ]
    for server in cluster.nodes:
        cluster.endpoints(name, [server], ("http", "TCP", 8085), ("udp", "UDP", 81))
        for client in clients:
            for number, protocol in enumerate(("TCP", "UDP")):
                port = spec["ports"][number]
                serves(client, spec["clusterIP"], port["port"], {server.name}, protocol)
                for node in cluster.nodes:
                    serves(client, node.ip, port["nodePort"], {server.name}, protocol)
    for one in opened:
        cluster.servers.stop(one)


def test_should_provide_connection_to_outside_and_from_outside(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    with NetNs.open(cluster.directory.netns("wire")) as netns:
        outside = Place("outside", netns, str(API_SERVER))
        opened = cluster.servers.start(netns, "outside", (("TCP", 8086), ("UDP", 8086)))
        for client in clients:
            node = client.node if isinstance(client, Pod) else client
            for protocol in ("TCP", "UDP"):
                assert client.ask(outside.ip, 8086, protocol) == Seen("outside", node.ip)
        cluster.servers.stop(opened)
        spec = cluster.service(name, HTTP, UDP, type="NodePort")
        cluster.endpoints(name, servers, *SLICE)
        for node in cluster.nodes:
            for number, protocol in enumerate(("TCP", "UDP")):
                both = {"netserver-1", "netserver-2"}
                serves(outside, node.ip, spec["ports"][number]["nodePort"], both, protocol)


def test_a_load_balancers_address_and_health_port(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    address = "203.0.113.7"
    spec = cluster.service(name, HTTP, UDP, type="LoadBalancer", externalTrafficPolicy="Local")
    status = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
    cluster.api.merge(f"/api/v1/namespaces/{NAMESPACE}/services/{name}/status", status)
    cluster.endpoints(name, servers[:1], *SLICE)
    for client in clients:
        serves(client, address, 80, {"netserver-1"})
        serves(client, address, 90, {"netserver-1"}, "UDP")
        for node, want in zip(cluster.nodes, (b" 200 ", b" 503 "), strict=True):
            with client.calling(node.ip, spec["healthCheckNodePort"]) as connection:
                connection.send(b"GET / HTTP/1.0\r\n\r\n")
                assert want in connection.recv(100)


def test_large_transfers_fit_between_nodes(cluster: Cluster, servers: list[Pod], name: str) -> None:
    address = cluster.service(name, HTTP)["clusterIP"]
    content = bytes(range(256)) * 200
    for client, server in zip(servers, reversed(servers), strict=True):
        cluster.endpoints(name, [server], *SLICE)
        serves(client, address, 80, {server.name})
        with client.calling(address, 80) as connection:
            assert told(connection).name == server.name
            connection.sendall(content)
            got = b""
            while len(got) < len(content):
                got += connection.recv(65536)
            assert got == content


def test_kubernetes_default_is_reached_from_pods_over_tls(cluster: Cluster, clients: list[Place]) -> None:
    context = ssl.create_default_context(cafile=str(cluster.directory.path / "api/pki/ca.crt"))
    for client in clients:
        plain = client.calling(CLUSTER_IP, 443)
        with context.wrap_socket(plain, server_hostname="kubernetes.default.svc") as secure:
            secure.send(b"GET /version HTTP/1.1\r\nHost: kubernetes.default\r\nConnection: close\r\n\r\n")
            assert secure.recv(100).startswith(b"HTTP/1.1 ")


def test_should_check_kube_proxy_urls(cluster: Cluster) -> None:
    for node in cluster.nodes:
        assert node.http(10249, "/proxyMode") == (200, node.mode)
        assert node.http(10256, "/healthz")[0] == 200
        assert node.http(10256, "/livez")[0] == 200
        assert node.http(9871, "/healthz")[0] == 200


def served(clients: list[Place], address: str) -> None:
    """Not one question may fail."""
    assert all(client.ask(address, 80).name for client in clients)


def healthy(node: Node) -> bool:
    return all(node.http(port, "/healthz")[0] == 200 for port in (10256, 9871))


def test_daemons_restart_without_loss(
    cluster: Cluster, servers: list[Pod], clients: list[Place], name: str
) -> None:
    spec = cluster.service(name, HTTP, type="NodePort")
    cluster.endpoints(name, servers, *SLICE)
    for client in clients:
        serves(client, spec["clusterIP"], 80, {"netserver-1", "netserver-2"})
    mapping = {"hostPort": 9091, "containerPort": 80, "protocol": "tcp"}
    kept = cluster.add_pod(f"{name}-kept", cluster.nodes[0], portMappings=[mapping])
    lasting = [client.calling(spec["clusterIP"], 80) for client in clients]
    for connection in lasting:
        assert told(connection).name.startswith("netserver")
    for node in cluster.nodes:
        for daemon, restart in (("proxy", cluster.start_proxy), ("agent", cluster.start_agent)):
            node.children[daemon].terminate(5)
            served(clients, spec["clusterIP"])
            restart(node)
            served(clients, spec["clusterIP"])
        until(lambda: healthy(node), cluster.logged)  # noqa: B023
        served(clients, spec["clusterIP"])
    for connection in lasting:
        connection.send(b"still there")
        assert connection.recv(100) == b"still there"
        connection.close()
    cluster.endpoints(name, servers[:1], *SLICE)
    for client in clients:
        serves(client, cluster.nodes[0].ip, spec["ports"][0]["nodePort"], {"netserver-1"})
    pod = cluster.add_pod(f"{name}-late", cluster.nodes[0])
    assert clients[1].ask(pod.ip, 80).name == pod.name
    cluster.remove_pod(pod.name)
    assert clients[1].ask(cluster.nodes[0].ip, 9091).name == kept.name
    cluster.remove_pod(kept.name)


def test_a_deleted_pod_leaves_nothing(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    before = interfaces(node)
    mapping = {"hostPort": 9090, "containerPort": 80, "protocol": "tcp"}
    pod = cluster.add_pod("passing", node, portMappings=[mapping])
    made = interfaces(node) - before
    assert made
    assert node.ask(node.ip, 9090).name == pod.name
    cluster.remove_pod(pod.name)
    until(lambda: not made & interfaces(node))
    assert not node.answered(node.ip, 9090)


def interfaces(node: Node) -> set[str]:
    with node.netns.entered():
        return {name for _, name in socket.if_nameindex()}
