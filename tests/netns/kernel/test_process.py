"""Processes by identity, what is pinned where, and what a device has counted."""

import socket
import sys
from pathlib import Path

import pytest

from kubenet.kernel.counters import link_counters
from kubenet.kernel.mounts import pinned_namespaces
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.process import ProcessId, end, identify, own_identity
from kubenet.kernel.run import run, spawn

pytestmark = pytest.mark.netns

IDLE = (sys.executable, "-I", "-S", "-c", "import signal; signal.pause()")


def test_a_process_is_known_by_number_and_start() -> None:
    child = spawn(IDLE)
    identity = identify(child.pid)
    assert identity is not None
    assert identity.alive()
    assert not ProcessId(child.pid, identity.started_ticks + 1).alive()
    assert end([identity]) == []
    assert not identity.alive(), "a zombie is not alive"
    child.wait(1.0)
    assert identify(child.pid) is None


def test_a_stranger_with_the_same_number_gets_no_signal() -> None:
    child = spawn(IDLE)
    try:
        identity = identify(child.pid)
        assert identity is not None
        assert end([ProcessId(child.pid, identity.started_ticks + 1)]) == []
        assert child.poll() is None
    finally:
        child.terminate(0)


def test_a_program_name_with_spaces_and_parentheses_is_read(tmp_path: Path) -> None:
    program = tmp_path / "a ) (b) 1"
    program.symlink_to("/bin/sleep")
    child = spawn([program, "30"])
    try:
        assert identify(child.pid) is not None
        assert identify(child.pid) != own_identity()
    finally:
        child.terminate(0)


def test_pins_are_found_youngest_first_and_only_below_the_directory(tmp_path: Path) -> None:
    inside, beside = tmp_path / "in side", tmp_path / "in side-2"
    for path in (inside / "a", inside / "b", beside / "c"):
        NetNs.create(path).close()
    try:
        assert pinned_namespaces(inside) == [inside / "b", inside / "a"]
    finally:
        for path in (inside / "a", inside / "b", beside / "c"):
            unpin(path)
    assert pinned_namespaces(tmp_path) == []


def test_a_device_counts_in_its_own_namespace(tmp_path: Path) -> None:
    with NetNs.create(tmp_path / "n") as netns:
        try:
            run([sys.executable, "-c", "pass"], netns=netns)
            assert set(link_counters(netns)) == {"lo"}
            with netns.entered():
                assert Path("/proc/thread-self/ns/net").stat().st_ino == netns.inode
            before = link_counters(netns)["lo"].rx_packets
            with (
                netns.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
                pytest.raises(OSError, match="unreachable"),
            ):
                probe.sendto(b"x", ("10.0.0.1", 9))
            assert link_counters(netns)["lo"].rx_packets == before
        finally:
            unpin(tmp_path / "n")
