"""Flows that outlive what they were bound to: what the conformance suite's [sig-network] Conntrack cases ask.

UDP clients keep their port, so that the kernel takes all they send for one flow.
Here servers, endpoints and daemons come and go in the orders that a busy cluster knows.
"""

from collections.abc import Iterator

import pytest

from tests.e2e.netexec import Place
from tests.e2e.real_nodes import NAMESPACE, Cluster, Pod, running_cluster, until

pytestmark = pytest.mark.e2e

UDP = {"name": "udp", "port": 90, "protocol": "UDP", "targetPort": 81}
SERVED = ("udp", "UDP", 81)
SOON_S = 0.5


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(("iptables", "nftables")) as made:
        for number, node in enumerate(made.nodes, 1):
            made.add_pod(f"client-{number}", node)
        yield made


class Flows:
    """Clients on both nodes that ask one address each from one port, whatever happens."""

    def __init__(self, cluster: Cluster, addresses: list[str], port: int) -> None:
        clients: list[Place] = [cluster.pods["client-1"], cluster.pods["client-2"], *cluster.nodes]
        self._flows = [(client, at, 30_000 + n) for client in clients for n, at in enumerate(addresses)]
        self._port = port

    def answers(self) -> list[str]:
        """Return who answers each; an empty string for nobody."""
        return [self._one(*flow) for flow in self._flows]

    def reach(self, name: str) -> None:
        """Wait until this server alone answers."""
        until(lambda: set(self.answers()) == {name}, self.answers)

    def _one(self, client: Place, address: str, own_port: int) -> str:
        try:
            return client.ask(address, self._port, "UDP", own_port, SOON_S).name
        except OSError:
            return ""


@pytest.fixture(params=["ClusterIP", "NodePort"])
def service(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a Service."""
    name = f"{request.param.lower()}-{request.node.originalname.rpartition('_')[2]}"
    cluster.service(name, UDP, type=request.param)
    yield name
    cluster.api.delete(f"/api/v1/namespaces/{NAMESPACE}/services/{name}")


@pytest.fixture
def flows(cluster: Cluster, service: str) -> Flows:
    """Flows to that Service, by its cluster address or its node port."""
    spec = cluster.api.request("GET", f"/api/v1/namespaces/{NAMESPACE}/services/{service}")["spec"]
    if spec["type"] == "ClusterIP":
        return Flows(cluster, [spec["clusterIP"]], 90)
    return Flows(cluster, [node.ip for node in cluster.nodes], spec["ports"][0]["nodePort"])


def pair(cluster: Cluster) -> tuple[Pod, Pod]:
    return cluster.add_pod("old", cluster.nodes[0]), cluster.add_pod("new", cluster.nodes[1])


def test_Conntrack_preserves_udp_when_servers_cycle_and_get_ready_late(
    cluster: Cluster, service: str, flows: Flows
) -> None:
    old, new = pair(cluster)
    assert set(flows.answers()) == {""}
    cluster.endpoints(service, [old], SERVED, ready=False, serving=False)
    assert set(flows.answers()) == {""}
    cluster.endpoints(service, [old], SERVED)
    flows.reach("old")
    cluster.remove_pod("old")  # at once, as with no grace; its endpoint stays a while
    assert set(flows.answers()) == {""}
    cluster.endpoints(service, [], SERVED)
    flows.answers()
    cluster.endpoints(service, [new], SERVED)
    flows.reach("new")
    cluster.remove_pod("new")


def test_Conntrack_cleans_up_when_the_target_port_changes(
    cluster: Cluster, service: str, flows: Flows
) -> None:
    pod = cluster.add_pod("served", cluster.nodes[0])
    cluster.endpoints(service, [pod], ("udp", "UDP", 53))  # nobody listens there
    assert set(flows.answers()) == {""}
    cluster.endpoints(service, [pod], SERVED)
    flows.reach("served")
    cluster.remove_pod("served")


def test_a_flow_follows_what_changed_while_no_proxy_ran(cluster: Cluster, service: str, flows: Flows) -> None:
    old, new = pair(cluster)
    cluster.endpoints(service, [old], SERVED)
    flows.reach("old")
    for node in cluster.nodes:
        node.children["proxy"].terminate(5)
    cluster.endpoints(service, [new], SERVED)
    assert set(flows.answers()) == {"old"}
    for node in cluster.nodes:
        cluster.start_proxy(node)
    flows.reach("new")
    for name in ("old", "new"):
        cluster.remove_pod(name)


def test_a_flow_to_a_host_port_follows_the_pod(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    mapping = {"hostPort": 5353, "containerPort": 81, "protocol": "udp"}
    flows = Flows(cluster, [node.ip], 5353)
    flows.answers()
    for name in ("first", "second"):
        cluster.add_pod(name, node, portMappings=[mapping])
        flows.reach(name)
        cluster.remove_pod(name)
        assert set(flows.answers()) == {""}
