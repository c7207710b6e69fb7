"""The conformance table, row by row, through the executable as a runtime would call it."""

import json
import os
import threading
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni.install import ShimKind
from cni.plan import host_ifname
from cni.spec import VERSIONS
from kubenet.kernel import codec
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import Address, Link, LinkKind, VethPeer
from tests.netns.cni.conftest import Answer, LabNode, NodeMaker, Pin, Runtime, add_links, observe

pytestmark = pytest.mark.netns


@pytest.fixture(params=list(ShimKind), ids=lambda kind: str(kind.value))
def node(request: pytest.FixtureRequest, make_node: NodeMaker) -> LabNode:
    """One node whose agent runs, and the plugin of each kind."""
    made = make_node(kind=request.param)
    made.start()
    return made


def pod_state_of(path: Path) -> tuple[set[str], set[Address]]:
    with NetNs.open(path) as netns:
        state = observe(netns)
    return set(state.links), set(state.addresses)


def change_in(netns: NetNs, *requests: Any) -> None:
    with Rtnl(netns) as rtnl:
        rtnl.transact(requests)


def environment(command: str, **changes: str) -> dict[str, str]:
    base = {"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/none", "CNI_IFNAME": "eth0"}
    return {k: v for k, v in (base | {f"CNI_{k}": v for k, v in changes.items()}).items() if v}


def conf(**changes: Any) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", "name": "kubenet", "type": "kubenet"} | changes).encode()


@pytest.mark.parametrize(
    ("env", "stdin", "code"),
    [
        pytest.param(environment("FROB"), conf(), 4, id="E2 unknown command"),
        pytest.param(environment("ADD", NETNS="", IFNAME=""), conf(), 4, id="E3 missing variables"),
        pytest.param(environment("ADD", CONTAINERID="a/b"), conf(), 4, id="E4 container id"),
        pytest.param(environment("ADD", IFNAME="a:b"), conf(), 4, id="E5 interface name"),
        pytest.param(environment("ADD"), b"", 6, id="E6 nothing on stdin"),
        pytest.param(environment("ADD"), b"{", 6, id="E6 not JSON"),
        pytest.param(environment("ADD"), conf(name=""), 7, id="E7 no name"),
        pytest.param(environment("ADD"), conf(cniVersion="9.9.9"), 1, id="E8 unknown version"),
        pytest.param(environment("ADD"), b'{"name":"x"}', 1, id="E9 no version"),
        pytest.param(environment("ADD"), conf(mtu=60), 7, id="E10 impossible MTU"),
        pytest.param(environment("ADD"), conf(ipam={"type": "dhcp"}), 2, id="E10 unsupported field"),
        pytest.param(environment("ADD"), conf(), 3, id="E11 no such namespace"),
        pytest.param(environment("ADD", NETNS="/dev/null"), conf(), 8, id="E11 no namespace at all"),
        pytest.param(environment("CHECK"), conf(), 7, id="C1 CHECK without prevResult"),
        pytest.param(environment("CHECK"), conf(cniVersion="0.3.1"), 1, id="C4 CHECK in 0.3.1"),
        pytest.param(environment("STATUS"), conf(), 1, id="S1 STATUS in 1.0.0"),
        pytest.param(environment("GC"), conf(), 1, id="G2 GC in 1.0.0"),
        pytest.param(environment("GC"), conf(cniVersion="1.1.0"), 7, id="G2 GC without a list"),
    ],
)
def test_E14_E15_a_mistake_has_its_number_in_one_document_on_stdout(
    node: LabNode, env: dict[str, str], stdin: bytes, code: int
) -> None:
    answer = node.runtime.execute(env, stdin)
    assert answer.error == code
    assert answer.stderr == b""
    assert node.nothing_left()


def test_E12_the_nodes_own_namespace_is_refused_before_anything_is_done(node: LabNode) -> None:
    before = observe(node.netns)
    own = f"/proc/{os.getpid()}/fd/{node.netns.fd}"
    assert node.runtime.add("c1", own).error == 8
    assert observe(node.netns) == before
    assert node.nothing_left()


