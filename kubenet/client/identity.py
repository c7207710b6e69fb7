"""Who we are to a server, as it is now: tokens and certificates are renewed while a daemon runs.

A file is read again every minute, and after a refusal; while it is missing, what was read before serves on. A
program is run when what it said ends, and after a refusal.

Source: client-go transport (token files, certificate rotation) and plugin/pkg/client/auth/exec.
"""

import asyncio
import os
import shutil
from pathlib import Path

from kubenet.client.exec_protocol import EXEC_INFO, Credentials, ExecPlugin, NoCredentials, credentials_of
from kubenet.client.kubeconfig import ClusterConfig
from kubenet.clock import Clock
from kubenet.errors import InvalidInput, KubenetError
from kubenet.kernel.run import describe_status, run

FILE_AGE_S = 60.0  # bound service account tokens are renewed long before they end; client-go reads as often
PLUGIN_PATIENCE_S = 60.0  # for a program that asks a server of its own


class Identity:
    """Who ``config`` says we are, again and again."""

    def __init__(self, config: ClusterConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._known = Credentials(config.token, config.client_cert_pem, config.client_key_pem)
        self._read_at_s: float | None = None
        self._fresh = config.exec is None
        self._lock = asyncio.Lock()

    async def current(self) -> Credentials:
        """Return who we are. Raises InvalidInput (a file), NoCredentials (a program)."""
        if self._config.exec is None:
            self._read_files()
            return self._known
        async with self._lock:  # many requests wait for one run
            if not self._fresh or self._expired():
                self._known = await asyncio.to_thread(ask, self._config.exec)
                self._fresh = True
        return self._known

    def refused(self, credentials: Credentials) -> None:
        """The server did not take these: renew them, unless that has been done meanwhile."""
        if credentials is self._known:
            self._read_at_s = None
            self._fresh = self._config.exec is None

    def _expired(self) -> bool:
        return self._known.expires is not None and self._clock.now() >= self._known.expires

    def _read_files(self) -> None:
        config, now_s = self._config, self._clock.monotonic()
        if not (config.token_path or config.client_cert_path):
            return
        if self._read_at_s is not None and now_s - self._read_at_s <= FILE_AGE_S:
            return
        self._read_at_s = now_s
        token, cert, key = self._known.token, self._known.cert_pem, self._known.key_pem
        if config.token_path:
            token = _read(config.token_path, "token", token.encode()).decode().strip()
        if config.client_cert_path and config.client_key_path:
            cert = _read(config.client_cert_path, "certificate", cert)
            key = _read(config.client_key_path, "key", key)
        read = Credentials(token, cert, key)
        self._known = self._known if read == self._known else read


def _read(path: Path, what: str, before: bytes) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        # A renewal replaces the file; what we have serves until it is there again.
        if not before:
            raise InvalidInput(f"{path}: {what} cannot be read: {error.strerror}") from None
        return before


def ask(plugin: ExecPlugin) -> Credentials:
    """Run the program and return what it says. Blocks. Raises NoCredentials."""
    environment = {**os.environ, **plugin.env, EXEC_INFO: plugin.request()}
    try:
        done = run([_found(plugin), *plugin.args], env=environment, timeout_s=PLUGIN_PATIENCE_S, check=False)
    except KubenetError as error:
        raise NoCredentials(f"{plugin}: {error}", plugin.install_hint.strip() or error.next_step) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = f": {said[-1]}" if said else ""
        raise NoCredentials(
            f"{plugin}: {describe_status(done.returncode)}{reason}", plugin.install_hint.strip()
        )
    return credentials_of(done.stdout, plugin)


def _found(plugin: ExecPlugin) -> str:
    """Return where the program is: by the kubeconfig if its name has a slash, else as a shell finds it."""
    if "/" in plugin.command:
        return str(plugin.directory / plugin.command)
    path = shutil.which(plugin.command)
    if path is None:
        raise NoCredentials(
            f"{plugin}: no such program in {os.environ.get('PATH', '')}", plugin.install_hint.strip()
        )
    return str(Path(path).absolute())
