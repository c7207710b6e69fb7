"""Taking a lab down on the real kernel, in every state it can be left in."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubenet.errors import NotFound
from kubenet.kernel import sysctl
from kubenet.kernel.mounts import pinned_namespaces
from kubenet.kernel.netns import NetNs
from kubenet.kernel.process import ProcessId, identify
from kubenet.kernel.rtnl import Rtnl
from kubenet.kernel.run import Child, spawn
from kubenet.model.links import Link, LinkKind, LinkState, diff_state, state_of
from labs import ledger, witness
from labs.build import build_underlay
from labs.ledger import LabDirectory, Ledger
from labs.topology import LabSpec, topology

pytestmark = pytest.mark.netns

SLEEP = (sys.executable, "-I", "-S", "-c", "import signal; signal.pause()")
# Ends only by SIGKILL, as a stuck daemon does.
STUBBORN = (
    sys.executable,
    "-I",
    "-S",
    "-c",
    "import signal; signal.signal(15, signal.SIG_IGN); signal.pause()",
)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabDirectory]:
    directory = LabDirectory("t", tmp_path / "run" / "labs")
    yield directory
    try:
        ledger.take_down(directory)
    except NotFound:
        pass


def _claimed(lab: LabDirectory, keeper: ProcessId | None = None) -> None:
    ledger.claim(lab, Ledger("t", ("node-1",), keeper))


def _identity(child: Child) -> ProcessId:
    identity = identify(child.pid)
    assert identity is not None
    return identity


def test_nothing_is_left_of_a_lab_with_daemons_and_pods(lab: LabDirectory) -> None:
    keeper = spawn(STUBBORN)
    _claimed(lab, _identity(keeper))
    with build_underlay(topology(LabSpec("t", 2)), lab) as underlay:
        daemon = spawn(STUBBORN, netns=underlay.nodes["node-1"])
        with NetNs.create(lab.node("node-1") / "netns" / "pod") as pod:
            in_pod = spawn(SLEEP, netns=pod)
    assert len(pinned_namespaces(lab.path)) == 4
    ledger.take_down(lab)
    assert [child.wait(1.0) for child in (keeper, daemon, in_pod)] == [-9, -9, -9]
    assert pinned_namespaces(lab.root) == []
    assert not lab.root.parent.exists() or list(lab.root.parent.iterdir()) == []


@pytest.mark.parametrize("keeper_lives", [True, False], ids=["keeper lives", "keeper was killed"])
def test_what_the_keeper_had_running_on_the_machine_ends_with_it(
    lab: LabDirectory, keeper_lives: bool
) -> None:
    code = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); sys.stdin.read()"
    reader, writer = os.pipe()
    held, hold = os.pipe()
    keeper = spawn((sys.executable, "-I", "-c", code, *SLEEP), stdin=held, stdout=writer)
    _claimed(lab, _identity(keeper))
    helper = int(os.read(reader, 32))
    if not keeper_lives:
        keeper.signal(signal.SIGKILL)
        keeper.wait(5.0)
    assert identify(helper) is not None
    ledger.take_down(lab)
    assert identify(helper) is None
    keeper.wait(5.0)
    for descriptor in (reader, writer, held, hold):
        os.close(descriptor)


def test_a_process_outside_the_lab_lives_on(lab: LabDirectory) -> None:
    bystander = spawn(SLEEP)
    try:
        _claimed(lab)
        with build_underlay(topology(LabSpec("t", 1)), lab):
            pass
        ledger.take_down(lab)
        assert bystander.poll() is None
    finally:
        bystander.terminate(0)


def test_a_keeper_number_that_now_belongs_to_another_process_is_left_alone(lab: LabDirectory) -> None:
    stranger = spawn(SLEEP)
    try:
        _claimed(lab, ProcessId(stranger.pid, _identity(stranger).started_ticks - 1))
        ledger.take_down(lab)
        assert stranger.poll() is None
    finally:
        stranger.terminate(0)


def test_a_damaged_ledger_does_not_keep_a_lab_alive(lab: LabDirectory) -> None:
    _claimed(lab)
    with build_underlay(topology(LabSpec("t", 1)), lab):
        pass
    lab.ledger.write_bytes(b"\x00garbage")
    ledger.take_down(lab)
    assert not lab.path.exists()


def test_two_labs_do_not_meet(tmp_path: Path) -> None:
    root = tmp_path / "labs"
    first, second = LabDirectory("one", root), LabDirectory("two", root)
    for lab in (first, second):
        ledger.claim(lab, Ledger(lab.name, ()))
        with build_underlay(topology(LabSpec(lab.name, 2)), lab):
            pass
    ledger.take_down(first)
    assert ledger.names(root) == ["two"]
    assert len(pinned_namespaces(second.path)) == 3
    ledger.take_down(second)
    assert not root.exists()


def test_a_node_that_cannot_be_built_leaves_no_namespace(lab: LabDirectory) -> None:
    _claimed(lab)
    lab.netns("node-2").parent.mkdir()
    lab.netns("node-2").touch()  # the name is taken
    with pytest.raises(Exception, match="node-2"):
        build_underlay(topology(LabSpec("t", 3)), lab)
    assert pinned_namespaces(lab.path) == []


def test_nodes_reach_each_other_over_the_wire(lab: LabDirectory) -> None:
    _claimed(lab)
    with build_underlay(topology(LabSpec("t", 2)), lab) as underlay:
        listener = underlay.nodes["node-2"].socket(2, 1)
        listener.bind(("172.30.0.2", 7))
        listener.listen()
        client = underlay.nodes["node-1"].socket(2, 1)
        client.settimeout(5)
        client.connect(("172.30.0.2", 7))
        peer, address = listener.accept()
        assert address[0] == "172.30.0.1"
        for each in (peer, client, listener):
            each.close()


def test_the_machine_keeps_its_links(lab: LabDirectory) -> None:
    before = witness.observe()
    _claimed(lab)
    with build_underlay(topology(LabSpec("t", 2)), lab):
        assert witness.differences(before, witness.observe()) == []


def test_a_change_of_the_machine_is_noticed(lab: LabDirectory) -> None:
    """The witness itself: in a namespace of the lab, a new link and a changed setting show."""
    _claimed(lab)
    with build_underlay(topology(LabSpec("t", 1)), lab) as underlay, underlay.nodes["node-1"].entered():
        before = witness.observe()
        sysctl.write(None, "net.ipv4.ip_forward", 0)
        with Rtnl() as rtnl:
            rtnl.apply(diff_state(LinkState(), state_of(Link("new0", LinkKind.BRIDGE))))
        changed = "\n".join(witness.differences(before, witness.observe()))
    assert "new0" in changed
    assert "ipv4/ip_forward" in changed
