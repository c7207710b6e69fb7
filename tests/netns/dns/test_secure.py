"""DNS over TLS and over HTTPS, with a certificate of openssl's making and clients that are not ours."""

import asyncio
import base64
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from dns.daemon import CorefileServer, ServeConfig
from dns.framing import framed
from kubenet.errors import InvalidInput
from kubenet.kernel import run
from tests.netns.dns.test_daemon import cluster, until_ready
from tests.netns.dns.test_upstream import THERE, plainly
from tests.netns.dns.world import CLIENT, SERVER, WEB, Upstream, World, on
from tests.unit.dns.world import query, seen

pytestmark = pytest.mark.netns


def certificate(directory: Path, name: str = "dns.test") -> tuple[Path, Path]:
    """Return the files of a new certificate of the server's address, signed by itself, and its key."""
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    run.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-keyout", key, "-out", cert, "-subj", f"/CN={name}", "-days", "1"),
            *("-addext", f"subjectAltName=IP:{SERVER},DNS:{name}"),
        ]
    )
    return cert, key


def corefile(cert: Path, key: Path) -> str:
    kubernetes = f"kubernetes cluster.local {{\n endpoint http://{CLIENT}:6443\n }}"
    return f"""
    (all) {{
        bind {SERVER}
        tls {cert} {key}
        {kubernetes}
        forward . {THERE[0]}:{THERE[1]}
        ready
    }}
    tls://. {{
        import all
    }}
    https://. {{
        import all
    }}
    https://.:8080 {{
        bind {SERVER}
        {kubernetes}
    }}
    """


async def over_tls(world: World, cert: Path, port: int, octets: bytes, *, proto: str) -> bytes:
    """Send ``octets`` over TLS, and return all that comes back until the server is silent."""
    context = ssl.create_default_context(cafile=str(cert))
    context.set_alpn_protocols([proto])
    opened = world.client.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setblocking(False)
    await asyncio.get_running_loop().sock_connect(opened, (SERVER, port))
    reader, writer = await asyncio.open_connection(sock=opened, ssl=context, server_hostname=SERVER)
    writer.write(octets)
    try:
        return await asyncio.wait_for(reader.read(65536), 5)
    finally:
        writer.close()


def http(method: str, target: str, body: bytes = b"", media_type: str = "application/dns-message") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: dns.test\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: {media_type}\r\nConnection: close\r\n\r\n".encode() + body


