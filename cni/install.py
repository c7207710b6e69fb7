"""Put the plugin and its configuration where a container runtime looks for them.

The plugin is compiled from shim/shim.c once for a machine, with a place for the socket's path that is
filled in for each node; without a compiler it is shim/shim.py. Files appear whole or not at all, by a
rename, so that a runtime that executes the old plugin at this moment is not disturbed, and none reads half
a configuration. The configuration comes last: a runtime takes it for the word that pods can be added.

Source: CNI specification 1.1.0, section 1; ld(1) for why there is room in the executable.
"""

import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from cni.server import PATH_BYTES
from kubenet.errors import InvalidInput, KubenetError, ProgramFailed, ProgramMissing
from kubenet.kernel.run import ENVIRONMENT, run

PLUGIN = "kubenet"  # the file's name, and the "type" in the configuration
IPAM = "kubenet-ipam"  # the same, for chains of others: as what it is called the configuration says
LOOPBACK = "loopback"  # containerd needs one; another that is there is left alone
CONFLIST = "10-kubenet.conflist"  # runtimes take the first in the order of names
NETWORK = "kubenet"
_SUFFIXES = (".conflist", ".conf", ".json")  # what runtimes look at
CAPABILITIES = (
    "bandwidth",
    "dns",
    "io.kubernetes.cri.pod-annotations",
    "ips",
    "mac",
    "portMappings",
)  # what runtimes may put into runtimeConfig
CACHE = Path("/var/cache/kubenet")

_SIGN = b"kubenet CNI plugin"  # both shims say it
_SIGN_WITHIN_BYTES = 65536
MARKER = b"@KUBENET-CNI-SOCKET-PATH@"
_SOURCE = Path(__file__).with_name("shim")
# No C library: also none of the calls to it that a compiler makes out of loops.
_COMPILE = (
    "gcc",
    "-Os",
    "-static",
    "-nostdlib",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-tree-loop-distribute-patterns",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-pic",
    "-no-pie",
    "-s",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
    "-Wl,-z,noseparate-code",
)
_COMPILE_WITHIN_S = 60.0


class ShimKind(Enum):
    """What a plugin is made of."""

    NATIVE = "native"
    PYTHON = "python"


@dataclass(frozen=True, slots=True)
class Conflist:
    """The network as a runtime is told of it.

    Runtimes that do not know the key ``cniVersions`` use ``cniVersion``; the others the newest they speak.
    """

    name: str = NETWORK
    version: str = "1.0.0"
    versions: tuple[str, ...] = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")

    def text(self) -> bytes:
        """Return the file."""
        fields = {
            "cniVersion": self.version,
            "cniVersions": list(self.versions),
            "name": self.name,
            "plugins": [{"type": PLUGIN, "capabilities": dict.fromkeys(CAPABILITIES, True)}],
        }
        return msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"


def install_plugin(
    bin_dir: Path, socket_path: Path, *, cache: Path = CACHE, kind: ShimKind | None = None
) -> ShimKind:
    """Put the plugin that calls at ``socket_path`` into ``bin_dir``, and say what it is made of.

    ``kind`` None compiles it if that is possible.

    Raises InvalidInput for a path that is too long, KubenetError when the file cannot be written.
    """
    made, content = _shim(socket_path, cache, kind)
    for name in (PLUGIN, IPAM, LOOPBACK):
        path = bin_dir / name
        if name != LOOPBACK or not path.exists() or _is_ours(path):
            _put(path, content, 0o755)
    return made


def rival_of(conf_dir: Path, name: str = CONFLIST) -> str:
    """Return the file that runtimes take instead of ours, the first by name; empty if it is ours."""
    try:
        names = [path.name for path in conf_dir.iterdir()]
    except OSError:
        return ""  # whoever installs ours will say what is wrong with the directory
    first = min((each for each in names if each.endswith(_SUFFIXES)), default=name)
    return "" if first == name else first


def uninstall(bin_dir: Path, conf_dir: Path, *, name: str = CONFLIST) -> list[Path]:
    """Take away what was put there, the configuration first; return what that was. Raises KubenetError."""
    gone = []
    for path in (conf_dir / name, *(bin_dir / each for each in (PLUGIN, IPAM, LOOPBACK))):
        if path.is_file() and (path.name != LOOPBACK or _is_ours(path)):
            try:
                path.unlink()
            except OSError as error:
                raise KubenetError(f"{path}: cannot be removed: {error.strerror}") from error
            gone.append(path)
    return gone


def _shim(socket_path: Path, cache: Path, kind: ShimKind | None) -> tuple[ShimKind, bytes]:
    if kind is not ShimKind.PYTHON:
        try:
            return ShimKind.NATIVE, _pointed(_native(cache), socket_path, PATH_BYTES + 1)
        except (ProgramMissing, ProgramFailed):
            if kind is ShimKind.NATIVE:
                raise
    return ShimKind.PYTHON, _python(socket_path)


def _is_ours(path: Path) -> bool:
    """Whether an executable is one of our shims, for whichever socket."""
    with path.open("rb") as file:
        return _SIGN in file.read(_SIGN_WITHIN_BYTES)


def install_conflist(conf_dir: Path, conflist: Conflist = Conflist(), *, name: str = CONFLIST) -> Path:
    """Tell the runtime of the network. Raises KubenetError when the file cannot be written."""
    path = conf_dir / name
    _put(path, conflist.text(), 0o644)
    return path


def _native(cache: Path) -> bytes:
    """Return the executable, compiled unless this source was compiled before."""
    source = _SOURCE / "shim.c"
    fingerprint = hashlib.sha256(source.read_bytes() + repr((_COMPILE, os.uname().machine)).encode())
    built = cache / f"shim-{fingerprint.hexdigest()[:16]}"
    if built.is_file():
        return built.read_bytes()
    cache.mkdir(parents=True, exist_ok=True)
    with _alone_in(cache):  # the agents of a lab start together, and one compiles for all
        if not built.is_file():
            _compile(source, built)
    return built.read_bytes()


def _compile(source: Path, built: Path) -> None:
    draft = built.with_suffix(".draft")
    # What a compiler that is killed leaves lies in the cache too, not in /tmp.
    environment = {**ENVIRONMENT, "TMPDIR": str(built.parent)}
    try:
        run([*_COMPILE, "-o", draft, source], env=environment, timeout_s=_COMPILE_WITHIN_S)
        draft.rename(built)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep other processes and threads that ask for it out of ``directory``."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _python(socket_path: Path) -> bytes:
    # -I and -S: nothing of the caller's environment or of site-packages, which also saves most of the start.
    first_line = f"#!{sys.executable} -IS\n".encode()
    text = (_SOURCE / "shim.py").read_bytes()
    return first_line + text.replace(MARKER, os.fsencode(socket_path))


def _pointed(executable: bytes, socket_path: Path, room: int) -> bytes:
    """Return the executable with the socket's path in the place that it has for it."""
    path = os.fsencode(socket_path)
    if len(path) >= room:
        raise InvalidInput(f"{socket_path}: longer than the {room - 1} bytes of a socket's path")
    if executable.count(MARKER) != 1:
        raise KubenetError(f"the plugin has {executable.count(MARKER)} places for the path of its socket")
    start = executable.index(MARKER)
    return executable[:start] + path.ljust(room, b"\0") + executable[start + room :]


def _put(path: Path, content: bytes, mode: int) -> None:
    """Write a file in one step. What is there already, and equal, is left alone."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_bytes() == content:
            return
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(mode)
        draft.rename(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise KubenetError(f"{path}: cannot be written: {error.strerror}", "check the directory") from error
