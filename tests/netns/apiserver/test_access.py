"""Certificates, tokens, roles and limits, over TLS with an authority of its own; the command that serves."""

import asyncio
import base64
import json
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from kubenet.apiserver.authenticator import Credentials
from kubenet.apiserver.datadir import DataDir
from kubenet.apiserver.gate import Access
from kubenet.apiserver.http import ApiServer, Listener
from kubenet.apiserver.pki import Identity
from kubenet.apiserver.users import User
from kubenet.clock import SystemClock
from kubenet.store.memory import MemoryStore
from tests.netns.apiserver.server import CONFIGMAPS, DEFAULT, PODS, Api, Reply, Value, configmap, pod
from tests.netns.store.etcd import etcd, needs_etcd

pytestmark = pytest.mark.netns

MASTERS = Identity("root", ("system:masters",))
ANN = Identity("ann", ("ops",))
RBAC = "/apis/rbac.authorization.k8s.io/v1"
AUTHN, AUTHZ = "/apis/authentication.k8s.io/v1", "/apis/authorization.k8s.io/v1"
MAIN = "import sys; from kubenet.cli.main import main; sys.exit(main())"
TOKENS = {"secret-of-bob": User("bob", ("ops",))}


class Guarded:
    """A server with access control, and how to be somebody."""

    def __init__(self, directory: DataDir, url: str, server: ApiServer, store: MemoryStore) -> None:
        self.directory = directory
        self.url = url
        self._server = server
        self._store = store

    def tls(self, identity: Identity | None) -> ssl.SSLContext:
        ca = self.directory.authority().cert_pem.decode()
        context = ssl.create_default_context(cadata=ca)
        if identity is not None:
            user = yaml.safe_load(self.directory.kubeconfig(identity, self.url))["users"][0]["user"]
            path = self.directory.path / f"{identity.name}.pem"
            keys = ("client-certificate-data", "client-key-data")
            path.write_bytes(b"".join(base64.b64decode(user[key]) for key in keys))
            context.load_cert_chain(path)
        return context

    @asynccontextmanager
    async def by(self, identity: Identity | None = None, **headers: str) -> AsyncIterator[Api]:
        """Be the holder of a certificate, or send headers."""
        connector = aiohttp.TCPConnector(ssl=self.tls(identity))
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        async with aiohttp.ClientSession(connector=connector, headers=sent) as session:
            yield Api(self.url, session, self._server, self._store)

    def bearer(self, token: str) -> Any:
        return self.by(None, Authorization=f"Bearer {token}")


def guarded(
    tmp_path: Path, case: Callable[[Guarded], Awaitable[None]], access: dict[str, Any] | None = None
) -> None:
    """Run a case against a server that guards itself."""

    async def run() -> None:
        directory = DataDir(tmp_path / "data", SystemClock())
        directory.prepare()
        listener = socket.create_server(("127.0.0.1", 0))
        store = MemoryStore()
        options = {"credentials": Credentials(directory.token_key(), TOKENS)} | (access or {})
        server = ApiServer(store, access=Access(**options))
        await server.start([Listener(listener, directory.server_tls(()))])
        try:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            await asyncio.wait_for(case(Guarded(directory, url, server, store)), 30)
        finally:
            await server.stop()

    asyncio.run(run())


async def _whoami(api: Api) -> Value:
    answered = (await api.post(f"{AUTHN}/selfsubjectreviews", {})).ok
    return answered["status"]["userInfo"]


