"""The verbs, from the environment of a caller to its answer."""

import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni.attach import Attachments
from cni.plan import PodWiring
from cni.server import CallerGone
from cni.spec import VERSIONS, CniError, Code
from cni.verbs import Plugin, as_cni_error
from ipam.pool import AddressTaken, PoolExhausted
from ipam.store import StoreFailed
from kubenet.errors import KubenetError, NotFound, TimedOut
from kubenet.kernel.netns import NetNs
from tests.unit.cni.fakes import (
    FakeCaller,
    FakeKernel,
    FakeNetNs,
    FakePublisher,
    FakeWires,
    Faults,
    FaultyStore,
)

NODE_INODE = 4711
POD = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/netns/1", "CNI_IFNAME": "eth0"}


class Node:
    """A plugin upon a fake kernel."""

    def __init__(self, directory: Path, *, opened: bool = True) -> None:
        self.kernel = FakeKernel()
        self.faults = Faults()
        self.attachments = Attachments(
            FaultyStore(directory, self.faults),
            lambda: FakeWires(self.kernel, self.faults),
            FakePublisher(self.kernel, self.faults),
        )
        if opened:
            self.attachments.open([ip_network("10.244.1.0/29")], PodWiring(1450))
        self.plugin = Plugin(self.attachments, FakeNetNs(NODE_INODE))

    def call(self, command: str, inode: int | None = 1, version: str = "1.1.0", **conf: Any) -> FakeCaller:
        fields = {"cniVersion": version, "name": "kubenet", "type": "kubenet", **conf}
        caller = FakeCaller(POD | {"CNI_COMMAND": command}, json.dumps(fields).encode(), inode)
        self.plugin.serve(caller)
        assert len(caller.answers) == 1
        return caller


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "records")


def outcome(caller: FakeCaller) -> tuple[int, dict[str, Any]]:
    """The exit code, and the one document on stdout; nothing on stdout is an empty one."""
    stdout, exit_code = caller.answers[0]
    assert stdout.count(b"\n") == bool(stdout)
    return exit_code, json.loads(stdout) if stdout else {}


def code(caller: FakeCaller) -> int:
    exit_code, document = outcome(caller)
    assert exit_code == 1
    assert document.keys() == {"cniVersion", "code", "msg", "details"}
    return int(document["code"])


def test_an_add_a_check_and_a_del(node: Node) -> None:
    exit_code, result = outcome(node.call("ADD"))
    assert exit_code == 0
    assert result["ips"][0]["address"] == "10.244.1.2/32"
    assert outcome(node.call("CHECK", prevResult=result)) == (0, {})
    assert outcome(node.call("DEL")) == (0, {})


def test_E11_a_namespace_that_could_not_be_opened(node: Node) -> None:
    assert code(node.call("ADD", inode=None)) == 3
    assert code(node.call("CHECK", inode=None, prevResult={})) == 3
    assert node.faults.steps == []


def test_E11_a_path_that_is_no_namespace(node: Node) -> None:
    class NoNamespace(FakeCaller):
        def netns(self) -> NetNs | None:
            raise NotFound("descriptor 3: not a network namespace")

    caller = NoNamespace(POD | {"CNI_COMMAND": "ADD"}, b'{"cniVersion":"1.0.0","name":"x"}')
    node.plugin.serve(caller)
    assert code(caller) == 8


def test_E12_the_nodes_own_namespace_is_refused_before_anything_is_done(node: Node) -> None:
    assert code(node.call("ADD", inode=NODE_INODE)) == 8
    assert node.faults.steps == []


def test_E12_the_nodes_own_namespace_is_taken_on_request(node: Node) -> None:
    caller = FakeCaller(
        POD | {"CNI_COMMAND": "ADD", "CNI_NETNS_OVERRIDE": "1"},
        b'{"cniVersion":"1.0.0","name":"x"}',
        NODE_INODE,
    )
    node.plugin.serve(caller)
    assert outcome(caller)[0] == 0


