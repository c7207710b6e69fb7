"""The command against an API server behind TLS, with every way of saying who one is."""

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubenet.apiserver.http import ApiServer
from kubenet.client.exec_protocol import VERSIONS
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.client.transport import ApiClient
from kubenet.kernel.run import Completed, run
from kubenet.model.resources import ENDPOINTSLICES, NAMESPACES, SERVICES
from kubenet.store.memory import MemoryStore
from tests.netns.client.test_identity import TOKEN, program
from tests.netns.client.test_tls import Authority, kubeconfig
from tests.netns.proxy.test_command import command
from tests.netns.proxy.test_daemon import VIP, service_body, slice_body
from tests.netns.proxy.world import OUTSIDE, World, backend_ip

pytestmark = pytest.mark.netns

SERVER = f"https://{OUTSIDE}:6443"
User = dict[str, object]


class Door:
    """TLS before an API server that has none: lets in whom it knows, and says who came."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.came: set[str] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if not self._let_in(head, writer.get_extra_info("peercert")):
                writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            inside = self._world.outside.socket(socket.AF_INET, socket.SOCK_STREAM)
            inside.setblocking(False)
            await asyncio.get_running_loop().sock_connect(inside, ("127.0.0.1", 8001))
            up_reader, up_writer = await asyncio.open_connection(sock=inside)
            up_writer.write(head)
            await asyncio.wait(
                {
                    asyncio.create_task(_copy(reader, up_writer)),
                    asyncio.create_task(_copy(up_reader, writer)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
            up_writer.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _let_in(self, head: bytes, peer: dict[str, tuple[tuple[tuple[str, str], ...], ...]] | None) -> bool:
        names = {value for part in peer["subject"] for _, value in part} if peer else set()
        tokens = {
            line.partition(b" ")[2].decode()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"authorization:")
        }
        self.came |= names | tokens
        return bool(names or "Bearer s3cret" in tokens or "Bearer token-1" in tokens)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()


@asynccontextmanager
async def api_server(world: World, authority: Authority) -> AsyncIterator[Door]:
    """Serve one Service with one endpoint, over TLS, outside the node."""
    inside = world.outside.socket(socket.AF_INET, socket.SOCK_STREAM)
    inside.bind(("127.0.0.1", 8001))
    inside.listen()
    server = ApiServer(MemoryStore())
    await server.start([inside])
    cert, key = authority.issue("server", "/CN=kubernetes", f"subjectAltName=IP:{OUTSIDE}")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.path / "ca.crt"))
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_OPTIONAL
    listener = world.outside.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((OUTSIDE, 6443))
    door = Door(world)
    front = await asyncio.start_server(door.serve, sock=listener, ssl=context)
    try:
        plain = ClusterConfig("http://127.0.0.1:8001")
        async with ApiClient(plain, socket_factory=world.outside.socket) as client:
            await client.create(NAMESPACES, "", {"metadata": {"name": "demo"}})
            await client.create(SERVICES, "demo", service_body())
            await client.create(ENDPOINTSLICES, "demo", slice_body(2))
        yield door
    finally:
        front.close()
        await server.stop()


def _certificate(authority: Authority, tmp_path: Path) -> User:
    cert, key = authority.issue("proxy", "/O=system:nodes/CN=system:kube-proxy")
    return {"client-certificate": str(cert), "client-key": str(key)}


def _token_file(_: Authority, tmp_path: Path) -> User:
    (tmp_path / "token").write_text("s3cret\n")
    return {"tokenFile": str(tmp_path / "token")}


def _program(_: Authority, tmp_path: Path) -> User:
    who = program(tmp_path / "who", TOKEN.replace("MORE", "{}"))
    return {"exec": {"command": str(who), "apiVersion": VERSIONS[0], "interactiveMode": "Never"}}


@pytest.mark.parametrize(
    ("user", "who"),
    [
        pytest.param(_certificate, {"system:nodes", "system:kube-proxy"}, id="a client certificate"),
        pytest.param(lambda *_: {"token": "s3cret"}, {"Bearer s3cret"}, id="a token"),
        pytest.param(_token_file, {"Bearer s3cret"}, id="a token file"),
        pytest.param(_program, {"Bearer token-1"}, id="an exec program"),
    ],
)
def test_the_command_serves_what_a_server_behind_tls_says(
    world: World, tmp_path: Path, user: Callable[[Authority, Path], User], who: set[str]
) -> None:
    authority = Authority.make(tmp_path / "ca")
    ca: dict[str, object] = {"certificate-authority": str(authority.path / "ca.crt")}
    path = kubeconfig(tmp_path / "k", SERVER, ca, user(authority, tmp_path))

    async def story() -> tuple[Completed, set[str]]:
        async with api_server(world, authority) as door:
            done = await asyncio.to_thread(once, world, path)
            return done, door.came

    done, came = asyncio.run(story())
    assert (done.returncode, came) == (0, who), done.stderr
    assert world.connect(world.client, VIP).backend == backend_ip(2)


def once(world: World, path: Path) -> Completed:
    said = (
        "--kubeconfig",
        str(path),
        "--cluster-cidr",
        "10.244.0.0/16",
        "--proxy-mode",
        "iptables",
        "--once",
    )
    return run(command(*said), netns=world.node, check=False, timeout_s=60)


def test_the_command_says_that_it_is_not_let_in(world: World, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "ca")
    ca: dict[str, object] = {"certificate-authority": str(authority.path / "ca.crt")}
    path = kubeconfig(tmp_path / "k", SERVER, ca, {"token": "wrong"})
    patience = (
        "-c",
        "import kubenet.cli.proxy as p, kubenet.cli.main as m; p.READ_PATIENCE_S = 2.0; m.main()",
    )

    async def story() -> Completed:
        async with api_server(world, authority):
            argv = [sys.executable, *patience, "proxy", "--kubeconfig", str(path), "--once"]
            return await asyncio.to_thread(run, argv, netns=world.node, check=False, timeout_s=60)

    done = asyncio.run(story())
    assert b"HTTP 401" in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr
