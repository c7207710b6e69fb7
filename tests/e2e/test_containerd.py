"""A real container runtime executes the plugin: containerd, asked over CRI as a kubelet asks it."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni.install import CONFLIST, ShimKind
from cni.plan import Wiring
from kubenet.cri.client import RuntimeRefused
from kubenet.cri.messages import (
    ContainerConfig,
    ContainerMetadata,
    ImageSpec,
    PodSandboxConfig,
    PodSandboxMetadata,
    PortMapping,
    Protocol,
    SandboxState,
)
from kubenet.kernel.netns import NetNs
from tests.e2e.containerd import SERVER, Containerd, containerd, missing
from tests.netns.cni.conftest import LabNode, NodeMaker, make_node, pin, shim_cache, wire
from tests.netns.cni.killable import killable, until
from tests.netns.cni.test_dataplane import reaches

__all__ = ["make_node", "pin", "shim_cache", "wire"]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        bool(missing()), reason=f"{missing()} is missing: apt-get install containerd runc gcc"
    ),
]

RANGES = (ip_network("10.244.1.0/24"), ip_network("fd00:10:244:1::/64"))
CLUSTER = (ip_network("10.244.0.0/16"), ip_network("fd00:10:244::/48"))
SERVER_PORT, HOST_PORT = 80, 8080


@pytest.fixture
def node(request: pytest.FixtureRequest, make_node: NodeMaker) -> LabNode:
    """A node of both families whose agent runs."""
    settings: dict[str, Any] = getattr(request, "param", {})
    made = make_node(cluster_cidrs=CLUSTER, **settings)
    made.net = replace(made.net, pod_cidrs=RANGES)
    made.start()
    return made


@pytest.fixture
def runtime(node: LabNode, tmp_path: Path) -> Iterator[Containerd]:
    """containerd on that node."""
    with containerd(
        tmp_path / "containerd", node.netns, node.config.bin_dir, node.config.conf_dir
    ) as running:
        yield running


def config(name: str, *mappings: PortMapping, **annotations: str) -> PodSandboxConfig:
    metadata = PodSandboxMetadata(name, f"uid-of-{name}", "default", 0)
    return PodSandboxConfig(metadata, port_mappings=mappings, annotations=annotations)


def serve(runtime: Containerd, sandbox_id: str, sandbox: PodSandboxConfig) -> None:
    """Run the server in a sandbox."""
    container = ContainerConfig(ContainerMetadata("server"), ImageSpec(SERVER))
    runtime.cri.start_container(runtime.cri.create_container(sandbox_id, container, sandbox))


def seen_as(client: NetNs, address: str, port: int = SERVER_PORT) -> str:
    """Return as whom the server sees the client, once it answers; an empty string if it does not."""
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    with client.socket(family, socket.SOCK_STREAM) as calling:
        calling.settimeout(2)
        try:
            calling.connect((address, port))
            return str(ip_address(calling.recv(100).decode().removeprefix("::ffff:")))
        except (OSError, ValueError):
            return ""


def addresses(runtime: Containerd, sandbox_id: str) -> tuple[str, str]:
    """Return what the runtime says of a pod's addresses, IPv4 first."""
    network = runtime.cri.sandbox_status(sandbox_id).status.network
    (second,) = network.additional_ips
    return network.ip, str(ip_address(second.ip))


@contextmanager
def inside(runtime: Containerd, sandbox_id: str) -> Iterator[NetNs]:
    """The namespace of a sandbox."""
    told = json.loads(runtime.cri.sandbox_status(sandbox_id, verbose=True).info["info"])
    namespaces = told["runtimeSpec"]["linux"]["namespaces"]
    (path,) = [each["path"] for each in namespaces if each["type"] == "network"]
    with runtime.netns(Path(path).name) as netns:
        yield netns


BRIDGED = {"wiring": Wiring.BRIDGE, "kind": ShimKind.PYTHON}