def test_B7_1_a_certificate_names_its_user_and_groups(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        async with server.by(ANN) as api:
            me = await _whoami(api)
            assert (me["username"], me["groups"]) == ("ann", ["ops", "system:authenticated"])
            message = (await api.get(PODS)).refused(403, "Forbidden")
            assert message == (
                'pods is forbidden: User "ann" cannot list resource "pods" in API group "" in the namespace'
                ' "default"'
            )
            assert "at the cluster scope" in (await api.get("/api/v1/nodes")).refused(403, "Forbidden")
            assert 'cannot get path "/metrics"' in (await api.get("/metrics")).refused(403, "Forbidden")
            assert (await api.get("/apis")).status == 200
        async with server.by(MASTERS) as api:
            assert (await api.get("/api/v1/nodes")).status == 200
            assert (await api.get("/metrics")).status == 200

    guarded(tmp_path, case)


def test_B7_1_without_credentials_there_is_401_even_for_health(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
            async with server.by(None, **headers) as api:
                assert (await api.get(PODS)).refused(401, "Unauthorized") == "Unauthorized"
                (await api.get("/healthz")).refused(401, "Unauthorized")

    guarded(tmp_path, case)


def test_B7_1_anonymous_may_be_let_in_and_then_sees_health_only(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        async with server.by() as api:
            assert (await api.get("/healthz")).status == 200
            assert "system:anonymous" in (await api.get(PODS)).refused(403, "Forbidden")

    guarded(tmp_path, case, {"credentials": Credentials(anonymous=True)})


def test_B7_1_a_certificate_of_another_authority_does_not_get_in(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        other = DataDir(tmp_path / "other", SystemClock())
        other.prepare()
        stranger = Guarded(other, server.url, server._server, server._store)
        context = stranger.tls(MASTERS)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(server.url + PODS)

    guarded(tmp_path, case)


def test_B7_1_a_token_of_the_file(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        async with server.bearer("secret-of-bob") as api:
            assert (await _whoami(api))["username"] == "bob"

    guarded(tmp_path, case)


def test_B3_19_a_service_account_gets_tokens_that_end_with_it(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        async with server.by(MASTERS) as root:
            accounts = f"{DEFAULT}/serviceaccounts"
            await root.post(accounts, {"metadata": {"name": "robot"}})
            await root.post(PODS, pod("p"))
            reference = {"kind": "Pod", "apiVersion": "v1", "name": "p"}
            asked = {"spec": {"expirationSeconds": 600, "boundObjectRef": reference}}
            made = (await root.post(f"{accounts}/robot/token", asked)).ok
            token = made["status"]["token"]
            short = await root.post(f"{accounts}/robot/token", {"spec": {"expirationSeconds": 5}})
            assert "spec.expirationSeconds" in short.refused(422, "Invalid")
            (await root.post(f"{accounts}/nobody/token", {})).refused(404, "NotFound")
            async with server.bearer(token) as robot:
                me = await _whoami(robot)
                assert me["username"] == "system:serviceaccount:default:robot"
                assert me["extra"]["authentication.kubernetes.io/pod-name"] == ["p"]
            review = (await root.post(f"{AUTHN}/tokenreviews", {"spec": {"token": token}})).ok["status"]
            assert (review["authenticated"], review["user"]["uid"]) == (True, me["uid"])
            other = {"spec": {"token": token, "audiences": ["else"]}}
            assert not (await root.post(f"{AUTHN}/tokenreviews", other)).ok["status"]["authenticated"]
            await root.delete(f"{PODS}/p")
            async with server.bearer(token) as robot:
                (await robot.get("/apis")).refused(401, "Unauthorized")
            keys = (await root.get("/openid/v1/jwks")).ok["keys"]
            assert [key["alg"] for key in keys] == ["ES256"]

    guarded(tmp_path, case)


async def _may(api: Api, verb: str, resource: str, **more: str) -> bool:
    spec = {"resourceAttributes": {"verb": verb, "resource": resource, "namespace": "default"} | more}
    answered = (await api.post(f"{AUTHZ}/selfsubjectaccessreviews", {"spec": spec})).ok
    return bool(answered["status"]["allowed"])


def test_B7_2_a_binding_gives_rights_and_its_end_takes_them(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        async with server.by(MASTERS) as root, server.by(ANN) as ann:
            assert not await _may(ann, "list", "pods")
            bindings = f"{RBAC}/namespaces/default/rolebindings"
            view = {
                "metadata": {"name": "v"},
                "roleRef": {"kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "Group", "name": "ops"}],
            }
            await root.post(bindings, view)
            assert await _may(ann, "list", "pods")
            assert not await _may(ann, "delete", "pods")
            assert (await ann.get(PODS)).status == 200
            (await ann.get("/api/v1/pods")).refused(403, "Forbidden")
            rules = await ann.post(f"{AUTHZ}/selfsubjectrulesreviews", {"spec": {"namespace": "default"}})
            assert any("pods" in rule["resources"] for rule in rules.ok["status"]["resourceRules"])
            about = {
                "user": "x",
                "groups": ["ops"],
                "resourceAttributes": {"verb": "get", "resource": "pods"},
            }
            about["resourceAttributes"] |= {"namespace": "default"}  # type: ignore[operator]
            asked = (await root.post(f"{AUTHZ}/subjectaccessreviews", {"spec": about})).ok
            assert asked["status"]["allowed"] is True
            await root.delete(f"{bindings}/v")
            assert not await _may(ann, "list", "pods")

    guarded(tmp_path, case)


def test_B7_2_a_role_aggregates_what_its_labels_select(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        async with server.by(MASTERS) as root, server.by(ANN) as ann:
            part = {
                "metadata": {"name": "part", "labels": {"into": "whole"}},
                "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]}],
            }
            whole = {
                "metadata": {"name": "whole"},
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"into": "whole"}}]},
            }
            bound = {
                "metadata": {"name": "b"},
                "roleRef": {"kind": "ClusterRole", "name": "whole"},
                "subjects": [{"kind": "User", "name": "ann"}],
            }
            for path, body in (
                ("clusterroles", whole),
                ("clusterrolebindings", bound),
                ("clusterroles", part),
            ):
                assert (await root.post(f"{RBAC}/{path}", body)).status == 201
            assert await _may(ann, "get", "nodes", namespace="")

    guarded(tmp_path, case)


def test_B7_2_nobody_gives_away_more_than_they_have(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        async with server.by(MASTERS) as root, server.by(ANN) as ann:
            admin = {
                "metadata": {"name": "a"},
                "roleRef": {"kind": "ClusterRole", "name": "admin"},
                "subjects": [{"kind": "User", "name": "ann"}],
            }
            await root.post(f"{RBAC}/namespaces/default/rolebindings", admin)
            here = f"{RBAC}/namespaces/default"
            fine = {"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}
            assert (await ann.post(f"{here}/roles", {"metadata": {"name": "fine"}} | fine)).status == 201
            greedy = {"rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}
            refused = await ann.post(f"{here}/roles", {"metadata": {"name": "greedy"}} | greedy)
            assert "attempting to grant RBAC permissions not currently held" in refused.refused(
                403, "Forbidden"
            )
            (await ann.patch(f"{here}/roles/fine", greedy)).refused(403, "Forbidden")
            upward = {
                "metadata": {"name": "up"},
                "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"kind": "User", "name": "ann"}],
            }
            (await ann.post(f"{here}/rolebindings", upward)).refused(403, "Forbidden")

    guarded(tmp_path, case)


def test_impersonation_needs_the_right_to_it(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        async with server.by(MASTERS, Impersonate_User="carl", Impersonate_Group="g") as api:
            me = await _whoami(api)
            assert (me["username"], me["groups"]) == ("carl", ["g", "system:authenticated"])
            (await api.get(PODS)).refused(403, "Forbidden")
        async with server.by(ANN, Impersonate_User="root") as api:
            message = (await api.get("/apis")).refused(403, "Forbidden")
            assert 'User "ann" cannot impersonate resource "users"' in message

    guarded(tmp_path, case)


def test_B7_4_a_full_server_says_come_back_later(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        async with server.by(MASTERS) as root:

            async def one(index: int) -> Reply:
                return await root.post(CONFIGMAPS, configmap(f"c{index}"))

            replies = await asyncio.gather(*(one(index) for index in range(40)))
            refused = [reply for reply in replies if reply.status == 429]
            assert refused
            assert refused[0].headers["Retry-After"] == "1"
            assert {reply.status for reply in replies} == {201, 429}
            assert "apiserver_rejected_requests_total" in (await root.get("/metrics")).body.decode()

    guarded(tmp_path, case, {"writes_most": 1, "credentials": Credentials()})


def test_B7_6_an_audit_line_for_every_write(tmp_path: Path) -> None:
    audit = StringIO()

    async def case(server: Guarded) -> None:
        async with server.by(MASTERS) as root, server.by(ANN) as ann:
            await root.post(CONFIGMAPS, configmap("c"))
            await root.get(CONFIGMAPS)
            await ann.delete(f"{CONFIGMAPS}/c")

    guarded(tmp_path, case, {"audit": audit})
    lines = [json.loads(line) for line in audit.getvalue().splitlines()]
    told = [(line["user"], line["verb"], line["resource"], line["name"], line["code"]) for line in lines]
    assert told == [("root", "create", "configmaps", "", 201), ("ann", "delete", "configmaps", "c", 403)]


def test_a_client_that_never_shakes_hands_stops_nobody(tmp_path: Path) -> None:
    async def case(server: Guarded) -> None:
        host, port = server.url.removeprefix("https://").split(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(20)]
        async with server.by(MASTERS) as root:
            assert (await root.get("/healthz")).status == 200
        for _, writer in silent:
            writer.close()

    guarded(tmp_path, case)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", MAIN, *words], capture_output=True, text=True, timeout=30, check=False
    )


def test_B7_3_the_command_serves_and_keeps_what_it_was_told(tmp_path: Path) -> None:
    data, port = tmp_path / "d", _free_port()
    words = ["apiserver", "--data-dir", str(data), "--listen", f"127.0.0.1:{port}"]
    plain = tmp_path / "plain.sock"
    for round_number in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", MAIN, *words, "--insecure-listen", f"unix:{plain}"],
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            try:
                assert server.stdout is not None
                assert f"https://127.0.0.1:{port}" in server.stdout.readline()
                names = asyncio.run(_names_over(plain, create=round_number == 0))
                assert "kept" in names
                modes = {stat.S_IMODE(path.stat().st_mode) for path in data.glob("**/*.key*")}
                assert modes == {0o600}
                assert stat.S_IMODE((data / "admin.kubeconfig").stat().st_mode) == 0o600
                assert stat.S_IMODE(plain.stat().st_mode) == 0o600
            finally:
                server.send_signal(signal.SIGTERM)
            assert server.wait(20) == 0
    issued = _run("apiserver", "--data-dir", str(data), "kubeconfig", "--user", "u", "--group", "g")
    assert yaml.safe_load(issued.stdout)["users"][0]["name"] == "u"


async def _names_over(plain: Path, create: bool) -> list[str]:
    connector = aiohttp.UnixConnector(str(plain))
    async with aiohttp.ClientSession(connector=connector) as session:
        if create:
            await session.post("http://x/api/v1/namespaces", json={"metadata": {"name": "kept"}})
        async with session.get("http://x/api/v1/namespaces") as reply:
            return [item["metadata"]["name"] for item in (await reply.json())["items"]]


@needs_etcd
def test_F_the_command_moves_to_etcd_and_goes_on(tmp_path: Path) -> None:
    plain, port = tmp_path / "plain.sock", _free_port()

    def serve(create: bool, *words: str) -> list[str]:
        listen = ["--listen", f"127.0.0.1:{port}", "--insecure-listen", f"unix:{plain}"]
        command = [
            sys.executable,
            "-c",
            MAIN,
            "apiserver",
            "--data-dir",
            str(tmp_path / "d"),
            *listen,
            *words,
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                assert "serving on" in server.stdout.readline()
                return asyncio.run(_names_over(plain, create))
            finally:
                server.send_signal(signal.SIGTERM)

    with etcd() as cluster:
        peers = ["--etcd-endpoints", ",".join(cluster.endpoints)]
        serve(True)
        moved = _run("apiserver", "--data-dir", str(tmp_path / "d"), *peers, "migrate")
        assert (moved.returncode, moved.stderr) == (0, "")
        assert "objects are in etcd" in moved.stdout
        assert "kept" in serve(False, "--store", "etcd", *peers)
        again = _run("apiserver", "--data-dir", str(tmp_path / "d"), *peers, "migrate")
        assert again.returncode == 73
        assert "is in use" in again.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--insecure-listen", "0.0.0.0:8080"], "not a loopback address"),
        (["--insecure-listen", "nonsense"], "not HOST:PORT"),
        (["--listen", "127.0.0.1"], "not HOST:PORT"),
        (["--service-cidr", "10.0.0.0/99"], "--service-cidr"),
        (["--token-auth-file", "/none"], "/none: cannot be read"),
        (["--audit-log", "/none/audit"], "--audit-log"),
    ],
)
def test_B7_3_a_wrong_option_is_one_line(words: list[str], why: str, tmp_path: Path) -> None:
    listen = [] if "--listen" in words else ["--listen", f"127.0.0.1:{_free_port()}"]
    done = _run("apiserver", "--data-dir", str(tmp_path / "d"), "--store", "memory", *listen, *words)
    assert done.returncode == 2
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
