"""The node agent with a real API server, real namespaces and real processes.

The CNI plugin is a program written here: it notes how it was called and answers what it is told to.
"""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from kubenet.apiserver.http import ApiServer
from kubenet.client.errors import ObjectNotFound
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import STRATEGIC_PATCH, ApiClient
from kubenet.kernel.mounts import pinned_namespaces
from kubenet.kernel.netns import NetNs, unpin
from kubenet.kernel.process import identify
from kubenet.kernel.run import run
from kubenet.model.objects import Json, Node, Pod
from kubenet.model.resources import EVENTS, NODES, PODS
from kubenet.node import NodeConfig, record, run_node_agent
from kubenet.node.sandbox import end_all_in, join_argv
from kubenet.store.memory import MemoryStore

pytestmark = pytest.mark.netns

PLUGIN = """#!{python} -I
import json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
conf = json.load(sys.stdin)
call = {{"conf": conf, **{{key: value for key, value in os.environ.items() if key.startswith("CNI_")}}}}
with open(here + "/calls", "a") as calls:
    calls.write(json.dumps(call) + "\\n")
if os.path.exists(here + "/broken"):
    print(json.dumps({{"cniVersion": "1.0.0", "code": 11, "msg": "not now"}}))
    sys.exit(1)
if call["CNI_COMMAND"] == "ADD":
    print(json.dumps({{"cniVersion": "1.0.0", "ips": [{{"address": "10.244.7.2/24"}}], "dns": {{}}}}))
"""

IDLE = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]


@dataclass
class Stage:
    """One node with everything around it."""

    config: NodeConfig
    client: ApiClient

    @property
    def plugin_dir(self) -> Path:
        return self.config.cni_bin_dir

    def calls(self) -> list[dict[str, str]]:
        path = self.plugin_dir / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def create_pod(self, name: str, command: list[str], **spec: object) -> Pod:
        container: Json = {"name": "c", "image": "any", "command": list(command)}
        body: Json = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": self.config.name, "containers": [container], **spec},  # type: ignore[dict-item]
        }
        await self.client.create(PODS, "default", body)
        return await self.pod(name)

    async def pod(self, name: str) -> Pod:
        return await self.client.get(PODS, "default", name, Pod)

    async def until(self, name: str, holds: Callable[[Pod], bool]) -> Pod:
        async def check() -> bool:
            return holds(await self.pod(name))

        await until(check)
        return await self.pod(name)

    async def until_gone(self, name: str) -> None:
        async def check() -> bool:
            try:
                await self.pod(name)
            except ObjectNotFound:
                return True
            return False

        await until(check)

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(run_node_agent(self.config, self.client))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(check: Callable[[], Awaitable[bool]], timeout_s: float = 15.0) -> None:
    """Return once ``check`` holds."""
    async with asyncio.timeout(timeout_s):
        while not await check():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A node named n1 whose pods get their network from the plugin above."""
    bin_dir, conf_dir = tmp_path / "bin", tmp_path / "net.d"
    bin_dir.mkdir()
    conf_dir.mkdir()
    plugin = bin_dir / "fake"
    plugin.write_text(PLUGIN.format(python=sys.executable))
    plugin.chmod(0o755)
    (conf_dir / "10-t.conflist").write_text(
        json.dumps({"cniVersion": "1.0.0", "name": "t", "plugins": [{"type": "fake"}]})
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = ApiServer(MemoryStore())
    await server.start([listener])
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    node_path = tmp_path / "node"
    try:
        with NetNs.create(node_path) as netns:
            config = NodeConfig(
                name="n1",
                netns=netns,
                node_ip=ip_address("172.30.0.1"),
                state_dir=tmp_path / "state",
                cni_bin_dir=bin_dir,
                cni_conf_dir=conf_dir,
                cluster_dns=ip_address("10.96.0.10"),
                images={"idle": tuple(IDLE)},
            )
            async with ApiClient(ClusterConfig(url)) as client:
                yield Stage(config, client)
    finally:
        await server.stop()
        for path in pinned_namespaces(tmp_path):
            with NetNs.open(path) as left:
                end_all_in(left)  # an agent that is cancelled lets its pods go on
            unpin(path)


def container_pid(config: NodeConfig, pod: Pod) -> int:
    """Return the process of the pod's only container."""
    found = record.read(config.pod_dir(pod.metadata.uid))
    assert found is not None
    return found.containers["c"].process.pid


