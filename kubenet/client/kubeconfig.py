"""Where the API server is and who we are: kubeconfig files, or the files a pod finds inside a cluster.

Several files (``KUBECONFIG=a:b``) are merged as kubectl merges them: the first file to define a name wins.
Paths inside a file are relative to that file. Everything is read here and once; the files of a token, a
certificate and a key also stay paths, because they are renewed under us (``identity``).

Source: Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files"; client-go
tools/clientcmd/api/v1.
"""

import base64
import binascii
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

from kubenet.client.exec_protocol import EXTENSION, ExecConfig, ExecPlugin, cluster_info, plugin_of
from kubenet.errors import InvalidInput, NotFound

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """One API server and one identity; certificates and keys are PEM text."""

    server: str
    token: str = ""
    token_path: Path | None = None  # wins over ``token``; read again every minute
    ca_pem: bytes = b""
    client_cert_pem: bytes = b""
    client_key_pem: bytes = b""
    client_cert_path: Path | None = None  # with the key's: they win over the PEM text; read again too
    client_key_path: Path | None = None
    exec: ExecPlugin | None = None  # wins over all of them: a program says who we are
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    namespace: str = "default"

    def __repr__(self) -> str:
        return f"ClusterConfig({self.server})"  # never the secrets: this ends in logs


class _Part(msgspec.Struct, frozen=True, rename="kebab"):
    """Base of what a kubeconfig file is made of; fields that we do not know are ignored."""


class _Extension(_Part, frozen=True):
    name: str = ""
    extension: object = None


class _Cluster(_Part, frozen=True):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    extensions: list[_Extension] | None = None


class _User(_Part, frozen=True):
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    username: str = ""
    exec: ExecConfig | None = None
    auth_provider: object = None


class _Context(_Part, frozen=True):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(_Part, frozen=True):
    name: str
    cluster: _Cluster | None = None


class _NamedUser(_Part, frozen=True):
    name: str
    user: _User | None = None


class _NamedContext(_Part, frozen=True):
    name: str
    context: _Context | None = None


class _File(_Part, frozen=True):
    current_context: str | None = None
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None


@dataclass(slots=True)
class _Merged:
    """What all files together say; each part remembers the file it stands in."""

    paths: Sequence[Path]
    current: str
    clusters: dict[str, tuple[Path, _Cluster]]
    users: dict[str, tuple[Path, _User]]
    contexts: dict[str, tuple[Path, _Context]]

    @property
    def source(self) -> str:
        return ", ".join(str(path) for path in self.paths)


def load(path: Path | None = None, context: str | None = None) -> ClusterConfig:
    """Return what ``path`` says, or else the files of $KUBECONFIG, or else ~/.kube/config.

    Raises NotFound (no file) and InvalidInput; both name the file.
    """
    merged = _merge(_paths(path))
    name = context or merged.current
    if not name:
        raise InvalidInput(f"{merged.source}: no current-context", "choose one with --context")
    try:
        chosen = merged.contexts[name][1]
    except KeyError:
        known = ", ".join(sorted(merged.contexts)) or "none"
        raise InvalidInput(f"{merged.source}: no context {name!r} (there is: {known})") from None
    if chosen.cluster not in merged.clusters:
        raise InvalidInput(f"{merged.source}: context {name!r} names cluster {chosen.cluster!r}, not defined")
    if chosen.user and chosen.user not in merged.users:
        raise InvalidInput(f"{merged.source}: context {name!r} names user {chosen.user!r}, not defined")
    cluster_path, cluster = merged.clusters[chosen.cluster]
    user_path, user = merged.users.get(chosen.user, (cluster_path, _User()))
    _refuse_unsupported(cluster_path, chosen.cluster, cluster)
    _refuse_unsupported_user(user_path, chosen.user, user)
    ca_pem = _pem(cluster_path, cluster.certificate_authority, cluster.certificate_authority_data)
    return ClusterConfig(
        server=cluster.server.rstrip("/"),
        token=user.token,
        token_path=user_path.parent / user.token_file if user.token_file else None,
        ca_pem=ca_pem,
        client_cert_pem=_pem(user_path, user.client_certificate, user.client_certificate_data),
        client_key_pem=_pem(user_path, user.client_key, user.client_key_data),
        client_cert_path=_renewed(user_path, user.client_certificate, user.client_certificate_data),
        client_key_path=_renewed(user_path, user.client_key, user.client_key_data),
        exec=_plugin(user_path, chosen.user, user.exec, _told(cluster, ca_pem)) if user.exec else None,
        insecure_skip_tls_verify=cluster.insecure_skip_tls_verify,
        tls_server_name=cluster.tls_server_name,
        namespace=chosen.namespace or "default",
    )


