"""A pod's sandbox: its network namespace, its place on the network, its files.

Blocking; call it in a thread.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from sys import executable

from kubenet.errors import KubenetError, NotFound
from kubenet.kernel.netns import NetNs, pids_in, unpin
from kubenet.kernel.process import ProcessId, end, identify
from kubenet.kernel.run import ENVIRONMENT, Child, spawn
from kubenet.model.objects import Pod
from kubenet.node import files, record
from kubenet.node.cni_conf import Attachment, addresses_of
from kubenet.node.cni_runtime import CniRuntime, load_network
from kubenet.node.config import NodeConfig
from kubenet.node.offers import offers_of
from kubenet.node.record import PodRecord

LAUNCHER = Path(__file__).with_name("launch.py")
IFNAME = "eth0"
KILL_ROUNDS = 10


class Sandbox:
    """One pod's place on this node; it may have been made by an earlier agent."""

    def __init__(self, config: NodeConfig, network: CniRuntime, pod: Pod) -> None:
        self._config = config
        self._network = network
        self._pod = pod
        self._uid = pod.metadata.uid
        self._dir = config.pod_dir(self._uid)

    def create(self) -> tuple[str, ...]:
        """Return the pod's addresses.

        A failure leaves nothing but the record of the try. Raises KubenetError.
        """
        meta = self._pod.metadata
        record.write(self._dir, PodRecord(meta.namespace, meta.name, meta.uid))
        path = self._config.netns_path(self._uid)
        with ExitStack() as undo:
            NetNs.create(path).close()
            undo.callback(unpin, path)
            undo.callback(self._detach)
            network = load_network(self._config.cni_conf_dir)
            result = self._network.add(network, self._attachment(), offers_of(self._pod))
            addresses = tuple(addresses_of(result))
            self._write_files(addresses)
            undo.pop_all()
        return addresses

    def start(self, argv: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
        """Start a container's process; returns when it is inside its namespaces. Raises KubenetError.

        Until then the launcher still has the machine's mounts and host name, and who joined it would too.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        name = files.hostname(self._pod)
        binds = [word for target in ("resolv.conf", "hosts") for word in self._bind(target)]
        ready, prepared = os.pipe()
        options = ["--ready", str(prepared), "--hostname", name, *binds]
        launch = [executable, "-I", "-S", str(LAUNCHER), "start", *options, "--", *argv]
        try:
            with NetNs.open(self._config.netns_path(self._uid)) as netns:
                env = {**ENVIRONMENT, "HOSTNAME": name, **environment}
                child = spawn(
                    launch, netns=netns, env=env, stdout=output, stderr=output, pass_fds=(prepared,)
                )
            os.close(prepared)
            prepared = -1
            os.read(ready, 1)  # the end of the pipe: it has become the program, or has failed to
            return child
        finally:
            for descriptor in (output, ready, prepared):
                if descriptor >= 0:
                    os.close(descriptor)

    def destroy(self) -> None:
        """Remove everything of the pod from this node. Done again, it succeeds. Raises KubenetError."""
        path = self._config.netns_path(self._uid)
        try:
            with NetNs.open(path) as netns:
                end_all_in(netns)
        except NotFound:
            pass  # the machine has lost it, or it never was
        self._detach()
        unpin(path)
        record.remove(self._dir)
        record.remove(self._config.log_path(self._uid, "").parent)

    def _detach(self) -> None:
        self._network.detach(self._attachment(), self._config.cni_conf_dir)

    def _attachment(self) -> Attachment:
        meta = self._pod.metadata
        path = self._config.netns_path(self._uid)
        return Attachment(
            self._uid, str(path) if path.exists() else "", IFNAME, meta.namespace, meta.name, meta.uid
        )

    def _write_files(self, addresses: Sequence[str]) -> None:
        config = self._config
        resolv = files.resolv_conf(self._pod.metadata.namespace, config.cluster_dns, config.cluster_domain)
        (self._dir / "resolv.conf").write_text(resolv)
        (self._dir / "hosts").write_text(files.hosts_file(self._pod, addresses, config.cluster_domain))

    def _bind(self, name: str) -> tuple[str, str, str]:
        return ("--bind", str(self._dir / name), f"/etc/{name}")


def end_all_in(netns: NetNs) -> None:
    """End every process in a namespace, also those that a container left behind. Raises KubenetError."""
    for _ in range(KILL_ROUNDS):
        found: list[ProcessId] = [
            each for pid in pids_in({netns.inode}) if (each := identify(pid)) is not None
        ]
        if not found:
            return
        if stuck := end(found):
            raise KubenetError(f"process {stuck[0].pid}: cannot be ended", "it will be tried again")
    raise KubenetError("processes keep appearing in the pod's namespace", "it will be tried again")


def join_argv(pid: int, argv: Sequence[str]) -> list[str]:
    """Return the command that runs ``argv`` inside the container whose process is ``pid``."""
    return [executable, "-I", "-S", str(LAUNCHER), "join", str(pid), "--", *argv]
