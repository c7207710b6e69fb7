"""Where the server is, from files that people write by hand."""

import base64
from pathlib import Path

import pytest

from kubenet.client.kubeconfig import ClusterConfig, in_cluster, load
from kubenet.errors import InvalidInput, NotFound

TWO_CONTEXTS = """
apiVersion: v1
kind: Config
current-context: lab
clusters:
- name: lab
  cluster: {server: "http://10.0.0.1:6443/"}
- name: work
  cluster: {server: "https://work:6443", certificate-authority: certs/ca.crt, tls-server-name: kubernetes}
users:
- name: me
  user: {token: s3cret}
- name: renewed
  user: {tokenFile: token}
contexts:
- name: lab
  context: {cluster: lab, user: me, namespace: demo}
- name: work
  context: {cluster: work, user: renewed}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "ca.crt").write_text("PEM")
    path = tmp_path / "config"
    path.write_text(TWO_CONTEXTS)
    return path


def test_B8_5_the_current_context_is_taken(config: Path) -> None:
    assert load(config) == ClusterConfig(server="http://10.0.0.1:6443", token="s3cret", namespace="demo")


def test_B8_5_another_context_by_name_with_paths_relative_to_the_file(config: Path) -> None:
    assert load(config, "work") == ClusterConfig(
        server="https://work:6443",
        token_path=config.parent / "token",
        ca_pem=b"PEM",
        tls_server_name="kubernetes",
    )


def test_B8_5_certificates_inline_win_over_files(tmp_path: Path) -> None:
    encoded = base64.b64encode(b"INLINE").decode()
    path = tmp_path / "config"
    path.write_text(
        f"""
current-context: c
clusters: [{{name: c, cluster: {{server: "https://c", certificate-authority-data: {encoded},
            certificate-authority: missing}}}}]
users: [{{name: u, user: {{client-certificate-data: {encoded}, client-key-data: {encoded}}}}}]
contexts: [{{name: c, context: {{cluster: c, user: u}}}}]
"""
    )
    config = load(path)
    assert (config.ca_pem, config.client_cert_pem, config.client_key_pem) == (b"INLINE",) * 3


def test_B8_5_several_files_are_merged_and_the_first_to_define_a_name_wins(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"
    first.write_text('clusters: [{name: lab, cluster: {server: "http://override:1"}}]\ncontexts: null\n')
    monkeypatch.setenv("KUBECONFIG", f"{first}:{config}:{tmp_path / 'missing'}")
    assert load(None).server == "http://override:1"


def test_secrets_do_not_show_in_logs(config: Path) -> None:
    assert "s3cret" not in f"{load(config)!r} {load(config)}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("a: [", "config:2: not YAML", id="not YAML names file and line"),
        pytest.param("clusters: 5", "not a kubeconfig file.*clusters", id="wrong shape names the field"),
        pytest.param("[1, 2]", "not a kubeconfig file", id="a list"),
        pytest.param("", "no current-context", id="an empty file"),
        pytest.param("current-context: x", "no context 'x' .there is: none.", id="unknown context"),
        pytest.param(
            "current-context: c\ncontexts: [{name: c, context: {cluster: nix}}]",
            "names cluster 'nix', not defined",
            id="unknown cluster",
        ),
        pytest.param(
            "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c, cluster: {server: 'http://c'}}]",
            "names user 'u', not defined",
            id="unknown user",
        ),
        pytest.param(
            "current-context: c\ncontexts: [{name: c, context: {cluster: c}}]\n"
            "clusters: [{name: c, cluster: {server: 'c:6443'}}]",
            "server 'c:6443' is not an http.s. URL",
            id="server without a scheme",
        ),
        pytest.param(
            "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c, cluster: {server: 'https://c'}}]\n"
            "users: [{name: u, user: {auth-provider: {name: gcp}}}]",
            "user 'u': auth-provider is not supported",
            id="an auth provider",
        ),
        pytest.param(
            "current-context: c\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c, cluster: {server: 'https://c'}}]\n"
            "users: [{name: u, user: {client-certificate: x.pem}}]",
            "a client certificate needs its key",
            id="a certificate without its key",
        ),
        pytest.param(
            "current-context: c\ncontexts: [{name: c, context: {cluster: c}}]\n"
            "clusters: [{name: c, cluster: {server: 'https://c', certificate-authority-data: '%%'}}]",
            "not base64",
            id="certificate data that is not base64",
        ),
    ],
)
def test_B8_5_what_is_wrong_is_said_with_the_file_name(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=complaint) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_B8_5_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere: no such kubeconfig file"):
        load(tmp_path / "nowhere")


def test_B8_5_a_file_that_cannot_even_be_looked_at_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="File name too long"):
        load(tmp_path / ("x" * 300))


def test_B8_5_a_missing_certificate_file_is_named(config: Path) -> None:
    (config.parent / "certs" / "ca.crt").unlink()
    with pytest.raises(NotFound, match=r"certs/ca\.crt: cannot be read"):
        load(config, "work")


def test_B8_5_inside_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "ca.crt").write_text("PEM")
    (tmp_path / "namespace").write_text("demo\n")
    assert in_cluster(tmp_path) == ClusterConfig(
        server="https://[fd00::1]:443", token_path=tmp_path / "token", ca_pem=b"PEM", namespace="demo"
    )


def test_B8_5_outside_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(NotFound, match="not inside a cluster"):
        in_cluster()
