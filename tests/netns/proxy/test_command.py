"""The command, in a node's namespace."""

import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kubenet.kernel import iptables, sysctl
from kubenet.kernel.run import Completed, run, spawn
from tests.netns.proxy.test_status import SERVICE, SLICE, endpoint
from tests.netns.proxy.world import World, backend_ip

pytestmark = pytest.mark.netns

VIP = "10.96.7.7"


def command(*words: str) -> Sequence[str]:
    return [sys.executable, "-m", "kubenet", "proxy", *words]


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(SERVICE + SLICE + endpoint(2))
    return path


def ran(world: World, *words: str) -> Completed:
    return run(command(*words), netns=world.node, check=False, timeout_s=60)


def rules(world: World) -> str:
    return iptables.save(world.node, "nat") + iptables.save(world.node, "filter")


def test_once_writes_the_rules_and_cleanup_takes_them_out(world: World, cluster: Path) -> None:
    iptables.restore(
        world.node, "*nat\n-A OUTPUT -d 192.0.2.1/32 -j RETURN\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n"
    )
    done = ran(world, "--source-file", str(cluster), "--proxy-mode", "iptables", "--once")
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert world.connect(world.client, VIP).backend == backend_ip(2)
    again = ran(world, "--source-file", str(cluster), "--proxy-mode", "iptables", "--once")
    assert b"0 written" in again.stdout  # row 78
    assert ran(world, "--cleanup").returncode == 0
    assert "KUBE" not in rules(world)
    assert "-d 192.0.2.1/32 -j RETURN" in rules(world)  # row 77
    assert ran(world, "--cleanup").stdout == b"0 chains and tables removed\n"


def test_A6_row66_cleanup_takes_out_what_kube_proxy_left(world: World) -> None:
    run(["nft", "add", "table", "ip", "kube-proxy"], netns=world.node)
    iptables.restore(
        world.node,
        "*filter\n:KUBE-FORWARD - [0:0]\n:KUBE-KUBELET - [0:0]\n"
        "-A FORWARD -m comment --comment x -j KUBE-FORWARD\n-A KUBE-KUBELET -j KUBE-FORWARD\nCOMMIT\n",
    )
    assert ran(world, "--cleanup").returncode == 0
    left = rules(world)
    assert "-A FORWARD" not in left
    assert "-A KUBE-KUBELET -j KUBE-FORWARD" in left  # a stranger's, so the chain stays, empty
    assert "kube-proxy" not in run(["nft", "list", "tables"], netns=world.node).stdout.decode()


def test_dry_run_prints_and_changes_nothing(world: World, cluster: Path) -> None:
    before = rules(world)
    done = ran(world, "--source-file", str(cluster), "--proxy-mode", "iptables", "--dry-run")
    assert done.returncode == 0
    assert f"-A KUBE-SERVICES -d {VIP}/32 -p tcp".encode() in done.stdout
    assert rules_alone(rules(world)) == rules_alone(before)
    done = ran(world, "--source-file", str(cluster), "--proxy-mode", "nftables", "--dry-run")
    assert f"{VIP} . ".encode() in done.stdout
    assert b"chain " in done.stdout
    assert b"kubenet" not in run(["nft", "list", "tables"], netns=world.node).stdout


def rules_alone(text: str) -> list[str]:
    return [line for line in text.splitlines() if line[:2] == "-A"]


def test_A6_row66_a_switch_of_modes_leaves_nothing_of_the_other(world: World, cluster: Path) -> None:
    for mode in ("nftables", "iptables", "nftables"):
        assert ran(world, "--source-file", str(cluster), "--proxy-mode", mode, "--once").returncode == 0
        assert world.connect(world.client, VIP).backend == backend_ip(2)
        tables = run(["nft", "list", "tables"], netns=world.node).stdout.decode()
        assert ("table ip kubenet-proxy" in tables) is (mode == "nftables")
        assert ("KUBE-SERVICES" in rules(world)) is (mode == "iptables")


