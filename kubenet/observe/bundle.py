"""Bundles on disk: what a check looks at, kept to be judged elsewhere or later."""

import io
import os
import platform
import tarfile
from pathlib import Path

from kubenet import __version__
from kubenet.errors import InvalidInput, Malformed
from kubenet.observe.bundle_text import decode, encode
from kubenet.observe.snapshot import Snapshot

SNAPSHOT = "snapshot.json"
MAX_BYTES = 512 << 20


def write_bundle(path: Path, snapshot: Snapshot) -> int:
    """Write a compressed archive: the snapshot, and the rules of each node to read; return its bytes.

    Raises InvalidInput.
    """
    files = {SNAPSHOT: encode(snapshot), "versions.txt": _versions().encode()}
    for name, state in snapshot.states.items():
        printed = {"nft": state.nft, "iptables": state.iptables, "iptables-legacy": state.legacy}
        for kind, text in printed.items():
            if text:
                files[f"rules/{name}.{kind}.txt"] = text.encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(f"kubenet-dump/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be written: {error.strerror}") from error
    return path.stat().st_size


def read_bundle(path: Path) -> Snapshot:
    """Return the snapshot of a bundle. Raises InvalidInput, Malformed."""
    try:
        with tarfile.open(path, "r:gz") as archive:
            entry = archive.getmember(f"kubenet-dump/{SNAPSHOT}")
            if entry.size > MAX_BYTES:
                raise Malformed(f"{path}: a snapshot of {entry.size} bytes")
            content = archive.extractfile(entry)
            if content is None:
                raise Malformed(f"{path}: {SNAPSHOT} is no file")
            return decode(content.read())
    except (OSError, EOFError, tarfile.TarError, KeyError) as error:
        raise InvalidInput(f"{path}: not a bundle of 'kubenet dump': {error}") from error


def _versions() -> str:
    name = os.uname()
    python = platform.python_version()
    return f"kubenet {__version__}\npython {python}\n{name.sysname} {name.release} {name.machine}\n"
