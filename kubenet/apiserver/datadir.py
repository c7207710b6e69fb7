"""The directory of a server: its authority, its certificate, the key of its tokens, the administrator's file.

Everything is made once and found again. Private keys and kubeconfig files have mode 0600 from their first
byte on, and a file is either whole or not there.
"""

import csv
import os
import ssl
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kubenet.apiserver.pki import Identity, KeyPair, TokenKey, issue, new_authority, serves
from kubenet.apiserver.users import MASTERS, User
from kubenet.clock import Clock
from kubenet.errors import InvalidInput

CLUSTER_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class DataDir:
    """Where a server keeps what it must not lose."""

    path: Path
    clock: Clock

    @property
    def store(self) -> Path:
        return self.path / "store.db"

    @property
    def admin_kubeconfig(self) -> Path:
        return self.path / "admin.kubeconfig"

    @property
    def _pki(self) -> Path:
        return self.path / "pki"

    def prepare(self) -> None:
        """Make the directory, for its owner alone. Raises InvalidInput."""
        try:
            self._pki.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise InvalidInput(f"{self.path}: {error.strerror}", "name another directory") from None

    def authority(self) -> KeyPair:
        """Return the cluster's authority, made if it is missing."""
        found = self._pair("ca")
        return found or self._kept("ca", new_authority("kubenet-ca", self.clock.now()))

    def server_tls(self, hosts: Iterable[str]) -> ssl.SSLContext:
        """Return the TLS side of a server that answers to these names; clients may show a certificate."""
        names = tuple(dict.fromkeys((*CLUSTER_NAMES, *LOCAL_NAMES, *hosts)))
        found = self._pair("apiserver")
        if found is None or not serves(found, names, self.clock.now()):
            identity = Identity("kube-apiserver", hosts=names)
            self._kept("apiserver", issue(self.authority(), identity, self.clock.now()))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self._pki / "ca.crt"))
        context.load_cert_chain(self._pki / "apiserver.crt", self._pki / "apiserver.key")
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        return context

    def token_key(self) -> TokenKey:
        """Return the key that signs the tokens of service accounts, made if it is missing."""
        path = self._pki / "sa.key"
        if not path.exists():
            write_whole(path, TokenKey.new_pem())
        return TokenKey(path.read_bytes())

    def kubeconfig(self, identity: Identity, server: str) -> str:
        """Return a kubeconfig with a new client certificate."""
        authority = self.authority()
        pair = issue(authority, identity, self.clock.now())
        return kubeconfig_text(identity.name, server, authority.cert_pem, pair)

    def write_admin_kubeconfig(self, server: str) -> None:
        """Write the administrator's kubeconfig anew: certificates end, and addresses change."""
        admin = Identity("kubernetes-admin", (MASTERS,))
        write_whole(self.admin_kubeconfig, self.kubeconfig(admin, server).encode())

    def _pair(self, name: str) -> KeyPair | None:
        cert, key = self._pki / f"{name}.crt", self._pki / f"{name}.key"
        return KeyPair(cert.read_bytes(), key.read_bytes()) if cert.exists() and key.exists() else None

    def _kept(self, name: str, pair: KeyPair) -> KeyPair:
        write_whole(self._pki / f"{name}.key", pair.key_pem)
        write_whole(self._pki / f"{name}.crt", pair.cert_pem, 0o644)
        return pair


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that is whole or as it was before. Raises InvalidInput."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from None


def kubeconfig_text(user: str, server: str, authority_pem: bytes, pair: KeyPair) -> str:
    """Return a kubeconfig file."""
    ca, cert, key = (b64encode(pem).decode() for pem in (authority_pem, pair.cert_pem, pair.key_pem))
    return f"""apiVersion: v1
kind: Config
clusters:
- name: kubenet
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: "{user}"
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
contexts:
- name: kubenet
  context:
    cluster: kubenet
    user: "{user}"
current-context: kubenet
"""


def read_tokens(path: Path) -> dict[str, User]:
    """Return the users of a token file: ``token,user,uid,"group1,group2"`` a line. Raises InvalidInput.

    Source: Kubernetes documentation, "Static token file".
    """
    tokens: dict[str, User] = {}
    try:
        with path.open(newline="") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if not row or row[0].startswith("#"):
                    continue
                if len(row) < 3 or not row[0] or not row[1]:
                    raise InvalidInput(f"{path}:{number}: not token,user,uid[,groups]")
                groups = tuple(row[3].split(",")) if len(row) > 3 and row[3] else ()
                tokens[row[0]] = User(row[1], groups, row[2])
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from None
    return tokens