def test_a_pod_runs_in_namespaces_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as on, on.agent():
            await on.create_pod("web-1", IDLE)
            pod = await on.until("web-1", lambda p: p.ready)
            assert (pod.status.phase, pod.status.pod_ip) == ("Running", "10.244.7.2")
            seen = run(
                join_argv(
                    container_pid(on.config, pod),
                    ["cat", "/etc/resolv.conf", "/etc/hosts", "/proc/sys/kernel/hostname"],
                )
            ).stdout.decode()
            assert "search default.svc.cluster.local svc.cluster.local cluster.local" in seen
            assert "nameserver 10.96.0.10" in seen
            assert "10.244.7.2\tweb-1" in seen
            assert seen.endswith("web-1\n")
            (add,) = on.calls()
            assert (add["CNI_COMMAND"], add["CNI_IFNAME"], add["CNI_CONTAINERID"]) == (
                "ADD",
                "eth0",
                pod.metadata.uid,
            )
            assert "K8S_POD_NAME=web-1" in add["CNI_ARGS"]
            await on.client.delete(PODS, "default", "web-1", grace_s=0)

    asyncio.run(scenario())


def test_P1_ports_limits_and_annotations_of_a_pod_are_offered_to_the_plugin(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as on, on.agent():
            keys = ("portMappings", "bandwidth", "io.kubernetes.cri.pod-annotations")
            plugin = {"type": "fake", "capabilities": dict.fromkeys(keys, True)}
            conf = {"cniVersion": "1.0.0", "name": "t", "plugins": [plugin]}
            (on.config.cni_conf_dir / "10-t.conflist").write_text(json.dumps(conf))
            ports: Json = {"ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]}
            container: Json = {"name": "c", "image": "any", "command": list(IDLE), **ports}
            annotations: Json = {"kubernetes.io/egress-bandwidth": "1.5M"}
            body: Json = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "p", "namespace": "default", "annotations": annotations},
                "spec": {"nodeName": on.config.name, "containers": [container]},
            }
            await on.client.create(PODS, "default", body)
            await on.until("p", lambda p: p.ready)
            (add,) = on.calls()
            told = json.loads(json.dumps(add))["conf"]["runtimeConfig"]
            assert told == {
                "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
                "bandwidth": {"egressRate": 1_500_000, "egressBurst": 2**32 - 1},
                "io.kubernetes.cri.pod-annotations": annotations,
            }
            await on.client.delete(PODS, "default", "p", grace_s=0)

    asyncio.run(scenario())


