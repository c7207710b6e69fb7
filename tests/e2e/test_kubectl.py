"""A real kubectl against the embedded API server: every version of it that this machine has.

The test plays the controllers: it writes the status that kubectl waits for. Nothing here needs root; skipped,
with the reason printed, where there is no kubectl.
"""

import asyncio
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubenet.apiserver.http import ApiServer
from kubenet.store.memory import MemoryStore

Value = Any

MANIFEST = """
apiVersion: v1
kind: Namespace
metadata: {name: demo}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "web:1", ports: [{name: http, containerPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
"""
NODE: Value = {
    "kind": "Node",
    "apiVersion": "v1",
    "metadata": {"name": "n1"},
    "spec": {"podCIDRs": ["10.244.0.0/24"]},
    "status": {
        "addresses": [{"type": "InternalIP", "address": "172.30.0.1"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "Tested"}],
        "capacity": {"cpu": "2", "memory": "1Gi", "pods": "110"},
        "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "110"},
        "nodeInfo": {"kubeletVersion": "v1.33.0"},
    },
}
POD: Value = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"name": "one", "namespace": "demo", "labels": {"app": "web"}},
    "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "web:1"}]},
}
EVENT: Value = {
    "kind": "Event",
    "apiVersion": "v1",
    "metadata": {"name": "one.1", "namespace": "demo"},
    "involvedObject": {"kind": "Pod", "name": "one", "namespace": "demo"},
    "reason": "Started",
    "message": "it runs",
    "type": "Normal",
    "source": {"component": "node"},
    "count": 1,
    "firstTimestamp": "2026-01-01T00:00:00Z",
    "lastTimestamp": "2026-01-01T00:00:00Z",
}


def installed() -> list[Path]:
    """Return the kubectl on PATH, and those of other versions that lie beside it."""
    found = shutil.which("kubectl")
    if found is None:
        return []
    real = Path(found).resolve()
    return [Path(found), *sorted(real.parent.glob("kubectl.1.[0-9]*"))]


NONE = pytest.mark.skip(reason="there is no kubectl on PATH; next: install one, any version from 1.20 on")
ALL = [pytest.param(path, id=path.name) for path in installed()]
ALL = ALL or [pytest.param(None, marks=NONE, id="none")]


