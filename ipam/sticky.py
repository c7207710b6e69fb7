"""The addresses that pods keep across their ends: the only thing of the network that stays on a disk.

A small file, written whole and synced before its name counts, at the first start of such a pod and when
one is let go: never when an ordinary pod comes or goes.
"""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

import msgspec

from ipam.store import StoreFailed
from kubenet.model.links import IPAddress

Kept = Mapping[str, tuple[IPAddress, ...]]
"""Addresses by pod, as namespace/name."""


class StickyFile:
    """The file of one node; without a path nothing is remembered."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> Kept:
        """Return what is kept; no file is nothing. Raises StoreFailed: to go on could give one away."""
        try:
            told = (
                msgspec.json.decode(self._path.read_bytes(), type=dict[str, list[str]]) if self._path else {}
            )
            return {pod: tuple(ip_address(text) for text in texts) for pod, texts in told.items()}
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            raise StoreFailed(f"{self._path}: cannot be read: {error}", "correct it or remove it") from error

    def write(self, kept: Kept) -> None:
        """Remember exactly this. Raises StoreFailed; what was remembered before then holds."""
        if self._path is None:
            return
        texts = {pod: [str(address) for address in addresses] for pod, addresses in sorted(kept.items())}
        draft = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(texts)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self._path)
        except OSError as error:
            raise StoreFailed(f"{self._path}: cannot be written: {error.strerror}") from error