@pytest.mark.parametrize("node", [{}, BRIDGED], ids=["routed, C", "bridge, Python"], indirect=True)
def test_L_sandboxes_get_addresses_reach_each_other_and_leave_nothing(
    node: LabNode, runtime: Containerd, wire: NetNs
) -> None:
    cri = runtime.cri
    web, client = config("web", PortMapping(Protocol.TCP, SERVER_PORT, HOST_PORT)), config("client")
    web_id, client_id = cri.run_sandbox(web), cri.run_sandbox(client)
    status = cri.sandbox_status(web_id).status
    assert status.state == SandboxState.READY
    assert addresses(runtime, web_id) == ("10.244.1.2", "fd00:10:244:1::2")
    assert [record.pod for record in node.attached()] == ["default/web", "default/client"]
    serve(runtime, web_id, web)
    with inside(runtime, client_id) as near:
        for family, address in enumerate(addresses(runtime, web_id)):
            until(lambda at=address: seen_as(node.netns, at) != "", 5, lambda: "no server")  # type: ignore[misc]
            assert seen_as(near, address) == addresses(runtime, client_id)[family]
        with inside(runtime, web_id) as far:
            assert reaches(near, far, "10.244.1.2")
        assert seen_as(near, str(node.net.node_ip), HOST_PORT) == "10.244.1.3"
    assert seen_as(wire, str(node.net.node_ip), HOST_PORT) == "172.30.255.254"

    cri.stop_sandbox(web_id)
    assert seen_as(wire, str(node.net.node_ip), HOST_PORT) == ""
    assert cri.sandbox_status(web_id).status.state == SandboxState.NOT_READY
    cri.stop_sandbox(web_id)  # as a kubelet does until the sandbox is gone
    for sandbox_id in (web_id, client_id):
        cri.stop_sandbox(sandbox_id)
        cri.remove_sandbox(sandbox_id)
    assert cri.sandboxes() == ()
    assert runtime.netns_names() == []
    assert node.nothing_left()


def test_L_a_limit_of_bandwidth_comes_by_annotation(node: LabNode, runtime: Containerd) -> None:
    limits = {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"}
    sandbox_id = runtime.cri.run_sandbox(config("slow", **limits))
    (record,) = node.attached()
    assert (record.bandwidth.ingress_rate, record.bandwidth.egress_rate) == (10_000_000, 20_000_000)
    runtime.cri.stop_sandbox(sandbox_id)
    assert node.nothing_left()


def test_L_without_an_agent_a_sandbox_is_refused_and_another_can_go(
    node: LabNode, runtime: Containerd
) -> None:
    sandbox_id = runtime.cri.run_sandbox(config("web"))
    node.stop()
    with pytest.raises(RuntimeRefused, match="agent of this node does not answer"):
        runtime.cri.run_sandbox(config("late"))
    runtime.cri.stop_sandbox(sandbox_id)
    runtime.cri.remove_sandbox(sandbox_id)
    assert len(node.records()) == 1
    node.start()
    assert node.nothing_left()
    assert runtime.netns_names() == []
    late_id = runtime.cri.run_sandbox(config("late"))
    assert addresses(runtime, late_id)[0].startswith("10.244.1.")


def test_A5_an_agent_killed_under_containerd_leaves_nothing(make_node: NodeMaker, tmp_path: Path) -> None:
    made = make_node()
    with (
        killable(made) as node,
        containerd(tmp_path / "containerd", made.netns, made.config.bin_dir, made.config.conf_dir) as runtime,
    ):
        node.start()
        clean = node.truth()
        web = config("web", PortMapping(Protocol.UDP, 53, 8053))
        for step in (1, 6, 12, 20):
            node.agent.expect(kill_at=step)
            with pytest.raises(RuntimeRefused):
                runtime.cri.run_sandbox(web)
            node.restart()
            node.settled(clean)
            assert runtime.cri.sandboxes() == ()
            sandbox_id = runtime.cri.run_sandbox(web)  # as a kubelet tries it again
            node.agent.expect(kill_at=step)
            runtime.cri.stop_sandbox(sandbox_id)
            node.restart()
            runtime.cri.remove_sandbox(sandbox_id)
            node.settled(clean)
        assert runtime.netns_names() == []


def test_L_the_network_is_ready_when_its_configuration_is_there(node: LabNode, runtime: Containerd) -> None:
    conflist = node.config.conf_dir / CONFLIST
    content = conflist.read_bytes()
    assert runtime.cri.conditions()["NetworkReady"].status
    conflist.unlink()
    until(lambda: not runtime.cri.conditions()["NetworkReady"].status, 5, lambda: "still ready")
    with pytest.raises(RuntimeRefused, match="cni plugin not initialized"):
        runtime.cri.run_sandbox(config("early"))
    draft = conflist.with_suffix(".tmp")
    draft.write_bytes(content)
    draft.rename(conflist)
    until(lambda: runtime.cri.conditions()["NetworkReady"].status, 5, lambda: "not ready")
    runtime.cri.run_sandbox(config("now"))