@pytest.mark.parametrize("version", VERSIONS)
def test_V3_R1_R2_R3_results_have_the_form_of_the_version_and_tell_the_truth(
    node: LabNode, pin: Pin, version: str
) -> None:
    path = pin("p1")
    answer = Runtime(node.runtime.plugin, node.netns, version).add("c1", path)
    assert answer.code == 0, answer
    assert answer.json["cniVersion"] == version
    pod = answer.json["interfaces"][answer.json["ips"][0]["interface"]]
    assert pod["sandbox"] == str(path)
    with NetNs.open(path) as netns:
        inside = observe(netns)
    assert pod["mac"] == inside.links["eth0"].mac
    host = answer.json["interfaces"][0]
    assert host["mac"] == observe(node.netns).links[host["name"]].mac
    assert ("version" in answer.json["ips"][0]) is (version < "1.0.0")
    if version == "1.1.0":
        assert pod["mtu"] == inside.links["eth0"].mtu == 1450


def test_A1_an_add_makes_the_interface_up_with_address_and_routes(node: LabNode, pin: Pin) -> None:
    path = pin("p1")
    answer = node.runtime.add("c1", path)
    with NetNs.open(path) as netns:
        inside = observe(netns)
    assert inside.links["eth0"].up
    assert inside.links["lo"].up
    assert f"{answer.address}/32" in {str(a.interface) for a in inside.addresses}
    assert {"0.0.0.0/0", "169.254.1.1/32"} <= {str(destination) for destination in inside.routes}
    assert f"{answer.address}/32" in {str(destination) for destination in observe(node.netns).routes}


def test_A1_a_second_add_fails_and_the_first_attachment_stays(node: LabNode, pin: Pin) -> None:
    path = pin("p1")
    first = node.runtime.add("c1", path)
    before, inside = observe(node.netns), pod_state_of(path)
    assert node.runtime.add("c1", path).error >= 100
    assert node.runtime.add("c2", path).error >= 100
    assert (observe(node.netns), pod_state_of(path)) == (before, inside)
    assert first.address == "10.244.1.2"
    assert len(node.records()) == 1


def test_A1_an_interface_that_somebody_else_made_stays(node: LabNode, pin: Pin) -> None:
    path = pin("p1")
    with NetNs.open(path) as netns:
        add_links(netns, Link("eth0", LinkKind.BRIDGE))
    assert node.runtime.add("c1", path).error >= 100
    assert "eth0" in pod_state_of(path)[0]
    assert node.nothing_left()


def test_A2_an_add_into_an_exhausted_pool_leaves_nothing(make_node: NodeMaker, pin: Pin) -> None:
    node = make_node(pod_cidr="10.244.1.0/30")
    node.start()
    path = pin("p2")
    assert node.runtime.add("c1", pin("p1")).code == 0
    before = observe(node.netns)
    answer = node.runtime.add("c2", path)
    assert answer.error == 11
    assert "10.244.1.0/30: all 1 addresses are in use" in answer.json["msg"]
    assert observe(node.netns) == before
    assert pod_state_of(path)[0] == {"lo"}
    assert len(node.records()) == 1


def test_S1_S2_status_tells_of_a_full_pool_until_one_del_makes_room(make_node: NodeMaker, pin: Pin) -> None:
    node = make_node(pod_cidr="10.244.1.0/30")
    node.start()
    status = node.runtime.call("STATUS")
    assert (status.code, status.stdout) == (0, b"")
    assert node.runtime.add("c1", pin("p1")).code == 0
    assert node.runtime.call("STATUS").error == 50
    assert node.runtime.delete("c1").code == 0
    node.settle()
    assert node.runtime.call("STATUS").code == 0
    assert node.runtime.add("c2", pin("p2")).address == "10.244.1.2"


def test_A3_two_interfaces_of_one_container_come_and_go_by_themselves(node: LabNode, pin: Pin) -> None:
    path = pin("p1")
    first = node.runtime.add("c1", path, "eth0")
    second = node.runtime.add("c1", path, "net1")
    assert second.code == 0, second
    assert first.address != second.address
    with NetNs.open(path) as netns:
        assert observe(netns).routes[ip_network("0.0.0.0/0")].ifname == "eth0"  # the first keeps it
    assert node.runtime.call("CHECK", "c1", path, "net1", prevResult=second.json).code == 0
    assert node.runtime.delete("c1", path, "net1").code == 0
    node.settle()
    assert pod_state_of(path)[0] == {"lo", "eth0"}
    assert [record.ifname for record in node.attached()] == ["eth0"]


