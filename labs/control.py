"""Start, look at and stop labs: what the command line and the tests call."""

import os
import select
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kubenet.client.sync import SyncClient
from kubenet.errors import KubenetError, NotFound, TimedOut, Unreachable
from kubenet.kernel.netns import NetNs
from kubenet.kernel.privileges import require_root
from kubenet.kernel.process import identify
from kubenet.model.objects import Node, Pod, Service
from kubenet.model.resources import NODES, PODS, SERVICES
from labs import ledger
from labs.ledger import LabDirectory, Ledger
from labs.picture import Picture
from labs.report import GO, Answer, Order, Report, encode_spec
from labs.topology import WIRE, LabSpec, checked, topology

if TYPE_CHECKING:  # looking at a lab starts no program, and that module loads an event loop
    from kubenet.kernel.run import Child

BOOT_TIMEOUT_S = 60.0
ORDER_TIMEOUT_S = 30.0
# What one would look at first on a node.
DETAILS = (
    ("ip", "-brief", "address"),
    ("ip", "route"),
    ("ip", "neighbour"),
    ("bridge", "fdb", "show"),
    ("nft", "list", "ruleset"),
)
LAB_DAEMONS = ("controllers", "scheduler")
NODE_DAEMONS = ("agent", "kubelet", "proxy", "dns")


class LabFailed(KubenetError):
    """The keeper gave up; carries the exit code of what it met."""

    def __init__(self, message: str, next_step: str, exit_code: int) -> None:
        super().__init__(message, next_step)
        self.exit_code = exit_code  # type: ignore[misc]  # an instance's own, in place of the class's


@dataclass(frozen=True, slots=True)
class LabStatus:
    """What ``kubenet lab status`` shows."""

    ledger: Ledger
    running: bool
    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    services: tuple[Service, ...] = ()


def up(spec: LabSpec, root: Path = ledger.LABS) -> str:
    """Boot a lab and return the URL of its API server. Whatever goes wrong, nothing of it stays.

    Raises InvalidInput, NotPermitted, ProgramMissing, KernelLacks, AlreadyExists, TimedOut and LabFailed.
    """
    checked(spec)
    from labs import preflight

    preflight.check()
    directory = LabDirectory(spec.name, root)
    ledger.claim(directory, Ledger(spec.name, tuple(node.name for node in topology(spec).nodes)))
    try:
        return _boot(spec, directory)
    except BaseException as error:
        said = _last_words(directory)
        ledger.take_down(directory)
        if isinstance(error, TimedOut) and said:
            raise TimedOut(f"{error.message}; it last said: {said}") from error
        raise


def down(name: str, root: Path = ledger.LABS) -> None:
    """Remove a lab and all it made. Raises NotFound."""
    require_root("a lab's namespaces belong to root")
    ledger.take_down(LabDirectory(name, root))


def status(name: str, root: Path = ledger.LABS) -> LabStatus:
    """Return how a lab is. Raises NotFound."""
    found = ledger.read(LabDirectory(name, root))
    running = found.running
    if not running or not found.server:
        return LabStatus(found, running)
    client = SyncClient(found.server)
    return LabStatus(
        found, running, client.list(NODES, Node), client.list(PODS, Pod), client.list(SERVICES, Service)
    )


def client_of(name: str, root: Path = ledger.LABS) -> SyncClient:
    """Return a client of the lab's API server. Raises NotFound."""
    found = ledger.read(LabDirectory(name, root))
    if not found.server:
        raise NotFound(f"lab {name!r}: its API server is not up", f"kubenet lab status --name {name}")
    return SyncClient(found.server)


def daemon_log(name: str, root: Path = ledger.LABS) -> Path:
    """Return the file that all daemons of a lab write to. Raises NotFound."""
    directory = LabDirectory(name, root)
    ledger.read(directory)
    return directory.log


def is_daemon(name: str, target: str, root: Path = ledger.LABS) -> bool:
    """Whether ``target`` names a daemon of the lab rather than a pod."""
    node, _, daemon = target.partition("/")
    known = ledger.read(LabDirectory(name, root)).nodes
    return target in LAB_DAEMONS or (node in known and daemon in NODE_DAEMONS)


