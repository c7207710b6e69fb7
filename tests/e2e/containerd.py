"""A containerd of a test's own: nothing of the machine's runtime, mounts or network is touched.

It runs in a mount namespace with a /run of its own, and in a pid namespace, so that its end is the end of all
that it has started. Its images are made here, of one small static program.
"""

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import which

from kubenet.cri.client import CriClient
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import ENVIRONMENT, run, spawn

PAUSE, SERVER = "kubenet.test/pause:1", "kubenet.test/server:1"
PROGRAMS = ("containerd", "ctr", "runc", "gcc", "unshare")
SOURCE = Path(__file__).with_name("pod.c")
CONFIG = """\
version = 2
root = "{root}/root"
state = "/run/private"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.overlayfs", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{root}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  netns_mounts_under_state_dir = false
  restrict_oom_score_adj = true
  disable_cgroup = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{bin_dir}"
    conf_dir = "{conf_dir}"
"""


def missing() -> str:
    """Return which program is not here; an empty string if all are."""
    return next((program for program in PROGRAMS if which(program) is None), "")


@dataclass(frozen=True)
class Containerd:
    """A running one; ``pid`` is that of its init, as the machine sees it."""

    cri: CriClient
    pid: int

    def netns(self, name: str) -> NetNs:
        """Return the namespace of a sandbox, by the name that it has in the runtime's /run/netns."""
        return NetNs.open(Path(f"/proc/{self.pid}/root/run/netns") / name)

    def netns_names(self) -> list[str]:
        """Return the namespaces that the runtime keeps."""
        directory = Path(f"/proc/{self.pid}/root/run/netns")
        return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []


@contextmanager
def containerd(directory: Path, netns: NetNs, bin_dir: Path, conf_dir: Path) -> Iterator[Containerd]:
    """Start one in ``netns`` with our two images, and wait until it answers."""
    directory.mkdir()
    config = directory / "config.toml"
    config.write_text(CONFIG.format(root=directory, pause=PAUSE, bin_dir=bin_dir, conf_dir=conf_dir))
    archive = _archive(directory)
    script = f"mount -t tmpfs tmpfs /run && exec containerd -c {config} -l warn >{directory}/log 2>&1"
    # The init of a pid namespace that ends takes everything with it, also what was put into the background.
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
    with ExitStack() as undo:
        child = spawn(argv, netns=netns, env={**ENVIRONMENT, "HOME": str(directory)}, stderr=2)
        undo.callback(child.terminate, grace_s=0)
        cri = undo.enter_context(CriClient(directory / "containerd.sock", timeout_s=30))
        cri.version()
        ctr = ["ctr", "--address", str(directory / "containerd.sock"), "--namespace", "k8s.io"]
        run([*ctr, "images", "import", "--snapshotter", "native", str(archive)], timeout_s=60)
        undo.callback(_remove_sandboxes, cri)
        yield Containerd(cri, _only_child(child.pid))


def _remove_sandboxes(cri: CriClient) -> None:
    for sandbox in cri.sandboxes():
        cri.stop_sandbox(sandbox.id)
        cri.remove_sandbox(sandbox.id)


def _only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _archive(directory: Path) -> Path:
    """Write an archive of both images, as ``docker save`` would, and return where it is."""
    program = directory / "pod"
    run(["gcc", "-static", "-O1", "-o", str(program), str(SOURCE)], timeout_s=60)
    layer = _tar({"pod": program.read_bytes()}, mode=0o755)
    content: dict[str, bytes] = {"layer.tar": layer}
    entries = []
    for tag, arguments in ((PAUSE, ["/pod"]), (SERVER, ["/pod", "80"])):
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Entrypoint": arguments},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
            }
        ).encode()
        name = f"{sha256(config).hexdigest()}.json"
        content[name] = config
        entries.append({"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]})
    content["manifest.json"] = json.dumps(entries).encode()
    archive = directory / "images.tar"
    archive.write_bytes(_tar(content))
    return archive


def _tar(content: dict[str, bytes], mode: int = 0o644) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, each in content.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(each), mode
            tar.addfile(entry, io.BytesIO(each))
    return written.getvalue()
