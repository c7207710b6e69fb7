"""Programs that know who we are: what is asked of them, and what they may answer."""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from kubenet.client.exec_protocol import (
    VERSIONS,
    Credentials,
    ExecConfig,
    ExecPlugin,
    NoCredentials,
    credentials_of,
    plugin_of,
)
from kubenet.client.kubeconfig import load
from kubenet.errors import InvalidInput

V1, V1BETA1 = VERSIONS
HERE = Path("/etc/kube")


def config(**said: object) -> ExecConfig:
    whole = {"command": "who", "apiVersion": V1, "interactiveMode": "Never"} | said
    return msgspec.convert(whole, ExecConfig)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        pytest.param({"command": ""}, "no command", id="nothing to run"),
        pytest.param({"apiVersion": ""}, "apiVersion '' is not", id="no version"),
        pytest.param(
            {"apiVersion": "client.authentication.k8s.io/v1alpha1"},
            "v1alpha1' is not",
            id="a version too old",
        ),
        pytest.param({"interactiveMode": "Always"}, "nobody is there to answer", id="must ask somebody"),
        pytest.param({"interactiveMode": ""}, "interactiveMode '' is not", id="v1 must say"),
        pytest.param({"interactiveMode": "Never!"}, "interactiveMode 'Never!' is not", id="no such mode"),
    ],
)
def test_what_cannot_be_run_is_refused_when_the_file_is_read(said: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        plugin_of(config(**said), HERE, {})


def test_v1beta1_need_not_say_whether_it_asks() -> None:
    assert plugin_of(config(apiVersion=V1BETA1, interactiveMode=""), HERE, {}).api_version == V1BETA1


@pytest.mark.parametrize("told", [True, False])
def test_the_program_is_told_of_the_cluster_only_if_it_asks(told: bool) -> None:
    plugin = plugin_of(config(provideClusterInfo=told), HERE, {"server": "https://c"})
    spec = {"interactive": False} | ({"cluster": {"server": "https://c"}} if told else {})
    assert json.loads(plugin.request()) == {"kind": "ExecCredential", "apiVersion": V1, "spec": spec}


def printed(**status: object) -> bytes:
    return msgspec.json.encode({"kind": "ExecCredential", "apiVersion": V1, "status": status})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param(printed(token="t"), Credentials("t"), id="a token"),
        pytest.param(
            printed(token="t", expirationTimestamp="2026-01-02T03:04:05Z"),
            Credentials("t", expires=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
            id="one that ends",
        ),
        pytest.param(
            printed(clientCertificateData="C", clientKeyData="K"),
            Credentials("", b"C", b"K"),
            id="a certificate",
        ),
    ],
)
def test_what_a_program_may_answer(said: bytes, expected: Credentials) -> None:
    assert credentials_of(said, ExecPlugin("who")) == expected


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        pytest.param(b"", "printed no ExecCredential", id="nothing"),
        pytest.param(b"\xff{", "printed no ExecCredential", id="no text"),
        pytest.param(b'{"kind":"Pod","apiVersion":"v1"}', "printed v1/Pod", id="something else"),
        pytest.param(
            printed(token="t").replace(b"/v1", b"/v1beta1"), "printed client.*v1beta1", id="another version"
        ),
        pytest.param(printed(), "neither a token nor a certificate", id="nobody"),
        pytest.param(printed(clientKeyData="K"), "without its", id="half a pair"),
        pytest.param(printed(token="t", expirationTimestamp="soon"), "printed no Exec", id="no time"),
        pytest.param(
            printed(token="t", expirationTimestamp="2026-01-02T03:04:05"),
            "without a time zone",
            id="what time",
        ),
    ],
)
def test_what_a_program_may_not_answer_names_it_and_what_helps(said: bytes, complaint: str) -> None:
    with pytest.raises(NoCredentials, match=f"credential program 'who': .*{complaint}") as caught:
        credentials_of(said, ExecPlugin("who", install_hint="apt-get install who\n"))
    assert caught.value.next_step == "apt-get install who"


def test_secrets_do_not_show_in_logs() -> None:
    assert "s3cret" not in repr(Credentials("s3cret", b"s3cret", b"s3cret"))


def test_a_kubeconfig_names_a_program_beside_it_and_what_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        f"""
current-context: c
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
clusters:
- name: c
  cluster:
    server: https://c
    tls-server-name: kubernetes
    extensions: [{{name: client.authentication.k8s.io/exec, extension: {{audience: me}}}}]
users:
- name: u
  user:
    exec:
      apiVersion: {V1}
      command: ./who
      args: [am, i]
      env: [{{name: A, value: b}}]
      provideClusterInfo: true
      interactiveMode: IfAvailable
      installHint: no hope
"""
    )
    cluster = {"server": "https://c", "tls-server-name": "kubernetes", "config": {"audience": "me"}}
    assert load(tmp_path / "config").exec == ExecPlugin(
        "./who", ("am", "i"), {"A": "b"}, V1, "no hope", tmp_path, cluster
    )


def test_a_kubeconfigs_unusable_program_is_named_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'https://c'}}]\n"
        "users: [{name: u, user: {exec: {command: aws}}}]"
    )
    with pytest.raises(InvalidInput, match=f"{tmp_path}/config: user 'u': exec: apiVersion"):
        load(tmp_path / "config")
