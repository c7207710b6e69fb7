"""What is said between a client and a program that knows who the client is. *Pure.*

The program gets an ExecCredential in its environment, and prints one that holds a token, or a certificate and
its key, and perhaps when that ends. Programs of both versions say the same.

Source: Kubernetes documentation, "Authenticating", client-go credential plugins;
client.authentication.k8s.io/v1 and v1beta1.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from kubenet.errors import InvalidInput, Unreachable

VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
EXEC_INFO = "KUBERNETES_EXEC_INFO"  # the variable that the request stands in
EXTENSION = "client.authentication.k8s.io/exec"  # of a cluster, for the program


class NoCredentials(Unreachable):
    """The program did not say who we are. It may, the next time."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are. Certificate and key are PEM."""

    token: str = ""
    cert_pem: bytes = b""
    key_pem: bytes = b""
    expires: datetime | None = None  # None: when the server refuses them

    def __repr__(self) -> str:
        return f"Credentials(expires={self.expires})"  # never the secrets: this ends in logs


@dataclass(frozen=True, slots=True)
class ExecPlugin:
    """How a kubeconfig says to run the program."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    api_version: str = VERSIONS[0]
    install_hint: str = ""
    directory: Path = Path()  # of the kubeconfig: a command with a slash is relative to it
    cluster: Mapping[str, object] | None = field(default=None, hash=False)  # told to the program, if it asks

    def request(self) -> str:
        """Return the ExecCredential for the program. It never gets our standard input."""
        spec: dict[str, object] = {"interactive": False}
        if self.cluster is not None:
            spec["cluster"] = self.cluster
        asked = {"kind": "ExecCredential", "apiVersion": self.api_version, "spec": spec}
        return msgspec.json.encode(asked).decode()

    def __str__(self) -> str:
        return f"credential program {self.command!r}"


class _EnvVar(msgspec.Struct, frozen=True):
    name: str
    value: str = ""


class ExecConfig(msgspec.Struct, frozen=True, rename="camel"):
    """The field ``exec`` of a user."""

    command: str = ""
    args: list[str] | None = None
    env: list[_EnvVar] | None = None
    api_version: str = ""
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = ""


def plugin_of(config: ExecConfig, directory: Path, cluster: Mapping[str, object]) -> ExecPlugin:
    """Return what ``config`` means. Raises InvalidInput, whose message names no file."""
    if not config.command:
        raise InvalidInput("exec: no command", "name the program that knows who you are")
    if config.api_version not in VERSIONS:
        raise InvalidInput(f"exec: apiVersion {config.api_version!r} is not {' or '.join(VERSIONS)}")
    if config.interactive_mode == "Always":
        raise InvalidInput(
            "exec: interactiveMode Always: nobody is there to answer", "use IfAvailable or Never"
        )
    if config.interactive_mode not in ("Never", "IfAvailable") and (
        config.interactive_mode or config.api_version == VERSIONS[0]
    ):
        raise InvalidInput(f"exec: interactiveMode {config.interactive_mode!r} is not Never or IfAvailable")
    return ExecPlugin(
        config.command,
        tuple(config.args or ()),
        {entry.name: entry.value for entry in config.env or ()},
        config.api_version,
        config.install_hint,
        directory,
        cluster if config.provide_cluster_info else None,
    )


def cluster_info(server: str, name: str, ca_pem: bytes, insecure: bool, config: object) -> dict[str, object]:
    """Return what a program is told of the cluster; what is empty is left out."""
    found: dict[str, object] = {
        "server": server,
        "tls-server-name": name,
        "insecure-skip-tls-verify": insecure,
        "certificate-authority-data": base64.b64encode(ca_pem).decode(),
        "config": config,
    }
    return {key: value for key, value in found.items() if value}


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    status: _Status | None = None


def credentials_of(printed: bytes, plugin: ExecPlugin) -> Credentials:
    """Return what the program said. Raises NoCredentials."""
    try:
        said = msgspec.json.decode(printed, type=_ExecCredential)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refused(plugin, f"printed no ExecCredential: {error}") from None
    if (said.kind, said.api_version) != ("ExecCredential", plugin.api_version):
        raise _refused(
            plugin, f"printed {said.api_version}/{said.kind}, not {plugin.api_version}/ExecCredential"
        )
    status = said.status or _Status()
    if bool(status.client_certificate_data) != bool(status.client_key_data):
        raise _refused(plugin, "printed a certificate without its key, or a key without its certificate")
    if not (status.token or status.client_certificate_data):
        raise _refused(plugin, "printed neither a token nor a certificate")
    expires = status.expiration_timestamp
    if expires is not None and expires.tzinfo is None:
        raise _refused(plugin, f"printed an expirationTimestamp without a time zone: {expires}")
    return Credentials(
        status.token, status.client_certificate_data.encode(), status.client_key_data.encode(), expires
    )


def _refused(plugin: ExecPlugin, why: str) -> NoCredentials:
    return NoCredentials(f"{plugin}: {why}", plugin.install_hint.strip())
