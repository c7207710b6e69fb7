"""Make the kernel forget UDP flows, through the ``conntrack`` program where it is installed."""

import logging
from collections.abc import Callable, Collection, Sequence

from kubenet.errors import ProgramFailed, ProgramMissing
from kubenet.kernel.netns import NetNs
from kubenet.kernel.run import find, run
from proxy.policy import ServingPort
from proxy.ports import Family, IPAddress
from proxy.stale import Flow, read_flows, stale_flows, udp_endpoints

log = logging.getLogger(__name__)

_PROGRAM = "conntrack"
_NONE_DELETED = "0 flow entries"


class FlowKeeper:
    """Remembers who served UDP, and looks for stale flows when that has changed. Calls block."""

    def __init__(
        self,
        netns: NetNs | None,
        family: Family,
        node_ips: Callable[[], Collection[IPAddress]] = tuple,
    ) -> None:
        self._netns = netns
        self._family = f"ipv{family}"
        self._node_ips = node_ips
        self._served: object = None  # unknown at first, so that a start looks once
        self._complained = False

    def forget(self, serving: Sequence[ServingPort]) -> int:
        """Delete the flows that ``serving`` made stale; return how many kinds. Call it once the rules are in.

        Raises ProgramFailed, TimedOut; the next call then looks again.
        """
        served = udp_endpoints(serving)
        if served == self._served or not self._present():
            return 0
        stale: Collection[Flow] = ()
        if served or self._served:
            listed = run([_PROGRAM, "-L", "-p", "udp", "-f", self._family], netns=self._netns)
            stale = stale_flows(read_flows(listed.stdout.decode()), serving, self._node_ips())
            for flow in stale:
                self._delete(flow)
        self._served = served
        return len(stale)

    def _present(self) -> bool:
        try:
            find(_PROGRAM)
        except ProgramMissing as error:
            if not self._complained:
                log.warning("stale UDP flows stay until they time out: %s (%s)", error, error.next_step)
            self._complained = True
            return False
        return True

    def _delete(self, flow: Flow) -> None:
        """Delete all clients' flows of this kind at once; none left is fine, they may have ended."""
        argv = [_PROGRAM, "-D", "-p", "udp", "-f", self._family]
        argv += ["--orig-dst", str(flow.destination), "--orig-port-dst", str(flow.port)]
        argv += ["--reply-src", str(flow.answering), "--reply-port-src", str(flow.answering_port)]
        done = run(argv, netns=self._netns, check=False)
        words = done.stderr.decode(errors="replace").strip()
        if done.returncode != 0 and _NONE_DELETED not in words:
            raise ProgramFailed(f"{_PROGRAM}: cannot delete flows to {flow.destination}:{flow.port}: {words}")
