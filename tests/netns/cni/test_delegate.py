"""``kubenet-ipam`` in other chains, and ``loopback`` as containerd calls it (rows L2, R5, D1, C2, S2)."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni.install import IPAM, LOOPBACK, PLUGIN, ShimKind, install_plugin, uninstall
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import ENVIRONMENT, run
from tests.netns.cni.conftest import Answer, LabNode, NodeMaker, Pin, Runtime, observe

pytestmark = pytest.mark.netns

REFERENCE = Path("/usr/lib/cni")
needs_bridge = pytest.mark.skipif(
    not (REFERENCE / "bridge").is_file(), reason="needs apt-get install containernetworking-plugins"
)
ROUTES = [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.244.1.6"}]


@pytest.fixture(params=list(ShimKind), ids=lambda kind: str(kind.value))
def node(request: pytest.FixtureRequest, make_node: NodeMaker) -> LabNode:
    made = make_node(kind=request.param, pod_cidr="10.244.1.0/29")
    made.start()
    return made


def conf(version: str = "1.0.0", **changes: Any) -> dict[str, Any]:
    """Another plugin's configuration, as it hands it to its address manager."""
    return {
        "cniVersion": version,
        "name": "theirs",
        "type": "bridge",
        "bridge": "br9",
        "isGateway": True,
        "ipam": {"type": IPAM, "routes": ROUTES},
        **changes,
    }


def manager(node: LabNode) -> Runtime:
    """Calls the address manager by itself."""
    return Runtime(node.config.bin_dir / IPAM, node.netns)


