"""The script that a reader runs by hand makes the network that the program makes."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubenet.kernel import iptables
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from kubenet.model.links import LinkState
from labs import ledger
from labs.by_hand import script
from labs.datapath import build_datapath, node_nets, pods_of
from labs.ledger import LabDirectory
from labs.topology import LabSpec
from tests.netns.cni.test_dataplane import reaches

pytestmark = pytest.mark.netns

PODS = 2
NETNS = Path("/run/netns")


@pytest.fixture
def spec(tmp_path: Path) -> Iterator[LabSpec]:
    """A lab that was built by its script alone."""
    made = LabSpec(f"hand{os.getpid()}", nodes=2)
    file = tmp_path / "lab.sh"
    file.write_text(script(made, PODS))
    try:
        subprocess.run(["sh", str(file)], check=True, capture_output=True, text=True)
        yield made
    finally:
        subprocess.run(["sh", str(file), "down"], check=False, capture_output=True)
        assert not list(NETNS.glob(f"{made.name}-*"))


def _state(path: Path) -> LinkState:
    with NetNs.open(path) as netns, Rtnl(netns) as rtnl:
        return rtnl.observe()


def _known(state: LinkState) -> LinkState:
    """What is the same in every run: not the addresses that the kernel draws for links of its own choice."""
    links = {
        name: link for name, link in state.links.items() if not name.startswith("node-") and name != "br0"
    }
    links.pop("eth0", None)
    return LinkState(links, state.addresses, state.routes, state.neighbors, state.fdb)


def test_the_script_builds_the_network_that_the_program_builds(spec: LabSpec, tmp_path: Path) -> None:
    directory = LabDirectory(spec.name, tmp_path / "labs")
    names = ["wire", *(net.name for net in node_nets(spec))]
    names += [pod.name for net in node_nets(spec) for pod in pods_of(net, PODS)]
    ledger.claim(directory, ledger.Ledger(spec.name, ("node-1", "node-2")))
    try:
        with build_datapath(spec, PODS, directory):
            for name in names:
                by_hand, by_program = (_state(NETNS / f"{spec.name}-{name}"), _state(directory.netns(name)))
                assert _known(by_hand) == _known(by_program), name
                assert by_hand.links.keys() == by_program.links.keys()
    finally:
        ledger.take_down(directory)


def test_its_pods_reach_each_other_across_nodes_and_leave_with_the_nodes_address(spec: LabSpec) -> None:
    here, there = (pods_of(net, PODS)[0] for net in node_nets(spec))
    with (
        NetNs.open(NETNS / f"{spec.name}-{here.name}") as one,
        NetNs.open(NETNS / f"{spec.name}-{there.name}") as two,
    ):
        assert reaches(one, two, str(there.address))
    with NetNs.open(NETNS / f"{spec.name}-node-1") as node:
        assert "KUBENET-POSTROUTING" in iptables.save(node, "nat")