def test_dot_and_doh_answer_own_and_forwarded_names(world: World, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    (tmp_path / "Corefile").write_text(corefile(cert, key))

    async def case() -> None:
        server = CorefileServer(ServeConfig(tmp_path / "Corefile", netns=world.server))
        try:
            with Upstream(world, plainly):
                async with cluster(world):
                    await server.start()
                    await until_ready(world)
                    for name, want in ((WEB, "10.96.1.1"), ("www.example.com", "192.0.2.1")):
                        message = query(name)
                        reply = await over_tls(world, cert, 853, framed(message), proto="dot")
                        assert seen(reply[2:]).rdata == [want]
                        post = await over_tls(
                            world, cert, 443, http("POST", "/dns-query", message), proto="http/1.1"
                        )
                        head, _, body = post.partition(b"\r\n\r\n")
                        assert seen(body).rdata == [want]
                        assert b"Content-Type: application/dns-message" in head
                        encoded = base64.urlsafe_b64encode(message).rstrip(b"=").decode()
                        get = await over_tls(
                            world, cert, 443, http("GET", f"/dns-query?dns={encoded}"), proto="http/1.1"
                        )
                        assert seen(get.partition(b"\r\n\r\n")[2]).rdata == [want]
                    assert b"max-age=300" in head or b"max-age=60" in head
                    await _check_refusals(world, cert)
        finally:
            await server.close()

    on(case)


async def _check_refusals(world: World, cert: Path) -> None:
    for request, status in (
        (http("POST", "/dns-query", b"x", "text/plain"), b"415"),
        (http("GET", "/dns-query?dns=%%%"), b"400"),
        (http("GET", "/dns-query"), b"400"),
        (http("GET", "/other"), b"404"),
        (http("PUT", "/dns-query"), b"405"),
        (http("POST", "/dns-query", bytes(70000)), b"413"),
    ):
        reply = await over_tls(world, cert, 443, request, proto="http/1.1")
        assert reply.split()[1] == status, request[:40]


def test_dot_is_what_dig_speaks_and_doh_goes_without_a_certificate(world: World, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    (tmp_path / "Corefile").write_text(corefile(cert, key))

    async def case() -> None:
        server = CorefileServer(ServeConfig(tmp_path / "Corefile", netns=world.server))
        try:
            async with cluster(world):
                await server.start()
                await until_ready(world)
                dig = [
                    "dig",
                    "+tls",
                    f"+tls-ca={cert}",
                    "+tls-hostname=dns.test",
                    "+short",
                    f"@{SERVER}",
                    WEB,
                ]
                done = await asyncio.to_thread(run.run, dig, netns=world.client)
                assert done.stdout == b"10.96.1.1\n"
                with world.client.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
                    opened.setblocking(False)
                    loop = asyncio.get_running_loop()
                    await loop.sock_connect(opened, (SERVER, 8080))
                    await loop.sock_sendall(opened, http("POST", "/dns-query", query(WEB)))
                    reader, writer = await asyncio.open_connection(sock=opened)
                    plain = await asyncio.wait_for(reader.read(65536), 5)
                    writer.close()
                assert seen(plain.partition(b"\r\n\r\n")[2]).rdata == ["10.96.1.1"]
        finally:
            await server.close()

    on(case)


def test_D3_a_handshake_that_never_ends_holds_nobody_up(world: World, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    (tmp_path / "Corefile").write_text(corefile(cert, key))

    async def case() -> None:
        server = CorefileServer(ServeConfig(tmp_path / "Corefile", netns=world.server))
        silent = [world.client.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(20)]
        try:
            async with cluster(world):
                await server.start()
                await until_ready(world)
                for each in silent:
                    each.setblocking(False)
                    await asyncio.get_running_loop().sock_connect(each, (SERVER, 853))
                reply = await over_tls(world, cert, 853, framed(query(WEB)), proto="dot")
                assert seen(reply[2:]).rdata == ["10.96.1.1"]
        finally:
            for each in silent:
                each.close()
            await server.close()

    on(case)


def test_a_client_without_a_certificate_is_turned_away_where_one_is_wanted(
    world: World, tmp_path: Path
) -> None:
    cert, key = certificate(tmp_path)
    own, own_key = certificate(tmp_path, "client.test")
    wanted = f"tls {cert} {key} {own} {{\n client_auth require_and_verify\n }}"
    (tmp_path / "Corefile").write_text(corefile(cert, key).replace(f"tls {cert} {key}", wanted))

    async def case() -> None:
        server = CorefileServer(ServeConfig(tmp_path / "Corefile", netns=world.server))
        try:
            async with cluster(world):
                await server.start()
                await until_ready(world)
                reply = b""
                with suppress(OSError):  # TLS 1.3 tells a client only after it has spoken
                    reply = await over_tls(world, cert, 853, framed(query(WEB)), proto="dot")
                assert reply == b""
                dig = ["dig", "+tls", f"+tls-ca={cert}", f"+tls-certfile={own}", f"+tls-keyfile={own_key}"]
                words = [*dig, "+tls-hostname=dns.test", "+short", f"@{SERVER}", WEB]
                done = await asyncio.to_thread(run.run, words, netns=world.client)
                assert done.stdout == b"10.96.1.1\n"
        finally:
            await server.close()

    on(case)


def test_a_renewed_certificate_is_shown_after_a_reload(world: World, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    path = tmp_path / "Corefile"
    path.write_text(corefile(cert, key))

    async def case() -> None:
        server = CorefileServer(ServeConfig(path, netns=world.server))
        try:
            async with cluster(world):
                await server.start()
                await until_ready(world)
                certificate(tmp_path)  # the same files, another key
                path.write_text(path.read_text() + "\n# renewed\n")
                assert await server.reload()
                reply = await over_tls(world, cert, 853, framed(query(WEB)), proto="dot")
                assert seen(reply[2:]).rdata == ["10.96.1.1"]
        finally:
            await server.close()

    on(case)


def test_D7_a_certificate_that_is_not_there_is_an_error(world: World, tmp_path: Path) -> None:
    missing = tmp_path / "missing.crt"
    (tmp_path / "Corefile").write_text(f"tls://. {{\n bind {SERVER}\n tls {missing} {missing}\n local\n}}")

    async def case() -> None:
        server = CorefileServer(ServeConfig(tmp_path / "Corefile", netns=world.server))
        try:
            with pytest.raises(InvalidInput, match=r"tls: .*missing\.crt.*No such file"):
                await server.start()
        finally:
            await server.close()

    on(case)
