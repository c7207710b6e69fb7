"""The command with kubeadm's own Corefile, as deploy/dns.yaml runs it: as nobody, with one capability."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from kubenet.kernel import run
from kubenet.model.objects import Json
from kubenet.model.resources import ENDPOINTSLICES
from tests.netns.dns.test_daemon import cluster, page, until_ready
from tests.netns.dns.world import CLIENT, SERVER, SERVER6, WEB, ZONE, World, ask, on

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[3]
KUBEADM = ROOT / "tests" / "golden" / "kubeadm.Corefile"
NOBODY = (
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"),
    *("--bounding-set", "-all,+net_bind_service", "--inh-caps", "-all,+net_bind_service"),
    *("--ambient-caps", "-all,+net_bind_service"),
)
KUBECONFIG = f"""
apiVersion: v1
kind: Config
current-context: c
clusters: [{{name: c, cluster: {{server: "http://{CLIENT}:6443"}}}}]
contexts: [{{name: c, context: {{cluster: c}}}}]
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that nobody can read."""
    with TemporaryDirectory(prefix="kubenet-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "Corefile").write_text(KUBEADM.read_text())
        (path / "kubeconfig").write_text(KUBECONFIG)
        yield path


def serving_command(directory: Path) -> list[str]:
    return [
        *NOBODY,
        *(sys.executable, "-m", "kubenet", "dns", "--conf", str(directory / "Corefile")),
        *("--kubeconfig", str(directory / "kubeconfig")),
    ]


def nobody_can_run_it() -> bool:
    probe = [*NOBODY, sys.executable, "-c", "import kubenet, dns"]
    return run.run(probe, check=False).returncode == 0


def test_P_kubeadms_corefile_is_served_by_nobody(world: World, directory: Path) -> None:
    if not nobody_can_run_it():
        pytest.skip("the interpreter or the checkout is not readable by nobody")

    async def case() -> None:
        async with cluster(world) as client:
            await client.create(ENDPOINTSLICES, "demo", slice_of_web())
            child = run.spawn(serving_command(directory), netns=world.server, cwd=ROOT)
            try:
                await until_serving(world)
                assert (await ask(world)).answers == [f"{WEB}. 30 A 10.96.1.1"]
                assert (await ask(world, f"none.demo.svc.{ZONE}")).status == "NXDOMAIN"
                assert (await ask(world, server=SERVER6)).rdata == ["10.96.1.1"]
                pointer = await ask(world, "1.1.96.10.in-addr.arpa", 12)
                assert pointer.rdata == [f"{WEB}."]
                servers = await ask(world, ZONE, 2)
                assert servers.rdata == [f"ns.dns.{ZONE}."]
                assert any(line.endswith(f" A {SERVER}") for line in servers.additional)
                assert (await page(world, 8080, "/health")) == (200, "OK")
                assert "coredns_dns_requests_total" in (await page(world, 9153, "/metrics"))[1]
                status = Path(f"/proc/{child.pid}/status").read_text()
                assert "CapEff:\t0000000000000400\n" in status
                assert "Uid:\t65534\t65534" in status
            finally:
                child.terminate(0.1)  # lameduck is shown elsewhere

    on(case)


def slice_of_web() -> Json:
    return {
        "metadata": {"name": "web-1", "namespace": "demo", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.1.5"], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


async def until_serving(world: World) -> None:
    async with asyncio.timeout(15):
        while True:
            try:
                await until_ready(world)
            except ConnectionError:
                await asyncio.sleep(0.05)
            else:
                return


def test_the_manifest_holds_kubeadms_corefile_and_these_rights() -> None:
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "dns.yaml").read_text()))
    by_kind = {each["kind"]: each for each in documents}
    assert by_kind["ConfigMap"]["data"]["Corefile"] == KUBEADM.read_text()
    pod = by_kind["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
    }
    assert by_kind["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    verbs = {verb for rule in by_kind["ClusterRole"]["rules"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch"}