def test_E14_errors_are_told_in_the_version_they_were_asked_in(node: Node) -> None:
    assert outcome(node.call("ADD", inode=None, version="0.3.1"))[1]["cniVersion"] == "0.3.1"
    assert outcome(node.call("ADD", version="9.9.9"))[1]["cniVersion"] == VERSIONS[-1]


def test_S1_S2_status_is_silent_when_pods_can_be_added_and_50_when_not(tmp_path: Path) -> None:
    waiting = Node(tmp_path / "a", opened=False)
    assert code(waiting.call("STATUS")) == 50
    node = Node(tmp_path / "b")
    assert outcome(node.call("STATUS")) == (0, {})
    for number in range(5):
        request = POD | {"CNI_CONTAINERID": f"c{number}", "CNI_COMMAND": "ADD"}
        node.plugin.serve(FakeCaller(request, b'{"cniVersion":"1.0.0","name":"x"}', number))
    assert code(node.call("STATUS")) == 50


def test_S2_status_is_51_while_the_overlay_is_down(node: Node) -> None:
    node.plugin.limited = "eth0: the node has no such link"
    assert code(node.call("STATUS")) == 51


def test_V1_version_is_answered_by_the_agent_too(node: Node) -> None:
    assert outcome(node.call("VERSION", version="0.4.0"))[1]["supportedVersions"] == list(VERSIONS)


def test_D1_a_del_whose_configuration_cannot_be_read_is_done(node: Node) -> None:
    class Deaf(FakeCaller):
        def stdin(self) -> bytes:
            raise CniError(Code.IO_FAILURE, "stdin cannot be read")

    node.call("ADD")
    caller = Deaf(POD | {"CNI_COMMAND": "DEL"})
    node.plugin.serve(caller)
    assert outcome(caller) == (0, {})
    adding = Deaf(POD | {"CNI_COMMAND": "ADD"}, inode=1)
    node.plugin.serve(adding)
    assert code(adding) == 5


def test_A2_a_caller_that_is_gone_has_added_nothing(node: Node) -> None:
    caller = FakeCaller(POD | {"CNI_COMMAND": "ADD"}, b'{"cniVersion":"1.0.0","name":"x"}', 1, gone=True)
    with pytest.raises(CallerGone):
        node.plugin.serve(caller)
    assert node.kernel.is_clean
    assert node.attachments.records == []


@pytest.mark.parametrize(
    ("error", "number"),
    [
        pytest.param(PoolExhausted(ip_network("10.0.0.0/24"), 252), 11, id="E13 pool exhausted"),
        pytest.param(TimedOut("busy"), 11, id="somebody else is working on it"),
        pytest.param(AddressTaken("10.0.0.1: in use"), 7, id="the address asked for is in use"),
        pytest.param(StoreFailed("no space"), 5, id="N2 disk full"),
        pytest.param(KubenetError("make veth: Device or resource busy"), 102, id="N2 the kernel refused"),
        pytest.param(CniError(Code.INVALID_CONFIG, "x"), 7, id="a numbered error stays"),
    ],
)
def test_every_failure_has_its_number(error: KubenetError, number: int) -> None:
    assert as_cni_error(error).code == number
    assert str(as_cni_error(error)) == str(error)


def test_only_a_del_can_be_put_off(node: Node) -> None:
    node.call("ADD")
    with pytest.raises(CniError):
        node.plugin.replay(POD | {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c2"}, 2**62)
    assert len(node.attachments.records) == 1
    node.plugin.replay(POD | {"CNI_COMMAND": "DEL"}, 2**62)
    assert node.attachments.records == []


def test_a_wish_is_passed_on(node: Node) -> None:
    _, result = outcome(node.call("ADD", mtu=1300, runtimeConfig={"ips": ["10.244.1.5/32"]}))
    assert result["ips"][0]["address"] == "10.244.1.5/32"
    assert [entry["mtu"] for entry in result["interfaces"]] == [1300, 1300]


def test_A4_the_result_of_an_earlier_plugin_is_passed_on(node: Node) -> None:
    _, result = outcome(node.call("ADD", prevResult={"routes": [{"dst": "192.0.2.0/24"}], "odd": 1}))
    assert result["routes"][0] == {"dst": "192.0.2.0/24"}
    assert result["odd"] == 1
