"""Make the kernel forget UDP flows that lead nowhere any more."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from kubenet.kernel.conntrack import Conntrack, Entry
from kubenet.kernel.netns import NetNs
from kubenet.kernel.rtnl import Rtnl
from proxy.policy import ServingPort
from proxy.ports import Family, IPAddress
from proxy.stale import Flow, UdpFrontends, stale_flows, udp_frontends


class FlowTable(Protocol):
    """The UDP flows of one namespace and family."""

    def udp(self) -> Mapping[Flow, Sequence[Entry]]:
        """Return the flows, those alike together. Raises KubenetError."""
        ...

    def forget(self, entries: Sequence[Entry]) -> None:
        """Delete flows; those that have ended are fine. Raises KubenetError."""
        ...

    def node_ips(self) -> Collection[IPAddress]:
        """Return the node's own addresses. Raises KubenetError."""
        ...


class KernelFlows:
    """The real ones."""

    def __init__(self, netns: NetNs | None, family: Family) -> None:
        self._netns = netns
        self._family: Family = family

    def udp(self) -> Mapping[Flow, Sequence[Entry]]:
        with Conntrack(self._netns) as table:
            groups = table.udp(self._family)
        flows = {}
        for kind, entries in groups.items():
            (sent_to, port), (answering, answering_port) = kind.sockets()
            flows[Flow(sent_to, port, answering, answering_port)] = entries
        return flows

    def forget(self, entries: Sequence[Entry]) -> None:
        with Conntrack(self._netns) as table:
            table.forget(entries)

    def node_ips(self) -> Collection[IPAddress]:
        with Rtnl(self._netns) as rtnl:
            addresses = rtnl.observe().addresses
        return frozenset(each.interface.ip for each in addresses.values())


Count = Callable[[int, float], None]
"""Told after each look how many entries went, and how many seconds it took."""


def _uncounted(_entries: int, _took_s: float) -> None:
    return


class FlowKeeper:
    """Remembers where UDP was served, and looks for stale flows when that has changed. Calls block."""

    def __init__(self, flows: FlowTable, count: Count = _uncounted) -> None:
        self._flows = flows
        self._count = count
        self._before: UdpFrontends | None = None  # unknown at first, so that a start looks once

    def forget(self, serving: Sequence[ServingPort]) -> int:
        """Delete the flows that ``serving`` made stale; return how many kinds. Call it once the rules are in.

        Raises KubenetError; the next call then looks again.
        """
        now = udp_frontends(serving)
        if now == self._before:
            return 0
        before = self._before or UdpFrontends()
        stale: Collection[Flow] = ()
        if now or before:
            began_s = time.monotonic()
            table = self._flows.udp()
            asks_node = table and (now.by_node_port or before.by_node_port)
            stale = stale_flows(table, now, before, self._flows.node_ips() if asks_node else ())
            entries = [entry for flow in stale for entry in table[flow]]
            if entries:
                self._flows.forget(entries)
            self._count(len(entries), time.monotonic() - began_s)
        self._before = now
        return len(stale)
