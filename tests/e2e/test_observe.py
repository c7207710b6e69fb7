"""The observing commands in a whole lab, as a user types them."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import kubenet, lab, own

pytestmark = pytest.mark.e2e

MANIFEST = Path("labs/manifests/demo.yaml")


@pytest.fixture(scope="module")
def name() -> Iterator[str]:
    """A lab of two nodes with the demo's pods, ready."""
    with lab(own("observe"), "--nodes", "2") as made:
        kubenet("apply", "--name", made, "-f", str(MANIFEST))
        for _ in range(120):
            said = kubenet("check", "--name", made, "cni", "proxy", "-o", "json", check=False)
            report = json.loads(said.stdout)
            status = json.loads(kubenet("lab", "status", "--name", made, "-o", "json").stdout)
            if report["healthy"] and len([p for p in status["pods"] if p["phase"] == "Running"]) == 5:
                break
        yield made


def test_trace_tells_the_story_and_its_exit_code_the_end(name: str) -> None:
    told = kubenet("trace", "--name", name, "client", "svc/web", "--both-ways")
    assert re.search(r"seen +eth0 +out, SYN", told.stdout)
    assert "«service demo/web:http»" in told.stdout
    assert "in, delivered" in told.stdout
    assert "back: SYN,ACK" in told.stdout
    refused = kubenet("trace", "--name", name, "demo/client", "svc/web:81", "--timeout", "0.3", check=False)
    assert refused.returncode == 1
    assert "E_SERVICE_PORT" in refused.stdout


def test_trace_as_json_and_for_wireshark(name: str, tmp_path: Path) -> None:
    path = tmp_path / "t.pcapng"
    words = ("trace", "--name", name, "client", "web.demo.svc.cluster.local", "--proto", "dns")
    story = json.loads(kubenet(*words, "-o", "json", "-w", str(path)).stdout)
    assert (story["apiVersion"], story["kind"]) == ("kubenet.dev/v1", "Story")
    assert story["answered"]
    assert story["result"] == "NOERROR, 1 answers"
    assert {line["known"] for line in story["there"]["lines"]} == {"seen", "reported", "inferred"}
    assert path.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"


def test_trace_from_a_node_and_to_one(name: str) -> None:
    assert re.search(r"seen +DNAT +10.96", kubenet("trace", "--name", name, "node-1", "svc/web").stdout)
    assert "icmp" in kubenet("trace", "--name", name, "client", "node-2").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(("clint", "svc/web"), 3, "did you mean demo/client?", id="a typo in the source"),
        pytest.param(("client", "svc/wbe"), 3, "did you mean svc/demo/web?", id="a typo in the Service"),
        pytest.param(("client", "10.0.0.1:x"), 2, "'x' is no port", id="no port"),
        pytest.param(("client", "node-1", "--proto", "udp"), 2, "udp needs a port", id="a port is missing"),
    ],
)
def test_what_is_wrongly_typed_is_said_in_one_line(
    name: str, words: tuple[str, ...], code: int, said: str
) -> None:
    done = kubenet("trace", "--name", name, *words, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_check_finds_nothing_and_then_what_was_broken(name: str, tmp_path: Path) -> None:
    healthy = kubenet("check", "--name", name)
    assert "no findings" in healthy.stdout
    bundle = tmp_path / "dump.tgz"
    exec_in = ("lab", "exec", "--name", name, "demo/client", "--", "ip", "route")
    kubenet(*exec_in, "del", "default")
    try:
        broken = kubenet("check", "--name", name, "all", check=False)
        kubenet("dump", "--name", name, str(bundle))
        junit = kubenet("check", "--name", name, "cni", "-o", "junit", check=False)
    finally:
        kubenet(*exec_in, "add", "default", "via", "169.254.1.1", "dev", "eth0", "onlink")
    assert broken.returncode == junit.returncode == 1
    assert "E_POD_NO_ROUTE" in broken.stdout
    assert '<failure type="E_POD_NO_ROUTE"' in junit.stdout
    judged = kubenet("check", "--from", str(bundle), "-o", "json", check=False)
    assert judged.returncode == 1
    codes = {f["code"] for check in json.loads(judged.stdout)["checks"] for f in check["findings"]}
    assert {"E_POD_NO_ROUTE", "E_UNREACHABLE"} <= codes
    assert kubenet("check", "--name", name, "cni").returncode == 0


def test_explain_walks_the_tables_and_agrees_with_the_kernel(name: str) -> None:
    said = kubenet("explain", "--name", name, "client", "svc/web", "--trace").stdout
    assert "the kernel does as the tables say" in said
    assert "responsible: agent" in kubenet("explain", "e_vxlan_fdb").stdout
    unknown = kubenet("explain", "E_VXLAN_FDBB", check=False)
    assert (unknown.returncode, "did you mean E_VXLAN_FDB?" in unknown.stderr) == (2, True)


def test_watch_tells_what_is_lost(name: str) -> None:
    argv = [sys.executable, "-m", "kubenet", "watch", "--name", name, "drops", "--seconds", "60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout
        try:
            for _ in range(20):
                kubenet("trace", "--name", name, "client", "node-2:9", "--timeout", "0.2", check=False)
                line = watching.stdout.readline()
                while line and "NO_SOCKET" not in line:
                    line = watching.stdout.readline()
                if line:
                    break
        finally:
            watching.kill()
    assert "demo/client" in line or "node" in line


def test_the_doctor_tries_everything() -> None:
    report = json.loads(kubenet("doctor", "-o", "json").stdout)
    works = {feature["feature"]: feature["works"] for feature in report["features"]}
    assert works["veth"]
    assert works["BTF and BPF tracepoints"]
    assert "netem" in works


def test_the_same_on_one_node_that_knows_nothing_of_labs(name: str, tmp_path: Path) -> None:
    said = kubenet("lab", "kubeconfig", "--name", name).stdout
    config = tmp_path / "kubeconfig"
    config.write_text(re.sub(r"server: .*", "server: http://172.30.255.254:6443", said))
    inside = ("lab", "exec", "--name", name, "node-1", "--", sys.executable, "-m", "kubenet")
    options = ("--node", "--kubeconfig", str(config))
    checked = kubenet(*inside, "check", *options, "cni", "overlay", "proxy")
    assert "no findings" in checked.stdout
    status = json.loads(kubenet("lab", "status", "--name", name, "-o", "json").stdout)
    here = [pod["pod"] for pod in status["pods"] if pod["node"] == "node-1"]
    assert f"{len(here)} pods: address" in checked.stdout
    told = kubenet(*inside, "trace", *options, here[0], "svc/web").stdout
    assert "«service demo/web:http»" in told
    assert "result  connected" in told
