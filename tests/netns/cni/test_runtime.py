"""``kubenet cni`` as libcni: our plugin, and chains of plugins that write down what they are told (L1)."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cni.install import CONFLIST
from cni.plan import host_ifname
from kubenet.cli.main import cli
from kubenet.errors import KubenetError, NotFound
from kubenet.kernel import codec
from kubenet.kernel.rtnl import Rtnl
from kubenet.node.cni_conf import Attachment
from kubenet.node.cni_runtime import CniRuntime, Network, NetworkNotReady, PluginFailed, load_network
from tests.netns.cni.conftest import LabNode, Pin

pytestmark = pytest.mark.netns

# A plugin that appends what it was told to a file, and fails when its configuration says so.
PLUGIN = """#!{python} -IS
import json, os, sys
conf = json.load(sys.stdin)
command = os.environ["CNI_COMMAND"]
with open({log!r}, "a") as log:
    log.write(json.dumps([command, conf, os.environ.get("CNI_ARGS", "")]) + chr(10))
if command in conf.get("failing", []):
    print(json.dumps(dict(code=11, msg="not now")))
    sys.exit(1)
if command == "ADD":
    before = conf.get("prevResult", dict(ips=[]))
    print(json.dumps(dict(before, cniVersion=conf["cniVersion"], last=conf["mark"])))
if command == "VERSION":
    print(json.dumps(dict(cniVersion="1.1.0", supportedVersions=["1.0.0", "1.1.0"])))
"""


class Chain:
    """A network of two such plugins."""

    def __init__(self, directory: Path, **conf: Any) -> None:
        self.log = directory / "log"
        self.bin_dir = directory / "bin"
        self.bin_dir.mkdir()
        plugin = self.bin_dir / "teller"
        plugin.write_text(PLUGIN.format(python=sys.executable, log=str(self.log)))
        plugin.chmod(0o755)
        self.conf_path = directory / "10-t.conflist"
        self.directory = directory
        self.write(**conf)
        self.runtime = CniRuntime((self.bin_dir,), directory / "cache")

    def write(self, failing: tuple[str, ...] = (), **conf: Any) -> None:
        plugins = [
            {"type": "teller", "mark": "one", "capabilities": {"mac": True, "ips": False}},
            {"type": "teller", "mark": "two", "failing": list(failing)},
        ]
        text = json.dumps({"cniVersion": "1.1.0", "name": "told", "plugins": plugins, **conf})
        self.conf_path.write_text(text)

    @property
    def network(self) -> Network:
        return load_network(self.conf_path)

    def told(self) -> list[tuple[str, dict[str, Any], str]]:
        """What the plugins were told since the last time."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [tuple(json.loads(line)) for line in lines]

    def said(self) -> list[tuple[str, str]]:
        return [(command, conf.get("mark", "")) for command, conf, _ in self.told()]


POD = Attachment("c1", "/run/netns/c1", "eth0", "", "", "", (("IgnoreUnknown", "1"), ("COLOR", "blue")))


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return Chain(tmp_path)


def test_L1_an_add_goes_through_the_list_and_a_del_goes_back_with_its_result(chain: Chain) -> None:
    result = chain.runtime.add(chain.network, POD, {"mac": "0a:00:00:00:00:01", "ips": ["10.0.0.1"]})
    assert result["last"] == "two"
    first, second = chain.told()
    assert first[1]["runtimeConfig"] == {"mac": "0a:00:00:00:00:01"}
    assert "runtimeConfig" not in second[1]
    assert second[1]["prevResult"]["last"] == "one"
    assert first[2] == "IgnoreUnknown=1;COLOR=blue"
    cached = json.loads((chain.directory / "cache/results/told-c1-eth0").read_bytes())
    assert cached["kind"] == "cniCacheV1"
    assert base64.b64decode(cached["config"]) == chain.conf_path.read_bytes()
    assert cached["result"] == result
    chain.runtime.check(chain.network, POD)
    assert chain.said() == [("CHECK", "one"), ("CHECK", "two")]
    chain.runtime.delete(chain.network, POD)
    back = chain.told()
    assert [(command, conf["mark"]) for command, conf, _ in back] == [("DEL", "two"), ("DEL", "one")]
    assert all(conf["prevResult"] == result for _, conf, _ in back)
    assert list((chain.directory / "cache/results").iterdir()) == []


def test_L1_D2_a_del_and_a_check_follow_the_list_of_the_add_whatever_it_is_by_now(chain: Chain) -> None:
    chain.runtime.add(chain.network, POD, {})
    only = [{"type": "teller", "mark": "another"}]
    chain.write(plugins=only)
    chain.told()
    chain.runtime.check(chain.network, POD)
    chain.runtime.delete(chain.network, POD)
    assert chain.said() == [("CHECK", "one"), ("CHECK", "two"), ("DEL", "two"), ("DEL", "one")]
    chain.write(plugins=only, loadOnlyInlinedPlugins=False)
    (chain.directory / "told").mkdir()
    extra = chain.directory / "told" / "50-three.conf"
    extra.write_text(json.dumps({"type": "teller", "mark": "three"}))
    chain.runtime.add(chain.network, POD, {})
    extra.unlink()
    chain.told()
    chain.runtime.delete(chain.network, POD)
    assert chain.said() == [("DEL", "three"), ("DEL", "another")]


