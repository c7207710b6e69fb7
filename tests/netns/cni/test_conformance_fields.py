"""The conformance table: what a configuration asks for, and what results and checks say of it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from cni.agent import NodeAgent
from cni.install import ShimKind
from cni.plan import PodNet, Wiring
from cni.spec import VERSIONS
from cni.wires import KernelWires
from kubenet.errors import InvalidInput
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import run
from tests.netns.cni.conftest import LabNode, NodeMaker, Pin, Runtime, observe
from tests.netns.cni.test_conformance import conf, environment

pytestmark = pytest.mark.netns


@pytest.fixture(params=list(ShimKind), ids=lambda kind: str(kind.value))
def node(request: pytest.FixtureRequest, make_node: NodeMaker) -> LabNode:
    """One node whose agent runs, and the plugin of each kind."""
    made = make_node(kind=request.param)
    made.start()
    return made


class SlowWires(KernelWires):
    """The kernel, as long as ``go`` is set."""

    reached, go = threading.Event(), threading.Event()

    def reach(self, pod: PodNet) -> None:
        self.reached.set()
        assert self.go.wait(10)
        super().reach(pod)


def connect_anew(node: LabNode, connect: Callable[[], KernelWires]) -> None:
    """Have the agent speak to the kernel by these from now on."""
    assert node.agent is not None
    attachments = node.agent.attachments
    while attachments._idle:
        attachments._idle.pop().close()
    attachments._connect = connect


def test_G3_gc_does_not_touch_an_add_that_is_under_way(node: LabNode, pin: Pin) -> None:
    connect_anew(node, lambda: SlowWires(node.netns))
    SlowWires.reached.clear()
    SlowWires.go.clear()
    path, answers = pin("p1"), []
    adding = threading.Thread(target=lambda: answers.append(node.runtime.add("c1", path)))
    adding.start()
    try:
        assert SlowWires.reached.wait(10)
        nothing: dict[str, Any] = {"cni.dev/valid-attachments": [], "cni.dev/attachments": []}
        assert node.runtime.call("GC", **nothing).code == 0
    finally:
        SlowWires.go.set()
        adding.join()
    assert answers[0].code == 0
    assert len(node.attached()) == 1
    assert node.runtime.call("CHECK", "c1", path, prevResult=answers[0].json).code == 0


def test_C3_a_check_tolerates_a_route_that_a_later_plugin_led_elsewhere(node: LabNode, pin: Pin) -> None:
    path = pin("p1")
    result = node.runtime.add("c1", path).json
    with NetNs.open(path) as netns:
        run(["ip", "route", "replace", "default", "dev", "eth0"], netns=netns)
        run(["ip", "route", "add", "192.0.2.0/24", "dev", "eth0"], netns=netns)
        run(["ip", "address", "add", "192.0.2.1/24", "dev", "eth0"], netns=netns)
    assert node.runtime.call("CHECK", "c1", path, prevResult=result).code == 0


def test_C3_a_check_goes_by_the_mac_address_that_a_later_plugin_told(make_node: NodeMaker, pin: Pin) -> None:
    node = make_node(wiring=Wiring.BRIDGE)
    node.start()
    path, mac = pin("p1"), "0a:00:00:00:00:01"
    result = node.runtime.add("c1", path).json
    with NetNs.open(path) as netns:
        run(["ip", "link", "set", "eth0", "address", mac], netns=netns)
    assert node.runtime.call("CHECK", "c1", path, prevResult=result).error == 100
    result["interfaces"][-1]["mac"] = mac
    assert node.runtime.call("CHECK", "c1", path, prevResult=result).code == 0


def test_E10_E13_a_range_without_room_for_a_pod_is_told_by_status_and_add(
    make_node: NodeMaker, pin: Pin
) -> None:
    node = make_node(pod_cidr="10.244.1.0/31")
    agent = NodeAgent(node.config)
    node.agent = agent
    agent.start()
    with pytest.raises(InvalidInput, match="too small"):
        agent.sync(node.net, ())
    assert node.runtime.call("STATUS").error == 50
    assert node.runtime.add("c1", pin("p1")).error == 11


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        pytest.param({"mtu": 67}, 7, "mtu 67", id="mtu"),
        pytest.param({"runtimeConfig": {"ips": ["10.9.9.9/24"]}}, 7, "10.9.9.9", id="address of no range"),
        pytest.param({"runtimeConfig": {"ips": ["10.244.1.1"]}}, 7, "10.244.1.1", id="the gateway's address"),
        pytest.param({"runtimeConfig": {"mac": "0a:00"}}, 7, "mac", id="mac"),
        pytest.param(
            {"runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/24"}]]}}, 2, "ipRanges", id="range"
        ),
        pytest.param({"ipam": {"type": "host-local"}}, 2, "host-local", id="another address manager"),
    ],
)
def test_E10_a_wrong_field_is_named_with_its_value(
    node: LabNode, pin: Pin, fields: dict[str, Any], code: int, named: str
) -> None:
    answer = node.runtime.add("c1", pin("p1"), **fields)
    assert answer.error == code
    assert named in answer.json["msg"]
    assert node.nothing_left()


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_R4_V2_versions_whose_results_have_ip4_and_ip6_are_refused_with_those_that_are_spoken(
    node: LabNode, pin: Pin, version: str
) -> None:
    answer = Runtime(node.runtime.plugin, node.netns, version).add("c1", pin("p1"))
    assert answer.error == 1
    assert all(spoken in answer.json["details"] for spoken in VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_R2_fields_of_1_1_0_are_in_its_results_only(node: LabNode, pin: Pin, version: str) -> None:
    answer = Runtime(node.runtime.plugin, node.netns, version).add("c1", pin("p1"))
    for interface in answer.json["interfaces"]:
        assert ("mtu" in interface) is (version == "1.1.0")
        assert not {"socketPath", "pciID"} & interface.keys()
    for route in answer.json["routes"]:
        assert version == "1.1.0" or route.keys() == {"dst", "gw"}
    assert ("dns" in answer.json) is (version != "1.1.0")


def test_S3_status_asks_nothing_of_the_kernel(node: LabNode) -> None:
    """It is called every few seconds: what it needs is in memory."""
    connect_anew(node, _no_kernel)
    for _ in range(20):
        answer = node.runtime.call("STATUS")
        assert (answer.code, answer.stdout) == (0, b"")


def _no_kernel() -> KernelWires:
    raise AssertionError("STATUS asked the kernel")


def test_P1_dns_of_the_runtime_is_told_on_and_that_of_the_network_without_it(node: LabNode, pin: Pin) -> None:
    own = {"nameservers": ["10.96.0.10"], "search": ["example.org"]}
    answer = node.runtime.add("c1", pin("p1"), dns=own)
    assert answer.json["dns"] == own
    wished = {"servers": ["192.0.2.53"], "searches": ["a", "b"], "options": ["ndots:5"]}
    answer = node.runtime.add("c2", pin("p2"), dns=own, runtimeConfig={"dns": wished})
    assert answer.json["dns"] == {
        "nameservers": ["192.0.2.53"],
        "search": ["a", "b"],
        "options": ["ndots:5"],
    }


def test_P1_wishes_are_read_as_containerd_writes_them(node: LabNode, pin: Pin) -> None:
    """Its fields have no names for JSON, so they are those of Go; and what it has none of is null."""
    wished = {
        "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
        "bandwidth": {"IngressRate": 10**6, "IngressBurst": 2**32 - 1, "EgressRate": 0, "EgressBurst": 0},
        "dns": {"Servers": ["10.96.0.10"], "Searches": ["svc.cluster.local"], "Options": None},
        "io.kubernetes.cri.pod-annotations": {"kubenet.dev/addresses": "10.244.1.44"},
    }
    answer = node.runtime.add("c1", pin("p1"), runtimeConfig=wished)
    assert answer.address == "10.244.1.44"
    assert answer.json["dns"] == {"nameservers": ["10.96.0.10"], "search": ["svc.cluster.local"]}
    (record,) = node.attached()
    assert [str(port) for port in record.host_ports] == ["*:8080/tcp"]
    assert (record.bandwidth.ingress_rate, record.bandwidth.egress_rate) == (10**6, 0)
    nothing = dict.fromkeys((*wished, "ips", "mac", "aliases", "ipRanges"))
    assert node.runtime.add("c2", pin("p2"), runtimeConfig=nothing).code == 0
    assert node.runtime.add("c3", pin("p3"), runtimeConfig=None, args=None, ipam=None, dns=None).code == 0


def test_P1_what_runtimes_offer_beside_is_no_reason_to_fail(node: LabNode, pin: Pin) -> None:
    offers = {
        "cgroupPath": "/kubepods/x",
        "aliases": {"kubenet": ["web"]},
        "io.kubernetes.cri.pod-annotations": {"example.org/any": "thing"},
    }
    assert node.runtime.add("c1", pin("p1"), runtimeConfig=offers).code == 0


def test_P2_args_and_variables_are_wishes_too_and_labels_are_taken_along(node: LabNode, pin: Pin) -> None:
    labels = [{"key": "app", "value": "web"}]
    args = {"cni": {"ips": ["10.244.1.50"], "mac": "0a:00:00:00:00:50", "labels": labels}}
    path = pin("p1")
    assert node.runtime.add("c1", path, args=args).address == "10.244.1.50"
    with NetNs.open(path) as netns:
        assert observe(netns).links["eth0"].mac == "0a:00:00:00:00:50"
    variables = "IP=10.244.1.60;MAC=0a:00:00:00:00:60;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b"
    env = environment("ADD", CONTAINERID="c2", NETNS=str(pin("p2")), ARGS=variables)
    assert node.runtime.execute(env, conf()).address == "10.244.1.60"
    assert {record.pod for record in node.attached()} == {"", "a/b"}
    env = environment("ADD", CONTAINERID="c3", NETNS=str(pin("p3")), ARGS="COLOR=blue")
    assert node.runtime.execute(env, conf()).error == 4
    env["CNI_ARGS"] += ";IgnoreUnknown=1"
    assert node.runtime.execute(env, conf()).code == 0