def test_the_node_registers_itself_and_is_ready_once_there_is_a_network(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as on:
            conf = on.config.cni_conf_dir / "10-t.conflist"
            conf.rename(tmp_path / "aside")
            async with on.agent():

                async def ready(status: str) -> bool:
                    try:
                        node = await on.client.get(NODES, "", "n1", Node)
                    except ObjectNotFound:
                        return False
                    return any(c.type == "Ready" and c.status == status for c in node.status.conditions)

                await until(lambda: ready("False"))
                (tmp_path / "aside").rename(conf)
                await until(lambda: ready("True"))
            foreign: Json = {"status": {"conditions": [{"type": "NetworkUnavailable", "status": "False"}]}}
            options = {"content_type": STRATEGIC_PATCH, "subresource": "status"}
            await on.client.patch(NODES, "", "n1", foreign, **options)
            async with on.agent():
                await until(lambda: ready("True"))
            node = await on.client.get(NODES, "", "n1", Node)
            assert "NetworkUnavailable" in [condition.type for condition in node.status.conditions]
            assert ("InternalIP", "172.30.0.1") in [(a.type, a.address) for a in node.status.addresses]

    asyncio.run(scenario())


def test_a_deleted_pod_leaves_no_process_no_namespace_and_no_attachment(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as on, on.agent():
            await on.create_pod("a", IDLE)
            pod = await on.until("a", lambda p: p.ready)
            pid = container_pid(on.config, pod)
            await on.client.delete(PODS, "default", "a", grace_s=1)
            await on.until_gone("a")
            assert identify(pid) is None
            assert pinned_namespaces(on.config.state_dir) == []
            assert not on.config.pod_dir(pod.metadata.uid).exists()
            assert [call["CNI_COMMAND"] for call in on.calls()] == ["ADD", "DEL"]
            told = json.dumps(on.calls()[1]["conf"])
            assert '"prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.244.7.2/24"}]' in told

    asyncio.run(scenario())


def test_a_pod_that_does_not_want_to_end_is_ended_after_its_grace(tmp_path: Path) -> None:
    stubborn = [
        sys.executable,
        "-I",
        "-S",
        "-c",
        "import signal; signal.signal(15, signal.SIG_IGN)\nwhile 1: signal.pause()",
    ]

    async def scenario() -> None:
        async with stage(tmp_path) as on, on.agent():
            await on.create_pod("a", stubborn)
            pod = await on.until("a", lambda p: p.ready)
            pid = container_pid(on.config, pod)
            await on.client.delete(PODS, "default", "a", grace_s=1)
            await on.until_gone("a")
            assert identify(pid) is None

    asyncio.run(scenario())


def test_a_plugin_that_fails_is_named_in_the_status_and_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as on, on.agent():
            (on.plugin_dir / "broken").touch()
            await on.create_pod("a", IDLE)

            async def says_why() -> bool:
                body = await on.client.request("GET", PODS.path("default", "a"))
                return b"code 11: not now" in body

            await until(says_why)
            (on.plugin_dir / "broken").unlink()
            await on.until("a", lambda p: p.ready)
            await on.client.delete(PODS, "default", "a", grace_s=0)

    asyncio.run(scenario())


def test_what_happens_to_a_pod_can_be_read_in_its_events(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as on, on.agent():
            (on.plugin_dir / "broken").touch()
            await on.create_pod("a", IDLE)

            async def told(*words: bytes) -> bool:
                body = await on.client.request("GET", EVENTS.path("default"))
                return all(word in body for word in words)

            await until(lambda: told(b"FailedCreatePodSandBox", b"code 11: not now", b'"count":2'))
            (on.plugin_dir / "broken").unlink()
            await until(lambda: told(b'"reason":"Started"'))
            await on.client.delete(PODS, "default", "a", grace_s=1)
            await until(lambda: told(b'"reason":"Killing"'))
            await on.until_gone("a")

    asyncio.run(scenario())


def test_a_container_that_ends_is_started_again(tmp_path: Path) -> None:
    once = [
        sys.executable,
        "-I",
        "-c",
        "import pathlib, signal, sys; ran = pathlib.Path(sys.argv[1]); again = ran.exists(); ran.touch();"
        "again and signal.pause()",
        str(tmp_path / "ran"),
    ]

    async def scenario() -> None:
        async with stage(tmp_path) as on, on.agent():
            await on.create_pod("a", once)
            await on.until("a", lambda p: p.ready)

            async def restarted() -> bool:
                return b'"restartCount":1' in await on.client.request("GET", PODS.path("default", "a"))

            await until(restarted)
            await on.client.delete(PODS, "default", "a", grace_s=0)
            await on.until_gone("a")

    asyncio.run(scenario())


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (3, "Failed")])
def test_a_pod_that_is_not_restarted_ends(tmp_path: Path, code: int, phase: str) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as on, on.agent():
            await on.create_pod(
                "a", [sys.executable, "-I", "-S", "-c", f"raise SystemExit({code})"], restartPolicy="Never"
            )
            await on.until("a", lambda p: p.status.phase == phase)
            await on.client.delete(PODS, "default", "a", grace_s=0)
            await on.until_gone("a")

    asyncio.run(scenario())


def test_the_last_words_of_a_container_that_failed_are_in_the_status(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as on, on.agent():
            failing = [sys.executable, "-I", "-S", "-c", "raise SystemExit('no flour left')"]
            await on.create_pod("a", failing, restartPolicy="Never")
            pod = await on.until("a", lambda p: p.status.phase == "Failed")
            (status,) = pod.status.container_statuses
            assert status.state.terminated is not None
            assert (status.state.terminated.exit_code, status.state.terminated.message) == (
                1,
                "no flour left",
            )
            await on.client.delete(PODS, "default", "a", grace_s=0)
            await on.until_gone("a")

    asyncio.run(scenario())


def test_an_unknown_image_is_said_in_the_status(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as on, on.agent():
            await on.create_pod("a", [])

            async def says_why() -> bool:
                body = await on.client.request("GET", PODS.path("default", "a"))
                return b"ErrImagePull" in body and b"use one of the images idle" in body

            await until(says_why)
            await on.client.delete(PODS, "default", "a", grace_s=0)
            await on.until_gone("a")

    asyncio.run(scenario())


def test_the_next_agent_takes_over_what_runs_and_removes_what_is_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path) as on:
            async with on.agent():
                for name in ("stays", "goes"):
                    await on.create_pod(name, IDLE)
                    await on.until(name, lambda p: p.ready)
            stays = container_pid(on.config, await on.pod("stays"))
            goes = container_pid(on.config, await on.pod("goes"))
            uid = (await on.pod("goes")).metadata.uid
            await on.client.delete(PODS, "default", "goes", grace_s=0)
            async with on.agent():

                async def gone() -> bool:
                    return identify(goes) is None and not on.config.pod_dir(uid).exists()

                await until(gone)
                assert container_pid(on.config, await on.pod("stays")) == stays
                assert identify(stays) is not None
                assert sum(call["CNI_COMMAND"] == "ADD" for call in on.calls()) == 2
                await on.client.delete(PODS, "default", "stays", grace_s=1)
                await on.until_gone("stays")
                assert identify(stays) is None

    asyncio.run(scenario())