def test_L1_D2_a_pod_is_detached_from_the_network_that_it_is_on_whatever_is_there(
    chain: Chain,
) -> None:
    chain.runtime.add(chain.network, POD, {})
    chain.write(name="renamed", plugins=[{"type": "teller", "mark": "another"}])
    chain.told()
    chain.runtime.detach(POD, chain.directory)
    assert chain.said() == [("DEL", "two"), ("DEL", "one")]
    chain.runtime.detach(POD, chain.directory)  # of what was never attached, the network of today is told
    assert chain.said() == [("DEL", "another")]
    chain.runtime.add(chain.network, POD, {})
    chain.conf_path.unlink()
    chain.told()
    chain.runtime.detach(POD, chain.directory)
    assert chain.said() == [("DEL", "another")]
    with pytest.raises(NetworkNotReady):
        chain.runtime.detach(POD, chain.directory)


def test_L1_a_del_of_what_was_never_added_runs_all_the_same_and_a_check_does_not(chain: Chain) -> None:
    chain.runtime.delete(chain.network, POD)
    assert chain.said() == [("DEL", "two"), ("DEL", "one")]
    with pytest.raises(NotFound, match="c1 eth0"):
        chain.runtime.check(chain.network, POD)


def test_L1_gc_deletes_what_is_stale_tells_the_plugins_and_goes_on_after_errors(chain: Chain) -> None:
    for number in ("c1", "c2", "c3"):
        chain.write(failing=("DEL",) if number == "c2" else ())
        chain.runtime.add(chain.network, Attachment(number, "", "eth0", "", "", ""), {})
    chain.told()
    chain.runtime.collect(chain.network, [("c2", "eth0")])
    told = chain.told()
    assert [command for command, _, _ in told] == ["DEL"] * 4 + ["GC"] * 2
    assert told[-1][1]["cni.dev/valid-attachments"] == [{"containerID": "c2", "ifname": "eth0"}]
    assert told[-1][1]["cni.dev/attachments"] == told[-1][1]["cni.dev/valid-attachments"]
    with pytest.raises(PluginFailed, match="not now"):
        chain.runtime.collect(chain.network, [])
    assert [command for command, _, _ in chain.told()] == ["DEL", "GC", "GC"]
    assert [path.name for path in (chain.directory / "cache/results").iterdir()] == ["told-c2-eth0"]


def test_L1_what_is_switched_off_is_not_done(chain: Chain) -> None:
    chain.write(disableCheck="true", disableGC=True)
    chain.runtime.check(chain.network, POD)
    chain.runtime.collect(chain.network, [])
    assert chain.said() == []
    chain.write(cniVersion="1.0.0")
    chain.runtime.status(chain.network)
    assert chain.said() == []
    chain.write(cniVersion="0.3.1")
    with pytest.raises(KubenetError, match=r"0\.3\.1"):
        chain.runtime.check(chain.network, POD)


def test_L1_plugins_of_the_networks_own_directory_come_behind(chain: Chain) -> None:
    directory = chain.directory / "told"
    directory.mkdir()
    (directory / "50-three.conf").write_text(json.dumps({"type": "teller", "mark": "three"}))
    chain.runtime.status(chain.network)
    assert chain.said() == [("STATUS", "one"), ("STATUS", "two")]
    chain.write(loadOnlyInlinedPlugins=False)
    chain.runtime.status(chain.network)
    assert chain.said() == [("STATUS", "one"), ("STATUS", "two"), ("STATUS", "three")]
    assert chain.runtime.versions("teller") == ("1.0.0", "1.1.0")


def test_L1_our_own_plugin_from_its_installed_list(node: LabNode, pin: Pin, tmp_path: Path) -> None:
    runtime = CniRuntime((node.config.bin_dir,), tmp_path / "cache")
    network = load_network(node.config.conf_dir)
    assert network.conf.cni_version == "1.1.0"
    assert (node.config.conf_dir / CONFLIST).is_file()
    pod = Attachment("c1", str(pin("p")), "eth0", "", "", "")
    ports: Any = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    with node.netns.entered():
        assert runtime.add(network, pod, ports)["cniVersion"] == "1.1.0"
        runtime.check(network, pod)
        runtime.status(network)
        runtime.collect(network, [("c1", "eth0")])
        assert len(node.attached()) == 1
        assert node.attached()[0].host_ports
        runtime.collect(network, [])
    assert node.nothing_left()


def test_ipam_list_and_audit_tell_what_the_agent_holds(node: LabNode, pin: Pin) -> None:
    path = pin("p")
    assert node.runtime.add("c1", path).code == 0
    state = ["--state-dir", str(node.config.state_dir)]
    with node.netns.entered():
        listed = CliRunner().invoke(cli, ["ipam", "list", *state])
        assert "10.244.1.2" in listed.output
        assert "attached" in listed.output
        assert CliRunner().invoke(cli, ["ipam", "audit", *state]).exit_code == 0
        with Rtnl() as rtnl:
            rtnl.transact([codec.delete_link(ifname=host_ifname("c1", "eth0"))])
        audited = CliRunner().invoke(cli, ["ipam", "audit", *state])
    assert audited.exit_code == 1
    assert "is gone" in audited.output
