"""Allocation records as files, one each, in a directory on a tmpfs.

A tmpfs and the network namespaces of a machine end together, so nothing can outlive what it speaks of and
nothing is synced to a disk: a record costs microseconds. Where the directory is on a disk after all, the
machine's boot id beside the records makes those of another boot void.

A file's name is ``<host ifname>.<phase>``. A step is one rename, so that a crash leaves the step done or not
done, never half a record.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipam.record import AllocationRecord, Phase, RecordCorrupt, Stored, Unreadable, decode, encode
from kubenet.errors import KubenetError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DRAFT = ".tmp"


class StoreFailed(KubenetError):
    """The records cannot be read or written: no space, no permission, a broken disk."""


class RecordStore:
    """The records of one node. Not locked: of one record, one thread at a time may change the phase."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._prefix = f"{directory}/"

    @classmethod
    def open(cls, directory: Path, boot_id: str | None = None) -> "RecordStore":
        """Return the store in ``directory``, made if missing, emptied if it is of another boot.

        Raises StoreFailed.
        """
        boot_id = BOOT_ID.read_text().strip() if boot_id is None else boot_id
        store = cls(directory)
        with _failing_as(f"{directory}: cannot open the allocation records"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            marker = directory / "boot_id"
            if not marker.exists() or marker.read_text().strip() != boot_id:
                store._wipe()
                _write_new(f"{marker}", boot_id.encode())
            for draft in directory.glob(f"*{_DRAFT}"):  # somebody died between writing and renaming it
                draft.unlink()
        return store

    def load(self) -> tuple[list[Stored], list[Unreadable]]:
        """Return all records, oldest first, and the files that are none. Raises StoreFailed."""
        records: list[Stored] = []
        unreadable: list[Unreadable] = []
        for path, phase in self._files():
            try:
                record = decode(self._read(path))
                if record.host_ifname != path.stem:
                    raise RecordCorrupt(f"speaks of {record.host_ifname!r}")
                records.append(Stored(record, phase))
            except RecordCorrupt as error:
                unreadable.append(Unreadable(path, path.stem, str(error)))
        return sorted(records, key=lambda stored: stored.record.created_ns), unreadable

    def begin(self, record: AllocationRecord) -> None:
        """Write down what is about to be made. Raises StoreFailed; then nothing is left of it."""
        with _failing_as(f"{self.directory}: cannot write the record of {record.label}"):
            _write_new(self._path(record.host_ifname, Phase.ADDING), encode(record))

    def commit(self, host_ifname: str) -> None:
        """The attachment is finished. Raises StoreFailed."""
        self._move(host_ifname, Phase.ADDING, Phase.ATTACHED)

    def retire(self, host_ifname: str) -> None:
        """The attachment is being taken down. Raises StoreFailed."""
        self._move(host_ifname, Phase.ATTACHED, Phase.DYING)

    def forget(self, host_ifname: str) -> None:
        """Nothing is left of the attachment; a record that is not there is fine. Raises StoreFailed."""
        with _failing_as(f"{self.directory}: cannot remove the record of {host_ifname}"):
            for phase in Phase:
                try:
                    os.unlink(self._path(host_ifname, phase))  # noqa: PTH108 - a hot path
                except FileNotFoundError:
                    pass

    def _move(self, host_ifname: str, before: Phase, after: Phase) -> None:
        with _failing_as(f"{self.directory}: cannot mark {host_ifname} as {after.value}"):
            os.rename(self._path(host_ifname, before), self._path(host_ifname, after))  # noqa: PTH104

    def _path(self, host_ifname: str, phase: Phase) -> str:
        return f"{self._prefix}{host_ifname}.{phase.value}"

    def _files(self) -> Iterator[tuple[Path, Phase]]:
        endings: dict[str, Phase] = {f".{phase.value}": phase for phase in Phase}
        with _failing_as(f"{self.directory}: cannot list the allocation records"):
            paths = sorted(self.directory.iterdir())
        return ((path, endings[path.suffix]) for path in paths if path.suffix in endings)

    def _read(self, path: Path) -> bytes:
        with _failing_as(f"{path}: cannot read the allocation record"):
            return path.read_bytes()

    def _wipe(self) -> None:
        for path in self.directory.iterdir():
            if path.is_file():
                path.unlink()


def _write_new(path: str, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step, or leave nothing."""
    temporary = f"{path}{_DRAFT}"
    with open(temporary, "wb", buffering=0) as file:  # noqa: PTH123 - a hot path
        try:
            file.write(content)
            os.rename(temporary, path)  # noqa: PTH104
        except OSError:
            os.unlink(temporary)  # noqa: PTH108
            raise


@contextmanager
def _failing_as(act: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreFailed(
            f"{act}: {error.strerror}", "free space there, or give the agent another --state-dir"
        ) from error
