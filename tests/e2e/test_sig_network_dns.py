"""What the conformance suite's [sig-network] DNS cases ask, of a server that runs as an installation runs it.

The server is a pod behind the Service kube-dns, reached from pods of both nodes by its cluster address.
"""

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from kubenet.kernel.run import run
from tests.e2e.netexec import Place
from tests.e2e.real_nodes import DNS_IP, NAMESPACE, Cluster, running_cluster, until

pytestmark = pytest.mark.e2e

ZONE = f"{NAMESPACE}.svc.cluster.local"
HTTP = {"name": "http", "port": 80, "protocol": "TCP"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(("nftables", "iptables")) as made:
        for number, node in enumerate(made.nodes, 1):
            made.add_pod(f"client-{number}", node)
        web, querier = made.pods["client-1"], made.pods["client-2"]
        made.service("dns-test-service", HTTP, clusterIP="None")
        made.endpoints("dns-test-service", [web], ("http", "TCP", 80))
        made.service("test-service-2", HTTP)
        made.endpoints("test-service-2", [web], ("http", "TCP", 80))
        made.service("dns-test-service-2", clusterIP="None")
        named = {"addresses": [querier.ip], "conditions": {"ready": True}, "hostname": "dns-querier-2"}
        made.write_slice("dns-test-service-2", "dns-test-service-2-1", [named], [])
        made.service("dns-test-service-3", type="ExternalName", externalName="foo.example.com")
        for name in ("dns-test-service", "dns-test-service-2", "test-service-2"):
            until(lambda: asked(querier, f"{name}.{ZONE}"), made.logged)  # noqa: B023
        until(lambda: asked(querier, f"dns-test-service-3.{ZONE}", "CNAME"), made.logged)
        yield made


def asked(client: Place, name: str, kind: str = "A", *options: str) -> list[str]:
    """Return the answers that dig gets of the cluster's DNS; a partial name goes through the search path."""
    words = ["dig", f"@{DNS_IP}", "+time=1", "+tries=3", "+short", *options]
    domain = [f"+domain={ZONE}", "+ndots=5"] if "+search" in options else []
    said = run([*words, *domain, name, kind], netns=client.netns, check=False).stdout.decode()
    return sorted(line for line in said.splitlines() if not line.startswith(";"))


def everywhere(cluster: Cluster, name: str, kind: str = "A", *options: str) -> list[str]:
    """Return the answers, which are the same over UDP and TCP, from pods and nodes."""
    clients: list[Place] = [cluster.pods["client-1"], cluster.pods["client-2"], *cluster.nodes]
    found = [asked(client, name, kind, way, *options) for client in clients for way in ("+notcp", "+tcp")]
    assert all(each == found[0] for each in found), found
    return found[0]


def cluster_ip(cluster: Cluster, name: str) -> str:
    url = f"/api/v1/namespaces/{NAMESPACE}/services/{name}"
    return str(cluster.api.request("GET", url)["spec"]["clusterIP"])


def test_should_provide_dns_for_the_cluster(cluster: Cluster) -> None:
    assert everywhere(cluster, "kubernetes.default.svc.cluster.local") == ["10.96.0.1"]
    assert everywhere(cluster, "kube-dns.kube-system.svc.cluster.local") == [DNS_IP]


def test_should_provide_dns_for_services(cluster: Cluster) -> None:
    web, address = cluster.pods["client-1"].ip, cluster_ip(cluster, "test-service-2")
    dashed = web.replace(".", "-")
    assert everywhere(cluster, f"dns-test-service.{ZONE}") == [web]
    assert everywhere(cluster, f"test-service-2.{ZONE}") == [address]
    headless = f"0 100 80 {dashed}.dns-test-service.{ZONE}."
    assert everywhere(cluster, f"_http._tcp.dns-test-service.{ZONE}", "SRV") == [headless]
    assert everywhere(cluster, f"_http._tcp.test-service-2.{ZONE}", "SRV") == [
        f"0 100 80 test-service-2.{ZONE}."
    ]
    assert everywhere(cluster, ip_address(address).reverse_pointer, "PTR") == [f"test-service-2.{ZONE}."]
    pointers = everywhere(cluster, ip_address(web).reverse_pointer, "PTR")
    assert f"{dashed}.dns-test-service.{ZONE}." in pointers


def test_should_resolve_partial_qualified_names(cluster: Cluster) -> None:
    web = cluster.pods["client-1"]
    assert asked(web, "dns-test-service", "A", "+search") == [web.ip]
    assert asked(web, "test-service-2", "A", "+search", "+tcp") == [cluster_ip(cluster, "test-service-2")]
    assert asked(web, "_http._tcp.test-service-2", "SRV", "+search") == [f"0 100 80 test-service-2.{ZONE}."]


def test_should_provide_dns_for_pods_for_hostname_and_subdomain(cluster: Cluster) -> None:
    pod = cluster.pods["client-2"]
    assert everywhere(cluster, f"dns-querier-2.dns-test-service-2.{ZONE}") == [pod.ip]
    assert everywhere(cluster, f"dns-test-service-2.{ZONE}") == [pod.ip]
    by_address = f"{pod.ip.replace('.', '-')}.{NAMESPACE}.pod.cluster.local"
    assert everywhere(cluster, by_address) == [pod.ip]


def test_should_provide_dns_for_external_name_services(cluster: Cluster) -> None:
    name, client = "dns-test-service-3", cluster.pods["client-1"]
    assert asked(client, f"{name}.{ZONE}", "CNAME") == ["foo.example.com."]
    cluster.change(name, externalName="bar.example.com")
    until(lambda: asked(client, f"{name}.{ZONE}", "CNAME") == ["bar.example.com."])
    spec = cluster.change(name, type="ClusterIP", externalName=None, ports=[HTTP])
    until(lambda: asked(client, f"{name}.{ZONE}") == [spec["clusterIP"]])
    assert everywhere(cluster, f"{name}.{ZONE}", "CNAME") == []
    gone = {"type": "ExternalName", "externalName": "foo.example.com", "clusterIP": "", "clusterIPs": None}
    cluster.change(name, **gone)
    until(lambda: asked(client, f"{name}.{ZONE}", "CNAME") == ["foo.example.com."])


def test_a_headless_service_follows_its_pods(cluster: Cluster) -> None:
    client = cluster.pods["client-2"]
    cluster.service("coming", HTTP, clusterIP="None")
    for names in (["client-1"], ["client-1", "client-2"], ["client-2"], []):
        pods = [cluster.pods[name] for name in names]
        cluster.endpoints("coming", pods, ("http", "TCP", 80))
        until(lambda: asked(client, f"coming.{ZONE}") == sorted(pod.ip for pod in pods))  # noqa: B023


def test_health_and_readiness_are_where_the_deployment_looks(cluster: Cluster) -> None:
    server = cluster.pods["kube-dns"]
    for client in cluster.nodes:
        for port, path in ((8080, "/health"), (8181, "/ready"), (9153, "/metrics")):
            with client.calling(server.ip, port) as connection:
                connection.send(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                assert b" 200 " in connection.recv(100)