class Cluster:
    """An API server in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._server = ApiServer(MemoryStore())
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "Cluster":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start([self._listener]), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._listener.close()


@dataclass(frozen=True)
class Kubectl:
    """One kubectl, pointed at one cluster, with a home of its own."""

    binary: Path
    url: str
    home: Path

    def command(self, *words: str) -> list[str]:
        return [str(self.binary), "--server", self.url, "--cache-dir", str(self.home / "cache"), *words]

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "KUBECONFIG": "/dev/null"}

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=self.environment,
        )

    def __call__(self, *words: str, stdin: str = "") -> str:
        """Return what a command that must succeed prints; it may complain about nothing."""
        done = self.run(*words, stdin=stdin)
        assert (done.returncode, done.stderr) == (0, ""), (
            f"kubectl {' '.join(words)}: {done.stderr}{done.stdout}"
        )
        return done.stdout

    def lines(self, *words: str) -> list[list[str]]:
        """Return the words of each line that a command prints."""
        return [line.split() for line in self(*words).splitlines()]

    def get(self, *words: str) -> Value:
        return json.loads(self("get", *words, "-o", "json"))

    def create(self, value: Value) -> None:
        self("create", "-f", "-", stdin=json.dumps(value))

    def write_status(self, status: Value) -> None:
        """Be the deployment controller of demo/web."""
        request = urllib.request.Request(
            f"{self.url}/apis/apps/v1/namespaces/demo/deployments/web/status",
            json.dumps({"status": status}).encode(),
            {"Content-Type": "application/merge-patch+json"},
            method="PATCH",
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    @property
    def minor(self) -> int:
        """The 20 of version 1.20."""
        told = json.loads(self("version", "--client", "-o", "json"))
        return int(told["clientVersion"]["minor"].rstrip("+"))


@pytest.fixture
def kubectl(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kubectl]:
    """A kubectl (parametrized indirectly by its path) and a new cluster."""
    with Cluster() as cluster:
        yield Kubectl(request.param, cluster.url, tmp_path)


on_path = pytest.mark.parametrize("kubectl", ALL[:1], indirect=True)
every_version = pytest.mark.parametrize("kubectl", ALL, indirect=True)


@every_version
def test_E10_the_daily_commands(kubectl: Kubectl) -> None:
    apply = ("apply", "-f", "-")
    objects = ("namespace/demo", "deployment.apps/web", "service/web")
    assert kubectl(*apply, stdin=MANIFEST).splitlines() == [f"{name} created" for name in objects]
    assert kubectl(*apply, stdin=MANIFEST).splitlines() == [f"{name} unchanged" for name in objects]
    changed = MANIFEST.replace("web:1", "web:2").replace("port: 80", "port: 81")
    assert kubectl(*apply, stdin=changed).splitlines() == [
        "namespace/demo unchanged",
        "deployment.apps/web configured",
        "service/web configured",
    ]
    service = kubectl.get("-n", "demo", "service", "web")
    assert [port["port"] for port in service["spec"]["ports"]] == [81]
    assert (
        kubectl("-n", "demo", "scale", "deployment", "web", "--replicas=5") == "deployment.apps/web scaled\n"
    )
    deployment = kubectl.get("-n", "demo", "deployment", "web")
    assert deployment["spec"]["replicas"] == 5
    assert deployment["metadata"]["generation"] == 3
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2"
    assert kubectl.lines("-n", "demo", "get", "deployment,service")[0] == [
        *("NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"),
    ]
    assert kubectl("-n", "demo", "label", "service", "web", "tier=front") == "service/web labeled\n"
    assert kubectl("-n", "demo", "annotate", "service", "web", "a=b").startswith("service/web annotate")
    # Versions before 1.22 say "labeled" of both.
    assert kubectl("-n", "demo", "label", "service", "web", "tier-").endswith("labeled\n")
    assert "tier" not in kubectl.get("-n", "demo", "service", "web")["metadata"].get("labels", {})
    assert "Type:" in kubectl("-n", "demo", "describe", "service", "web")
    assert kubectl("-n", "demo", "delete", "deployment", "web").startswith('deployment.apps "web" deleted')
    assert kubectl("delete", "namespace", "demo").startswith('namespace "demo" deleted')
    assert [line[0] for line in kubectl.lines("get", "namespaces")] == [
        *("NAME", "default", "kube-node-lease", "kube-public", "kube-system"),
    ]


@every_version
def test_B2_2_create_and_run_and_expose(kubectl: Kubectl) -> None:
    """These send protobuf from 1.32 on, and JSON before."""
    here = ("-n", "demo")
    assert kubectl("create", "namespace", "demo") == "namespace/demo created\n"
    kubectl(*here, "create", "configmap", "texts", "--from-literal=key=content")
    kubectl(*here, "create", "secret", "generic", "hidden", "--from-literal=key=content")
    kubectl(*here, "create", "service", "clusterip", "web", "--tcp=80:8080")
    kubectl(*here, "create", "service", "nodeport", "outside", "--tcp=81")
    kubectl(*here, "create", "serviceaccount", "robot")
    kubectl(*here, "create", "deployment", "web", "--image=web:1", "--port=8080")
    kubectl(*here, "run", "one", "--image=web:1", "--port=80", "--", "web", "-v")
    assert kubectl(*here, "expose", "pod", "one", "--port=80") == "service/one exposed\n"
    assert kubectl.get(*here, "configmap", "texts")["data"] == {"key": "content"}
    assert kubectl.get(*here, "secret", "hidden")["data"] == {"key": "Y29udGVudA=="}
    port = {"name": "80-8080", "protocol": "TCP", "port": 80, "targetPort": 8080}
    assert kubectl.get(*here, "service", "web")["spec"]["ports"] == [port]
    assert kubectl.get(*here, "service", "outside")["spec"]["ports"][0]["nodePort"] >= 30000
    spec = kubectl.get(*here, "deployment", "web")["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (1, "web:1")
    assert kubectl.get(*here, "pod", "one")["spec"]["containers"][0]["args"] == ["web", "-v"]


@on_path
def test_B2_9_a_misspelt_field_is_refused(kubectl: Kubectl) -> None:
    if kubectl.minor < 27:
        pytest.skip("older ones look for misspelt fields themselves, in an OpenAPI document")
    kubectl("create", "namespace", "demo")
    misspelt = MANIFEST.replace("replicas: 2", "replicaz: 2")
    refused = kubectl.run("apply", "-f", "-", stdin=misspelt)
    assert 'strict decoding error: unknown field "spec.replicaz"' in refused.stderr
    warned = kubectl.run("apply", "--validate=warn", "-f", "-", stdin=misspelt)
    assert 'Warning: unknown field "spec.replicaz"' in warned.stderr
    assert warned.returncode == 0


@on_path
def test_get_shows_the_usual_columns(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    kubectl.create(NODE)
    kubectl.create(POD)
    assert kubectl.lines("get", "nodes")[1][:3] == ["n1", "Ready", "<none>"]
    assert kubectl.lines("get", "nodes", "-o", "wide")[1][5] == "172.30.0.1"
    assert kubectl.lines("-n", "demo", "get", "pods")[1][:4] == ["one", "0/1", "Pending", "0"]
    wide = kubectl.lines("-n", "demo", "get", "pods", "-o", "wide")
    assert (wide[0][5:7], wide[1][5:7]) == (["IP", "NODE"], ["<none>", "n1"])
    assert kubectl.lines("get", "pods", "-A")[1][:2] == ["demo", "one"]
    assert "kind: Pod\n" in kubectl("-n", "demo", "get", "pod", "one", "-o", "yaml")
    assert kubectl("-n", "demo", "get", "pod", "one", "-o", "name") == "pod/one\n"
    everything = kubectl("-n", "demo", "get", "all")
    assert all(name in everything for name in ("pod/one", "service/web", "deployment.apps/web"))
    by_age = kubectl.lines("get", "ns", "--sort-by=.metadata.name", "--no-headers")
    assert [line[0] for line in by_age] == [
        "default",
        "demo",
        "kube-node-lease",
        "kube-public",
        "kube-system",
    ]
    assert kubectl.lines("-n", "demo", "get", "pods", "-l", "app in (web)", "--no-headers")[0][0] == "one"
    assert kubectl("get", "pods", "-A", "--field-selector", "spec.nodeName=n1", "-o", "name") == "pod/one\n"


@on_path
def test_get_goes_through_pages(kubectl: Kubectl) -> None:
    items = [
        {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": f"c{index:02}"}} for index in range(25)
    ]
    kubectl.create({"kind": "List", "apiVersion": "v1", "items": items})
    listed = kubectl.lines("get", "configmaps", "--chunk-size=10", "--no-headers")
    assert [line[0] for line in listed] == [f"c{index:02}" for index in range(25)]


@on_path
def test_describe_tells_the_story_of_each_kind(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    kubectl.create(NODE)
    kubectl.create(POD)
    uid = kubectl.get("-n", "demo", "pod", "one")["metadata"]["uid"]
    kubectl.create(EVENT | {"involvedObject": EVENT["involvedObject"] | {"uid": uid}})
    pod = kubectl("-n", "demo", "describe", "pod", "one")
    assert "Node:             n1/" in pod or "Node:         n1/" in pod
    assert "it runs" in pod
    node = kubectl("describe", "node", "n1")
    assert "10.244.0.0/24" in node
    assert "demo " in node  # the pod is counted among those of its node
    assert "app=web" in kubectl("-n", "demo", "describe", "service", "web")
    assert "RollingUpdate" in kubectl("-n", "demo", "describe", "deployment", "web")
    events = kubectl.lines("-n", "demo", "get", "events")
    assert events[0][:3] == ["LAST", "SEEN", "TYPE"]
    assert events[1][1:4] == ["Normal", "Started", "pod/one"]


@on_path
def test_B5_9_get_w_follows(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    with subprocess.Popen(
        kubectl.command("-n", "demo", "get", "pods", "-w", "--no-headers"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=kubectl.environment,
    ) as watching:
        assert watching.stdout is not None
        try:
            kubectl.create(POD)
            assert watching.stdout.readline().split()[:3] == ["one", "0/1", "Pending"]
            kubectl("-n", "demo", "delete", "pod", "one", "--wait=false")
            assert watching.stdout.readline().split()[:3] == ["one", "0/1", "Terminating"]
        finally:
            watching.terminate()


@on_path
def test_B4_5_rollout_status_waits_for_the_controller(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    with subprocess.Popen(
        kubectl.command("-n", "demo", "rollout", "status", "deployment/web", "--timeout=20s"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=kubectl.environment,
    ) as waiting:
        assert waiting.stdout is not None
        kubectl.write_status({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1})
        done = {"observedGeneration": 1} | dict.fromkeys(
            ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 2
        )
        while "Waiting for deployment" not in (said := waiting.stdout.readline()):
            assert said, "kubectl gave up"
        kubectl.write_status(done)
        said = waiting.stdout.read()
        assert said.splitlines()[-1] == 'deployment "web" successfully rolled out'
        assert waiting.wait(10) == 0


@on_path
def test_delete_waits_until_a_pod_is_really_gone(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    kubectl.create(POD)
    with subprocess.Popen(
        kubectl.command("-n", "demo", "delete", "pod", "one"),
        stdout=subprocess.PIPE,
        text=True,
        env=kubectl.environment,
    ) as deleting:
        until = time.monotonic() + 10
        while "deletionTimestamp" not in kubectl.get("-n", "demo", "pod", "one")["metadata"]:
            assert time.monotonic() < until
        assert deleting.poll() is None
        forced = kubectl.run("-n", "demo", "delete", "pod", "one", "--grace-period=0", "--force")
        assert forced.returncode == 0
        assert deleting.wait(10) == 0


@on_path
def test_other_verbs(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    kubectl.create(NODE)
    assert kubectl("cordon", "n1") == "node/n1 cordoned\n"
    assert kubectl.lines("get", "nodes")[1][1] == "Ready,SchedulingDisabled"
    assert kubectl("uncordon", "n1") == "node/n1 uncordoned\n"
    image = ("-n", "demo", "set", "image", "deployment/web", "web=web:9")
    assert kubectl(*image) == "deployment.apps/web image updated\n"
    patch = ("-n", "demo", "patch", "deployment", "web", "-p", '{"spec":{"paused":true}}')
    assert kubectl(*patch) == "deployment.apps/web patched\n"
    replaced = kubectl.get("-n", "demo", "service", "web")
    replaced["spec"]["ports"][0]["port"] = 8080
    assert kubectl("replace", "-f", "-", stdin=json.dumps(replaced)) == "service/web replaced\n"
    changed = MANIFEST.replace("replicas: 2", "replicas: 7")
    if kubectl.minor >= 27:  # older ones look into the OpenAPI document whether the server knows dry runs
        dry = kubectl("apply", "--dry-run=server", "-f", "-", stdin=changed)
        assert "deployment.apps/web configured (server dry run)" in dry
    assert kubectl.get("-n", "demo", "deployment", "web")["spec"]["replicas"] == 2
    resources = kubectl("api-resources", "--no-headers")
    assert [line.split()[0] for line in resources.splitlines()][:3] == ["configmaps", "endpoints", "events"]
    deleted = kubectl("delete", "-f", "-", stdin=MANIFEST).splitlines()
    assert [line.split()[0] for line in deleted] == ["namespace", "deployment.apps", "service"]


@on_path
def test_kubectl_prints_our_refusals_word_by_word(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=MANIFEST)
    missing = kubectl.run("get", "pod", "nobody")
    assert missing.stderr == 'Error from server (NotFound): pods "nobody" not found\n'
    default = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "default"}}
    taken = kubectl.run("create", "-f", "-", stdin=json.dumps(default))
    assert taken.stderr.startswith("Error from server (AlreadyExists): ")
    assert taken.stderr.endswith('namespaces "default" already exists\n')
    wrong = kubectl.run("apply", "-f", "-", stdin=MANIFEST.replace("port: 80,", "port: 99999,"))
    assert wrong.returncode == 1
    assert (
        'The Service "web" is invalid: spec.ports[0].port: Invalid value: 99999: '
        "must be between 1 and 65535, inclusive\n"
    ) in wrong.stderr
