"""kubectl in a lab, with every control loop at work behind it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import kubenet, lab, own

pytestmark = pytest.mark.e2e

MANIFEST = Path(__file__).parents[2] / "labs" / "manifests" / "demo.yaml"
NAME = own("kubectl")


class Kubectl:
    """kubectl with the lab's kubeconfig and a cache of its own."""

    def __init__(self, kubeconfig: Path, cache: Path) -> None:
        self._base = ["kubectl", "--kubeconfig", str(kubeconfig), "--cache-dir", str(cache)]

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self._base, *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> dict[str, list[dict[str, dict[str, str]]]]:
        found = json.loads(self(*words, "-o", "json"))
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl on this machine; Debian's is in the package kubernetes-client")
    scratch = tmp_path_factory.mktemp("kubectl")
    with lab(NAME, "--nodes", "2"):
        kubeconfig = scratch / "kubeconfig"
        kubeconfig.write_text(kubenet("lab", "kubeconfig", "--name", NAME).stdout)
        yield Kubectl(kubeconfig, scratch / "cache")


def test_a_deployment_is_applied_scaled_changed_and_deleted(kubectl: Kubectl) -> None:
    assert "deployment.apps/web created" in kubectl("apply", "-f", str(MANIFEST))
    kubectl("-n", "demo", "rollout", "status", "deployment/web", "--timeout=30s")
    assert "unchanged" in kubectl("apply", "-f", str(MANIFEST))

    kubectl("-n", "demo", "scale", "deployment/web", "--replicas=2")
    kubectl("-n", "demo", "rollout", "status", "deployment/web", "--timeout=30s")
    first = {
        pod["metadata"]["name"] for pod in kubectl.json("-n", "demo", "get", "pods", "-l", "app=web")["items"]
    }

    patch = '{"spec":{"template":{"metadata":{"annotations":{"turn":"two"}}}}}'
    kubectl("-n", "demo", "patch", "deployment", "web", "-p", patch)
    kubectl("-n", "demo", "rollout", "status", "deployment/web", "--timeout=30s")
    pods = kubectl.json("-n", "demo", "get", "pods", "-l", "app=web")["items"]
    running = {pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
    assert len(running) == 2
    assert not running & first

    described = kubectl("-n", "demo", "describe", "service", "web")
    assert described.count(":8080") >= 2
    pods_described = kubectl("-n", "demo", "describe", "pod", "-l", "app=web")
    assert "kubenet.dev/httpd" in pods_described
    assert "Successfully assigned demo/web-" in pods_described
    assert "Started container httpd" in pods_described

    web = min(running)
    assert "listening on port 8080" in kubenet("lab", "logs", "--name", NAME, f"demo/{web}").stdout
    assert "proxy: synced" in kubenet("lab", "logs", "--name", NAME).stdout
    missing = kubenet("lab", "logs", "--name", NAME, "demo/nobody", check=False)
    assert (missing.returncode, "not found" in missing.stderr) == (3, True)

    kubectl("delete", "namespace", "demo", "--timeout=60s")
    assert kubectl("get", "pods", "-A", "--no-headers") == ""


def test_nodes_are_described_with_their_ranges(kubectl: Kubectl) -> None:
    assert kubectl("get", "nodes", "--no-headers").count(" Ready ") == 2
    described = kubectl("describe", "node", "node-1")
    assert "10.244." in described
    assert "InternalIP:  172.30.0.1" in described


def test_a_node_itself_reaches_the_cluster_dns_by_its_cluster_ip(kubectl: Kubectl) -> None:
    query = ("dns", "query", "kubernetes.default.svc.cluster.local", "--server", "10.96.0.10")
    for node in ("node-1", "node-2"):
        said = kubenet(*query, "--in", node, "--name", NAME).stdout
        assert "status: NOERROR" in said
        assert "10.96.0.1" in said
    denied = kubenet(
        *query[:2],
        "nobody.default.svc.cluster.local",
        *query[3:],
        "--in",
        "node-1",
        "--name",
        NAME,
        check=False,
    )
    assert (denied.returncode, "status: NXDOMAIN" in denied.stdout) == (1, True)