def test_A4_the_result_of_an_earlier_plugin_comes_back_whole(node: LabNode, pin: Pin) -> None:
    before = {"cniVersion": "1.1.0", "routes": [{"dst": "192.0.2.0/24"}], "odd": {"x": [1]}}
    answer = node.runtime.add("c1", pin("p1"), prevResult=before)
    assert answer.json["odd"] == {"x": [1]}
    assert answer.json["routes"][0] == {"dst": "192.0.2.0/24"}


def _gone(path: Path, node: LabNode) -> None:
    unpin(path)


def _link_deleted(path: Path, node: LabNode) -> None:
    change_in(node.netns, codec.delete_link(ifname=host_ifname("c1", "eth0")))


def _state_lost(path: Path, node: LabNode) -> None:
    node.stop()
    for record in (node.config.state_dir / "attachments").iterdir():
        record.unlink()
    node.start()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path, node: None, id="nothing is wrong"),
        pytest.param(_gone, id="the namespace is gone"),
        pytest.param(_link_deleted, id="the link was deleted by hand"),
        pytest.param(_state_lost, id="the agent has lost its state"),
    ],
)
@pytest.mark.parametrize("netns", ["given", "empty"])
def test_D1_a_del_succeeds_twice_and_frees_the_address(
    node: LabNode, pin: Pin, spoil: Any, netns: str
) -> None:
    path = pin("p1")
    assert node.runtime.add("c1", path).code == 0
    spoil(path, node)
    for _ in range(2):
        answer = node.runtime.delete("c1", path if netns == "given" else "")
        assert (answer.code, answer.stdout) == (0, b"")
    assert node.nothing_left()


def test_D1_a_del_of_what_was_never_added_is_fine(node: LabNode, pin: Pin) -> None:
    assert node.runtime.delete("c1", pin("p1")).code == 0
    assert node.runtime.execute(environment("DEL", NETNS=""), b"").code == 0
    assert node.nothing_left()


def test_D2_a_del_does_not_depend_on_the_configuration_or_the_nodes_range(node: LabNode, pin: Pin) -> None:
    assert node.runtime.add("c1", pin("p1")).code == 0
    assert node.agent is not None
    node.agent.sync(node.moved("10.244.77.0/24"), ())
    answer = node.runtime.delete("c1", name="renamed", mtu=5, ipam={"type": "dhcp"})
    assert answer.code == 0, answer
    assert node.nothing_left()
    assert node.runtime.add("c2", pin("p2")).address == "10.244.77.2"


def test_D4_crossed_adds_and_dels_of_one_attachment_leave_nothing(node: LabNode, pin: Pin) -> None:
    path = pin("p1")
    answers: list[Answer] = []

    def call(command: str) -> None:
        answers.append(node.runtime.call(command, "c1", path))

    for _ in range(3):
        threads = [threading.Thread(target=call, args=(command,)) for command in ("ADD", "DEL", "ADD", "DEL")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert node.runtime.delete("c1", path).code == 0
    assert all(answer.code == 0 or answer.error >= 100 for answer in answers)
    assert node.nothing_left()


def test_C4_a_check_right_after_the_add_passes(node: LabNode, pin: Pin) -> None:
    path = pin("p1")
    result = node.runtime.add("c1", path).json
    checked = node.runtime.call("CHECK", "c1", path, prevResult=result)
    assert (checked.code, checked.stdout) == (0, b"")


def _down(rtnl: Rtnl) -> Any:
    return codec.set_link(rtnl.ifindex("eth0"), up=False)


def _other_mtu(rtnl: Rtnl) -> Any:
    return codec.set_link(rtnl.ifindex("eth0"), mtu=1400)


def _other_mac(rtnl: Rtnl) -> Any:
    return codec.set_link(rtnl.ifindex("eth0"), mac="0a:00:00:00:00:01")


def _no_address(rtnl: Rtnl) -> Any:
    address = next(a for a in rtnl.observe().addresses if a.ifname == "eth0")
    return codec.delete_address(rtnl.ifindex("eth0"), address.interface)


def _no_link(rtnl: Rtnl) -> Any:
    return codec.delete_link(ifname="eth0")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(_down, "eth0 is down", id="down"),
        pytest.param(_other_mtu, "MTU 1400 instead of 1450", id="other MTU"),
        pytest.param(_other_mac, "MAC address 0a:00", id="other MAC"),
        pytest.param(_no_address, "is not on eth0", id="no address"),
        pytest.param(_no_link, "eth0 is missing", id="no interface"),
    ],
)
def test_C2_a_check_says_what_differs(node: LabNode, pin: Pin, spoil: Any, said: str) -> None:
    path = pin("p1")
    result = node.runtime.add("c1", path).json
    with NetNs.open(path) as netns, Rtnl(netns) as rtnl:
        rtnl.transact([spoil(rtnl)])
    answer = node.runtime.call("CHECK", "c1", path, prevResult=result)
    assert answer.error == 100
    assert said in answer.json["msg"]


