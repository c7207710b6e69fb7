"""The executable by itself, in C and in Python: what it answers without an agent, and what it hands over."""

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cni.deferred import deferred, directory_for
from cni.install import ShimKind, install_plugin
from cni.spec import VERSIONS
from kubenet.errors import ProgramMissing
from kubenet.kernel.run import ENVIRONMENT, run, spawn
from tests.netns.cni.conftest import LabNode, NodeMaker, Pin

pytestmark = pytest.mark.netns

POD = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/nowhere", "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin"}


@pytest.fixture(params=list(ShimKind), ids=lambda kind: str(kind.value))
def bare(request: pytest.FixtureRequest, make_node: NodeMaker) -> LabNode:
    """A node without an agent."""
    return make_node(kind=request.param)


def conf(version: str = "1.0.0") -> bytes:
    return json.dumps({"cniVersion": version, "name": "kubenet", "type": "kubenet"}).encode()


def test_agents_that_start_together_compile_once_and_leave_nothing_beside_it(tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def install(number: int) -> ShimKind:
        return install_plugin(tmp_path / f"bin{number}", tmp_path / f"{number}.sock", cache=cache)

    with ThreadPoolExecutor(4) as agents:
        kinds = set(agents.map(install, range(4)))
    assert kinds == {ShimKind.NATIVE}
    assert [path.name.partition("-")[0] for path in cache.iterdir()] == ["shim"]
    plugins = {(tmp_path / f"bin{number}" / "kubenet").read_bytes() for number in range(4)}
    assert len(plugins) == 4  # each calls at its own socket


def test_without_a_compiler_the_python_plugin_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni.install._COMPILE", ("no-such-compiler",))
    socket_path = tmp_path / "cni.sock"
    assert install_plugin(tmp_path / "bin", socket_path, cache=tmp_path / "cache") is ShimKind.PYTHON
    with pytest.raises(ProgramMissing):
        install_plugin(tmp_path / "bin", socket_path, cache=tmp_path / "cache", kind=ShimKind.NATIVE)


def test_E1_by_hand_it_says_what_it_is_and_which_versions_it_speaks(bare: LabNode) -> None:
    answer = bare.runtime.execute({}, b"")
    assert (answer.code, answer.stdout) == (0, b"")
    assert all(version.encode() in answer.stderr for version in VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_V1_versions_are_told_without_an_agent(bare: LabNode, version: str) -> None:
    answer = bare.runtime.execute({"CNI_COMMAND": "VERSION"}, conf(version))
    assert answer.code == 0
    assert answer.json == {"cniVersion": version, "supportedVersions": list(VERSIONS)}


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        pytest.param(
            b'{"prevResult":{"cniVersion":"0.3.1"},"cniVersion" :\n"0.4.0"}', "0.4.0", id="the outer one"
        ),
        pytest.param(
            b'{"name":"cniVersion","x":["cniVersion"],"cniVersion":"0.4.0"}', "0.4.0", id="no value"
        ),
        pytest.param(b'{"a":"\\"cniVersion\\":\\"9\\"","cniVersion":"0.4.0"}', "0.4.0", id="quoted quotes"),
        pytest.param(b'{"cniVersion":"1\\"}', "1.1.0", id="no version"),
        pytest.param(b'{"cniVersion":"11111111111111111"}', "1.1.0", id="too long to be one"),
        pytest.param(b'{"cniVersion":7}', "1.1.0", id="a number"),
        pytest.param(b"", "1.1.0", id="nothing"),
        pytest.param(b"not JSON", "1.1.0", id="not JSON"),
    ],
)
def test_E14_the_version_of_an_answer_is_found_without_an_agent(
    bare: LabNode, stdin: bytes, version: str
) -> None:
    assert bare.runtime.execute({"CNI_COMMAND": "VERSION"}, stdin).json["cniVersion"] == version
    refused = bare.runtime.execute(POD | {"CNI_COMMAND": "ADD"}, stdin)
    assert refused.error == 11
    assert refused.json["cniVersion"] == version


@pytest.mark.parametrize(
    ("command", "code"), [("ADD", 11), ("CHECK", 11), ("GC", 11), ("DEL", 11), ("STATUS", 50)]
)
def test_E13_S2_without_an_agent_every_verb_says_try_again(bare: LabNode, command: str, code: int) -> None:
    assert bare.runtime.execute(POD | {"CNI_COMMAND": command}, conf()).error == code


