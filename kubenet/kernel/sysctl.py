"""Kernel settings of a namespace, under /proc/sys.

``net.ipv4.ip_forward`` and ``net/ipv4/ip_forward`` name the same setting. With slashes, dots are part of the
names, as interfaces such as ``eth0.1`` need. Which namespace a key below ``net`` belongs to is decided when
the file is opened, by the opening thread.

Source: sysctl(8), proc_sys(5).
"""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from kubenet.errors import InvalidInput, KubenetError, NotFound, NotPermitted
from kubenet.kernel.netns import NetNs

_ROOT = Path("/proc/sys")


def read(netns: NetNs | None, key: str) -> str:
    """Return a setting's value without the line end. Raises NotFound."""
    path = _path(key)
    with netns.entered() if netns else nullcontext():
        try:
            return path.read_text().rstrip("\n")
        except OSError as error:
            raise _refused(key, "", error) from error


def write(netns: NetNs | None, key: str, value: str | int) -> None:
    """Set one value. Raises NotFound, InvalidInput when the kernel refuses the value, NotPermitted."""
    write_all(netns, {key: value})


def write_all(netns: NetNs | None, settings: Mapping[str, str | int]) -> None:
    """Set values in their order, entering the namespace once. Raises as ``write``, at the first refusal."""
    paths = {key: _path(key) for key in settings}
    with netns.entered() if netns else nullcontext():
        for key, value in settings.items():
            try:
                paths[key].write_text(f"{value}\n")
            except OSError as error:
                raise _refused(key, str(value), error) from error


def _path(key: str) -> Path:
    parts = key.split("/") if "/" in key else key.split(".")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidInput(f"{key!r}: not the name of a kernel setting")
    return _ROOT.joinpath(*parts)


def _refused(key: str, value: str, error: OSError) -> KubenetError:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return NotFound(f"{key}: the kernel has no such setting here")
        case PermissionError():
            return NotPermitted(f"{key}: may not be changed: this needs root", "run the command as root")
    act = f"{key} = {value}" if value else key
    return InvalidInput(f"{act}: {error.strerror}")
