"""What a node agent writes down of a pod, so that the next one finds the pod again instead of starting it
twice.
"""

import shutil
from pathlib import Path

import msgspec

from kubenet.kernel.process import ProcessId


class ContainerRecord(msgspec.Struct, frozen=True):
    """A container that was started."""

    process: ProcessId
    started_at: str
    restarts: int = 0


class PodRecord(msgspec.Struct, frozen=True):
    """A pod that has a sandbox, or is about to get one."""

    namespace: str
    name: str
    uid: str
    addresses: tuple[str, ...] = ()  # empty until the network is attached
    containers: dict[str, ContainerRecord] = {}


def write(pod_dir: Path, record: PodRecord) -> None:
    """Replace a record in one step."""
    pod_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = pod_dir / "record.new"
    fresh.write_bytes(msgspec.json.encode(record))
    fresh.rename(pod_dir / "record.json")


def read(pod_dir: Path) -> PodRecord | None:
    """Return the record of a pod; None when there is none, or none that can be read."""
    try:
        return msgspec.json.decode((pod_dir / "record.json").read_bytes(), type=PodRecord)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def read_all(pods: Path) -> list[PodRecord]:
    """Return the records below a directory."""
    found = (read(entry) for entry in sorted(pods.iterdir())) if pods.is_dir() else ()
    return [record for record in found if record is not None]


def remove(pod_dir: Path) -> None:
    """Forget a pod. One that is not there is fine."""
    shutil.rmtree(pod_dir, ignore_errors=True)