def in_cluster(service_account: Path = SERVICE_ACCOUNT) -> ClusterConfig:
    """Return a pod's configuration: its environment variables and service account. Raises NotFound."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise NotFound(
            "not inside a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set",
            "give --kubeconfig FILE",
        )
    bracketed = f"[{host}]" if ":" in host else host
    namespace_path = service_account / "namespace"
    return ClusterConfig(
        server=f"https://{bracketed}:{port}",
        token_path=service_account / "token",
        ca_pem=_read(service_account / "ca.crt"),
        namespace=namespace_path.read_text().strip() if namespace_path.exists() else "default",
    )


def _paths(path: Path | None) -> Sequence[Path]:
    if path is not None:
        paths = [path]
    elif listed := [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]:
        paths = [part for part in listed if _is_there(part)] or listed
    else:
        paths = [Path("~/.kube/config").expanduser()]
    for each in paths:
        if not _is_there(each):
            raise NotFound(f"{each}: no such kubeconfig file", "give --kubeconfig FILE, or set KUBECONFIG")
    return paths


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return True  # why it cannot be looked at is said when it is read


def _merge(paths: Sequence[Path]) -> _Merged:
    merged = _Merged(paths, "", {}, {}, {})
    for path in paths:
        file = _parse(path)
        merged.current = merged.current or file.current_context or ""
        for cluster in file.clusters or ():
            merged.clusters.setdefault(cluster.name, (path, cluster.cluster or _Cluster()))
        for user in file.users or ():
            merged.users.setdefault(user.name, (path, user.user or _User()))
        for context in file.contexts or ():
            merged.contexts.setdefault(context.name, (path, context.context or _Context()))
    return merged


def _parse(path: Path) -> _File:
    try:
        tree = yaml.load(_read(path), Loader=yaml.CSafeLoader)
        return msgspec.convert({} if tree is None else tree, _File)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InvalidInput(f"{where}: not YAML: {getattr(error, 'problem', error)}") from None
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{path}: not a kubeconfig file: {error}") from None


def _pem(owner: Path, file_name: str, encoded: str) -> bytes:
    """Return a certificate or key: the inline text wins over the file, as in kubectl."""
    if not encoded:
        return _read(owner.parent / file_name) if file_name else b""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{owner}: certificate or key data is not base64: {error}") from None


def _renewed(owner: Path, file_name: str, encoded: str) -> Path | None:
    """Return the file that may be renewed under us; text that stands inline is not."""
    return owner.parent / file_name if file_name and not encoded else None


def _told(cluster: _Cluster, ca_pem: bytes) -> dict[str, object]:
    config = next((each.extension for each in cluster.extensions or () if each.name == EXTENSION), None)
    return cluster_info(
        cluster.server, cluster.tls_server_name, ca_pem, cluster.insecure_skip_tls_verify, config
    )


def _plugin(path: Path, name: str, config: ExecConfig, cluster: Mapping[str, object]) -> ExecPlugin:
    try:
        return plugin_of(config, path.parent, cluster)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: user {name!r}: {error}", error.next_step) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path}: cannot be read: {error.strerror}") from None


def _refuse_unsupported(path: Path, name: str, cluster: _Cluster) -> None:
    if not cluster.server.startswith(("http://", "https://")):
        raise InvalidInput(f"{path}: cluster {name!r}: server {cluster.server!r} is not an http(s) URL")
    if cluster.proxy_url:
        raise InvalidInput(f"{path}: cluster {name!r}: proxy-url is not supported")


def _refuse_unsupported_user(path: Path, name: str, user: _User) -> None:
    fields: Iterable[tuple[str, object]] = (
        ("auth-provider", user.auth_provider),
        ("username", user.username),
    )
    if unsupported := [field for field, value in fields if value]:
        raise InvalidInput(
            f"{path}: user {name!r}: {', '.join(unsupported)} is not supported",
            "use a token, a token file, a client certificate or an exec program",
        )
    if bool(user.client_certificate or user.client_certificate_data) != bool(
        user.client_key or user.client_key_data
    ):
        raise InvalidInput(
            f"{path}: user {name!r}: a client certificate needs its key, and a key its certificate"
        )