def order(name: str, wanted: Order, root: Path = ledger.LABS) -> Mapping[str, str]:
    """Have the keeper of a lab carry out an order; returns how each daemon is afterwards.

    Raises NotFound, Unreachable, and LabFailed with what the keeper refused.
    """
    directory = LabDirectory(name, root)
    ledger.read(directory)
    try:
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as lines:
            connection.settimeout(ORDER_TIMEOUT_S)
            connection.connect(str(directory.switchboard))
            connection.sendall(msgspec.json.encode(wanted) + b"\n")
            answer = msgspec.json.decode(lines.readline(), type=Answer)
    except (OSError, msgspec.DecodeError) as error:
        raise Unreachable(
            f"lab {name!r}: its keeper does not answer: {error}", f"kubenet lab status --name {name}"
        ) from error
    if answer.error:
        raise LabFailed(answer.error, answer.next_step, answer.exit_code)
    return answer.daemons


def only_lab(root: Path = ledger.LABS) -> str:
    """Return the name of the lab that runs when there is just one. Raises NotFound."""
    names = ledger.names(root)
    if len(names) == 1:
        return names[0]
    if not names:
        raise NotFound("no lab is running", "kubenet lab up")
    raise NotFound(f"which lab? there are {', '.join(names)}", "say --name NAME")


def node_netns(name: str, target: str, root: Path = ledger.LABS) -> NetNs:
    """Return the namespace of a node, or of the wire. Raises NotFound."""
    directory = LabDirectory(name, root)
    known = (WIRE, *ledger.read(directory).nodes)
    if target not in known:
        raise NotFound(f"lab {name!r}: no node {target!r}", f"use one of: {', '.join(known)}")
    return NetNs.open(directory.netns(target))


def with_details(picture: Picture, root: Path = ledger.LABS) -> Picture:
    """Return ``picture`` with what the kernel of each node says of its routes, tunnel and packet filters."""
    nodes = [replace(node, details=tuple(_details(picture.lab, node.name, root))) for node in picture.nodes]
    return replace(picture, nodes=tuple(nodes))


def _details(lab: str, node: str, root: Path) -> Iterator[tuple[str, str]]:
    from kubenet.kernel.run import run

    with node_netns(lab, node, root) as netns:
        for argv in DETAILS:
            yield " ".join(argv), run(argv, netns=netns, check=False).stdout.decode(errors="replace")


def _boot(spec: LabSpec, directory: LabDirectory) -> str:
    """Start the keeper, and let it begin only once the ledger names it: what it makes can always be found."""
    from kubenet.kernel.run import spawn

    with ExitStack() as opened:
        report_reader, report_writer = os.pipe()
        opened.callback(os.close, report_reader)
        writer_end = opened.enter_context(closing(os.fdopen(report_writer, "wb", buffering=0)))
        go_reader, go_writer = os.pipe()
        opened.callback(os.close, go_reader)
        opened.callback(os.close, go_writer)
        log = os.open(directory.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        opened.callback(os.close, log)
        argv = _keeper_argv(spec, directory, report_writer)
        child = spawn(argv, stdin=go_reader, stdout=log, stderr=log, pass_fds=(report_writer,))
        try:
            writer_end.close()  # from here on the keeper's is the only one: its end is the report's end
            found = ledger.read(directory)
            ledger.write(directory, msgspec.structs.replace(found, keeper=identify(child.pid)))
            os.write(go_writer, GO)
            report = _report(report_reader, child, directory)
        except BaseException:
            child.terminate(0.0)
            raise
    if report.error:
        raise LabFailed(report.error, report.next_step, report.exit_code)
    return report.server


def _keeper_argv(spec: LabSpec, directory: LabDirectory, writer: int) -> Sequence[str]:
    # -P: the directory we are started in is no place to import from.
    return (sys.executable, "-P", "-m", "labs.keeper", encode_spec(spec), str(directory.root), str(writer))


def _report(reader: int, child: "Child", directory: LabDirectory) -> Report:
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimedOut(f"lab {directory.name!r}: not up after {BOOT_TIMEOUT_S:g} s")
        chunk = os.read(reader, 65536)
        if not chunk:
            status = child.wait(5.0)
            raise LabFailed(
                f"lab {directory.name!r}: its keeper ended with status {status}: {_last_words(directory)}",
                "kubenet -v lab up, and report it",
                70,
            )
        line += chunk
    return msgspec.json.decode(line, type=Report)


def _last_words(directory: LabDirectory) -> str:
    with suppress(OSError):
        lines = directory.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing"
    return "nothing"