def test_A6_row67_init_only_sets_the_kernel_and_no_rules(world: World) -> None:
    done = ran(world, "--init-only", "--conntrack-tcp-timeout-established", "1h0m0s")
    assert done.returncode == 0
    assert sysctl.read(world.node, "net/netfilter/nf_conntrack_tcp_timeout_established") == "3600"
    assert sysctl.read(world.node, "net/ipv4/conf/all/route_localnet") == "0"
    assert "KUBE" not in rules(world)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_and_leaves_the_rules(
    world: World, cluster: Path, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as sink:
        said = ("--source-file", str(cluster), "--proxy-mode", "iptables", "--metrics-bind-address", "")
        child = spawn(command(*said), netns=world.node, stderr=sink.fileno())
    try:
        wait_until(lambda: "KUBE-SVC" in rules(world))
        assert world.connect(world.client, VIP).backend == backend_ip(2)
        child.signal(number)
        assert child.wait(10) == 0
    finally:
        child.terminate(1)
    assert "Traceback" not in log.read_text()
    assert world.connect(world.client, VIP).backend == backend_ip(2)


@pytest.mark.parametrize("words", [("--once",), ("--cleanup",), ("--init-only",), ()])
def test_without_the_right_to_change_the_network_it_says_so_and_how_to_get_it(
    world: World, cluster: Path, words: Sequence[str]
) -> None:
    without = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    said = command("--source-file", str(cluster), *words)
    done = run([*without, *said], netns=world.node, check=False, timeout_s=60)
    assert done.returncode == 77
    assert done.stderr.startswith(b"kubenet: needs CAP_NET_ADMIN: the proxy programs the kernel; next: run")
    assert done.stderr.count(b"\n") == 1


CONFIG = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: iptables\n"


def test_A6_row64_a_configuration_that_changes_ends_the_proxy_and_leaves_the_rules(
    world: World, cluster: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.conf"
    config.write_text(CONFIG)
    log = tmp_path / "log"
    with log.open("wb") as sink:
        child = spawn(
            command("--source-file", str(cluster), "--config", str(config), "--hostname-override", "Here"),
            netns=world.node,
            stderr=sink.fileno(),
        )
    try:
        wait_until(lambda: "KUBE-SVC" in rules(world))
        new = tmp_path / "new"
        new.write_text(CONFIG + "iptables: {masqueradeAll: true}\n")
        new.rename(config)  # as the kubelet exchanges a ConfigMap's files
        assert child.wait(10) == 1
    finally:
        child.terminate(1)
    assert (
        log.read_text() == f"kubenet: {config}: the configuration has changed; next: start the proxy anew\n"
    )
    assert world.connect(world.client, VIP).backend == backend_ip(2)


def wait_until(holds: Callable[[], bool], patience_s: float = 20.0) -> None:
    """Return once ``holds``; what runs meanwhile is another process."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("mode", "decided", "refusal"),
    [
        pytest.param("iptables", "decided by nat KUBE-SEP-", "has no endpoints", id="iptables"),
        pytest.param(
            "nftables",
            "decided by kubenet-proxy pick-vip-cluster-1 1: dnat",
            "decided by kubenet-proxy rejecting 1: reject",
            id="nftables",
        ),
    ],
)
def test_explain_says_the_way_and_the_rule_that_decided(
    world: World, cluster: Path, mode: str, decided: str, refusal: str
) -> None:
    where = ("--hostname-override", "here", "--cluster-cidr", "10.244.0.0/16", "--proxy-mode", mode)
    said = ("--source-file", str(cluster), *where)
    done = ran(world, *said, "explain", "10.244.2.10", f"{VIP}:80")
    text = done.stdout.decode()
    assert done.returncode == 0
    assert text.startswith(f"1: goes to {backend_ip(2)}:8080, with its own source address\n")
    assert decided in text
    as_json = ran(world, *said, "explain", "198.51.100.7", f"{VIP}:80", "-o", "json")
    (course,) = json.loads(as_json.stdout)["courses"]
    assert course["outcome"] == f"goes to {backend_ip(2)}:8080, as the node"
    assert course["rulesPassed"] >= len(course["rules"]) > 0
    cluster.write_text(SERVICE)
    refused = ran(world, *said, "explain", "10.244.2.10", f"{VIP}:80")
    assert refused.returncode == 1
    assert refused.stdout.startswith(b"1: rejected\n")
    assert refusal in refused.stdout.decode()


KUBELET = """*filter
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -j DROP
COMMIT
*mangle
:KUBE-IPTABLES-HINT - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
"""


def test_without_a_mode_it_is_nftables_and_what_kubelet_has_stays(world: World, cluster: Path) -> None:
    assert ran(world, "--source-file", str(cluster), "--proxy-mode", "iptables", "--once").returncode == 0
    iptables.restore(world.node, KUBELET)
    assert ran(world, "--source-file", str(cluster), "--once").returncode == 0
    assert "table ip kubenet-proxy" in run(["nft", "list", "tables"], netns=world.node).stdout.decode()
    assert world.connect(world.client, VIP).backend == backend_ip(2)
    left = rules(world) + iptables.save(world.node, "mangle")
    assert "KUBE-SVC" not in left  # of the mode before
    for name in ("KUBE-FIREWALL", "KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"):
        assert f":{name} " in left
    assert "-A INPUT -j KUBE-FIREWALL" in left
    assert ran(world, "--cleanup").returncode == 0
    assert ":KUBE-FIREWALL " in rules(world)
