"""Credentials that end: programs are run again, files are read again."""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kubenet.client.exec_protocol import EXEC_INFO, VERSIONS, ExecPlugin, NoCredentials
from kubenet.client.identity import FILE_AGE_S, Identity, ask
from kubenet.client.kubeconfig import ClusterConfig, load
from kubenet.client.transport import ApiClient
from kubenet.errors import InvalidInput
from tests.netns.client.test_tls import Authority, kubeconfig, tls_server

pytestmark = pytest.mark.netns

START = datetime(2026, 1, 1, tzinfo=UTC)


class HandClock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def monotonic(self) -> float:
        return self.passed_s

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed_s)

    async def sleep(self, delay_s: float) -> None:
        self.passed_s += delay_s


def program(path: Path, body: str) -> Path:
    """Write a program that counts its runs in a file of its own, and prints what ``body`` makes."""
    path.write_text(
        f"#!{sys.executable}\nimport json, os, pathlib, sys\n"
        f"runs = pathlib.Path({str(path)!r} + '.runs')\n"
        "number = len(runs.read_text()) + 1 if runs.exists() else 1\nruns.write_text('x' * number)\n"
        f"asked = json.loads(os.environ['{EXEC_INFO}'])\n{body}\n"
    )
    path.chmod(0o755)
    return path


TOKEN = (
    "print(json.dumps({'kind': 'ExecCredential', 'apiVersion': asked['apiVersion'],"
    " 'status': {'token': f'token-{number}', **MORE}}))"
)


def tokens(path: Path, more: str = "{}") -> ExecPlugin:
    return ExecPlugin(str(program(path, TOKEN.replace("MORE", more))))


def test_a_program_is_run_once_for_many_requests_and_again_when_its_word_ends(tmp_path: Path) -> None:
    clock = HandClock()
    plugin = tokens(tmp_path / "who", "{'expirationTimestamp': '2026-01-01T01:00:00Z'}")
    identity = Identity(ClusterConfig("https://c", exec=plugin), clock)

    async def story() -> list[str]:
        first = await asyncio.gather(*(identity.current() for _ in range(5)))
        clock.passed_s = 3599
        first.append(await identity.current())
        clock.passed_s = 3600
        return [who.token for who in (*first, await identity.current())]

    assert asyncio.run(story()) == ["token-1"] * 6 + ["token-2"]


def test_a_program_is_run_again_after_a_refusal_but_not_for_an_old_one(tmp_path: Path) -> None:
    identity = Identity(ClusterConfig("https://c", exec=tokens(tmp_path / "who")), HandClock())

    async def story() -> list[str]:
        first = await identity.current()
        identity.refused(first)
        second = await identity.current()
        identity.refused(first)  # a request that began before
        return [second.token, (await identity.current()).token]

    assert asyncio.run(story()) == ["token-2", "token-2"]


def test_a_program_gets_its_arguments_its_variables_and_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "ours")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    body = TOKEN.replace(
        "f'token-{number}'", "','.join([*sys.argv[1:], os.environ['HIS'], os.environ['OURS']])"
    )
    program(tmp_path / "whoami", body.replace("MORE", "{}"))
    assert ask(ExecPlugin("whoami", ("a", "b"), {"HIS": "his"})).token == "a,b,his,ours"  # found in PATH
    beside = ExecPlugin("./whoami", ("a",), {"HIS": "his"}, directory=tmp_path)
    assert ask(beside).token == "a,his,ours"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        pytest.param("sys.exit('not logged in')", "exit status 1: not logged in", id="it fails"),
        pytest.param("print('hello')", "printed no ExecCredential", id="it says something else"),
    ],
)
def test_a_program_that_fails_is_named(tmp_path: Path, body: str, complaint: str) -> None:
    plugin = ExecPlugin(str(program(tmp_path / "who", body)), install_hint="log in first")
    with pytest.raises(NoCredentials, match=complaint) as caught:
        ask(plugin)
    assert caught.value.next_step == "log in first"


def test_a_program_that_is_missing_is_named_with_what_helps() -> None:
    for command in ("no-such-program-here", "./no-such-program-here"):
        with pytest.raises(NoCredentials, match=r"no-such-program-here.*no such program") as caught:
            ask(ExecPlugin(command, install_hint="apt-get install it"))
        assert caught.value.next_step == "apt-get install it"


def test_a_token_file_is_read_again_every_minute_and_may_be_gone_for_a_moment(tmp_path: Path) -> None:
    path, clock = tmp_path / "token", HandClock()
    identity = Identity(ClusterConfig("https://c", token_path=path), clock)

    async def token(after_s: float = FILE_AGE_S + 1) -> str:
        clock.passed_s += after_s
        return (await identity.current()).token

    async def story() -> list[str]:
        with pytest.raises(InvalidInput, match="token cannot be read"):
            await token()
        path.write_text("one\n")
        seen = [await token()]
        path.write_text("two\n")
        seen += [await token(1), await token()]
        path.unlink()
        return [*seen, await token()]

    assert asyncio.run(story()) == ["one", "one", "two", "two"]


def test_a_renewed_client_certificate_is_used_for_new_connections(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "ca")
    clock = HandClock()
    pem = tmp_path / "current.pem"

    def renew(name: str) -> None:
        cert, key = authority.issue(name, f"/CN={name}")
        pem.write_bytes(cert.read_bytes() + key.read_bytes())  # as a kubelet keeps them: both in one file

    async def story() -> list[str]:
        renew("first")
        async with tls_server(authority) as (server, asked):
            config = ClusterConfig(
                server,
                ca_pem=(authority.path / "ca.crt").read_bytes(),
                client_cert_path=pem,
                client_key_path=pem,
            )
            async with ApiClient(config, clock=clock) as client:
                await client.request("GET", "/a")
                renew("second")
                clock.passed_s += FILE_AGE_S + 1
                await client.request("GET", "/b")
                pem.write_text("half written")
                clock.passed_s += FILE_AGE_S + 1
                await client.request("GET", "/c")
            return asked

    assert asyncio.run(story()) == ["first", "second", "second"]


def test_a_certificate_from_a_program_says_who_we_are(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "ca")
    cert, key = authority.issue("me", "/CN=me")
    status = {"clientCertificateData": cert.read_text(), "clientKeyData": key.read_text()}
    answer = {"kind": "ExecCredential", "apiVersion": VERSIONS[1], "status": status}
    who = program(tmp_path / "who", f"print({json.dumps(answer)!r})")

    async def story() -> list[str]:
        async with tls_server(authority) as (server, asked):
            ca: dict[str, object] = {"certificate-authority": str(authority.path / "ca.crt")}
            user: dict[str, object] = {"exec": {"command": str(who), "apiVersion": VERSIONS[1]}}
            async with ApiClient(load(kubeconfig(tmp_path / "k", server, ca, user))) as client:
                await client.request("GET", "/a")
                await client.request("GET", "/b")
            return asked

    assert asyncio.run(story()) == ["me", "me"]
    assert (tmp_path / "who.runs").read_text() == "x"