def test_N9_a_del_without_an_agent_succeeds_and_is_kept_for_the_next_one(bare: LabNode) -> None:
    waiting = directory_for(bare.config.socket_path)
    waiting.mkdir(parents=True)
    for container_id in ("c1", "c2"):
        environment = POD | {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": container_id, "OTHER": "x"}
        answer = bare.runtime.execute(environment, conf())
        assert (answer.code, answer.stdout) == (0, b"")
    requests = sorted(deferred(waiting), key=lambda request: request.environment["CNI_CONTAINERID"])
    assert [request.environment for request in requests] == [
        POD | {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": container_id} for container_id in ("c1", "c2")
    ]


def test_N9_a_del_while_the_agent_is_down_is_done_when_it_comes_back(bare: LabNode, pin: Pin) -> None:
    bare.start()
    assert bare.runtime.add("c1", pin("p1")).code == 0
    assert bare.runtime.add("c2", pin("p2")).code == 0
    bare.stop()
    assert bare.runtime.delete("c1").code == 0
    assert len(bare.links()) == 2
    agent = bare.start()
    agent.attachments.reaper.wait_idle(5)
    assert [record.container_id for record in agent.attachments.records] == ["c2"]
    assert len(bare.links()) == 1
    assert list(directory_for(bare.config.socket_path).iterdir()) == []


def test_N9_an_agent_that_dies_before_it_answers_is_no_agent(bare: LabNode) -> None:
    bare.config.socket_path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(bare.config.socket_path))
        listening.listen()
        child = spawn(
            [bare.runtime.plugin], netns=bare.netns, env={**ENVIRONMENT, **POD, "CNI_COMMAND": "ADD"}
        )
        connection, _ = listening.accept()
        message, fds, _, _ = socket.recv_fds(connection, 65536, 4)
        connection.close()
        for fd in fds:
            os.close(fd)
    assert child.wait(5) == 1
    assert b"CNI_COMMAND=ADD\0" in message
    assert len(fds) == 3  # the namespace could not be opened


def test_the_exit_code_is_what_the_agent_says(bare: LabNode) -> None:
    bare.config.socket_path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(bare.config.socket_path))
        listening.listen()
        environment = {
            **ENVIRONMENT,
            **POD,
            "CNI_COMMAND": "CHECK",
            "CNI_NETNS": "/proc/self/ns/net",
            "HOME": "/",
        }
        child = spawn([bare.runtime.plugin], netns=bare.netns, env=environment)
        connection, _ = listening.accept()
        message, fds, _, _ = socket.recv_fds(connection, 65536, 4)
        inode = os.fstat(fds[3]).st_ino
        for fd in fds:
            os.close(fd)
        connection.send(b"\x2a")
        assert child.wait(5) == 42
        connection.close()
    assert inode == bare.netns.inode
    assert all(entry.startswith(b"CNI_") for entry in message.split(b"\0") if entry)


def test_closed_streams_are_no_reason_to_hang(bare: LabNode, pin: Pin) -> None:
    bare.start()
    line = 'exec "$0" <&- >&- 2>&-'
    environment = {**ENVIRONMENT, **POD, "CNI_COMMAND": "DEL"}
    child = spawn(["/bin/sh", "-c", line, bare.runtime.plugin], netns=bare.netns, env=environment)
    assert child.wait(5) == 0


def test_a_large_environment_of_others_is_not_passed_on(bare: LabNode, pin: Pin) -> None:
    bare.start()
    environment = {"CNI_COMMAND": "STATUS", **{f"VARIABLE_{n}": "x" * 10_000 for n in range(50)}}
    assert bare.runtime.execute(environment, conf("1.1.0")).code == 0


def test_E13_an_agent_that_hangs_does_not_hang_a_version(bare: LabNode) -> None:
    bare.config.socket_path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(bare.config.socket_path))
        listening.listen()
        assert bare.runtime.execute({"CNI_COMMAND": "VERSION"}, conf()).code == 0


def test_other_users_cannot_call(
    make_node: NodeMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = make_node()
    node.start()
    assert node.config.socket_path.stat().st_mode & 0o777 == 0o600
    assert node.config.socket_path.parent.stat().st_mode & 0o777 == 0o700
    # Also if the way there were open to all, the kernel tells the agent who calls.
    for directory in (node.config.socket_path.parent, *list(tmp_path.parents)[:2], tmp_path, node.directory):
        directory.chmod(0o755)
    node.config.socket_path.chmod(0o666)
    plugin = node.config.bin_dir / "kubenet"
    argv = ["/usr/bin/setpriv", "--reuid=65534", "--clear-groups", str(plugin)]
    done = run(argv, netns=node.netns, stdin=conf("1.1.0"), env={"CNI_COMMAND": "STATUS"}, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == 50
    assert "of user 65534 may not call" in caplog.text
    assert node.runtime.call("STATUS").code == 0


def test_a_caller_that_sends_nothing_does_not_keep_others_waiting(node: LabNode) -> None:
    silent = []
    for _ in range(3):
        silent.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        silent[-1].connect(str(node.config.socket_path))
    try:
        assert node.runtime.call("STATUS").code == 0
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.parametrize("message", [b"", b"x", b"\0" * 1000, b"CNI_COMMAND=ADD\0"], ids=len)
def test_a_message_that_is_no_request_is_hung_up(node: LabNode, message: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(5)
        connection.connect(str(node.config.socket_path))
        connection.send(message)
        assert connection.recv(1) == b""
    assert node.runtime.call("STATUS").code == 0