def bridge(node: LabNode, command: str, path: Path | str, ifname: str = "eth0", **changes: Any) -> Answer:
    """Call Debian's plugin ``bridge``, which calls our address manager."""
    env = {
        **ENVIRONMENT,
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": ifname,
        "CNI_NETNS": str(path),
        "CNI_PATH": str(node.config.bin_dir),
    }
    stdin = json.dumps(conf(**changes)).encode()
    done = run([REFERENCE / "bridge"], netns=node.netns, stdin=stdin, env=env, timeout_s=20, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_R5_an_address_manager_tells_addresses_and_no_interfaces(
    node: LabNode, pin: Pin, version: str
) -> None:
    path = pin("p")
    answer = manager(node).add("c1", path, **conf(version))
    assert answer.code == 0, answer
    assert "interfaces" not in answer.json
    (entry,) = answer.json["ips"]
    assert "interface" not in entry
    assert (entry["address"], entry["gateway"]) == ("10.244.1.2/29", "10.244.1.1")
    assert answer.json["routes"] == ROUTES
    with NetNs.open(path) as netns:
        assert set(observe(netns).links) == {"lo"}
    assert not node.links()
    assert manager(node).delete("c1", path, **conf(version)).code == 0
    assert node.nothing_left()


def test_C2_A1_D1_an_address_manager_checks_refuses_twice_and_frees_without_anything(
    node: LabNode, pin: Pin
) -> None:
    path, ours = pin("p"), manager(node)
    result = ours.add("c1", path, **conf()).json
    assert ours.add("c1", path, **conf()).error == 101
    before = {**result, "interfaces": [{"name": "eth0", "sandbox": str(path)}]}
    assert ours.call("CHECK", "c1", path, **conf(prevResult=before)).code == 0
    other = {**before, "ips": [{"address": "10.244.1.5/29"}]}
    assert ours.call("CHECK", "c1", path, **conf(prevResult=other)).error == 100
    assert ours.delete("c1", "", **conf()).code == 0
    assert ours.call("CHECK", "c1", path, **conf(prevResult=before)).error == 100
    assert ours.delete("c1", "", **conf()).code == 0
    assert node.nothing_left()


def test_S2_G1_an_address_manager_tells_when_it_is_full_and_collects(node: LabNode, pin: Pin) -> None:
    ours = manager(node)
    for number in range(5):
        assert ours.add(f"c{number}", pin(f"p{number}"), **conf("1.1.0")).code == 0
    assert ours.call("STATUS", **conf("1.1.0")).error == 50
    assert ours.add("c9", pin("p9"), **conf("1.1.0")).error == 11
    listed: dict[str, Any] = {"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    assert ours.call("GC", **conf("1.1.0", **listed)).code == 0
    assert ours.call("STATUS", **conf("1.1.0")).code == 0
    assert [record.container_id for record in node.attached()] == ["c1"]


def test_A5_addresses_of_others_survive_a_restart_and_a_sweep(node: LabNode, pin: Pin) -> None:
    assert manager(node).add("c1", pin("p"), **conf()).code == 0
    node.stop()
    agent = node.start()
    agent.tend()
    agent.attachments.sweep(2**62)  # long after
    assert [record.container_id for record in node.attached()] == ["c1"]
    assert manager(node).add("c2", pin("q"), **conf()).address != "10.244.1.2"


@needs_bridge
def test_L2_debians_bridge_runs_with_our_addresses(node: LabNode, pin: Pin) -> None:
    path = pin("p")
    answer = bridge(node, "ADD", path)
    assert answer.address == "10.244.1.2"
    with NetNs.open(path) as netns:
        inside = observe(netns)
        assert "10.244.1.2/29" in {str(a.interface) for a in inside.addresses}
        assert "192.0.2.0/24" in map(str, inside.routes)
    assert bridge(node, "CHECK", path, prevResult=answer.json).code == 0
    assert bridge(node, "DEL", path, prevResult=answer.json).code == 0
    assert bridge(node, "DEL", path, prevResult=answer.json).code == 0
    assert node.nothing_left()


@needs_bridge
def test_L2_an_address_comes_back_when_the_plugin_that_asked_for_it_fails(node: LabNode, pin: Pin) -> None:
    """After our ADD the plugin fails, and sends the DEL to us."""
    broken = bridge(
        node, "ADD", pin("p"), ipam={"type": IPAM, "routes": [{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}]}
    )
    assert broken.code != 0
    assert "203.0.113.1" in broken.stdout.decode() or "unreachable" in broken.stdout.decode()
    assert node.nothing_left()


@needs_bridge
def test_L2_our_refusal_goes_through_the_plugin_that_asked(node: LabNode, pin: Pin) -> None:
    for number in range(5):
        assert manager(node).add(f"full{number}", pin(f"p{number}"), **conf()).code == 0
    refused = bridge(node, "ADD", pin("p9"))
    assert refused.code == 1
    assert (refused.json["code"], "10.244.1.0/29" in refused.json["msg"]) == (11, True)
    node.stop()
    refused = bridge(node, "ADD", pin("p10"))
    assert refused.json["code"] == 11
    assert bridge(node, "DEL", "").code == 0  # kept for the next agent


def test_E10_ranges_of_the_configuration_are_not_passed_over(node: LabNode, pin: Pin) -> None:
    ipam = {"type": IPAM, "ranges": [[{"subnet": "10.9.0.0/24"}]]}
    answer = manager(node).add("c1", pin("p"), **conf(ipam=ipam))
    assert answer.error == 2
    assert "ipam.ranges" in answer.json["msg"]


def test_loopback_is_brought_up_as_containerd_asks_for_it(node: LabNode, pin: Pin) -> None:
    path = pin("p")
    plugin = replace(node.runtime, plugin=node.config.bin_dir / LOOPBACK, version="0.3.1")
    theirs = {"name": "cni-loopback", "type": "loopback"}
    answer = plugin.add("c1", path, "lo", **theirs)
    assert [entry["address"] for entry in answer.json["ips"]] == ["127.0.0.1/8", "::1/128"]
    assert answer.json["interfaces"] == [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": str(path)}]
    with NetNs.open(path) as netns:
        assert observe(netns).links["lo"].up
        check = replace(plugin, version="1.0.0")
        assert check.call("CHECK", "c1", path, "lo", **theirs, prevResult=answer.json).code == 0
        run(["ip", "link", "set", "lo", "down"], netns=netns)
        assert check.call("CHECK", "c1", path, "lo", **theirs, prevResult=answer.json).error == 100
    assert plugin.delete("c1", path, "lo", **theirs).code == 0
    assert node.nothing_left()


def test_another_loopback_is_left_alone_and_ours_goes_with_the_rest(tmp_path: Path, shim_cache: Path) -> None:
    bins, confs = tmp_path / "bin", tmp_path / "net.d"
    install_plugin(bins, tmp_path / "cni.sock", cache=shim_cache)
    assert {path.name for path in bins.iterdir()} == {PLUGIN, IPAM, LOOPBACK}
    assert {path.name for path in uninstall(bins, confs)} == {PLUGIN, IPAM, LOOPBACK}
    (bins / LOOPBACK).write_text("somebody else's")
    install_plugin(bins, tmp_path / "cni.sock", cache=shim_cache)
    assert (bins / LOOPBACK).read_text() == "somebody else's"
    assert {path.name for path in uninstall(bins, confs)} == {PLUGIN, IPAM}