def test_C2_a_check_misses_the_nodes_route(node: LabNode, pin: Pin) -> None:
    path = pin("p1")
    result = node.runtime.add("c1", path).json
    with Rtnl(node.netns) as rtnl:
        name = host_ifname("c1", "eth0")
        route = next(r for r in rtnl.observe().routes.values() if r.ifname == name)
        rtnl.transact([codec.delete_route(route, rtnl.ifindex(name))])
    assert "no route to" in node.runtime.call("CHECK", "c1", path, prevResult=result).json["msg"]


def test_C3_a_check_tolerates_what_a_later_plugin_added(node: LabNode, pin: Pin) -> None:
    path = pin("p1")
    result = node.runtime.add("c1", path).json
    with NetNs.open(path) as netns:
        add_links(netns, Link("net1", LinkKind.VETH, peer=VethPeer("net2")))
    assert node.runtime.call("CHECK", "c1", path, prevResult=result).code == 0


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
def test_G1_gc_frees_all_that_is_not_listed(node: LabNode, pin: Pin, key: str) -> None:
    for number in (1, 2, 3):
        assert node.runtime.add(f"c{number}", pin(f"p{number}")).code == 0
    listed: dict[str, Any] = {key: [{"containerID": "c2", "ifname": "eth0"}]}
    answer = node.runtime.call("GC", **listed)
    assert (answer.code, answer.stdout) == (0, b"")
    node.settle()
    assert node.links() == {host_ifname("c2", "eth0")}
    assert len(node.records()) == 1


def test_G2_an_empty_list_frees_everything_of_this_network_only(node: LabNode, pin: Pin) -> None:
    assert node.runtime.add("c1", pin("p1")).code == 0
    assert node.runtime.add("c2", pin("p2"), name="other").code == 0
    nothing: dict[str, Any] = {"cni.dev/valid-attachments": []}
    assert node.runtime.call("GC", **nothing).code == 0
    node.settle()
    assert node.links() == {host_ifname("c2", "eth0")}


def test_P1_P2_a_wanted_address_and_mac_are_given(node: LabNode, pin: Pin) -> None:
    path = pin("p1")
    wished = {"ips": ["10.244.1.77/24"], "mac": "0a:00:00:00:00:77"}
    answer = node.runtime.add("c1", path, runtimeConfig=wished)
    assert answer.address == "10.244.1.77"
    with NetNs.open(path) as netns:
        assert observe(netns).links["eth0"].mac == "0a:00:00:00:00:77"
    assert node.runtime.add("c2", pin("p2"), runtimeConfig=wished).error == 7


def test_N4_many_adds_at_once_get_different_addresses_and_of_one_attachment_one_wins(
    node: LabNode, pin: Pin
) -> None:
    paths = [pin(f"p{number}") for number in range(12)]
    answers: list[Answer] = []

    def add(number: int, path: Path) -> None:
        answers.append(node.runtime.add(f"c{number}", path))

    calls = [(number, path) for number, path in enumerate(paths)] + [(0, paths[0])] * 8
    threads = [threading.Thread(target=add, args=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    added = [answer.address for answer in answers if answer.code == 0]
    assert len(added) == len(set(added)) == 12
    assert all(answer.error == 101 for answer in answers if answer.code)
