"""The client over TLS: the embedded API server behind a certificate, users by certificate and by token.

openssl makes the certificates, so that nothing of ours judges itself.
"""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from kubenet.client.informer import Informer
from kubenet.client.kubeconfig import load
from kubenet.client.transport import ApiClient
from kubenet.errors import InvalidInput, Unreachable
from kubenet.model.objects import Namespace
from kubenet.model.resources import NAMESPACES

pytestmark = pytest.mark.netns

NAMESPACE_LIST = (
    b'{"kind":"NamespaceList","apiVersion":"v1","metadata":{"resourceVersion":"7"},'
    b'"items":[{"metadata":{"name":"default","uid":"u","resourceVersion":"3"}}]}'
)


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a directory of its own."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> "Authority":
        path.mkdir()
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *(
                "-subj",
                "/CN=test-ca",
                "-days",
                "1",
                "-keyout",
                str(path / "ca.key"),
                "-out",
                str(path / "ca.crt"),
            ),
        )
        return cls(path)

    def issue(self, name: str, subject: str, extension: str = "") -> tuple[Path, Path]:
        """Return certificate and key of a new identity."""
        key, request, cert = (self.path / f"{name}.{suffix}" for suffix in ("key", "csr", "crt"))
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject),
            *("-keyout", str(key), "-out", str(request)),
        )
        extensions = self.path / f"{name}.ext"
        extensions.write_text(extension)
        _openssl(
            *("x509", "-req", "-in", str(request), "-days", "1", "-CAcreateserial", "-out", str(cert)),
            *(
                "-CA",
                str(self.path / "ca.crt"),
                "-CAkey",
                str(self.path / "ca.key"),
                "-extfile",
                str(extensions),
            ),
        )
        return cert, key


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls") / "ca")


@asynccontextmanager
async def tls_server(authority: Authority) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that wants a certificate of the authority or a token; yields its URL and who has asked."""
    cert, key = authority.issue("server", "/CN=kubernetes", "subjectAltName=IP:127.0.0.1,DNS:kubernetes")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.path / "ca.crt"))
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_OPTIONAL
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        peer = request.get_extra_info("peercert")
        names = dict(entry[0] for entry in peer["subject"]) if peer else {}
        who = str(names.get("commonName") or request.headers.get("Authorization", ""))
        asked.append(who)
        if not who:
            return web.json_response({"kind": "Status", "code": 401, "message": "Unauthorized"}, status=401)
        if "watch" in request.query:
            await asyncio.sleep(0.05)
            return web.Response(body=b"")
        return web.Response(body=NAMESPACE_LIST, content_type="application/json")

    listener = socket.create_server(("127.0.0.1", 0))
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.SockSite(runner, listener, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        await runner.cleanup()


def kubeconfig(path: Path, server: str, cluster: dict[str, object], user: dict[str, object]) -> Path:
    """Write a kubeconfig and return where."""
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path


async def _names(path: Path) -> list[str]:
    async with ApiClient(load(path)) as client:
        return [each.metadata.name for each in await client.list(NAMESPACES, "", Namespace)]


def test_B8_5_a_client_certificate_says_who_we_are(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("client", "/CN=system:node:n1/O=system:nodes")

    async def story() -> tuple[list[str], list[str]]:
        async with tls_server(authority) as (server, asked):
            ca = {"certificate-authority": str(authority.path / "ca.crt")}
            user: dict[str, object] = {"client-certificate": str(cert), "client-key": str(key)}
            return await _names(kubeconfig(tmp_path / "k", server, dict(ca), user)), asked

    assert asyncio.run(story()) == (["default"], ["system:node:n1"])


def test_B8_5_a_token_file_says_who_we_are(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")

    async def story() -> list[str]:
        async with tls_server(authority) as (server, asked):
            ca: dict[str, object] = {"certificate-authority": str(authority.path / "ca.crt")}
            await _names(kubeconfig(tmp_path / "k", server, ca, {"tokenFile": str(tmp_path / "token")}))
            return asked

    assert asyncio.run(story()) == ["Bearer secret"]


def test_a_server_of_another_authority_is_not_talked_to(authority: Authority, tmp_path: Path) -> None:
    other = Authority.make(tmp_path / "other")

    async def story() -> list[str]:
        async with tls_server(authority) as (server, asked):
            ca: dict[str, object] = {"certificate-authority": str(other.path / "ca.crt")}
            with pytest.raises(Unreachable, match="certificate verify failed"):
                await _names(kubeconfig(tmp_path / "k", server, ca, {"token": "secret"}))
            return asked

    assert asyncio.run(story()) == [], "the token must not have left"


def test_a_server_under_another_name_is_not_talked_to_unless_the_name_is_given(
    authority: Authority, tmp_path: Path
) -> None:
    async def story() -> None:
        async with tls_server(authority) as (server, _):
            cluster: dict[str, object] = {"certificate-authority": str(authority.path / "ca.crt")}
            wrong = kubeconfig(
                tmp_path / "w", server, cluster | {"tls-server-name": "elsewhere"}, {"token": "t"}
            )
            with pytest.raises(Unreachable):
                await _names(wrong)
            right = kubeconfig(
                tmp_path / "r", server, cluster | {"tls-server-name": "kubernetes"}, {"token": "t"}
            )
            assert await _names(right) == ["default"]

    asyncio.run(story())


def test_an_informer_follows_over_tls(authority: Authority, tmp_path: Path) -> None:
    async def story() -> None:
        async with tls_server(authority) as (server, _):
            ca: dict[str, object] = {"certificate-authority": str(authority.path / "ca.crt")}
            async with ApiClient(load(kubeconfig(tmp_path / "k", server, ca, {"token": "t"}))) as client:
                informer = Informer(client, NAMESPACES, Namespace)
                running = asyncio.ensure_future(informer.run())
                await asyncio.wait_for(informer.wait_synced(), 10)
                assert list(informer.cache.objects()) == ["default"]
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())


def test_a_key_that_does_not_fit_is_named_before_anything_is_sent(
    authority: Authority, tmp_path: Path
) -> None:
    cert, _ = authority.issue("one", "/CN=one")
    _, key = authority.issue("two", "/CN=two")

    async def story() -> None:
        user: dict[str, object] = {"client-certificate": str(cert), "client-key": str(key)}
        await _names(kubeconfig(tmp_path / "k", "https://127.0.0.1:1", {}, user))

    with pytest.raises(InvalidInput, match="certificates of the kubeconfig are unusable"):
        asyncio.run(story())
