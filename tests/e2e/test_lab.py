"""Labs as a user meets them: two at once, mistakes, and every way to end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kubenet.kernel.process import identify
from labs import ledger
from labs.ledger import LabDirectory
from tests.e2e.cluster import kubenet, lab, leftovers, own

pytestmark = pytest.mark.e2e

MANIFEST = Path(__file__).parents[2] / "labs" / "manifests" / "demo.yaml"


def test_two_labs_run_side_by_side() -> None:
    with lab(own("one"), "--nodes", "2"), lab(own("two"), "--nodes", "1"):
        listed = json.loads(kubenet("lab", "list", "-o", "json").stdout)
        phases = {item["name"]: item["phase"] for item in listed["items"]}
        assert phases.items() >= {(own("one"), "ready"), (own("two"), "ready")}
        for name, count in ((own("one"), 2), (own("two"), 1)):
            shown = json.loads(kubenet("lab", "status", "--name", name, "-o", "json").stdout)
            assert [node["ready"] for node in shown["nodes"]] == ["yes"] * count
        routes = kubenet("lab", "exec", "--name", own("one"), "node-1", "--", "cat", "/proc/net/route").stdout
        assert "kubenet.1" in routes
        kubenet("lab", "down", "--name", own("one"))
        assert leftovers(own("one")) == []
        assert kubenet("lab", "status", "--name", own("two")).returncode == 0
    assert leftovers(own("two")) == []


def test_a_taken_name_is_refused_and_the_lab_lives_on() -> None:
    with lab(own("taken"), "--nodes", "1"):
        refused = kubenet("lab", "up", "--name", own("taken"), check=False)
        assert refused.returncode == 73
        assert "the name is taken" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert kubenet("lab", "status", "--name", own("taken")).returncode == 0


def test_down_after_kill_9_of_the_keeper_with_pods_running_leaves_nothing() -> None:
    with lab(own("kill"), "--nodes", "2"):
        kubenet("apply", "--name", own("kill"), "-f", str(MANIFEST))
        keeper = ledger.read(LabDirectory(own("kill"))).keeper
        assert keeper is not None
        _until_pods_run(own("kill"))
        os.kill(keeper.pid, signal.SIGKILL)
        while identify(keeper.pid):
            time.sleep(0.01)
        assert kubenet("lab", "status", "--name", own("kill"), check=False).returncode == 1
        kubenet("lab", "down", "--name", own("kill"))
        assert leftovers(own("kill")) == []


@pytest.mark.parametrize("delay_s", [0.0, 0.2, 0.5, 0.9])
def test_ctrl_c_while_a_lab_boots_leaves_nothing(delay_s: float) -> None:
    booting = subprocess.Popen(
        [sys.executable, "-m", "kubenet", "lab", "up", "--name", own("int")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (ledger.LABS / own("int")).exists() and booting.poll() is None:
        time.sleep(0.001)  # an interpreter that is only starting has nothing of ours to clean up
    time.sleep(delay_s)
    booting.send_signal(signal.SIGINT)
    printed, said = booting.communicate(timeout=60)
    if "ready in" in printed:  # it was faster than the signal
        kubenet("lab", "down", "--name", own("int"), check=False)
    else:
        assert booting.returncode in (130, -signal.SIGINT), said
    # A keeper that was just being started sees that nobody waits for it, and ends.
    deadline = time.monotonic() + 10
    while (left := leftovers(own("int"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def test_kill_9_of_the_starter_and_the_keeper_while_booting_is_cleaned_by_down() -> None:
    for delay_s in (0.1, 0.4, 0.7):
        booting = subprocess.Popen(
            [sys.executable, "-m", "kubenet", "lab", "up", "--name", own("k9")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(delay_s)
        booting.kill()
        booting.wait()
        time.sleep(0.2)
        kubenet("lab", "down", "--name", own("k9"), check=False)
        assert leftovers(own("k9")) == []


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        pytest.param("kind: [", 65, "stdin:2: not YAML", id="broken manifest"),
        pytest.param(
            "apiVersion: v1\nkind: Widget\nmetadata: {name: w}",
            66,
            "unknown kind 'Widget'",
            id="unknown kind",
        ),
    ],
)
def test_a_bad_manifest_changes_nothing(text: str, code: int, says: str) -> None:
    good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\n---\n"
    with lab(own("bad"), "--nodes", "1"):
        refused = kubenet(
            "apply", "--name", own("bad"), "-f", "-", check=False, input=good + text if code == 66 else text
        )
        assert refused.returncode == code
        assert says in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        with_good = kubenet("apply", "--name", own("bad"), "-f", "-", input=good).stdout
        assert "created" in with_good, "the good object before the bad one must not have been sent"


def test_without_root_one_line_says_so() -> None:
    """The interpreter may lie where only root can read, so the rights go after the imports."""
    script = (
        "import os, sys, kubenet.cli.lab, labs.control, labs.preflight, labs.topology;"
        "from kubenet.cli.main import main;"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534);"
        f"sys.exit(main(['lab', 'up', '--name', {own('user')!r}]))"
    )
    refused = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert refused.returncode == 77
    assert "needs root" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert leftovers(own("user")) == []


def test_a_missing_program_is_named_with_its_package(tmp_path: Path) -> None:
    """In a mount namespace where /usr/sbin/iptables-restore is not there."""
    hide = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None); libc.unshare(0x20000);"
        "libc.mount(None, b'/', None, 0x44000, None);"
        "[libc.mount(sys.argv[1].encode(), os.path.realpath(p).encode(), None, 4096, None)"
        " for p in ('/usr/sbin', '/sbin')];"
        f"os.execv(sys.executable, [sys.executable, '-m', 'kubenet', 'lab', 'up', '--name', {own('prog')!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", hide, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 127, done.stderr
    assert "iptables-restore: no such program" in done.stderr
    assert "apt-get install iptables" in done.stderr
    assert leftovers(own("prog")) == []


def _until_pods_run(name: str) -> None:
    for _ in range(200):
        shown = json.loads(kubenet("lab", "status", "--name", name, "-o", "json").stdout)
        if len(shown["pods"]) == 5 and all(pod["phase"] == "Running" for pod in shown["pods"]):
            return
        time.sleep(0.1)
    pytest.fail(f"pods of {name} do not run: {shown['pods']}")


def test_a_lab_file_gives_networks_wire_and_objects(tmp_path: Path) -> None:
    name = own("file")
    try:
        kubenet("lab", "up", str(MANIFEST.with_name("lossy.yaml")), "--name", name)
        wire = kubenet(
            "lab", "exec", "--name", name, "wire", "--", "nft", "list", "table", "bridge", "impairments"
        )
        assert 'iifname "node-1" oifname "node-2" numgen random mod 10000 < 1000 drop' in wire.stdout
        assert (
            "mtu 1400"
            in kubenet("lab", "exec", "--name", name, "wire", "--", "ip", "link", "show", "node-3").stdout
        )
        tables = kubenet("lab", "exec", "--name", name, "node-1", "--", "nft", "list", "tables").stdout
        assert "kubenet-proxy" in tables
        status = json.loads(kubenet("lab", "status", "--name", name, "-o", "json").stdout)
        assert {node["podCIDR"] for node in status["nodes"]} == {f"10.200.{n}.0/24" for n in range(3)}
        assert [pod["pod"] for pod in status["pods"]] == ["default/web"]
        added = kubenet(
            "lab", "impair", "--name", name, "--from", "node-2", "--to", "node-1", "--partition"
        ).stdout
        assert len(added.splitlines()) == 3
        assert kubenet("lab", "impair", "--name", name, "--clear").stdout == ""
        ports = kubenet("lab", "exec", "--name", name, "wire", "--", "ip", "link", "show", "node-3").stdout
        assert "mtu 1500" in ports
    finally:
        kubenet("lab", "down", "--name", name)


def test_a_lab_file_with_a_mistake_boots_nothing(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(f"name: {own('bad')}\nwire:\n  - {{to: node-7, lossPercent: 5}}\n")
    refused = kubenet("lab", "up", str(file), check=False)
    assert refused.returncode == 2
    assert "no node 'node-7'" in refused.stderr
    assert leftovers(own("bad")) == []
