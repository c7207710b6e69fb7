"""The manifest and the unit that an administrator uses fit the command, and ask for no more than it needs."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubenet.cli.agent import agent

DEPLOY = Path(__file__).parents[3] / "deploy"


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    texts = [(DEPLOY / name).read_text() for name in ("agent-rbac.yaml", "agent.yaml")]
    return {each["kind"]: each for text in texts for each in yaml.safe_load_all(text) if each}


def options(words: list[str]) -> dict[str, Any]:
    """The agent's options as the command reads them."""
    return agent.make_context("agent", [*words]).params


def test_the_daemon_sets_arguments_are_the_commands(objects: dict[str, Any]) -> None:
    (container,) = objects["DaemonSet"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == "agent"
    params = options([*container["args"][1:], "--node-name", "n"])
    assert (params["bin_dir"], params["conf_dir"]) == (Path("/opt/cni/bin"), Path("/etc/cni/net.d"))
    assert params["cluster_cidrs"]
    assert {each["name"] for each in container["env"]} == {"NODE_NAME"}


def test_all_that_the_agent_leaves_on_the_node_is_the_nodes_own(objects: dict[str, Any]) -> None:
    pod = objects["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    paths = {each["name"]: each["hostPath"]["path"] for each in pod["volumes"] if "hostPath" in each}
    assert {name: path for name, path in mounts.items() if name in paths} == paths
    assert set(mounts) - set(paths) == {"settings"}
    params = options([*container["args"][1:], "--node-name", "n"])
    for needed in (params["bin_dir"], params["conf_dir"], params["state_dir"], params["socket_path"].parent):
        assert str(needed) in paths.values()
    assert pod["hostNetwork"]


def test_S11_its_rights_are_what_it_uses(objects: dict[str, Any]) -> None:
    assert objects["ClusterRole"]["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]


def test_the_units_command_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (DEPLOY / "kubenet-agent.service").read_text().splitlines()
    (start,) = (line.partition("=")[2] for line in lines if line.startswith("ExecStart="))
    monkeypatch.setenv("NODE_NAME", "n")
    words = shlex.split(start)
    assert words[1] == "agent"
    params = options(words[2:])
    assert params["node_name"] == "n"
    assert params["cluster_cidrs"] == ("${CLUSTER_CIDR}",)


def test_S1_the_unit_keeps_no_more_privileges_than_the_agents_own_test_has() -> None:
    from tests.netns.cni.test_overlay import CAPABILITIES

    lines = (DEPLOY / "kubenet-agent.service").read_text().splitlines()
    (kept,) = (line.partition("=")[2] for line in lines if line.startswith("CapabilityBoundingSet="))
    assert sorted(word.removeprefix("CAP_").lower() for word in kept.split()) == sorted(CAPABILITIES)
