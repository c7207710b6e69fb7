"""Which pod gets which address: kept, wished, excluded, resting, let go."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cni.gc import GRACE_NS
from ipam.record import Phase
from kubenet.cli.main import cli
from kubenet.kernel.netns import unpin
from kubenet.node.cni_runtime import load_network
from tests.netns.cni.conftest import Answer, LabNode, NodeMaker, Pin

pytestmark = pytest.mark.netns


@pytest.fixture
def node(make_node: NodeMaker, tmp_path: Path) -> LabNode:
    made = make_node(
        pod_cidr="10.244.1.0/29", sticky_path=tmp_path / "sticky.json", settings_path=tmp_path / "agent.yaml"
    )
    made.start()
    return made


def add(node: LabNode, pin: Pin, container_id: str, name: str = "", **annotations: str) -> Answer:
    """Add a pod of that name, as containerd tells of it."""
    env = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": container_id,
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": str(pin(container_id)),
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME={name or container_id}",
    }
    offered: dict[str, Any] = {"io.kubernetes.cri.pod-annotations": annotations}
    conf = {"cniVersion": "1.1.0", "name": "kubenet", "type": "kubenet", "runtimeConfig": offered}
    return node.runtime.execute(env, json.dumps(conf).encode())


STICKY = {"kubenet.dev/sticky-address": "true"}


def ipam(node: LabNode, *words: str) -> Result:
    return CliRunner().invoke(cli, ["ipam", *words, "--socket", str(node.config.socket_path)])


def test_a_pod_that_keeps_its_address_has_it_again_and_no_other_gets_it(node: LabNode, pin: Pin) -> None:
    mine = add(node, pin, "c1", "db-0", **STICKY).address
    assert node.runtime.delete("c1").code == 0
    node.stop()
    node.start()  # it is known to the next agent, too
    others = [add(node, pin, f"o{number}") for number in range(4)]
    assert mine not in [each.address for each in others]
    assert add(node, pin, "o9").error == 11
    assert add(node, pin, "c2", "db-0", **STICKY).address == mine
    again = add(node, pin, "c3", "db-0", **STICKY)
    assert again.error == 11  # the one before has it still
    assert "the pod before" in again.json["msg"]
    assert node.runtime.delete("c2").code == 0
    assert ipam(node, "release", "a/db-0").exit_code == 0
    node.settle()
    assert add(node, pin, "o10").address == mine
    missing = ipam(node, "release", "a/db-0")
    assert missing.exit_code != 0


def test_an_address_wished_by_annotation_is_given(node: LabNode, pin: Pin) -> None:
    assert add(node, pin, "c1", **{"kubenet.dev/addresses": "10.244.1.5"}).address == "10.244.1.5"
    assert add(node, pin, "c2", **{"kubenet.dev/addresses": "10.244.1.5"}).error == 7
    assert add(node, pin, "c3", **{"kubenet.dev/addresses": "somewhere"}).error == 7


def test_ranges_that_the_administrator_excludes_are_followed_without_a_restart(
    node: LabNode, pin: Pin
) -> None:
    assert add(node, pin, "c1").address == "10.244.1.2"
    assert node.agent is not None
    assert node.config.settings_path is not None
    node.config.settings_path.write_text("excludedCIDRs: [10.244.1.2/31, 10.244.1.4/32]\n")
    assert node.agent.drifting()
    node.agent.sync(node.net, ())
    assert [add(node, pin, f"o{number}").address for number in range(2)] == ["10.244.1.5", "10.244.1.6"]
    assert node.runtime.delete("c1").code == 0  # it had its address before
    assert node.runtime.call("STATUS").error == 50
    node.config.settings_path.write_text("")
    node.agent.sync(node.net, ())
    node.settle()
    assert add(node, pin, "c2").code == 0


def test_N7_an_address_rests_as_long_as_the_administrator_says(node: LabNode, pin: Pin) -> None:
    assert node.agent is not None
    assert node.config.settings_path is not None
    for number in range(5):
        assert add(node, pin, f"c{number}").code == 0
    node.config.settings_path.write_text("addressCooldownSeconds: 3600\n")
    node.agent.sync(node.net, ())
    assert node.runtime.delete("c3").code == 0
    node.settle()
    resting = add(node, pin, "d1")
    assert (resting.error, "rest (1)" in resting.json["msg"]) == (11, True)
    node.config.settings_path.write_text("")
    node.agent.sync(node.net, ())
    assert add(node, pin, "d2").address == "10.244.1.5"


def test_N10_gc_prints_and_lets_go_what_is_provably_dead(node: LabNode, pin: Pin) -> None:
    assert add(node, pin, "c1", "web").code == 0
    assert add(node, pin, "c2", "lives").code == 0
    assert "0 would be let go" in ipam(node, "gc", "--dry-run").output
    (record,) = (each for each in node.attached() if each.container_id == "c1")
    unpin(Path(record.netns))
    assert node.agent is not None
    ledger = node.agent.attachments._reservations.ledger
    ledger.adopt(replace(record, created_ns=0), Phase.ATTACHED)  # older than the grace
    while record.host_ifname in node.links():  # the kernel takes the link away by and by
        time.sleep(0.01)
    told = ipam(node, "gc", "--dry-run").output
    assert "1 would be let go" in told
    assert len(node.attached()) == 2
    done = ipam(node, "gc")
    assert "a/web eth0  10.244.1.2" in done.output
    assert [each.container_id for each in node.attached()] == ["c2"]


def test_without_an_agent_gc_says_so(node: LabNode) -> None:
    node.stop()
    assert "no agent answers" in str(ipam(node, "gc").exception)


def test_D3_the_installed_list_has_one_plugin_so_no_other_can_stop_its_del(node: LabNode) -> None:
    (plugin,) = load_network(node.config.conf_dir).conf.plugins
    assert plugin["type"] == "kubenet"


def test_D3_what_a_chain_of_others_never_deletes_is_let_go_once_the_pod_is_gone(
    node: LabNode, pin: Pin
) -> None:
    """libcni stops a DEL at the first plugin that fails; those before it in the list hear of nothing."""
    assert add(node, pin, "c1").code == 0
    (record,) = node.attached()
    unpin(Path(record.netns))
    while record.host_ifname in node.links():
        time.sleep(0.01)
    assert node.agent is not None
    node.agent.attachments.sweep(record.created_ns + 2 * GRACE_NS)
    assert node.nothing_left()
