"""Other people's Python clients, unchanged, against the server's own command: the official client and kopf.

They live in an environment of their own (.venv-clients, made by ``./dev test``), since they share names and
versions with nothing of ours.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv-clients" / "bin" / "python"
MAIN = "import sys; from kubenet.cli.main import main; sys.exit(main())"
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not PYTHON.exists(), reason="there is no .venv-clients; next: ./dev test e2e"),
]
CLAIMS: Any = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "claims.example.com"},
    "spec": {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "claims", "singular": "claim", "kind": "Claim"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"size": {"type": "string"}}},
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        },
                    }
                },
            }
        ],
    },
}
CLAIM: Any = {
    "apiVersion": "example.com/v1",
    "kind": "Claim",
    "metadata": {"name": "one", "namespace": "default"},
    "spec": {"size": "1Gi"},
}


class Server:
    """The command, with its administrator's kubeconfig, and a plain socket for the test itself."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            ports = one.getsockname()[1], two.getsockname()[1]
        words = ["--data-dir", str(directory / "d"), "--listen", f"127.0.0.1:{ports[0]}"]
        words += ["--insecure-listen", f"127.0.0.1:{ports[1]}"]
        command = [sys.executable, "-c", MAIN, "apiserver", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.kubeconfig = directory / "d" / "admin.kubeconfig"
        self.url = f"http://127.0.0.1:{ports[1]}"
        assert self.process.stdout is not None
        assert "serving" in self.process.stdout.readline()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        import urllib.error
        import urllib.request

        content = json.dumps(body).encode() if body is not None else None
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request = urllib.request.Request(self.url + path, content, {"Content-Type": kind}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    try:
        yield running
    finally:
        running.stop()


def _until(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (found := what()):
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.05)
    return found


def test_B8_6_the_official_client_finds_all_as_it_expects_it(server: Server) -> None:
    done = subprocess.run(
        [str(PYTHON), str(HERE / "clients" / "official.py"), str(server.kubeconfig)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        seen |= json.loads(line)
    assert seen["namespaces"] == ["default", "kube-node-lease", "kube-public", "kube-system"]
    assert (seen["replicas"], seen["surge"], seen["image"], seen["generation"]) == (2, "25%", "web:2", 2)
    assert (seen["scaled"], seen["allowed"], seen["applied"]) == (5, True, "1")
    assert seen["events"] == [["ADDED", "c"], ["DELETED", "c"]]
    assert seen["missing"] == 'pods "nobody" not found'


def test_F_an_operator_of_kopf_runs(server: Server, tmp_path: Path) -> None:
    assert server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CLAIMS)["metadata"][
        "uid"
    ]
    claims = "/apis/example.com/v1/namespaces/default/claims"
    maps = "/api/v1/namespaces/default/configmaps"
    log = tmp_path / "kopf.log"
    command = [str(PYTHON), "-m", "kopf", "run", str(HERE / "clients" / "operator_example.py")]
    environment = os.environ | {"KUBECONFIG": str(server.kubeconfig), "HOME": str(tmp_path)}
    with (
        log.open("w") as said,
        subprocess.Popen([*command, "-n", "default"], stdout=said, stderr=said, env=environment) as operator,
    ):
        try:
            server.call("POST", claims, CLAIM)
            made = _until(lambda: server.call("GET", f"{maps}/one").get("data"))
            assert made == {"size": "1Gi"}, log.read_text()
            owner = server.call("GET", f"{maps}/one")["metadata"]["ownerReferences"][0]
            assert (owner["kind"], owner["name"]) == ("Claim", "one")
            status = _until(lambda: server.call("GET", f"{claims}/one").get("status", {}).get("create"))
            assert status == {"made": "one"}
            server.call("PATCH", f"{claims}/one", {"spec": {"size": "2Gi"}})
            _until(lambda: server.call("GET", f"{maps}/one").get("data") == {"size": "2Gi"})
            server.call("DELETE", f"{claims}/one")
            _until(lambda: server.call("GET", f"{maps}/one-was-deleted").get("kind") == "ConfigMap")
            _until(lambda: server.call("GET", f"{claims}/one").get("reason") == "NotFound")
            _until(lambda: server.call("GET", f"{maps}/one").get("reason") == "NotFound")  # its owner is gone
        finally:
            operator.send_signal(signal.SIGTERM)
            operator.wait(20)
