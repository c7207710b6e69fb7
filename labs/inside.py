"""Run programs inside the namespaces of a lab: nodes, the wire, pods.

A program comes from the machine and brings its own tools; a pod gives it the network, the host name, and the
resolv.conf.
"""

import os
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from kubenet.errors import NotFound, ProgramFailed, TimedOut
from kubenet.kernel import run as programs
from kubenet.kernel.become import become as become_program
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import Child
from kubenet.model.objects import Pod
from kubenet.model.resources import PODS
from kubenet.node import record
from kubenet.node.sandbox import join_argv
from labs import control, ledger
from labs.ledger import LabDirectory

RUN_TIMEOUT_S = 60.0


def become(lab: str, target: str, argv: Sequence[str], root: Path = ledger.LABS) -> NoReturn:
    """Replace this process by ``argv`` inside a node, the wire, or a pod. Raises NotFound, ProgramMissing."""
    if _is_node(lab, target, root):
        become_program(argv, control.node_netns(lab, target, root))
    with NetNs.current() as own:
        become_program(join_argv(pod_process(lab, target, root), argv), own)


def run(lab: str, pod: str, argv: Sequence[str], root: Path = ledger.LABS) -> bytes:
    """Return what ``argv`` prints inside a pod, whatever its exit status. Raises NotFound, ProgramFailed."""
    with started(lab, pod, argv, root) as running:
        return running.finish(RUN_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Running:
    """A program inside a pod."""

    child: Child
    output: int

    def finish(self, timeout_s: float) -> bytes:
        """Return what it printed, once it has ended.

        Raises TimedOut, and ProgramFailed if it printed nothing.
        """
        deadline, printed = time.monotonic() + timeout_s, b""
        while chunk := self._read(deadline):
            printed += chunk
        status = self.child.wait(max(0.0, deadline - time.monotonic()))
        if status and not printed:
            raise ProgramFailed(f"{self.child.program}: {programs.describe_status(status)}, and no output")
        return printed

    def _read(self, deadline: float) -> bytes:
        left_s = max(0.0, deadline - time.monotonic())
        if not select.select([self.output], [], [], left_s)[0]:
            raise TimedOut(f"{self.child.program} (pid {self.child.pid}): not finished in time")
        return os.read(self.output, 65536)


@contextmanager
def started(lab: str, pod: str, argv: Sequence[str], root: Path = ledger.LABS) -> Iterator[Running]:
    """Run ``argv`` inside a pod while the block runs; it is ended if it has not by then. Raises NotFound."""
    process = pod_process(lab, pod, root)
    reader, writer = os.pipe()
    try:
        child = programs.spawn(join_argv(process, argv), stdout=writer)
    finally:
        os.close(writer)
    try:
        yield Running(child, reader)
    finally:
        child.terminate(0.0)
        os.close(reader)


def pod_logs(lab: str, target: str, root: Path = ledger.LABS) -> list[Path]:
    """Return the logs of the containers of a pod. Raises NotFound."""
    pod = _pod(lab, target, root)
    directory = LabDirectory(lab, root).node(pod.spec.node_name) / "logs" / pod.metadata.uid
    found = [directory / f"{container.name}.log" for container in pod.spec.containers]
    logs = [path for path in found if pod.spec.node_name and path.exists()]
    if not logs:
        raise NotFound(f"pod {target}: no container of it was started", f"kubenet lab status --name {lab}")
    return logs


def _pod(lab: str, target: str, root: Path) -> Pod:
    namespace, _, name = target.rpartition("/")
    return control.client_of(lab, root).get(PODS, namespace or "default", name, Pod)


def pod_process(lab: str, target: str, root: Path = ledger.LABS) -> int:
    """Return a process of the pod ``[NAMESPACE/]POD``. Raises NotFound."""
    pod = _pod(lab, target, root)
    directory = LabDirectory(lab, root).node(pod.spec.node_name)
    found = record.read(directory / "pods" / pod.metadata.uid) if pod.spec.node_name else None
    alive = [c.process.pid for c in found.containers.values() if c.process.alive()] if found else []
    if not alive:
        raise NotFound(f"pod {target}: no container of it runs", f"kubenet lab status --name {lab}")
    return alive[0]


def _is_node(lab: str, target: str, root: Path) -> bool:
    nodes = ledger.read(LabDirectory(lab, root)).nodes
    return "/" not in target and (target in nodes or target == "wire")
