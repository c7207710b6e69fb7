"""What the agent does for each verb, and how every failure is told.

Source: CNI specification 1.1.0, section 2.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from cni import loopback
from cni.attach import Attachments
from cni.parse import parse, version_for_errors
from cni.plan import result_of
from cni.result import AssignedAddress, Result, render_error, render_result, render_versions
from cni.server import CallerGone
from cni.spec import CniError, Code, Command, Request, Role
from ipam.pool import AddressTaken, PoolExhausted
from ipam.store import StoreFailed
from kubenet.errors import KubenetError, NotFound, TimedOut
from kubenet.kernel.netns import NetNs

log = logging.getLogger(__name__)

ORDER, POD = "KUBENET_ORDER", "KUBENET_POD"  # variables that no shim passes on

_CODES: tuple[tuple[type[KubenetError], Code], ...] = (
    (PoolExhausted, Code.TRY_AGAIN),
    (TimedOut, Code.TRY_AGAIN),
    (AddressTaken, Code.INVALID_CONFIG),
    (StoreFailed, Code.IO_FAILURE),
)


class Caller(Protocol):
    """Whoever waits for an answer; ``server.Caller`` is one."""

    @property
    def environment(self) -> Mapping[str, str]: ...

    def stdin(self) -> bytes:
        """Return the network configuration. Raises CniError."""
        ...

    def netns(self) -> NetNs | None:
        """Return the pod's namespace, if it could be opened. Raises NotFound when it is something else."""
        ...

    def answer(self, stdout: bytes, exit_code: int) -> None:
        """Say how it went, once. Raises CallerGone."""
        ...


class Plugin:
    """Answers the calls of one node. May be used by several threads."""

    def __init__(self, attachments: Attachments, node_netns: NetNs) -> None:
        self._attachments = attachments
        self._node_netns = node_netns
        self.limited = ""  # why pods that are there may not reach others
        self._acts: Mapping[Command, Callable[[Request, Caller], None]] = {
            Command.ADD: self._add,
            Command.DEL: self._del,
            Command.CHECK: self._check,
            Command.STATUS: self._status,
            Command.GC: self._gc,
            Command.VERSION: self._version,
        }

    def serve(self, caller: Caller) -> None:
        """Do what is asked and answer. Raises CallerGone; nothing has then been added."""
        stdin = b""
        try:
            if word := caller.environment.get(ORDER):
                self._obey(word, caller)
                return
            stdin = _configuration(caller)
            request = parse(caller.environment, stdin)
            self._acts[request.command](request, caller)
        except CallerGone:
            raise
        except KubenetError as error:
            refusal = as_cni_error(error)
            log.info("cni: %s: code %d: %s", _subject(caller.environment), refusal.code, refusal)
            caller.answer(render_error(refusal, version_for_errors(stdin)), 1)

    def replay(self, environment: Mapping[str, str], asked_ns: int) -> None:
        """Do a DEL that was asked for at that time and could not be done. Raises KubenetError."""
        request = parse(environment, b"")
        if request.command is Command.DEL:
            self._attachments.delete(request, asked_ns)

    def _obey(self, word: str, caller: Caller) -> None:
        """Do what is no verb of CNI: ``kubenet ipam`` asks for it."""
        match word:
            case "gc":
                freed = self._attachments.sweep(time.time_ns())
            case "gc-dry-run":
                freed = self._attachments.dead(time.time_ns())
            case "release":
                pod = caller.environment.get(POD, "")
                if not self._attachments.release(pod):
                    raise NotFound(f"{pod}: no address is kept for such a pod", "write namespace/name")
                freed = []
            case _:
                raise CniError(Code.INVALID_ENVIRONMENT, f"{ORDER} {word!r} is unknown")
        lines = (f"{record.label}  {', '.join(map(str, record.addresses))}\n" for record in freed)
        caller.answer("".join(lines).encode(), 0)

    def _add(self, request: Request, caller: Caller) -> None:
        def answer(result: Result, before: Mapping[str, object] | None = request.prev_result) -> None:
            caller.answer(render_result(result, request.cni_version, before), 0)

        with self._pod_netns(request, caller) as netns:
            match request.role:
                case Role.LOOPBACK:
                    loopback.bring_up(netns)
                    answer(loopback.result_for(request.ifname, request.netns))
                case Role.IPAM:
                    tell = _as_manager(request, lambda result: answer(result, None))
                    self._attachments.assign(request, netns, tell)
                case _:
                    self._attachments.add(
                        request,
                        netns,
                        lambda pod: answer(replace(result_of(pod, request.netns), dns=request.dns)),
                    )

    def _del(self, request: Request, caller: Caller) -> None:
        self._attachments.delete(request)
        caller.answer(b"", 0)

    def _check(self, request: Request, caller: Caller) -> None:
        with self._pod_netns(request, caller) as netns:
            match request.role:
                case Role.LOOPBACK:
                    loopback.check(netns)
                case Role.IPAM:
                    self._attachments.check_assigned(request)
                case _:
                    self._attachments.check(request, netns)
        caller.answer(b"", 0)

    def _status(self, _request: Request, caller: Caller) -> None:
        if reason := self._attachments.readiness():
            raise CniError(Code.NOT_AVAILABLE, reason, "no pod can be added")
        if self.limited:
            raise CniError(Code.LIMITED_CONNECTIVITY, self.limited, "pods may not reach other nodes")
        caller.answer(b"", 0)

    def _gc(self, request: Request, caller: Caller) -> None:
        self._attachments.collect(request, time.time_ns())
        caller.answer(b"", 0)

    def _version(self, request: Request, caller: Caller) -> None:
        caller.answer(render_versions(request.cni_version), 0)

    def _pod_netns(self, request: Request, caller: Caller) -> NetNs:
        """Return the pod's namespace, which must not be the node's own."""
        try:
            netns = caller.netns()
        except NotFound as error:
            raise CniError(
                Code.INVALID_NETNS, f"CNI_NETNS {request.netns!r} is not a network namespace", "CNI_NETNS"
            ) from error
        if netns is None:
            raise CniError(
                Code.UNKNOWN_CONTAINER, f"CNI_NETNS {request.netns!r} cannot be opened", "CNI_NETNS"
            )
        if netns.inode == self._node_netns.inode and not request.own_netns_allowed:
            netns.close()
            raise CniError(
                Code.INVALID_NETNS,
                f"CNI_NETNS {request.netns!r} is the node's own network namespace",
                "CNI_NETNS_OVERRIDE=1 allows it",
            )
        return netns


def _as_manager(
    request: Request, answer: Callable[[Result], None]
) -> Callable[[Sequence[AssignedAddress]], None]:
    """Return what tells addresses to the plugin that asked for nothing else."""
    return lambda told: answer(Result((), tuple(told), request.routes, request.dns))


def as_cni_error(error: KubenetError) -> CniError:
    """Return the error as the protocol tells it."""
    if isinstance(error, CniError):
        return error
    code = next((code for kind, code in _CODES if isinstance(error, kind)), Code.KERNEL_REFUSED)
    return CniError(code, str(error), error.next_step)


def _configuration(caller: Caller) -> bytes:
    try:
        return caller.stdin()
    except CniError:
        if caller.environment.get("CNI_COMMAND") == Command.DEL.value:
            return b""  # whoever lost the configuration can still clean up
        raise


def _subject(environment: Mapping[str, str]) -> str:
    words = (environment.get(key, "") for key in ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME"))
    return " ".join(word[:64] for word in words if word)
